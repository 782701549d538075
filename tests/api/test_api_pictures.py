"""Tasks on pictures that are no files of ours yet, and arrays of another order."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_tools import noise
from PIL import Image
from tiny import GOLDEN_FILE, tiny_codec

from vcm.carriers import attach_base
from vcm.errors import FormatError, ImageError, InputError, LimitError, MagicError, OptionError, TruncatedError
from vcm.io.pictures import load_image


class Drip(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int = -1) -> bytes:
        return self._data.read(7 if count < 0 else min(count, 7))


def png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def test_every_kind_of_picture_is_read(tmp_path: Path) -> None:
    codec, pixels = tiny_codec(), noise(64, 48)
    data = png(pixels)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    base = codec.encode(pixels, base_only=True)
    wanted = codec.detect(base, score=0.01)
    assert len(wanted) > 0
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    sources = [
        path,
        str(path),
        data,
        bytearray(data),
        io.BytesIO(data),
        Drip(data),
        Image.fromarray(pixels),
        pixels,
        tensor,
    ]
    for source in sources:
        found = codec.detect(source, score=0.01)
        assert found == wanted
        assert found.bytes_read == base.header.base_bytes
    assert codec.detect([data, base, pixels], score=0.01) == codec.detect(np.stack([pixels] * 3), score=0.01)
    assert codec.detect([data, base, pixels], score=0.01) == [wanted] * 3
    assert [one.get() for one in codec.detect_many([data, base, pixels], score=0.01)] == [wanted] * 3
    assert codec.classify(data) == codec.classify(base)
    assert torch.equal(codec.latents(pixels).y_hat, codec.latents(base).y_hat)
    assert codec.run("detect", pixels, score=0.01) == wanted


def test_a_file_of_ours_is_read_no_further_than_its_base() -> None:
    codec, data = tiny_codec(), GOLDEN_FILE.read_bytes()
    need = codec.detect(data).bytes_read
    file = io.BytesIO(data)
    assert codec.detect(file) == codec.detect(Drip(data)) == codec.detect(data)
    assert file.tell() == need < len(data)


def test_a_base_that_a_picture_carries_is_read_before_one_is_made() -> None:
    codec, pixels = tiny_codec(), noise(64, 48)
    other = codec.encode(pixels, base_only=True, base_quality=5)
    found = codec.detect(attach_base(png(pixels), other), score=0.01)
    wanted = codec.detect(other, score=0.01)
    assert replace(found, bytes_read=wanted.bytes_read) == wanted != codec.detect(pixels, score=0.01)


def test_what_is_neither_says_so(tmp_path: Path) -> None:
    codec = tiny_codec()
    text = tmp_path / "a.txt"
    text.write_bytes(b"neither of both")
    for source in (text, text.read_bytes(), io.BytesIO(text.read_bytes())):
        with pytest.raises(MagicError, match="not a VCM file"):
            codec.detect(source)
    with pytest.raises(TruncatedError):
        codec.detect(b"")
    with pytest.raises(InputError):
        codec.detect(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="truncated or damaged"):
        codec.detect(png(noise(64, 48))[:-900])
    with pytest.raises(ImageError, match="too small"):
        codec.detect(noise(15, 48))
    for closed in (GOLDEN_FILE.open("rb"), io.StringIO("text")):
        closed.close()
        with pytest.raises(InputError):
            codec.detect(closed)  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="cannot read from this"):
        codec.detect(3)  # type: ignore[call-overload]


def test_limits_count_for_pictures() -> None:
    codec, pixels = tiny_codec(), noise(64, 48)
    with pytest.raises(ImageError, match=r"at most 1000 pixels \(max_pixels\)"):
        codec.detect(pixels, max_pixels=1000)
    for source in (png(pixels), io.BytesIO(png(pixels))):
        with pytest.raises((ImageError, LimitError), match="at most 2000 bytes"):
            codec.detect(source, max_bytes=2000)


def test_only_files_are_decoded() -> None:
    with pytest.raises(FormatError):
        tiny_codec().decode(png(noise(64, 48)))


def test_opencvs_order_of_channels() -> None:
    rgb = noise(64, 48)
    rgba = np.dstack([rgb, np.full((48, 64), 200, np.uint8)])
    for picture, turned in ((rgb, rgb[:, :, ::-1]), (rgba, rgba[:, :, [2, 1, 0, 3]])):
        wanted = load_image(picture, quiet=True).pixels
        planes = torch.from_numpy(turned.copy()).permute(2, 0, 1)
        for source in (turned, planes):
            assert np.array_equal(load_image(source, bgr=True, quiet=True).pixels, wanted)
    for grey in (rgb[:, :, 0], rgb[:, :, :1], torch.from_numpy(rgb[:, :, 0].copy())[None]):
        assert np.array_equal(load_image(grey, bgr=True).pixels, load_image(grey).pixels)
    codec = tiny_codec()
    assert codec.encode(rgb[:, :, ::-1], bgr=True) == codec.encode(rgb)
    with pytest.raises(OptionError, match="bgr says what an array holds: expected an array or tensor, found Image"):
        codec.encode(Image.fromarray(rgb), bgr=True)
    with pytest.raises(ImageError, match="picture is not HWC"):
        codec.encode(np.zeros((20, 20, 2), np.uint8), bgr=True)
