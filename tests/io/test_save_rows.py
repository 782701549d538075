"""Pictures written by rows: what comes back is what went in, whatever the bands."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from codec_tools import noise
from PIL import Image
from profiles import ADOBE_RGB, rgb_profile

from vcm.errors import OutputError
from vcm.io.rows import picture_pieces, save_rows


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("height", [1, 7, 100])
def test_pixels_come_back(kind: str, mode: str, height: int) -> None:
    pixels = np.asarray(Image.fromarray(noise(123, 100)).convert(mode))[:height]
    for band in (1, 3, 64, 1000):
        bands = [pixels[top : top + band] for top in range(0, height, band)]
        data = b"".join(picture_pieces(kind, (123, height), mode, bands))
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.mode) == (kind, mode)
            assert np.array_equal(picture, pixels)


def test_metadata_come_back_and_large_files_come_in_pieces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1100, 3), dtype=np.uint8)
    exif, icc = Image.Exif(), rgb_profile(ADOBE_RGB)
    exif[0x010F] = "Maker"
    pieces = list(picture_pieces("PNG", (1100, 900), "RGB", [pixels], exif.tobytes(), icc))
    assert len(pieces) >= 5
    with Image.open(io.BytesIO(b"".join(pieces))) as picture:
        assert picture.getexif()[0x010F] == "Maker"
        assert picture.info["icc_profile"] == icc
        assert np.array_equal(picture, pixels)


def test_a_photograph_takes_about_what_pillow_needs() -> None:
    y, x = np.mgrid[:300, :400]
    smooth = np.stack([128 + 100 * np.sin(x / 31 + y / 57), 60 + x / 3, 30 + y / 2], axis=-1).astype(np.uint8)
    pillow = io.BytesIO()
    Image.fromarray(smooth).save(pillow, "PNG")
    ours = b"".join(picture_pieces("PNG", (400, 300), "RGB", [smooth]))
    assert len(ours) < 1.2 * len(pillow.getvalue())


def test_a_band_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def bands():
        yield noise(50, 20)
        raise OSError("gone")

    target = tmp_path / "a.png"
    with pytest.raises(OutputError, match="gone"):
        save_rows(target, "PNG", (50, 40), "RGB", bands())
    assert list(tmp_path.iterdir()) == []
