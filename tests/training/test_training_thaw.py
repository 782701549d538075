"""What ships thaws to weights that learn, and freezes again to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fake_teacher import FakeTeacher
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import TINY_WEIGHTS
from torch import nn

import vcm
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.errors import ConfigError, ModelNotFoundError, WeightsError
from vcm.nn.blocks import ConvNormAct
from vcm.nn.integer import IntConv2d, QuantConv2d
from vcm.training.config import load_config
from vcm.training.export import shipping_tensors, training_modules
from vcm.training.run import train
from vcm.training.thaw import recentre_norms, thaw, thaw_convolution
from vcm.weights.registry import find_weights, read_metadata


def frozen_again(source: str | Path, architecture: str) -> dict[str, torch.Tensor]:
    modules = training_modules(ARCHITECTURES[architecture])
    modules.load_state_dict(thaw(source))
    return shipping_tensors(modules.eval())


@pytest.mark.parametrize(("source", "architecture"), [(TINY_WEIGHTS, "tiny"), (find_weights("vcm-s"), "small")])
def test_freezing_what_was_thawed_gives_the_same_bytes(source: Path, architecture: str) -> None:
    again, shipped = frozen_again(source, architecture), load_file(source)
    assert again.keys() == shipped.keys()
    for name, tensor in shipped.items():
        assert again[name].dtype == tensor.dtype, name
        assert torch.equal(again[name], tensor), name


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(-6, 3), hidden=st.booleans(), biased=st.floats(0, 40))
def test_any_frozen_convolution_thaws(seed: int, spread: float, hidden: bool, biased: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    units = None if hidden else torch.tensor([256.0, 256.0, 32.0, 32.0])
    layer = QuantConv2d(3, 4, 3, units)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 10.0**spread)
        layer.bias.copy_(torch.randn(4, generator=generator) * biased)
        layer.weight[0] *= 1e-4  # where the scale's floor is
    try:
        frozen = layer.freeze()
    except WeightsError:
        return  # weights that cannot ship either
    thawed = QuantConv2d(3, 4, 3, units)
    thaw_convolution(frozen, thawed)
    for name, tensor in frozen.state_dict().items():
        assert torch.equal(thawed.freeze().state_dict()[name], tensor), name


def test_integers_that_freezing_cannot_give_are_refused() -> None:
    frozen = IntConv2d(1, 1, 1, hidden=True)
    frozen.load_state_dict(
        {
            "weight": torch.tensor([[[[5]]]], dtype=torch.int8),  # freezing makes the largest 63
            "bias": torch.zeros(1, dtype=torch.int32),
            "multiplier": torch.tensor([1 << 20], dtype=torch.int32),
        }
    )
    with pytest.raises(WeightsError, match="cannot be thawed"):
        thaw_convolution(frozen, QuantConv2d(1, 1, 1))


def test_a_twin_thaws_to_its_analysis_and_head() -> None:
    state = thaw("vcm-s-twin")
    assert {name.split(".")[0] for name in state} == {"analysis", "detect"}
    assert all(torch.isfinite(t).all() for t in state.values())
    with pytest.raises(ModelNotFoundError):
        thaw("no-such-model")


def test_norms_get_statistics_and_compute_the_same() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(ConvNormAct(3, 8), ConvNormAct(8, 4))
    for block in net:
        block.norm.weight.data.fill_((1 + block.norm.eps) ** 0.5)  # the identity, as thawed
    x = torch.randn(4, 3, 16, 16) * 3 + 1
    before = net.eval()(x)
    net.train()
    recentre_norms(net, lambda: net(x))
    assert net.training
    assert net[0].norm.training
    assert torch.allclose(net.eval()(x), before, atol=1e-4)
    assert torch.allclose(net.train()(x), before, atol=1e-4)  # by the batch's own statistics: those that were measured
    assert not torch.allclose(net[0].norm.running_var, torch.ones(8), atol=1e-2)


def from_tiny(recipe: Path, **changes: object) -> Path:
    content = yaml.safe_load(recipe.read_text()) | {"from": str(TINY_WEIGHTS)} | changes
    recipe.write_text(yaml.safe_dump(content))
    return recipe


def test_a_picture_stage_alone_keeps_the_base_that_shipped(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    result = train(from_tiny(recipe, stages=stages[2:], name="tiny"), teacher=FakeTeacher(), quiet=True)
    assert result.weights is not None
    shipped, found = load_file(TINY_WEIGHTS), load_file(result.weights)
    changed = {
        name.removeprefix("model.").split(".")[0] for name in shipped if not torch.equal(shipped[name], found[name])
    }
    assert changed == {"picture_analysis", "picture", "synthesis", "preview"}
    trained = read_metadata(TINY_WEIGHTS)["trained"]
    assert read_metadata(result.weights)["trained"] == f"{trained}, picture 4 steps of 2"


@pytest.mark.parametrize("kind", ["twin", "bottleneck", "picture", "joint"])
def test_every_kind_of_stage_starts_from_what_ships(recipe: Path, kind: str) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    one = next((s for s in stages if s["kind"] == kind), None) or {**stages[1], "kind": "joint", "name": "joint"}
    train(from_tiny(recipe, stages=[{**one, "lr": 1e-7}]), teacher=FakeTeacher(), quiet=True)
    state, start = load_file(recipe.parent / "out" / one["name"] / "ema.safetensors"), thaw(TINY_WEIGHTS)
    for name, tensor in state.items():
        if ".norm." not in name and tensor.is_floating_point():
            assert torch.allclose(tensor, start[name], atol=1e-5), name


def test_a_heads_stage_leaves_the_base_and_its_files_alone(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    heads = {
        "name": "heads",
        "kind": "heads",
        "lr": 0.01,
        **{k: stages[0][k] for k in ("data", "steps", "batch", "warmup")},
    }
    result = train(from_tiny(recipe, stages=[heads], name="tiny"), teacher=FakeTeacher(), quiet=True)
    assert result.weights is not None
    shipped, found = load_file(TINY_WEIGHTS), load_file(result.weights)
    changed = {name.split(".")[0] for name in shipped if not torch.equal(shipped[name], found[name])}
    assert changed == {"detect", "classify"}


ENDS = {
    ("bottleneck", "encoder"): {"analysis", "base"},
    ("bottleneck", "decoder"): {"detect", "classify"},
    ("bottleneck", "both"): {"analysis", "base", "detect", "classify"},
    ("picture", "encoder"): {"picture_analysis", "picture"},
    ("picture", "decoder"): {"synthesis", "preview"},
    ("picture", "both"): {"picture_analysis", "picture", "synthesis", "preview"},
}


@pytest.mark.parametrize(("kind", "what"), ENDS, ids="-".join)
def test_a_part_is_trained_and_files_stay_readable_both_ways(recipe: Path, kind: str, what: str) -> None:
    """All but the parts named stays to the bit; so do the fingerprints, though a new encoder writes the new files."""
    stages = yaml.safe_load(recipe.read_text())["stages"]
    one = {**next(s for s in stages if s["kind"] == kind), "train": what, "lr": 0.01}
    result = train(from_tiny(recipe, stages=[one], name="tiny"), teacher=FakeTeacher(), quiet=True)
    assert result.weights is not None
    shipped, found = load_file(TINY_WEIGHTS), load_file(result.weights)
    changed = {name for name in shipped if not torch.equal(shipped[name], found[name])}
    assert {name.removeprefix("model.").split(".")[0] for name in changed} == ENDS[kind, what]
    coder = {n for n in changed if n.removeprefix("model.").split(".")[0] in ("base", "picture")}
    assert all(".h_a." in name for name in coder)  # only the encoder runs the hyper-analysis
    before, after = vcm.load(TINY_WEIGHTS), vcm.load(result.weights)
    assert after.fingerprint == before.fingerprint
    assert after.fingerprint_enhancement == before.fingerprint_enhancement
    file = after.encode(np.full((64, 96, 3), 90, np.uint8))
    assert before.decode(file).size == after.decode(file).size == (96, 64)


def test_everything_is_another_codec(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    result = train(
        from_tiny(recipe, stages=[{**stages[1], "train": "all", "lr": 0.01}], name="tiny"),
        teacher=FakeTeacher(),
        quiet=True,
    )
    assert result.weights is not None
    assert vcm.load(result.weights).fingerprint != vcm.load(TINY_WEIGHTS).fingerprint


def test_a_heads_stage_needs_a_base(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["stages"] = [{**content["stages"][0], "name": "heads", "kind": "heads"}]
    content["stages"][0].pop("frozen_blocks")
    recipe.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="after a bottleneck"):
        train(recipe, teacher=FakeTeacher(), quiet=True)


def test_a_bottleneck_after_a_twin_takes_the_twin_that_was_trained(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    stages[1]["lr"] = 1e-9
    train(from_tiny(recipe, stages=stages), teacher=FakeTeacher(), quiet=True)
    out = recipe.parent / "out"
    twin, base = load_file(out / "twin" / "ema.safetensors"), load_file(out / "bottleneck" / "ema.safetensors")
    start = thaw(TINY_WEIGHTS)
    name = "analysis.project.weight"
    assert torch.allclose(base[name], twin[name], atol=1e-6)
    assert not torch.allclose(base[name], start[name], atol=1e-6)
    assert torch.allclose(base["base.gain_y"], start["base.gain_y"], atol=1e-6)  # the entropy model that shipped


def test_a_resumed_run_keeps_its_start(recipe: Path) -> None:
    train(from_tiny(recipe), teacher=FakeTeacher(), quiet=True)
    with pytest.raises(ConfigError, match="another from"):
        train(recipe, start="vcm-s", resume=True, teacher=FakeTeacher(), quiet=True)


def test_a_stage_starts_from_one_thing(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["stages"][1] |= {"start": "twin", "from": "vcm-s"}
    recipe.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="not from both"):
        load_config(recipe)
