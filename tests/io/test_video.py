"""Frames of a video that the test makes: which, when, and upright."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import fsspec
import numpy as np
import pytest
from videos import make_video

from vcm.errors import InputError
from vcm.io.video import read_frames, started_at


def test_each_nth_frame(tmp_path: Path) -> None:
    found = list(read_frames(make_video(tmp_path / "a.mp4"), 6))
    assert [frame.index for frame in found] == [0, 6, 12, 18]
    assert [frame.seconds for frame in found] == pytest.approx([0, 0.6, 1.2, 1.8])
    for frame in found:
        assert frame.pixels.shape == (48, 64, 3)
        assert frame.pixels.dtype == np.uint8
        assert abs(float(frame.pixels[20:, 20:].mean()) - (40 + 4 * frame.index)) < 3
        assert frame.pixels[:12, :12].mean() > 240


def test_when_it_began(tmp_path: Path) -> None:
    made = make_video(tmp_path / "a.mp4", created="2026-11-24T18:30:00.000000Z")
    assert started_at(made) == datetime(2026, 11, 24, 18, 30)
    assert started_at(make_video(tmp_path / "b.mp4")) is None


def test_at_an_address(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    try:
        store.pipe_file("/videos/a.mp4", make_video(tmp_path / "a.mp4").read_bytes())
        assert len(list(read_frames("memory://videos/a.mp4", 5))) == 4
    finally:
        store.store.clear()


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match=r"cannot read .*a\.mp4"):
        list(read_frames(tmp_path / "a.mp4"))
    with pytest.raises(InputError, match=r"none\.mp4: no such file"):
        list(read_frames(tmp_path / "none.mp4"))
    cut = make_video(tmp_path / "b.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(InputError, match=r"cannot read .*cut\.avi"):
        list(read_frames(tmp_path / "cut.avi"))
