"""Encoding through the API: options, target rates, enhancing later."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_tools import noise
from PIL import Image
from profiles import ADOBE_RGB, SRGB, SRGB_PRIMARIES, rgb_profile
from tiny import tiny_codec

from vcm.api import RateWarning
from vcm.api.rate import RATE_TOLERANCE
from vcm.bitstream import Metadata, coded_size, parse
from vcm.codecs.scalable.model import default_base_scale
from vcm.errors import ImageError, LayerError, OptionError


def test_quality_of_each_layer_is_its_own() -> None:
    codec, picture = tiny_codec(), noise(160, 96)
    low, high = codec.encode(picture, quality=5, base_quality=70), codec.encode(picture, quality=95, base_quality=70)
    assert low.base == high.base
    assert low.total_bytes < high.total_bytes
    assert (low.layers[0].quality_index, low.layers[1].quality_index, high.layers[1].quality_index) == (716, 51, 972)
    assert len(codec.encode(picture, base_quality=10).base) < len(codec.encode(picture, base_quality=90).base)


def test_rate_rises_with_quality() -> None:
    codec, picture = tiny_codec(), noise(160, 96)
    sizes = [codec.encode(picture, quality=q).total_bytes for q in (0, 20, 40, 60, 80, 100)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 6


@pytest.mark.parametrize(
    ("option", "values", "expected"),
    [
        ("quality", (-0.1, 100.1, float("nan"), "50", None), "0 to 100"),
        ("base_quality", (-1, 101, float("inf"), [50]), "0 to 100"),
        ("target_bpp", (0, -1, float("nan"), 1000, "1"), "above 0"),
        ("base_scale", (0, 17, 2.5, 1 / 129, float("nan"), "4"), "1 to 16 eighths"),
    ],
)
def test_options_out_of_range(option: str, values: tuple[Any, ...], expected: str) -> None:
    for value in values:
        with pytest.raises(OptionError, match=f"{option} is out of range: expected {expected}"):
            tiny_codec().encode(noise(16, 16), **{option: value})


def test_numpy_numbers_are_numbers() -> None:
    codec, picture = tiny_codec(), noise(32, 32)
    wanted = codec.encode(picture, quality=30, base_scale=4).to_bytes()
    assert codec.encode(picture, quality=np.float32(30), base_scale=np.int64(4)).to_bytes() == wanted


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [
        (16, 16, 8), (640, 480, 6), (480, 640, 6), (1920, 1080, 2), (3840, 2160, 1), (3855, 99, 1), (3856, 99, 255),
        (8000, 6000, 128 + 61), (99, 65535, 128 + 8),
    ],
)  # fmt: skip
def test_default_base_scale(width: int, height: int, scale: int) -> None:
    assert default_base_scale(width, height) == scale


@pytest.mark.parametrize(("asked", "scale"), [(16, 16), (9.0, 9), (0.5, 192), (1 / 128, 129), (0.999, 255)])
def test_base_scales_beyond_eighths_of_the_size(asked: float, scale: int) -> None:
    codec, picture = tiny_codec(), noise(150, 90)
    file = codec.encode(picture, base_scale=asked)
    assert file.base_scale == scale
    again = parse(file.to_bytes())
    assert codec.decode(again).size == codec.decode(again, layers=1).size == (150, 90)
    latents = codec.latents(again)
    assert latents.coded_size == coded_size(150, 90, scale)
    found = codec.detect(again, score=0)
    assert (found.width, found.height) == (150, 90)
    assert (found.boxes <= np.array([150, 90] * 2)).all()


def test_a_picture_of_any_size_has_a_base_of_the_working_size() -> None:
    file = tiny_codec().encode(np.broadcast_to(np.uint8(99), (16, 8000, 3)), base_only=True)
    assert coded_size(8000, 16, file.base_scale) == (477, 1)


@pytest.mark.parametrize("base_only", [False, True])
def test_target_rate_is_met(base_only: bool) -> None:
    codec, picture = tiny_codec(), noise(240, 200)

    def rate(**options: Any) -> float:
        file = codec.encode(picture, base_only=base_only, **options)
        return file.base_bpp if base_only else file.bpp

    name = "base_quality" if base_only else "quality"
    low, high = rate(**{name: 0}), rate(**{name: 100})
    for part in (0.25, 0.8):
        target = low + part * (high - low)
        assert rate(target_bpp=target) == pytest.approx(target, rel=RATE_TOLERANCE)


@pytest.mark.parametrize("base_only", [False, True])
def test_a_rate_out_of_reach_is_reported_to_the_caller(base_only: bool) -> None:
    codec, picture = tiny_codec(), noise(64, 48)
    for target, nearest in ((0.001, 0), (100.0, 100)):
        with pytest.warns(RateWarning, match=f"target_bpp {target:g} is out of reach") as caught:
            file = codec.encode(picture, base_only=base_only, target_bpp=target)
        assert caught[0].filename == __file__
        options = {"base_quality" if base_only else "quality": nearest}
        assert file == codec.encode(picture, base_only=base_only, **options)


def test_a_target_counts_metadata() -> None:
    """A rate is that of the file, for a base alone as well."""
    picture = Image.fromarray(noise(200, 160))
    exif = Image.Exif()
    exif[0x010E] = "x" * 5000
    picture.info["exif"] = exif.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"base_only": True, "keep": ["metadata"]}
        low, high = (tiny_codec().encode(picture, base_quality=q, **options).bpp for q in (0, 100))
        file = tiny_codec().encode(picture, target_bpp=(low + high) / 2, **options)
    assert file.metadata.exif is not None
    assert file.total_bytes * 8 / (200 * 160) == pytest.approx((low + high) / 2, rel=RATE_TOLERANCE)


def test_a_jpeg_with_a_profile_and_exif(tmp_path: Path) -> None:
    """Of a photograph's metadata a base alone keeps nothing, and the picture what it needs to be shown."""
    codec, path = tiny_codec(), tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x010F] = "Maker" * 50
    picture = Image.fromarray(noise(160, 120))
    for profile, needed in ((SRGB, False), (rgb_profile(SRGB_PRIMARIES), False), (rgb_profile(ADOBE_RGB), True)):
        picture.save(path, icc_profile=profile, exif=exif)
        base = codec.encode(path, base_only=True)
        assert base.total_bytes == len(base.base) == base.header.base_bytes
        assert base.bpp == base.base_bpp
        full = codec.encode(path)
        assert full.metadata.icc == (profile if needed else None)
        assert full.metadata.exif is not None
        assert codec.encode(path, base_only=True, keep=["icc"]).metadata == Metadata(icc=profile)
        target = base.bpp * 1.3
        assert codec.encode(path, base_only=True, target_bpp=target).total_bytes * 8 / (160 * 120) == pytest.approx(
            target, rel=RATE_TOLERANCE
        )
        # Both layers are of the same pixels, whenever the second comes.
        for options in ({"keep": []}, {"keep": ["icc", "metadata"]}):
            later = codec.enhance(codec.encode(path, base_only=True, **options), path)
            assert later.to_bytes() == codec.encode(path, **options).to_bytes()


def test_what_cannot_be_kept() -> None:
    for keep in (["exif"], "metadata", "icc,gps", [3]):
        with pytest.raises(OptionError, match=r"a list of metadata, icc, gps"):
            tiny_codec().encode(noise(40, 30), keep=keep)


def test_enhancing_later_gives_the_same_bytes() -> None:
    codec, picture = tiny_codec(), noise(130, 70)
    for options in ({"quality": 20}, {"quality": 77}, {"target_bpp": 1.0}):
        at_once = codec.encode(picture, base_quality=60, base_scale=6, **options)
        base = codec.encode(picture, base_quality=60, base_scale=6, base_only=True)
        for source in (base, base.to_bytes()):
            assert codec.enhance(source, picture, **options).to_bytes() == at_once.to_bytes()


def test_enhancing_keeps_what_the_file_holds(tmp_path: Path) -> None:
    codec = tiny_codec()
    picture = Image.fromarray(noise(64, 48))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    picture.save(tmp_path / "a.png", exif=exif)
    base = codec.encode(tmp_path / "a.png", base_only=True, keep=["metadata"])
    base.save(tmp_path / "a.vcm")
    full = codec.enhance(tmp_path / "a.vcm", tmp_path / "a.png")
    assert full.to_bytes().startswith(base.to_bytes())
    assert full.to_bytes() == codec.encode(tmp_path / "a.png").to_bytes()
    assert full.metadata.exif is not None
    assert [f.to_bytes() for f in codec.enhance([base, base], [tmp_path / "a.png"] * 2)] == [full.to_bytes()] * 2


def test_enhancing_what_cannot_be() -> None:
    codec, picture = tiny_codec(), noise(64, 48)
    full = codec.encode(picture)
    with pytest.raises(LayerError, match="already: expected a base-only file, found base, enhancement"):
        codec.enhance(full, picture)
    with pytest.raises(ImageError, match="expected 64x48, found 48x64"):
        codec.enhance(full.cut(1), noise(48, 64))
    with pytest.raises(OptionError, match="quality is out of range"):
        codec.enhance(full.cut(1), picture, quality=101)
    with pytest.raises(OptionError, match="target_bpp is out of range"):
        codec.enhance(full.cut(1), picture, target_bpp=0)


def test_pictures_that_are_none() -> None:
    for picture in (noise(15, 40), np.zeros((20, 20), np.float32), "missing.png", b"bytes"):
        with pytest.raises(ImageError):
            tiny_codec().encode(picture)  # type: ignore[call-overload]


def test_encoding_is_repeatable_and_parses() -> None:
    codec, picture = tiny_codec(), noise(90, 60)
    a, b = codec.encode(picture), codec.encode(picture)
    assert a.to_bytes() == b.to_bytes()
    assert parse(a.to_bytes()) == a


def test_cost_of_each_stage_is_counted() -> None:
    costs = {c.stage: c for c in tiny_codec().complexity(64, 48)}
    assert list(costs) == ["base-only encode", "full encode", "base decode + detect", "full decode"]
    assert all(c.kmac_per_px > 0 and c.budget in (8, 25) for c in costs.values())
    assert costs["full encode"].kmac_per_px > costs["base-only encode"].kmac_per_px
