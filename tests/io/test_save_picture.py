"""Writing pictures: whole or not at all."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from vcm.errors import OptionError, OutputError
from vcm.io.metadata import without_orientation
from vcm.io.pictures import load_image
from vcm.io.save import MetadataWarning, picture_format, save_picture

PICTURE = Image.fromarray((np.arange(32 * 40 * 3) % 256).astype(np.uint8).reshape(32, 40, 3))


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.webp", "a.tiff", "a.bmp"])
def test_formats(tmp_path: Path, name: str) -> None:
    save_picture(PICTURE, tmp_path / name)
    got = load_image(tmp_path / name)
    assert (got.width, got.height) == (40, 32)
    if name.lower()[-3:] in ("png", "iff", "bmp"):
        np.testing.assert_array_equal(got.pixels, np.asarray(PICTURE))
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_metadata_goes_and_comes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("a.png", "a.jpg", "a.webp"):
        save_picture(PICTURE, tmp_path / name, exif.tobytes(), icc)
        got = load_image(tmp_path / name)
        assert got.icc == icc
        assert got.exif is not None
        assert b"Maker" in got.exif


def test_overwrites_and_keeps_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    before = os.umask(0o022)
    try:
        save_picture(PICTURE, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert load_image(path).width == 40


def test_alpha_to_jpeg(tmp_path: Path) -> None:
    save_picture(PICTURE.convert("RGBA"), tmp_path / "a.jpg")
    assert load_image(tmp_path / "a.jpg").width == 40


@pytest.mark.parametrize("name", ["a", "a.xyz", "a.vcm", "a.txt"])
def test_unknown_extension(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.png, \.jpg"):
        save_picture(PICTURE, tmp_path / name)
    with pytest.raises(OutputError):
        picture_format(name)
    assert not list(tmp_path.iterdir())


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    before = sorted(tmp_path.iterdir())
    for name in ("dir.png", "pipe.png", "none/a.png", "file/a.png", "x" * 250 + ".png" + "y" * 20 + ".png"):
        with pytest.raises(OutputError) as error:
            save_picture(PICTURE, tmp_path / name)
        assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_left_when_the_encoder_or_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="WEBP"):
        save_picture(Image.new("L", (20000, 16)), tmp_path / "wide.webp")
    (tmp_path / "old.png").write_bytes(b"old")

    def full(self: Path, target: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        save_picture(PICTURE, tmp_path / "old.png")
    assert [p.name for p in tmp_path.iterdir()] == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == b"old"


def _exif(size: int = 0, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    if size:
        exif[0x9286] = b"x" * size
    if orientation is not None:
        exif[0x0112] = orientation
    return exif.tobytes()


DAMAGED = b"Exif\0\0II*\0" + bytes([8, 0, 0, 0, 255, 255]) + b"\x12\x01\x63\0" * 9
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_exif_that_a_jpeg_cannot_hold_does_not_cost_the_picture(tmp_path: Path) -> None:
    with pytest.warns(MetadataWarning, match=r"a\.jpg: written without its EXIF, which JPEG cannot hold") as caught:
        save_picture(PICTURE, tmp_path / "a.jpg", _exif(70_000), ICC)
    assert len(caught) == 1
    got = load_image(tmp_path / "a.jpg")
    assert (got.exif, got.icc) == (None, ICC)
    save_picture(PICTURE, tmp_path / "a.webp", _exif(70_000), ICC)
    assert len(load_image(tmp_path / "a.webp").exif or b"") > 70_000


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning", "ignore:Truncated File Read:UserWarning")
@pytest.mark.parametrize(
    "block", [DAMAGED, b"Exif\0\0words", b"no header at all", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f"]
)
@pytest.mark.parametrize("kind", ["tiff", "avif", "png", "jpg", "webp"])
def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path, kind: str, block: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetadataWarning)
        save_picture(PICTURE, tmp_path / f"a.{kind}", block, ICC)
    got = load_image(tmp_path / f"a.{kind}")
    assert (got.width, got.icc) == (40, ICC)


def test_damaged_exif_is_said(tmp_path: Path) -> None:
    for kind in ("tiff", "avif"):
        with pytest.warns(MetadataWarning, match="without its EXIF"):
            save_picture(PICTURE, tmp_path / f"a.{kind}", b"no header at all")


def test_a_picture_that_the_format_cannot_hold_is_still_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="WEBP"):
        save_picture(Image.new("L", (20000, 16)), tmp_path / "wide.webp", _exif(), ICC)
    assert not list(tmp_path.iterdir())


def test_an_orientation_is_left_out_and_the_rest_stays() -> None:
    plain = _exif()
    assert without_orientation(plain) == plain
    turned = Image.Exif()
    turned.load(without_orientation(_exif(100, orientation=6)) or b"")
    assert dict(turned) == {0x010F: "Maker", 0x9286: b"x" * 100}
    only = Image.Exif()
    only[0x0112] = 3
    assert without_orientation(only.tobytes()) is None
    assert without_orientation(b"words") == b"words"


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif"])
def test_quality(tmp_path: Path, name: str) -> None:
    picture = Image.effect_noise((64, 64), 60).convert("RGB")
    sizes = []
    for quality in (10, None, 98):
        save_picture(picture, tmp_path / name, quality=quality)
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes == sorted(set(sizes))
    for wrong in (0, 101):
        with pytest.raises(OptionError, match="expected 1 to 100"):
            save_picture(picture, tmp_path / name, quality=wrong)


def test_a_format_without_quality(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="PNG has no quality"):
        save_picture(Image.new("L", (8, 8)), tmp_path / "a.png", quality=50)
    assert not list(tmp_path.iterdir())
