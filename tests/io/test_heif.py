"""HEIC pictures, with pillow-heif and without."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vcm.errors import ImageError
from vcm.io.pictures import load_image


@pytest.fixture(scope="module")
def photo() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    y, x = np.mgrid[:64, :96]
    picture = Image.fromarray(np.stack([x * 2, y * 3, x + y], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=95, exif=exif.tobytes())
    return buffer.getvalue()


def test_read_upright_from_file_and_bytes(photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(photo)
    registered = "HEIF" in Image.OPEN
    found = load_image(tmp_path / "a.heic")
    assert (found.width, found.height) in ((96, 64), (64, 96))
    np.testing.assert_array_equal(found.pixels, load_image(photo).pixels)
    assert found.exif is not None
    assert b"maker" in found.exif
    y, x = np.mgrid[:64, :96]
    want = np.stack([x * 2, y * 3, x + y], axis=-1)
    upright = want if found.width == 96 else np.rot90(want, 3)
    assert np.abs(found.pixels.astype(int) - upright).mean() < 4
    assert ("HEIF" in Image.OPEN) == registered


@pytest.mark.parametrize("cut", [20, 200])
def test_damaged(photo: bytes, cut: int) -> None:
    with pytest.raises(ImageError, match=r"picture: (cannot be read|truncated)"):
        load_image(photo[:cut])


def test_without_pillow_heif(photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(photo)
    code = (
        "import sys; sys.modules['pillow_heif'] = None\nfrom vcm.io.pictures import load_image\n"
        "try: load_image(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    got = subprocess.run([sys.executable, "-c", code, tmp_path / "a.heic"], capture_output=True, text=True, check=True)
    assert got.stdout.startswith("ImageError ")
    assert "a HEIC picture: expected pillow-heif, which is not installed: pip install 'vcm[heic]'" in got.stdout
