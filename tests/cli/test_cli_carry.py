"""attach and strip, and what detect, classify and inspect say of a picture that carries a base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vcm.carriers import find_base


def save(source: Path, target: Path, **options: int) -> None:
    with Image.open(source) as picture:
        picture.save(target, **options)


@pytest.fixture
def jpeg(photo: Path) -> Path:
    save(photo, photo.with_suffix(".jpg"), quality=90)
    return photo.with_suffix(".jpg")


def test_attach_and_strip_in_place(run, jpeg, photo) -> None:
    before = {path: path.read_bytes() for path in (jpeg, photo)}
    got = run("attach", jpeg, photo)
    assert (got.status, got.err) == (0, "")
    assert "base of" in got.out.splitlines()[1]
    for path, data in before.items():
        assert len(path.read_bytes()) > len(data)
        assert find_base(path) is not None
    got = run("strip", jpeg, photo)
    assert (got.status, got.err) == (0, "")
    assert {path: path.read_bytes() for path in before} == before
    assert "carries no base" in run("strip", jpeg).out


def test_attach_elsewhere(run, jpeg, photo, tmp_path) -> None:
    data = jpeg.read_bytes()
    rows = json.loads(run("attach", jpeg, "-o", tmp_path / "b.jpg", "--json").out)
    assert rows[0]["bytes_added"] == len((tmp_path / "b.jpg").read_bytes()) - len(data)
    assert jpeg.read_bytes() == data
    assert run("attach", jpeg, photo, "-o", tmp_path / "out").status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo.jpg", "photo.png"]
    for refused in (("-o", jpeg), ("-o", tmp_path / "b.jpg")):
        assert run("attach", jpeg, *refused).status == 2
    assert run("attach", jpeg, "-o", tmp_path / "b.jpg", "--force").status == 0


def test_detect_and_classify_read_the_base_that_is_carried(run, jpeg, tmp_path) -> None:
    run("attach", jpeg, "-o", tmp_path / "b.jpg")
    [row] = json.loads(run("detect", tmp_path / "b.jpg", "--json").out)
    assert row["bytes_read"] == find_base(tmp_path / "b.jpg").bytes_read
    assert len(row["detections"]) == 1
    [row] = json.loads(run("classify", tmp_path / "b.jpg", "--json").out)
    assert row["bytes_read"] == find_base(tmp_path / "b.jpg").bytes_read
    assert run("detect", tmp_path / "b.jpg", "-d", tmp_path / "drawn.png").status == 0
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (48, 32)


def test_a_base_of_the_picture_before_an_edit_is_not_used(run, jpeg, photo, tmp_path) -> None:
    run("attach", jpeg, "-o", tmp_path / "b.jpg")
    data = (tmp_path / "b.jpg").read_bytes()
    found = find_base(data)
    segment = data[found.offset : found.offset + found.bytes]
    save(photo, tmp_path / "c.jpg", quality=20)
    other = (tmp_path / "c.jpg").read_bytes()
    (tmp_path / "c.jpg").write_bytes(other[:20] + segment + other[20:])
    got = run("detect", tmp_path / "c.jpg", "--json")
    assert got.status == 0
    assert "edited after the base was attached: the picture is encoded instead" in got.err
    got = run("inspect", tmp_path / "c.jpg")
    assert got.status == 1
    assert "edited after" in got.err


def test_inspect_says_what_a_picture_carries(run, jpeg) -> None:
    got = run("inspect", jpeg)
    assert (got.status, got.out) == (1, "")
    assert "this JPEG picture carries no base" in got.err
    run("attach", jpeg)
    got = run("inspect", jpeg)
    assert got.status == 0
    assert "JPEG with a base in" in got.out
    [row] = json.loads(run("inspect", jpeg, "--json").out)
    assert row["carrier"]["format"] == "JPEG"
    assert row["carrier"]["bytes"] > row["base_bytes"]


def test_the_base_of_a_file(run, jpeg, tmp_path) -> None:
    run("encode", jpeg, "-o", tmp_path / "a.vcm")
    assert run("attach", jpeg, "--base", tmp_path / "a.vcm").status == 0
    assert (tmp_path / "a.vcm").read_bytes().startswith(find_base(jpeg).stream.to_bytes())
    Image.new("RGB", (50, 32)).save(tmp_path / "other.jpg")
    got = run("attach", tmp_path / "other.jpg", "--base", tmp_path / "a.vcm")
    assert (got.status, got.err.count("\n")) == (1, 1)
    assert "expected 48x32, found 50x32" in got.err
    assert run("attach", jpeg, jpeg, "--base", tmp_path / "a.vcm").status == 2


def test_what_cannot_carry_a_base(run, photo, tmp_path) -> None:
    save(photo, tmp_path / "a.gif")
    for command in ("attach", "strip"):
        for name in ("a.gif", "none.jpg"):
            got = run(command, tmp_path / name)
            assert (got.status, got.err.count("\n")) == (1, 1), got.err
