"""Ground truth, MS-SSIM, the joint stage and degraded twins, each run on the tiny architecture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fake_teacher import FakeTeacher
from safetensors.torch import load_file, save_file

import vcm
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.picture import PictureAnalysis, PictureSynthesis
from vcm.errors import ConfigError
from vcm.training.config import load_config
from vcm.training.export import training_modules
from vcm.training.plan import resolve
from vcm.training.run import _Run, train
from vcm.training.stages import BottleneckStage, HeadStage, JointStage, PictureStage, TwinStage
from vcm.training.stages.task import base_quality


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def edit(recipe: Path, **changes: object) -> None:
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **changes}))


def annotate(recipe: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.png", "width": 150, "height": 110} for i in range(6)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [40, 30, 60, 50]} for i in range(6)]
    content = {"images": images, "annotations": boxes}
    (recipe.parent / "data" / "pics" / "instances.json").write_text(json.dumps(content))


def test_ground_truth_joins_late_and_only_where_there_is_some(recipe: Path, tmp_path: Path) -> None:
    only_twin = [{**yaml.safe_load(recipe.read_text())["stages"][0], "weights": {"ground_truth": 0.5}}]
    edit(recipe, stages=only_twin)
    train(recipe, overrides=(f"out={tmp_path / 'plain'}",), teacher=FakeTeacher(), quiet=True)
    plain = rows(tmp_path / "plain" / "twin")
    assert [row.get("ground_truth") for row in plain] == [None, None, None, 0.0]  # 0.7 of four steps: the last one
    annotate(recipe)
    train(recipe, overrides=(f"out={tmp_path / 'true'}",), teacher=FakeTeacher(), quiet=True)
    true = rows(tmp_path / "true" / "twin")
    assert true[3]["ground_truth"] > 0
    assert [row["loss"] for row in true[:3]] == [row["loss"] for row in plain[:3]]
    assert true[3]["loss"] == pytest.approx(plain[3]["loss"] + 0.5 * true[3]["ground_truth"], abs=1e-4)


def test_ms_ssim_adds_to_the_picture_loss(recipe: Path) -> None:
    config = load_config(recipe, ("stages.2.data.size=192",))
    losses = []
    for weights in ({}, {"ms_ssim": 500.0}):
        stage_config = config.stages[2].model_copy(update={"weights": weights})
        torch.manual_seed(0)
        stage = PictureStage(stage_config, config, _Run(config, FakeTeacher()).store(stage_config))
        torch.manual_seed(1)
        losses.append(stage.loss(0, np.random.default_rng(0)))
    assert "ms_ssim" not in losses[0][1]
    assert 0 < losses[1][1]["ms_ssim"] < 1
    assert losses[1][0].item() > losses[0][0].item()


def test_a_joint_stage_moves_both_layers_and_is_what_ships(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    joint = {**content["stages"][2], "name": "joint", "kind": "joint", "trunk_lr": 0, "weights": {"ground_truth": 1.0}}
    edit(recipe, stages=[*content["stages"], joint])
    annotate(recipe)
    result = train(recipe, teacher=FakeTeacher(), quiet=True)
    assert result.weights is not None
    out = recipe.parent / "out"
    row = rows(out / "joint")[-1]
    assert {"base_bpp", "bpp", "psnr", "scores", "giou", "preview_psnr", "ground_truth"} <= row.keys()
    before = load_file(out / "bottleneck" / "ema.safetensors") | load_file(out / "picture" / "ema.safetensors")
    after = load_file(out / "joint" / "ema.safetensors")
    assert after.keys() == before.keys()
    parts = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
    assert parts == {key.split(".")[0] for key in after}
    assert all(torch.equal(after[key], before[key]) for key in after if ".trunk." in key)
    # What ships is the joint stage's.
    shipped = load_file(result.weights)
    key = "model.synthesis.out.bias"
    assert torch.equal(shipped[key], after[key.removeprefix("model.")].half())
    codec = vcm.load(result.weights)
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    assert codec.decode(codec.encode(picture).to_bytes()).size == (64, 48)


def test_later_stages_start_from_a_joint_one(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    joint = {**content["stages"][2], "name": "joint", "kind": "joint"}
    edit(recipe, stages=[*content["stages"], joint])
    train(recipe, teacher=FakeTeacher(), quiet=True)
    learned = load_file(recipe.parent / "out" / "joint" / "ema.safetensors")
    stages = [*content["stages"], joint]
    for one in stages[1:]:
        edit(recipe, stages=[*stages, {**one, "name": "again"}])
        config = load_config(recipe)
        state = _Run(config, FakeTeacher()).stage(resolve(config).stages[-1]).modules.state_dict()
        assert all(torch.equal(value, learned[key]) for key, value in state.items())


def test_the_gradient_of_the_picture_reaches_the_base(recipe: Path) -> None:
    nothing = "{scores: 0, giou: 0, kl: 0, features: 0, classify: 0, preview: 0}"
    changes = ("kind=joint", "trunk_lr=0", "base_lambda_low=1e-9", "base_lambda_high=1e-9", f"weights={nothing}")
    config = load_config(recipe, tuple(f"stages.2.{change}" for change in changes))
    torch.manual_seed(0)
    stage = JointStage(config.stages[2], config, _Run(config, FakeTeacher()).store(config.stages[2]), FakeTeacher())
    stage.loss(0, np.random.default_rng(0))[0].backward()
    project = stage.analysis.project.weight.grad
    assert project is not None
    assert float(project.abs().max()) > 0
    assert all(p.grad is None for p in stage.analysis.trunk.parameters())


@pytest.mark.parametrize(("power", "mean"), [(1.0, 0.5), (0.4, 1 / 1.4), (2.0, 1 / 3)])
def test_high_base_qualities_come_more_often_where_asked(recipe: Path, power: float, mean: float) -> None:
    config = load_config(recipe, (f"stages.1.quality_power={power}",))
    torch.manual_seed(0)
    found = base_quality(torch.rand(4000), config.stages[1])
    assert float(found.mean()) == pytest.approx(mean, abs=0.02)
    assert 0 <= float(found.min()) < float(found.max()) <= 1


def test_a_joint_stage_comes_after_both_others(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="comes after"):
        train(recipe, overrides=("stages.2.kind=joint",), teacher=FakeTeacher(), quiet=True)


def test_a_degraded_twin_sees_other_pixels_than_its_teacher(recipe: Path) -> None:
    seen: list[torch.Tensor] = []

    class Watching(FakeTeacher):
        def __call__(self, x: torch.Tensor):
            seen.append(x.clone())
            return super().__call__(x)

    config = load_config(recipe, ("stages.0.data.degrade=1.0",))
    stage = _Run(config, Watching()).stage(resolve(config).stages[0])
    batch = stage._draw(0)
    assert not torch.equal(batch.frozen[0], seen[0])
    edit(recipe, stages=[yaml.safe_load(recipe.read_text())["stages"][0]])
    done = train(recipe, overrides=("stages.0.data.degrade=0.5",), teacher=FakeTeacher(), quiet=True)
    assert done.stages[0].finished


@pytest.mark.parametrize(("kind", "blocks"), [("twin", 0), ("bottleneck", 2), ("bottleneck", 99), ("joint", 0)])
def test_what_a_gpu_does_in_bfloat16_loses_about_the_same(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, kind: str, blocks: int
) -> None:
    index = {"twin": 0, "bottleneck": 1, "joint": 2}[kind]
    at = f"stages.{index}"
    changes = (f"{at}.kind={kind}", f"{at}.frozen_blocks={blocks}", f"{at}.weights={{ground_truth: 1}}")
    config = load_config(recipe, (*changes, f"{at}.ground_truth_from=0", f"{at}.data.size=128"))
    annotate(recipe)
    losses = []
    for half in (False, True):
        if half:
            monkeypatch.setattr(
                HeadStage, "autocast", lambda self, on_cpu=False: torch.autocast("cpu", torch.bfloat16, enabled=True)
            )
        torch.manual_seed(0)
        builder = {"twin": TwinStage, "bottleneck": BottleneckStage, "joint": JointStage}[kind]
        own = config.stages[index]
        stage = builder(own, config, _Run(config, FakeTeacher()).store(own), FakeTeacher())
        torch.manual_seed(1)
        loss = stage.loss(0, np.random.default_rng(0))[0]
        loss.backward()
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_a_picture_stage_in_bfloat16_loses_nearly_the_same(recipe: Path) -> None:
    losses = {}
    for half in (False, True):
        config = load_config(recipe, (f"stages.2.half={half}",))
        own = config.stages[2]
        torch.manual_seed(0)
        stage = PictureStage(own, config, _Run(config, None).store(own))
        torch.manual_seed(1)
        loss, numbers = stage.loss(0, np.random.default_rng(0))
        loss.backward()
        gradient = stage.modules["picture_analysis"].down2.weight.grad
        losses[half] = loss.item(), numbers["psnr"], gradient
    assert losses[False][0] != losses[True][0]
    assert losses[True][0] == pytest.approx(losses[False][0], rel=0.01)
    assert losses[True][1] == pytest.approx(losses[False][1], abs=0.05)
    cosine = torch.cosine_similarity(losses[True][2].flatten(), losses[False][2].flatten(), dim=0)
    assert cosine > 0.95


def test_block_transforms_stay_exact_under_autocast() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 48) * 255
    analysis, synthesis = PictureAnalysis(24), PictureSynthesis(24)
    for last in (analysis.down16, synthesis.out):
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    base, quality = torch.zeros(1, 48, 2, 3), torch.full((1,), 0.5)
    with torch.no_grad():
        y = analysis(x)
        x_hat = synthesis(y, base, quality)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(analysis(x), y)
            assert torch.equal(synthesis(y, base, quality), x_hat)


def test_an_unknown_loss_weight_is_refused(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="beauty"):
        load_config(recipe, ("stages.0.weights={beauty: 1}",))


BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"compressai", "constriction", "pycocotools", "omegaconf"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
from pathlib import Path
from vcm.training.export import export
export({"bottleneck": Path(sys.argv[1]), "picture": Path(sys.argv[2])}, "tiny", "t", Path(sys.argv[3]), "nothing")
"""


def test_exporting_imports_no_research_package(recipe: Path, tmp_path: Path) -> None:
    state = training_modules(ARCHITECTURES["tiny"]).state_dict()
    base = ("analysis", "base", "detect", "classify")
    for name, inside in (("bottleneck", True), ("picture", False)):
        part = {k: v.contiguous() for k, v in state.items() if (k.split(".")[0] in base) == inside}
        save_file(part, tmp_path / f"{name}.safetensors")
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("bottleneck", "picture", "out")]
    subprocess.run([sys.executable, "-c", BLOCKED, *paths], check=True)
    assert vcm.load(paths[2]).name == "t"
