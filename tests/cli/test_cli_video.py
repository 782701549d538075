"""Frames of videos to files, named by number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vcm.bitstream import read

av = pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames at 5 a second, each brighter than the one before."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for level in range(10):
            picture = np.full((48, 64, 3), 20 * level + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_encode(run, clip: Path, tmp_path: Path) -> None:
    got = run("encode", clip, "--every", 4, "-o", tmp_path / "out", "--json", "-j", 2)
    assert (got.status, got.err) == (0, "")
    rows = json.loads(got.out)
    assert [(row["file"], row["frame"]) for row in rows] == [(str(clip), n) for n in (0, 4, 8)]
    assert rows[1]["seconds"] == pytest.approx(0.8)
    assert [Path(row["output"]).name for row in rows] == [f"clip.00000{n}.vcm" for n in (0, 4, 8)]
    assert read(rows[2]["output"]).width == 64
    assert run("encode", clip, "--every", 5).status == 0
    assert sorted(path.name for path in (tmp_path / "clip.frames").iterdir()) == ["clip.000000.vcm", "clip.000005.vcm"]


def test_what_a_video_cannot_be(run, clip: Path, photo: Path, tmp_path: Path) -> None:
    for arguments, text in (
        ((clip, photo), "videos and pictures go apart"),
        ((clip, "-o", photo), "--output with a video: expected a folder"),
        ((clip, "-o", "-"), "--output with a video: expected a folder"),
        ((clip, clip), "the same files"),
        ((clip, "--every", 0), "expected 1 to"),
    ):
        got = run("encode", *arguments)
        assert (got.status, got.err.count("\n")) == (2, 1)
        assert text in got.err


def test_bad_videos_cost_one_line_each(run, clip: Path, tmp_path: Path) -> None:
    words, none = tmp_path / "words.mp4", tmp_path / "none.mp4"
    words.write_bytes(b"words" * 100)
    got = run("encode", words, none, clip, "--every", 9, "-o", tmp_path / "out", "--json")
    assert (got.status, got.err.count("\n")) == (1, 2)
    assert ["error" in row for row in json.loads(got.out)] == [True, True, False, False]


def test_every_so_many_pictures(run, photo: Path, tmp_path: Path) -> None:
    for index in range(5):
        Image.open(photo).save(tmp_path / f"{index}.png")
    got = run("encode", tmp_path / "?.png", "--every", 2, "--json")
    assert [Path(row["file"]).name for row in json.loads(got.out)] == ["0.png", "2.png", "4.png"]
