"""encode, enhance, decode: names of outputs, what is refused, what is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vcm.bitstream import read


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(got) -> str:
    assert got.err.startswith("vcm: ")
    assert got.err.count("\n") == 1
    return got.err


def test_encode_and_decode_beside_the_input(run, photo) -> None:
    got = run("encode", photo)
    assert (got.status, got.err) == (0, "")
    assert "photo.vcm" in got.out
    assert "48x32" in got.out
    file = photo.with_suffix(".vcm")
    assert read(file).layer_names == ("base", "enhancement")
    original = photo.read_bytes()
    got = run("decode", file)
    assert (got.status, got.err) == (0, "")
    # Not photo.png: that is the photograph.
    with Image.open(photo.with_name("photo.decoded.png")) as back, Image.open(photo) as want:
        np.testing.assert_array_equal(np.asarray(back), np.asarray(want))
    assert photo.read_bytes() == original


def test_encode_options_reach_the_codec(run, codec, monkeypatch, photo) -> None:
    seen = []
    whole = codec.encode
    monkeypatch.setattr(
        codec, "encode", lambda image, **options: seen.append(options) or whole(image, **options), raising=False
    )
    run("encode", photo)
    run("encode", photo, "--quality", 70, "--base-quality", 12.5)
    run("encode", photo, "--bpp", 0.4, "--base-only", "--keep", "none")
    run("encode", photo, "--keep", "metadata,gps")
    run("encode", photo, "--base-scale", 8)
    usual = {
        "quality": 50,
        "base_quality": 50,
        "base_only": False,
        "target_bpp": None,
        "base_scale": None,
        "keep": None,
    }
    assert seen == [
        usual,
        {**usual, "quality": 70, "base_quality": 12.5},
        {**usual, "base_only": True, "target_bpp": 0.4, "keep": []},
        {**usual, "keep": ["metadata", "gps"]},
        {**usual, "base_scale": 8},
    ]


def test_a_rate_that_is_not_reached_is_said(run, photo) -> None:
    got = run("encode", photo, "--bpp", 0.001, "--json")
    assert got.status == 0
    assert one_line(got) == f"vcm: warning: {photo}: target_bpp 0.001 is out of reach\n"
    assert len(json.loads(got.out)) == 1
    assert run("encode", photo, "--bpp", 1).err == ""


def test_encode_json(run, photo, tmp_path) -> None:
    got = run("encode", photo, "-o", tmp_path / "a.vcm", "--json")
    (row,) = json.loads(got.out)
    stream = read(tmp_path / "a.vcm")
    assert row["file"] == str(photo)
    assert row["output"] == str(tmp_path / "a.vcm")
    assert (row["width"], row["height"]) == (48, 32)
    assert row["total_bytes"] == (tmp_path / "a.vcm").stat().st_size
    assert row["base_bytes"] == len(stream.base)
    assert row["bpp"] == pytest.approx(row["total_bytes"] * 8 / (48 * 32))
    assert [layer["name"] for layer in row["layers"]] == ["base", "enhancement"]


def test_many_go_into_a_folder_and_one_bad_one_does_not_stop_them(run, photo, tmp_path) -> None:
    second, bad = photo.with_name("b.png"), photo.with_name("bad.png")
    shutil.copy(photo, second)
    bad.write_bytes(b"no picture")
    got = run("encode", photo, bad, photo.with_name("none.png"), second, "-o", tmp_path / "new" / "out", "--json")
    assert got.status == 1
    assert names(tmp_path / "new" / "out") == ["b.vcm", "photo.vcm"]
    rows = json.loads(got.out)
    assert [Path(row["file"]).name for row in rows] == ["photo.png", "bad.png", "none.png", "b.png"]
    assert [sorted(row) == ["error", "file"] for row in rows] == [False, True, True, False]
    assert "not a picture" in rows[1]["error"]
    lines = got.err.splitlines()
    assert len(lines) == 2
    assert "bad.png" in lines[0]
    assert "none.png" in lines[1]
    assert names(photo.parent) == ["b.png", "bad.png", "photo.png"]


def test_one_input_into_a_folder(run, photo, tmp_path) -> None:
    (tmp_path / "there").mkdir()
    run("encode", photo, "-o", tmp_path / "there")
    run("encode", photo, "-o", f"{tmp_path}/made/")
    assert names(tmp_path / "there") == names(tmp_path / "made") == ["photo.vcm"]


def test_inputs_are_not_overwritten(run, photo, tmp_path) -> None:
    before = photo.read_bytes()
    (tmp_path / "link").symlink_to(photo.parent)
    (tmp_path / "name").symlink_to(photo)
    for output in (photo, photo.parent / ".." / "in" / "photo.png", tmp_path / "link" / "photo.png", tmp_path / "name"):
        got = run("encode", photo, "-o", output, "--force")
        assert got.status == 2
        assert "one of the inputs" in one_line(got)
    run("encode", photo)
    file = photo.with_suffix(".vcm")
    assert run("encode", file).status == 2
    assert run("decode", file, "-o", file).status == 2
    assert run("enhance", file, photo, "-o", photo).status == 2
    assert photo.read_bytes() == before
    assert read(file)


def test_two_inputs_with_one_output_are_refused_before_any_work(run, photo, tmp_path) -> None:
    twin = photo.with_suffix(".jpg")
    with Image.open(photo) as image:
        image.save(twin)
    for arguments in ((photo, twin), (photo, photo), (photo, twin, "-o", tmp_path / "out")):
        got = run("encode", *arguments)
        assert got.status == 2
        assert "two inputs" in one_line(got)
    assert names(photo.parent) == ["photo.jpg", "photo.png"]
    # Several inputs: what --output names is a folder, whatever its name looks like, and two of one stem do not fit.
    got = run("encode", photo, twin, "-o", photo.with_name("x.vcm"))
    assert got.status == 2
    assert "two inputs" in one_line(got)
    assert not photo.with_name("x.vcm").exists()


def test_many_inputs_and_a_file_as_output(run, photo, tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    got = run("encode", photo, photo.with_name("b.png"), "-o", tmp_path / "file")
    assert got.status == 2
    assert "folder" in one_line(got)
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("command", ["encode", "decode", "detect"])
def test_outputs_that_cannot_be_written(run, photo, tmp_path, command) -> None:
    run("encode", photo)
    source = photo if command != "decode" else photo.with_suffix(".vcm")
    option, suffix = ("--draw", "png") if command == "detect" else ("-o", "png" if command == "decode" else "vcm")
    (tmp_path / "file").write_bytes(b"")
    before = names(tmp_path), names(photo.parent)
    for target in (tmp_path / "none" / f"a.{suffix}", tmp_path / "file" / f"a.{suffix}"):
        got = run(command, source, option, target)
        assert got.status == 1
        assert str(target.parent) in one_line(got)
    assert (names(tmp_path), names(photo.parent)) == before


def test_base_only_then_enhance(run, photo, tmp_path) -> None:
    file = tmp_path / "a.vcm"
    run("encode", photo, "--base-only", "-o", file)
    base = file.read_bytes()
    got = run("decode", file, "-o", tmp_path / "preview.png")
    assert "preview" in got.out
    got = run("enhance", file, photo, "-o", tmp_path / "b.vcm", "--json")
    assert got.status == 0
    assert json.loads(got.out)[0]["base_bytes"] == len(base)
    assert file.read_bytes() == base
    assert run("enhance", file, photo).status == 0
    assert file.read_bytes() == (tmp_path / "b.vcm").read_bytes()
    assert file.read_bytes()[: len(base)] == base
    whole = file.read_bytes()
    got = run("enhance", file, photo)  # has it already
    assert got.status == 1
    one_line(got)
    assert file.read_bytes() == whole
    assert names(tmp_path) == ["a.vcm", "b.vcm", "in", "preview.png"]


def test_decode_layers_format_and_metadata(run, photo, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    with Image.open(photo) as image:
        image.save(photo, exif=exif.tobytes())
    file = tmp_path / "a.vcm"
    run("encode", photo, "-o", file)
    assert "preview" in run("decode", file, "--layers", 1).out
    assert "preview" not in run("decode", file, "--layers", 2, "-o", tmp_path / "a.jpg").out
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "JPEG"
        assert image.getexif()[0x010F] == "Maker"
    got = run("decode", file, "--layers", 3, "-o", tmp_path / "c.png")
    assert got.status == 1
    one_line(got)
    for name in ("a.xyz", "a"):
        got = run("decode", file, "-o", tmp_path / name)
        assert got.status == 1
        assert ".png, .jpg" in one_line(got)
    assert names(tmp_path) == ["a.decoded.png", "a.jpg", "a.vcm", "in"]


def test_damaged_files_leave_nothing(run, photo, tmp_path) -> None:
    run("encode", photo, "-o", tmp_path / "good.vcm")
    good = (tmp_path / "good.vcm").read_bytes()
    cases = {
        "empty": b"", "foreign": b"GIF89a" + bytes(100), "cut": good[:-5], "short": good[:9],
        "flipped": good[:60] + bytes([good[60] ^ 1]) + good[61:],
    }  # fmt: skip
    for name, data in cases.items():
        (tmp_path / f"{name}.vcm").write_bytes(data)
        for command in ("decode", "detect", "classify", "inspect", "enhance"):
            if command in ("detect", "classify") and name == "cut":
                continue  # the base is whole
            extra = (photo,) if command == "enhance" else ()
            got = run(command, tmp_path / f"{name}.vcm", *extra)
            assert (got.status, got.out) == (1, ""), (command, name)
            one_line(got)
        assert (tmp_path / f"{name}.vcm").read_bytes() == data
    assert not list(tmp_path.glob("*.png"))
    assert run("detect", tmp_path / "cut.vcm").status == 0


def test_names_are_data(run, photo, tmp_path) -> None:
    odd = tmp_path / "[red]a :smile:\n\x1b[31m b.png"
    shutil.copy(photo, odd)
    got = run("encode", odd)
    assert got.status == 0
    assert got.out.count("\n") == 1
    assert "\x1b" not in got.out
    assert "[red]a :smile:\\n" in got.out
    got = run("detect", odd, tmp_path / "no\nsuch.png")
    assert got.status == 1
    one_line(got)
    assert run("encode", "").status == 2
    assert run("encode", "/").status == 2


def test_enhance_refuses_another_photograph_unless_forced(run, codec, monkeypatch, photo, tmp_path) -> None:
    from vcm.errors import OtherPictureError

    whole = codec.enhance

    def enhance(source: object, image: object, *, allow_other_picture: bool = False, **options: object) -> object:
        if not allow_other_picture:
            raise OtherPictureError("another picture", expected="0.65", found="1.02")
        return whole(source, image, **options)

    monkeypatch.setattr(codec, "enhance", enhance, raising=False)
    file = tmp_path / "a.vcm"
    run("encode", photo, "--base-only", "-o", file)
    before = file.read_bytes()
    got = run("enhance", file, photo)
    assert got.status == 1
    assert one_line(got).endswith("another picture: expected 0.65, found 1.02 (--force takes it all the same)\n")
    assert file.read_bytes() == before
    assert run("enhance", file, photo, "--force").status == 0
    assert read(file).layer_names == ("base", "enhancement")
