"""Folders, patterns, lines of JSON, options that reach the codec, cut files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vcm
from vcm.bitstream import read


@pytest.fixture
def folder(photo: Path) -> Path:
    """``photo.png``, ``a/photo.png``, and what is no input."""
    root = photo.parent
    for place in ("a", ".hidden", "empty"):
        (root / place).mkdir()
    for name in ("a/photo.PNG", ".hidden/photo.png", "old.decoded.png", "old.boxes.png", ".dot.png"):
        shutil.copy(photo, root / name)
    (root / "a" / "notes.txt").write_text("words")
    return root


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_folders(run, folder, tmp_path) -> None:
    got = run("encode", "-r", folder, "-o", tmp_path / "out")
    assert (got.status, got.err) == (0, "")
    assert files(tmp_path / "out") == ["a/photo.vcm", "photo.vcm"]
    assert run("decode", "--recursive", tmp_path / "out").status == 0
    assert files(tmp_path / "out") == ["a/photo.decoded.png", "a/photo.vcm", "photo.decoded.png", "photo.vcm"]
    rows = json.loads(run("inspect", "-r", tmp_path / "out", "--json").out)
    assert [row["file"] for row in rows] == [str(tmp_path / "out" / name) for name in ("a/photo.vcm", "photo.vcm")]
    # Pictures and VCM files, but not what was decoded from them.
    rows = json.loads(run("detect", "-r", tmp_path / "out", "--json").out)
    assert [Path(row["file"]).name for row in rows] == ["photo.vcm", "photo.vcm"]


def test_boxes_of_a_folder_keep_its_tree(run, folder, tmp_path) -> None:
    assert run("detect", "-r", folder, "--draw", tmp_path / "drawn").status == 0
    assert files(tmp_path / "drawn") == ["a/photo.boxes.png", "photo.boxes.png"]
    assert len(json.loads(run("classify", "-r", folder, "--json").out)) == 2


def test_a_folder_of_one_picture_is_a_folder(run, folder, tmp_path) -> None:
    run("encode", "-r", folder / "a", "-o", tmp_path / "one")
    assert files(tmp_path / "one") == ["photo.vcm"]


def test_folders_without_r_or_without_anything(run, folder) -> None:
    got = run("encode", folder)
    assert got.status == 1
    assert "a folder" in got.err
    got = run("encode", "-r", folder / "empty")
    assert (got.status, got.err.count("\n")) == (1, 1)
    assert "nothing to do in this folder: expected pictures, found none" in got.err
    assert "expected VCM files" in run("decode", "-r", folder).err


def test_patterns(run, folder, tmp_path) -> None:
    rows = json.loads(run("detect", folder / "**" / "photo.*", "--json").out)
    assert [row["file"] for row in rows] == [str(folder / "a" / "photo.PNG"), str(folder / "photo.png")]
    got = run("encode", folder / "*.jpg")
    assert (got.status, got.err.count("\n")) == (1, 1)
    assert "*.jpg: no such file" in got.err
    odd = folder / "[1].png"  # a file of that name is that file
    shutil.copy(folder / "photo.png", odd)
    assert json.loads(run("encode", odd, "--json").out)[0]["file"] == str(odd)


def test_lines_of_json(run, folder, photo) -> None:
    got = run("encode", photo, folder / "none.png", folder / "a" / "photo.PNG", "--ndjson")
    assert got.status == 1
    rows = [json.loads(line) for line in got.out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["photo.png", "none.png", "photo.PNG"]
    assert ["error" in row for row in rows] == [False, True, False]
    whole = json.loads(run("encode", photo, "--json").out)
    assert rows[:1] == whole
    got = run("encode", photo, "--json", "--ndjson")
    assert (got.status, got.out) == (2, "")
    assert run("encode", photo, "-o", "-", "--ndjson").status == 2


def test_what_runs_the_networks_reaches_load(run, codec, monkeypatch, photo) -> None:
    seen = []
    monkeypatch.setitem(vars(vcm), "load", lambda name, **options: seen.append(options) or codec)
    file = photo.with_suffix(".vcm")
    options = ("--threads", 2, "--device", "cuda", "--backend", "torch")
    for line in (("encode", photo), ("decode", file), ("detect", file), ("classify", file)):
        assert run(*line).status == 0
        assert run(*line, *options).status == 0
    run("encode", photo, "--base-only")
    assert run("enhance", file, photo, *options).status == 0
    usual = {"threads": None, "device": "cpu", "backend": "auto"}
    asked = {"threads": 2, "device": "cuda", "backend": "torch"}
    assert seen == [usual, asked] * 4 + [usual, asked]


def test_which_boxes(run, codec, monkeypatch, photo) -> None:
    seen = []
    whole = codec.detect
    monkeypatch.setattr(
        codec, "detect", lambda source, **options: seen.append(options) or whole(source, **options), raising=False
    )
    run("detect", photo)
    got = run("detect", photo, "--classes", "person,cat", "--iou", 0.3, "--agnostic", "--max-det", 1, "--json")
    assert [box["label"] for box in json.loads(got.out)[0]["detections"]] == ["cat"]
    usual = {"score": 0.3, "iou": 0.5, "agnostic": False, "max_det": 100, "classes": None}
    assert seen == [usual, {**usual, "iou": 0.3, "agnostic": True, "max_det": 1, "classes": ["person", "cat"]}]
    got = run("detect", photo, "--classes", "cat,unicorn")
    assert (got.status, got.out) == (2, "")
    assert "no such class: expected person, " in got.err


def test_quality_of_decoded_pictures(run, photo, tmp_path) -> None:
    run("encode", photo)
    file = photo.with_suffix(".vcm")
    sizes = []
    for quality in (20, None, 99):
        out = tmp_path / f"{quality}.jpg"
        assert run("decode", file, "-o", out, *(() if quality is None else ("--output-quality", quality))).status == 0
        sizes.append(out.stat().st_size)
    assert sizes == sorted(set(sizes))
    for arguments in (("-o", tmp_path / "a.png"), ("-o", f"{tmp_path}/more/"), ()):
        got = run("decode", file, *arguments, "--output-quality", 50)
        assert (got.status, got.err.count("\n")) == (2, 1)
        assert "expected JPEG, WebP or AVIF, by --format or" in got.err
    assert run("decode", file, "--output-quality", 0).status == 2


def test_format_of_decoded_pictures(run, folder, tmp_path) -> None:
    run("encode", "-r", folder, "-o", tmp_path / "out")
    assert run("decode", "-r", tmp_path / "out", "--format", "jpg", "--output-quality", 40).status == 0
    with Image.open(tmp_path / "out" / "a" / "photo.decoded.jpg") as picture:
        assert picture.format == "JPEG"
    file = tmp_path / "out" / "photo.vcm"
    got = run("decode", file, "-o", tmp_path / "a.png", "--format", "jpg")
    assert (got.status, got.err.count("\n")) == (2, 1)
    assert "disagree: expected jpg, found .png" in got.err
    assert run("decode", file, "--format", "xyz").status == 1


def test_a_cut_or_damaged_file_says_what_still_works(run, photo, tmp_path) -> None:
    run("encode", photo)
    data = photo.with_suffix(".vcm").read_bytes()
    base = read(photo.with_suffix(".vcm")).header.base_bytes
    damaged = bytearray(data)
    damaged[-1] ^= 1
    for content, layer in ((data[:-9], "the enhancement layer"), (bytes(damaged), "the enhancement layer: the stream")):
        file = tmp_path / "bad.vcm"
        file.write_bytes(content)
        got = run("decode", file)
        assert got.status == 1
        assert layer in got.err
        assert got.err.endswith("(decode with --layers 1 shows what is whole)\n")
        assert run("decode", file, "--layers", 1).status == 0
    file.write_bytes(data[: base - 1])
    got = run("decode", file)
    assert "inside the base layer" in got.err
    assert "--layers" not in got.err


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals to make")
def test_a_progress_bar_leaves_stdout_alone(photo, tmp_path) -> None:
    """With stderr on a terminal, rich would print the results there and not into the file that stdout is."""
    import pty

    files = [tmp_path / f"{name}.vcm" for name in "ab"]
    ours, theirs = pty.openpty()
    with (tmp_path / "out.txt").open("wb") as out:
        code = "import vcm.cli, sys; sys.exit(vcm.cli.run(['inspect', *sys.argv[1:]]))"
        for file in files:
            shutil.copy(Path(__file__).parents[1] / "golden" / "tiny_v1.vcm", file)
        process = subprocess.Popen([sys.executable, "-c", code, *files], stdout=out, stderr=theirs)
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
        os.close(ours)
        assert process.wait(60) == 0
    assert b"2/2" in shown
    printed = (tmp_path / "out.txt").read_text()
    assert [f"{file}: VCM version 1" in printed for file in files] == [True, True]


def test_several_at_once(run, codec, monkeypatch, photo, tmp_path) -> None:
    """In order, with lines that name their file, each network with one thread."""
    import threading
    import time

    pictures = []
    for index in range(6):
        pictures.append(tmp_path / f"{index}.png")
        mode = "RGBA" if index % 2 else "RGB"
        Image.new(mode, (48, 32), (index, 9, 9, 128)[: len(mode)]).save(pictures[-1])
    pictures[3].write_bytes(b"words")
    seen, threads = [], set()
    whole = codec.encode

    def encode(image: Path, **options: object) -> object:
        threads.add(threading.get_ident())
        time.sleep(0.05 if image == pictures[0] else 0.005)
        return whole(image, **options)

    monkeypatch.setattr(codec, "encode", encode, raising=False)
    monkeypatch.setitem(vars(vcm), "load", lambda name, **options: seen.append(options) or codec)
    got = run("encode", *pictures, "--jobs", 3, "--json")
    assert got.status == 1
    rows = json.loads(got.out)
    assert [row["file"] for row in rows] == [str(path) for path in pictures]
    assert ["error" in row for row in rows] == [False, False, False, True, False, False]
    assert threading.get_ident() not in threads
    assert len(threads) > 1
    lines = got.err.splitlines()
    assert sorted(line.split(": ")[2] for line in lines) == [str(pictures[i]) for i in (1, 3, 5)]
    run("encode", *pictures, "--jobs", 3, "--threads", 2)
    assert [options["threads"] for options in seen] == [1, 2]
    got = run("decode", *(path.with_suffix(".vcm") for path in pictures), "-j", 2)
    assert got.err.count("3.vcm") == got.err.count("\n") == 1


def test_a_wrong_call_ends_all_that_are_at_once(run, photo, folder) -> None:
    got = run("detect", "-r", folder, "--classes", "unicorn", "-j", 2)
    assert (got.status, got.out, got.err.count("\n")) == (2, "", 1)
