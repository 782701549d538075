"""``vcm eval`` and ``vcm compare`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import vcm.cli as cli

pytest.importorskip("matplotlib")


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    (tmp_path / "data").mkdir()
    for i in range(2):
        ramp = np.add.outer(np.arange(48) * 3, np.arange(64) * 2).astype(np.uint8)
        Image.fromarray(np.stack([ramp, ramp[::-1], ramp + i], -1)).save(tmp_path / "data" / f"{i}.png")
    plan = {
        "name": "small", "title": "Small", "task": "distortion", "anchors": ["jpeg"], "metrics": ["psnr"],
        "points": {"jpeg": [5, 20, 50, 80], "webp": [5, 20, 50, 80]}, "departures": ["a test"], "bootstrap": 10,
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(plan))
    return [
        "eval", str(tmp_path / "small.yaml"), "--data", str(tmp_path / "data"), "--codecs", "jpeg,webp",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def test_eval_writes_a_report_and_continues(job: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*job, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pictures"], found["computed"], found["cached"]) == (2, 16, 0)
    assert Path(found["report.html"]).is_file()
    assert cli.run(job) == 0
    text = capsys.readouterr().out
    assert "0 measured now, 16 from the cache" in text
    assert "webp" in text


def test_broken_pictures_are_told_on_stderr(job: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "bad.png").write_bytes(b"bad")
    assert cli.run(job) == 0
    assert "left out: bad.png" in capsys.readouterr().err


def test_compare_two_runs(job: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(job) == 0
    capsys.readouterr()
    out = str(tmp_path / "out")
    assert cli.run(["compare", out, f"{out}/results.json", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["codec"] for row in rows} == {"jpeg", "webp"}
    assert all(row["same"] and row["quantity"] == "psnr" for row in rows)
    assert cli.run(["compare", out, out]) == 0
    assert "psnr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (["--codecs", "gif"], 2, "no such codec"),
        (["--codecs", ""], 2, "no codec"),
        (["--data", "nowhere"], 2, "no such data folder"),
        (["--machine", "no-such"], 2, "no such machine"),
        (["--pseudo"], 2, "needs a machine"),
        (["--layout", "voc"], 2, "layout"),
    ],
)
def test_wrong_calls_are_one_line(
    job: list[str], capsys: pytest.CaptureFixture[str], change: list[str], status: int, message: str
) -> None:
    assert cli.run([*job, *change]) == status
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_compare_refuses_what_is_no_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text("{}")
    assert cli.run(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert "holds no evaluation" in capsys.readouterr().err
