"""Frozen features, echoed batches, degraded views: what makes a CPU run affordable must not change what is learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fake_teacher import FakeTeacher
from safetensors.torch import load_file

import vcm
from vcm.codecs.scalable.build import base_analysis
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.errors import ConfigError
from vcm.training.config import load_config
from vcm.training.data.degrade import degrade, plan_degradations
from vcm.training.losses import distill_logits
from vcm.training.plan import resolve
from vcm.training.run import _Run, train


def rows(folder: Path) -> list[dict[str, float]]:
    out = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in out:
        row.pop("images_per_s")
    return out


def stage(recipe: Path, *overrides: str):
    config = load_config(recipe, overrides)
    torch.manual_seed(0)
    return _Run(config, FakeTeacher()).stage(resolve(config).stages[0])


@pytest.mark.parametrize("blocks", [0, 2, 3])
def test_a_trunk_in_two_parts_is_the_trunk(blocks: int) -> None:
    trunk = base_analysis(ARCHITECTURES["tiny"]).trunk
    x = torch.rand(2, 3, 64, 96) * 255
    for whole, parts in zip(trunk(x), trunk.finish(trunk.start(x, blocks), blocks), strict=True):
        assert torch.equal(whole, parts)


@pytest.mark.parametrize("blocks", [2, 99])
def test_frozen_features_give_the_latents_of_the_whole_analysis(recipe: Path, blocks: int) -> None:
    one = stage(recipe, f"stages.0.frozen_blocks={blocks}")
    batch = one._fetch(0)
    rng = np.random.default_rng([*one._seed, 0, 1])
    torch.testing.assert_close(one.latents(batch, 0), one.modules["analysis"](one.batch(rng)))
    trained = {n for n, p in one.modules["analysis"].trunk.named_parameters() if p.requires_grad}
    assert bool(trained) == (blocks == 2)
    assert not any(n.startswith(("stem", "blocks.0.", "blocks.1.")) for n in trained)


def test_a_cut_inside_the_last_stride_is_refused(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="last stride"):
        stage(recipe, "stages.0.frozen_blocks=4")


def test_each_batch_is_used_echo_times_and_fresh_ones_follow(recipe: Path) -> None:
    one = stage(recipe, "stages.0.echo=2", "stages.0.reserve=2")
    drawn: list[int] = []
    draw = one._draw
    one._draw = lambda number: drawn.append(number) or draw(number)
    batches = [one._fetch(step) for step in range(8)]
    assert drawn == [0, 1, 2, 3]
    assert batches[0] is batches[2]
    assert batches[1] is batches[3]
    assert batches[4] is batches[6]
    assert not one._reserve
    late = stage(recipe, "stages.0.echo=2", "stages.0.reserve=2")
    again = late._fetch(3)  # a resumed run has no reserve
    assert torch.equal(again.frozen[0], batches[3].frozen[0])


def test_the_trunk_learns_every_so_many_steps(recipe: Path) -> None:
    one = stage(recipe, "stages.0.frozen_blocks=1", "stages.0.trunk_every=2")
    for step, expected in ((0, True), (1, False)):
        one.modules.zero_grad(set_to_none=True)
        one.loss(step, np.random.default_rng(0))[0].backward()
        assert (one.modules["analysis"].trunk.blocks[3].project.weight.grad is not None) == expected
        assert one.modules["analysis"].project.weight.grad is not None


def test_half_precision_heads_lose_about_what_single_ones_do(recipe: Path) -> None:
    losses = [
        stage(recipe, f"stages.0.half={half}").loss(0, np.random.default_rng(0))[0].item() for half in ("true", "false")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert losses[0] != losses[1]


def test_an_echoing_run_resumes_to_the_same_losses(recipe: Path, tmp_path: Path) -> None:
    common = ("stages.0.echo=3", "stages.0.reserve=2", "stages.0.steps=8", "checkpoint_minutes=1e-9")
    train(recipe, overrides=common, teacher=FakeTeacher(), quiet=True)
    out = (*common, f"out={tmp_path / 'parts'}")
    for _ in range(40):
        if train(recipe, overrides=out, resume=True, minutes=0, teacher=FakeTeacher(), quiet=True).weights is not None:
            break
    assert rows(tmp_path / "parts" / "twin") == rows(recipe.parent / "out" / "twin")


def test_a_stage_starts_from_the_one_it_names(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    again = {**content["stages"][0], "name": "picture", "start": "twin", "lr": 1e-9}
    recipe.write_text(yaml.safe_dump({**content, "stages": [*content["stages"][:2], again]}))
    train(recipe, overrides=("stages.2.data.degrade=1",), teacher=FakeTeacher(), quiet=True)
    first, last = (load_file(recipe.parent / "out" / n / "ema.safetensors") for n in ("twin", "picture"))
    assert all(torch.allclose(first[k], last[k], atol=1e-6) for k in first if "project" in k and "trunk" not in k)
    with pytest.raises(ConfigError, match="no such earlier stage"):
        train(recipe, overrides=("stages.1.start=nowhere",), teacher=FakeTeacher(), quiet=True)


def test_degraded_views() -> None:
    ramp = torch.linspace(0, 255, 64).expand(8, 3, 64, 64).contiguous()
    noise = (ramp + torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0)) * 30).clamp(0, 255)
    assert torch.equal(degrade(noise, plan_degradations(8, 0.0, np.random.default_rng(1))), noise)
    plans = plan_degradations(8, 1.0, np.random.default_rng(1))
    assert plans == plan_degradations(8, 1.0, np.random.default_rng(1))
    out = degrade(noise, plans)
    assert torch.equal(out[4:], degrade(noise[4:], plans[4:]))
    error = (out - noise).abs().mean((1, 2, 3))
    assert (error > 2).all()
    assert (out.mean((1, 2, 3)) - noise.mean((1, 2, 3))).abs().max() < 4
    half = degrade(noise, plan_degradations(8, 0.5, np.random.default_rng(2)))
    changed = (half != noise).flatten(1).any(1).sum()
    assert 0 < changed < 8


def test_logit_distillation_by_hand() -> None:
    t = torch.full((1, 2, 1, 2), 0.5)
    t[0, :, 0, 1] = torch.tensor([0.9, 0.1])
    x = torch.zeros(1, 2, 1, 2)
    nine = float(torch.logit(torch.tensor(0.9)))
    expected = (0.9 * nine**2) / (0.5 + 0.9)
    assert distill_logits([x], [t], floor=0.0).item() == pytest.approx(expected, rel=1e-5)
    assert distill_logits([torch.logit(t)], [t]).item() == pytest.approx(0, abs=1e-9)


def test_a_recipe_ships_twins_and_a_codec_that_ignores_its_base(recipe: Path) -> None:
    frozen = tuple(f"stages.{i}.frozen_blocks=99" for i in range(2))
    content = yaml.safe_load(recipe.read_text())
    extra = {**content["stages"][2], "name": "alone", "aside": True, "blind": True, "ship": "t-blind"}
    content["stages"] += [extra]
    recipe.write_text(yaml.safe_dump(content))
    train(recipe, overrides=(*frozen, "stages.0.ship=t-twin"), teacher=FakeTeacher(), quiet=True)
    out = recipe.parent / "out"
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert vcm.load_twin(out / "t-twin.safetensors").detect(image).boxes.shape[1] == 4
    whole, blind = vcm.load(out / "t.safetensors"), vcm.load(out / "t-blind.safetensors")
    boxes = [c.detect(c.encode(image).base, score=0.0).boxes for c in (whole, blind)]
    assert np.array_equal(*boxes)  # the same base, though under another model's name
    layers = [blind.encode(image, base_quality=q) for q in (0, 100)]
    assert layers[0].base != layers[1].base
    pictures = [blind.decode(layer) for layer in layers]
    assert np.array_equal(*pictures)
    seen = [whole.decode(whole.encode(image, base_quality=q)) for q in (0, 100)]
    assert not np.array_equal(*seen)
