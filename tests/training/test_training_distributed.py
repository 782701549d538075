"""Two processes give the losses of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fake_teacher import FakeTeacher
from safetensors.torch import load_file

from vcm.errors import ConfigError
from vcm.training import distributed
from vcm.training.distributed import pick_device
from vcm.training.run import train

WORKER = """
import sys, warnings
warnings.simplefilter("error", UserWarning)
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from fake_teacher import FakeTeacher
from vcm.training.run import train
result = train(sys.argv[1], overrides=(f"out={sys.argv[3]}",), teacher=FakeTeacher(), quiet=True)
assert all(stage.finished for stage in result.stages)
"""


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def in_two_processes(recipe: Path, out: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # what torchrun sets
    command = [sys.executable, "-c", WORKER, str(recipe), str(Path(__file__).parents[1]), str(out)]
    workers = [
        subprocess.Popen(command, env={**os.environ, **common, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)
    ]
    try:
        assert [worker.wait(timeout=280) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()


def test_two_processes_give_the_losses_of_one(recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    images = [{"id": i, "file_name": f"{i}.png", "width": 150, "height": 110} for i in range(6)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [40, 30, 60, 50]} for i in range(6)]
    truth = {"images": images, "annotations": boxes}
    (recipe.parent / "data" / "pics" / "instances.json").write_text(json.dumps(truth))
    twin, bottleneck, picture = (
        {**stage, "batch": 4, "steps": 2, "lr": 1e-4, "data": {**stage["data"], "size": 128}}
        for stage in content["stages"]
    )
    twin["data"] = {**twin["data"], "degrade": 0.5}
    bottleneck |= {"weights": {"ground_truth": 1.0, "logits": 0.1}, "ground_truth_from": 0}
    joint = {**picture, "name": "joint", "kind": "joint"}
    recipe.write_text(yaml.safe_dump({**content, "stages": [twin, bottleneck, picture, joint]}))
    train(recipe, teacher=FakeTeacher(), quiet=True)
    in_two_processes(recipe, tmp_path / "two")
    for stage in ("twin", "bottleneck", "picture", "joint"):
        one, two = rows(recipe.parent / "out" / stage), rows(tmp_path / "two" / stage)
        assert [row["step"] for row in two] == [1, 2]
        # Sums in another order leave a stage's weights a little different, and rounding amplifies that in the next.
        strict = stage == "twin"
        for mine, theirs in zip(two, one, strict=True):
            for key in {"loss", "bpp", "base_bpp", "ground_truth", "scores", "kl"} & theirs.keys():
                assert mine[key] == pytest.approx(theirs[key], rel=1e-4 if strict else 1e-2), (stage, key)
            assert mine["grad"] == pytest.approx(theirs["grad"], rel=1e-3 if strict else 0.1), stage
    left = load_file(recipe.parent / "out" / "joint" / "ema.safetensors")
    right = load_file(tmp_path / "two" / "joint" / "ema.safetensors")
    assert left.keys() == right.keys()
    name = "analysis.up.norm.running_var"
    assert torch.allclose(left[name], right[name], rtol=1e-2)
    assert (tmp_path / "two" / "t.safetensors").is_file()


def test_a_batch_that_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 2)
    assert distributed.batch_part(6) == slice(4, 6)
    with pytest.raises(ConfigError, match="does not divide"):
        distributed.batch_part(4)


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    if torch.cuda.is_available():
        assert pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto").type == "cpu"
        with pytest.raises(ConfigError, match="no GPU"):
            pick_device("cuda")
