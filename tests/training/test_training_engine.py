"""The one loop: a diverged loss, and checkpoints that a kill at any moment leaves whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_teacher import FakeTeacher
from torch import Tensor, nn

import vcm.cli
from vcm.errors import TrainingError, WeightsError
from vcm.training import engine
from vcm.training.checkpoint import load_checkpoint, save_checkpoint
from vcm.training.stages import TwinStage


class Line(engine.Learner):
    """One weight that is drawn towards 3; its loss is infinite at step ``bad``."""

    def __init__(self, bad: int = -1) -> None:
        self.modules = nn.ModuleDict({"line": nn.Linear(1, 1, bias=False)})
        self.bad = bad

    def parameter_groups(self) -> list[dict[str, object]]:
        return [{"params": list(self.modules.parameters())}]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        value = (self.modules["line"](torch.ones(1)) - 3).square().sum()
        return value * (torch.inf if step == self.bad else 1.0), {"noise": float(rng.random())}


SETTINGS = engine.Settings(60, 0.2, warmup=5, ema=0.9, seed=(7,))


def test_a_learner_is_trained_and_its_average_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen: list[tuple[int, int]] = []
    left = engine.run(Line(), SETTINGS, folder=tmp_path, progress=lambda done, total, _: seen.append((done, total)))
    assert left.finished
    assert seen[-1] == (60, 60)
    assert float(left.averaged["line.weight"]) == pytest.approx(3, abs=0.3)
    assert left.losses[0] > 10 * left.losses[-1]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 60


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_value(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss of step 4 is not finite; .*: found inf"):
        engine.run(Line(bad=4), SETTINGS, folder=tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_the_command_calls_it_no_wrong_call(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverged(*_: Any) -> tuple[Tensor, dict[str, float]]:
        return torch.tensor(torch.nan, requires_grad=True), {}

    monkeypatch.setattr(TwinStage, "loss", diverged)
    monkeypatch.setattr("vcm.training.run.Teacher", lambda *_, **__: FakeTeacher())
    assert vcm.cli.run(["train", str(recipe), "--set", "teacher=x"]) == 1  # 2 is for wrong calls
    lines = capsys.readouterr().err.strip().splitlines()
    assert "the loss of step 0 is not finite" in lines[-1]
    assert "nan" in lines[-1]


def test_old_shards_go_when_the_new_checkpoint_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {f"t{i}": torch.full((300_000,), float(i)) for i in range(4)}
    save_checkpoint(tmp_path, tensors, 1, shard_mib=2)
    events: list[str] = []
    sync, unlink, replace = os.fsync, Path.unlink, Path.replace

    def synced(handle: int) -> None:
        events.append("sync")
        sync(handle)

    def removed(path: Path, missing_ok: bool = False) -> None:
        if path.parent == tmp_path:
            events.append(f"remove {path.name}")
            assert load_checkpoint(tmp_path).step == 2
        unlink(path, missing_ok=missing_ok)

    def renamed(path: Path, target: Path) -> Path:
        assert events[-1] == "sync", f"{target} takes its name before its bytes are on the disk"
        events.append(f"rename {Path(target).name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "unlink", removed)
    monkeypatch.setattr(Path, "replace", renamed)
    save_checkpoint(tmp_path, tensors, 2, shard_mib=2)
    index = events.index("rename checkpoint.json")
    assert events[index + 1] == "sync"  # the folder's list of names
    gone = [i for i, event in enumerate(events) if event.startswith("remove step0000001")]
    assert len(gone) == 4
    assert min(gone) > index + 1


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a": torch.arange(4.0), "b": torch.arange(3.0)}
    save_checkpoint(tmp_path, tensors, 1, shard_mib=0)

    def full(path: Path, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vcm.training.checkpoint.save_tensors", full)
    with pytest.raises(vcm.errors.OutputError, match="No space left"):
        save_checkpoint(tmp_path, tensors, 2)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert torch.equal(found.tensors["b"], tensors["b"])


@pytest.mark.parametrize(
    "index", ['{"step": 2}', '{"shards": []}', "[]", '{"step": 1, "shards": ["../x.safetensors"]}']
)
def test_an_index_that_is_none_is_one_clear_error(tmp_path: Path, index: str) -> None:
    (tmp_path / "checkpoint.json").write_text(index)
    with pytest.raises(WeightsError, match=r"checkpoint\.json"):
        load_checkpoint(tmp_path)
