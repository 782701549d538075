"""The command line over the real codec, with the tiny seeded weights: a picture goes through files and comes back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vcm
import vcm.cli

TINY = Path(__file__).parent.parent / "golden" / "tiny.safetensors"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "photo.png"
    y, x = np.mgrid[0:70, 0:91]
    Image.fromarray(np.stack([x * 2, y * 3, x + y], axis=-1).astype(np.uint8)).save(path)
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Standard output of a command that must succeed without a word on standard error."""
    capsys.readouterr()
    status = vcm.cli.run([str(argument) for argument in (*arguments, "--model", TINY)])
    caught = capsys.readouterr()
    assert (status, caught.err) == (0, "")
    return caught.out


def test_through_files_and_back(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, base, later = tmp_path / "a.vcm", tmp_path / "base.vcm", tmp_path / "later.vcm"
    (row,) = json.loads(call(capsys, "encode", photo, "-o", file, "--json"))
    assert (row["width"], row["height"], row["total_bytes"]) == (91, 70, file.stat().st_size)
    base.write_bytes(file.read_bytes()[: row["base_bytes"]])
    call(capsys, "encode", photo, "--base-only", "-o", later)
    assert later.read_bytes() == base.read_bytes()

    # The file, its base prefix and the picture itself give the same detections for the same bytes.
    rows = json.loads(call(capsys, "detect", file, base, photo, "--score", 0.1, "--json"))
    assert rows[0]["detections"]
    for found in rows:
        assert {**found, "file": None} == {**rows[0], "file": None}
        assert found["bytes_read"] == row["base_bytes"]
    classes = json.loads(call(capsys, "classify", file, base, "--json"))
    assert classes[0]["classes"] == classes[1]["classes"]

    call(capsys, "enhance", later, photo)
    assert later.read_bytes() == file.read_bytes()
    call(capsys, "decode", file, base, "-o", tmp_path / "out")
    for name in ("a", "base"):
        with Image.open(tmp_path / "out" / f"{name}.decoded.png") as picture:
            assert (picture.size, picture.mode) == ((91, 70), "RGB")
    call(capsys, "detect", file, "--draw", tmp_path / "drawn.png", "--score", 0.1)


def test_wrong_model_and_wrong_picture(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64)).save(other)
    file = tmp_path / "a.vcm"
    call(capsys, "encode", photo, "--base-only", "-o", file)
    before = file.read_bytes()
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(TINY.read_bytes()[:1000])
    for arguments, status in (
        (("enhance", file, other, "--model", TINY), 1),
        (("decode", file, "--model", damaged), 1),
        (("decode", file, "--model", tmp_path / "none"), 2),
        (("decode", file, "--layers", 2, "--model", TINY), 1),
    ):
        capsys.readouterr()
        assert vcm.cli.run([str(argument) for argument in arguments]) == status
        caught = capsys.readouterr()
        assert caught.out == ""
        assert caught.err.startswith("vcm: error: ")
        assert caught.err.count("\n") == 1
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vcm", "other.png", "weights.safetensors"]


def test_a_rate_out_of_reach_is_one_line(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.vcm"
    arguments = ("encode", photo, "-o", file, "--bpp", "0.0001", "--model", TINY)
    assert vcm.cli.run([str(argument) for argument in arguments]) == 0
    err = capsys.readouterr().err
    assert err.startswith(f"vcm: warning: {photo}: ")
    assert err.count("\n") == 1
    assert file.stat().st_size > 17


def test_cost(capsys: pytest.CaptureFixture[str]) -> None:
    costs = json.loads(call(capsys, "cost", "--width", 64, "--height", 64, "--json"))
    assert [cost["stage"] for cost in costs] == [
        "base-only encode",
        "full encode",
        "base decode + detect",
        "full decode",
    ]
    assert all(cost["kmac_per_px"] > 0 for cost in costs)


def test_a_region_is_the_crop_of_the_picture(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, whole, part = tmp_path / "a.vcm", tmp_path / "whole.png", tmp_path / "part.png"
    call(capsys, "encode", photo, "-o", file)
    call(capsys, "decode", file, "-o", whole)
    assert call(capsys, "decode", file, "-o", part, "--region", "10,20,61,70") == f"{part}: 51x50\n"
    with Image.open(whole) as picture, Image.open(part) as crop:
        assert np.array_equal(picture.crop((10, 20, 61, 70)), crop)
    said = call(capsys, "decode", file, "-o", tmp_path / "p.png", "--region", "10,20,61,70", "--layers", 1)
    assert said.endswith("51x50, a preview from the base layer\n")
    for region, wanted in (("0,0,92,70", "not in the picture"), ("1,2,3", "expected four whole numbers of pixels")):
        status = vcm.cli.run(["decode", str(file), "--region", region, "-o", str(tmp_path / "x.png"), "-m", str(TINY)])
        assert status == 2
        assert wanted in capsys.readouterr().err
        assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", ["encode", "detect", "classify", "decode", "enhance", "inspect"])
def test_limits_of_every_command(command: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, base, out = tmp_path / "a.vcm", tmp_path / "base.vcm", ["-o", tmp_path / "out.png", "--force"]
    call(capsys, "encode", photo, "-o", file)
    call(capsys, "encode", photo, "-o", base, "--base-only")
    arguments = {
        "encode": [photo, *out], "detect": [file], "classify": [photo], "decode": [file, *out],
        "enhance": [base, photo, *out], "inspect": [file],
    }[command]  # fmt: skip
    for limit, wanted in ((["--max-pixels", "6369"], "6369"), (["--max-bytes=50"], "50 bytes")):
        if command == "inspect" and "--max-pixels" in limit:
            continue
        for line in ([*limit, command, *arguments], [command, *arguments, *limit]):
            model = [] if command == "inspect" else ["-m", TINY]
            assert vcm.cli.run([str(argument) for argument in (*line, *model)]) == 1
            said = capsys.readouterr().err
            assert wanted in said
            assert said.count("\n") == 1
            assert not (tmp_path / "out.png").exists()


def test_limits_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--max-pixels", "0"], ["--max-bytes=many"], ["--max-pixels"], ["--max-bytes", "-5"]):
        assert vcm.cli.run(["inspect", "a.vcm", *arguments]) == 2
        assert "is out of range: expected a whole number from 1 on" in capsys.readouterr().err


def test_large_pictures_are_written_by_bands(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, whole = tmp_path / "a.vcm", tmp_path / "whole.png"
    call(capsys, "encode", photo, "-o", file)
    said = call(capsys, "decode", file, "-o", whole)
    monkeypatch.setattr("vcm.cli.commands_decode._BY_BANDS", 1000)
    monkeypatch.setattr("vcm.io.save.picture_bytes", None)
    for name in ("rows.png", "rows.ppm"):
        assert call(capsys, "decode", file, "-o", tmp_path / name) == said.replace("whole.png", name)
        with Image.open(whole) as picture, Image.open(tmp_path / name) as rows:
            assert np.array_equal(picture, rows)
    monkeypatch.undo()
    monkeypatch.setattr("vcm.cli.commands_decode._BY_BANDS", 1000)
    call(capsys, "decode", file, "-o", tmp_path / "a.webp")  # which is not written so
    assert "a preview" in call(capsys, "decode", file, "-o", tmp_path / "p.png", "--layers", 1)
