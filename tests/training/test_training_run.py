"""The recipe runs, resumes and repeats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fake_teacher import FakeTeacher
from safetensors.torch import load_file

import vcm
from vcm.errors import ConfigError, WeightsError
from vcm.training.checkpoint import load_checkpoint, save_checkpoint
from vcm.training.config import load_config
from vcm.training.run import StageResult, read_holdout, run_stage, train
from vcm.training.stages import Stage
from vcm.weights.registry import read_metadata


def rows(folder: Path) -> list[dict[str, float]]:
    keep = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        row.pop("images_per_s")
        keep.append(row)
    return keep


def test_every_stage_runs_and_its_model_codes_pictures(recipe: Path) -> None:
    result = train(recipe, teacher=FakeTeacher(), quiet=True)
    assert [s.finished for s in result.stages] == [True, True, True]
    assert result.weights is not None
    codec = vcm.load(result.weights)
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    stream = codec.encode(picture)
    assert codec.decode(stream.to_bytes()).size == (64, 48)
    assert np.array_equal(
        codec.detect(stream.base, score=0.05).boxes, codec.detect(stream.to_bytes(), score=0.05).boxes
    )
    for row in rows(recipe.parent / "out" / "bottleneck"):
        assert 0 < row["bpp"] < 30


def test_two_runs_with_one_seed_agree(recipe: Path, tmp_path: Path) -> None:
    callers = torch.random.get_rng_state()
    first = train(recipe, teacher=FakeTeacher(), quiet=True)
    assert torch.equal(torch.random.get_rng_state(), callers)
    second = train(recipe, overrides=(f"out={tmp_path / 'again'}",), teacher=FakeTeacher(), quiet=True)
    for a, b in zip(first.stages, second.stages, strict=True):
        assert rows(a.weights.parent) == rows(b.weights.parent)
        left, right = load_file(a.weights), load_file(b.weights)
        assert all(torch.equal(left[k], right[k]) for k in left)


def test_another_seed_differs(recipe: Path, tmp_path: Path) -> None:
    train(recipe, teacher=FakeTeacher(), quiet=True)
    train(recipe, overrides=(f"out={tmp_path / 'again'}", "seed=2"), teacher=FakeTeacher(), quiet=True)
    assert rows(recipe.parent / "out" / "twin") != rows(tmp_path / "again" / "twin")


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def test_a_killed_run_resumes_to_the_same_losses(recipe: Path, tmp_path: Path) -> None:
    every_step = "checkpoint_minutes=1e-9"
    train(recipe, overrides=(every_step,), teacher=FakeTeacher(), quiet=True)
    out = tmp_path / "killed"

    class Dying(FakeTeacher):
        calls = 0

        def __call__(self, x: torch.Tensor):
            self.calls += 1
            if self.calls == 3:
                raise Killed
            return super().__call__(x)

    overrides = (every_step, f"out={out}")
    with pytest.raises(Killed):
        train(recipe, overrides=overrides, teacher=Dying(), quiet=True)
    assert len(rows(out / "twin")) == 2
    result = train(recipe, overrides=overrides, resume=True, teacher=FakeTeacher(), quiet=True)
    assert result.weights is not None
    whole = recipe.parent / "out"
    for stage in ("twin", "bottleneck", "picture"):
        assert rows(out / stage) == rows(whole / stage)
    left, right = load_file(result.weights), load_file(whole / "t.safetensors")
    assert all(torch.equal(left[k], right[k]) for k in left)


def test_minutes_stops_cleanly_and_resume_skips_what_is_done(recipe: Path) -> None:
    stopped = train(recipe, minutes=0, teacher=FakeTeacher(), quiet=True)
    assert stopped.weights is None
    assert stopped.stages[-1].step == 1
    assert load_checkpoint(recipe.parent / "out" / "twin") is not None
    done = train(recipe, resume=True, teacher=FakeTeacher(), quiet=True)
    assert done.weights is not None
    assert [r["step"] for r in rows(recipe.parent / "out" / "twin")] == [1, 2, 3, 4]


def test_a_stage_is_not_resumed_with_other_settings(recipe: Path) -> None:
    train(recipe, minutes=0, teacher=FakeTeacher(), quiet=True)  # stops in its first stage
    for change, said in (
        ("stages.0.steps=9", "another steps: .*: expected 4, found 9"),
        ("stages.0.data.size=128", r"another data\.size"),
        ("seed=3", "another seed"),
    ):
        with pytest.raises(ConfigError, match=said):
            train(recipe, overrides=(change,), resume=True, teacher=FakeTeacher(), quiet=True)
    changed = ("stages.1.steps=3", "stages.0.ship=other")  # not begun, and not part of the training
    assert train(recipe, overrides=changed, resume=True, teacher=FakeTeacher(), quiet=True).weights is not None
    with pytest.raises(ConfigError, match=r"stage bottleneck .*: expected 3, found 4"):
        train(recipe, resume=True, teacher=FakeTeacher(), quiet=True)


def test_a_change_reaches_one_stage_though_yaml_shares_its_data(recipe: Path) -> None:
    assert "&id" in recipe.read_text()
    config = load_config(recipe, ("stages.0.data.size=128",))
    assert [stage.data.size for stage in config.stages] == [128, 64, 64]


def test_minutes_are_those_of_all_stages_together(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def watched(*args: Any, minutes: float, **others: Any) -> StageResult:
        left.append(minutes)
        return run_stage(*args, minutes=minutes, **others)

    monkeypatch.setattr("vcm.training.run.run_stage", watched)
    train(recipe, minutes=10, teacher=FakeTeacher(), quiet=True)
    assert 10 >= left[0] > left[1] > left[2] > 0


def test_a_new_run_forgets_what_an_earlier_one_finished(recipe: Path) -> None:
    train(recipe, teacher=FakeTeacher(), quiet=True)
    train(recipe, overrides=("seed=2",), minutes=0, teacher=FakeTeacher(), quiet=True)
    resumed = train(recipe, overrides=("seed=2",), resume=True, teacher=FakeTeacher(), quiet=True)
    assert resumed.weights is not None
    found = load_file(resumed.weights)
    train(recipe, overrides=("seed=2", f"out={recipe.parent / 'fresh'}"), teacher=FakeTeacher(), quiet=True)
    wanted = load_file(recipe.parent / "fresh" / "t.safetensors")
    assert all(torch.equal(found[k], v) for k, v in wanted.items())


def test_what_is_ready_ships_before_the_experiments_that_follow(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(recipe.read_text())
    twin, bottleneck, picture = content["stages"]
    more = {**twin, "name": "ceiling", "start": "twin", "aside": True, "ship": "t-twin"}
    again = {**picture, "name": "layers", "aside": True, "ship": "t-alone"}
    recipe.write_text(yaml.safe_dump({**content, "stages": [twin, bottleneck, more, picture, again]}))

    def stopped(stage: Stage, *args: Any, **others: Any) -> StageResult:
        if stage.config.name == "layers":
            raise KeyboardInterrupt
        return run_stage(stage, *args, **others)

    monkeypatch.setattr("vcm.training.run.run_stage", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, teacher=FakeTeacher(), quiet=True)
    out = recipe.parent / "out"
    assert {path.stem for path in out.glob("*.safetensors")} == {"t", "t-twin"}
    assert read_metadata(out / "t-twin.safetensors")["trunk"] == "own"  # this one went on training its trunk


def test_what_ships_says_which_stages_it_went_through(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    twin, bottleneck, picture = content["stages"]
    more = {**twin, "name": "ceiling", "start": "twin", "aside": True, "ship": "t-twin", "steps": 2}
    again = {**picture, "name": "layers", "aside": True, "ship": "t-alone"}
    joint = {**picture, "name": "joint", "kind": "joint"}
    recipe.write_text(yaml.safe_dump({**content, "stages": [twin, bottleneck, more, picture, again, joint]}))
    train(recipe, teacher=FakeTeacher(), quiet=True)
    out = recipe.parent / "out"
    said = {name: read_metadata(out / f"{name}.safetensors")["trained"] for name in ("t", "t-twin", "t-alone")}
    of = " 4 steps of 2"
    assert said["t-twin"] == f"twin{of}, ceiling 2 steps of 2"
    assert said["t-alone"] == f"twin{of}, bottleneck{of}, picture{of}, layers{of}"
    assert said["t"] == f"twin{of}, bottleneck{of}, picture{of}, joint{of}"
    # An experiment beside the recipe keeps the base that it was trained on.
    key = "model.analysis.project.bias"
    assert torch.equal(
        load_file(out / "t-alone.safetensors")[key],
        load_file(out / "bottleneck" / "ema.safetensors")["analysis.project.bias"].half(),
    )


def assert_refused(recipe: Path, stage: int, change: Mapping[str, object], said: str) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["stages"][stage] |= change
    recipe.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=said):
        load_config(recipe)


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [(1, {"name": "twin"}, "share a folder"), (0, {"start": "picture"}, "no such earlier"), (1, {"ship": "b"}, "ship")],
)
def test_stages_that_do_not_fit_together_are_refused_at_once(
    recipe: Path, stage: int, change: dict[str, str], said: str
) -> None:
    assert_refused(recipe, stage, change, said)


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        (0, {"lambda_high": 3.0}, r"stages\.0\.twin\.lambda_high: no such setting"),
        (0, {"blind": True}, r"twin\.blind: no such setting"),
        (1, {"base_lambda_low": 1.0}, r"bottleneck\.base_lambda_low: no such setting"),
        (1, {"weights": {"preview": 1.0}}, r"bottleneck\.weights\.preview"),
        (2, {"echo": 2}, r"picture\.echo: no such setting"),
        (2, {"weights": {"scores": 1.0}}, r"picture\.weights\.scores"),
        (2, {"kind": "joint", "trunk_every": 3}, r"joint\.trunk_every: no such setting"),
        (2, {"data": {"folders": ["pics"], "degrade": 0.5}}, r"data\.degrade: no such setting"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(
    recipe: Path, stage: int, change: dict[str, object], said: str
) -> None:
    assert_refused(recipe, stage, change, said)


def test_a_row_that_a_crash_cut_short_is_dropped(recipe: Path) -> None:
    train(recipe, minutes=0, teacher=FakeTeacher(), quiet=True)
    with (recipe.parent / "out" / "twin" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "lo')
    train(recipe, resume=True, minutes=0, teacher=FakeTeacher(), quiet=True)
    assert [r["step"] for r in rows(recipe.parent / "out" / "twin")] == [1, 2]


def test_checkpoints_are_split_and_a_lost_shard_is_named(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((300_000,), float(i)) for i in range(4)}
    save_checkpoint(tmp_path, tensors, 1, shard_mib=2)
    save_checkpoint(tmp_path, tensors, 2, shard_mib=2)
    shards = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    assert len(shards) == 4
    assert all(s.startswith("step0000002") for s in shards)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert all(torch.equal(found.tensors[k], v) for k, v in tensors.items())
    (tmp_path / shards[1]).unlink()
    with pytest.raises(WeightsError, match=shards[1]):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoint.json").write_text('{"step": 2, "sha')
    with pytest.raises(WeightsError, match=r"cannot read .*checkpoint\.json"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages.0.stepz=1", "stepz"),
        ("colour=1", "colour"),
        ("stages.0.batch=0", "batch"),
        ("stages.0.data.size=100", "size"),
        ("stages.0.kind=dance", "no such kind: expected 'twin'.* found dance"),
        ("stages.9.steps=1", "names nothing"),
        ("seed", "key=value"),
    ],
)
def test_wrong_configurations_are_refused(recipe: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(recipe, (override,))


def test_configuration_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(bad)
    bad.write_text("- 1")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_config(bad)


def test_shipped_recipes_validate() -> None:
    folder = Path(__file__).parents[2] / "configs" / "recipes"
    for name in ("vcm-s-cpu", "vcm-s-gpu"):
        recipe = load_config(folder / f"{name}.yaml")
        assert list(dict.fromkeys(s.kind for s in recipe.stages if not s.aside)) == ["twin", "bottleneck", "picture"]
        assert {s.ship for s in recipe.stages if s.kind != "bottleneck"} >= {"vcm-s-twin", "vcm-s-twin-degraded"}
    assert len(read_holdout(folder / "holdout.txt")) == 200


def test_missing_data_is_named(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="not there"):
        train(recipe, overrides=("stages.0.data.folders=[nowhere]",), teacher=FakeTeacher(), quiet=True)


def test_a_stage_that_distils_needs_a_teacher(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="teacher"):
        train(recipe, quiet=True)
