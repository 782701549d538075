"""A picture that is not the one of a file's base is told from one that was edited."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageEnhance
from shipped import PICTURES, picture

import vcm
from vcm.codecs.scalable.likeness import base_distance
from vcm.errors import OtherPictureError

Pixels = npt.NDArray[np.uint8]
SIZE = (320, 300)


@pytest.fixture(scope="module")
def codec() -> vcm.Codec:
    return vcm.load("vcm-s", threads=1)


def cut(name: str) -> Image.Image:
    return Image.fromarray(picture(name)).crop((0, 0, *SIZE))


def edited(photo: Image.Image) -> dict[str, Image.Image]:
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", quality=30)
    dark = ImageEnhance.Brightness(photo).enhance(0.6)
    small = photo.resize((160, 150), Image.Resampling.BICUBIC).resize(SIZE, Image.Resampling.BICUBIC)
    return {"as it is": photo, "as JPEG": Image.open(jpeg), "darker": dark, "grey": photo.convert("L"), "soft": small}


@pytest.mark.parametrize("quality", [0, 50, 100])
@pytest.mark.parametrize("name", sorted(PICTURES))
def test_photographs(codec: vcm.Codec, name: str, quality: float) -> None:
    file = codec.encode(cut(name), base_only=True, base_quality=quality)
    for one in edited(cut(name)).values():
        assert codec.enhance(file, one).layer_names == ("base", "enhancement")
    for other in set(PICTURES) - {name}:
        with pytest.raises(OtherPictureError, match=r"another picture .* at most 0.65, found [01]"):
            codec.enhance(file, cut(other))
    forced = codec.enhance(file, cut(other), allow_other_picture=True)
    assert forced.cut(1) == file


def test_lists(codec: vcm.Codec) -> None:
    files = codec.encode([cut("coffee"), cut("chelsea")], base_only=True)
    with pytest.raises(OtherPictureError):
        codec.enhance(files, [cut("chelsea"), cut("coffee")])
    assert len(codec.enhance(files, [cut("chelsea"), cut("coffee")], allow_other_picture=True)) == 2


def test_distance() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(-900, 900, (2, 1, 8, 12, 12))
    level = rng.integers(-5000, 5000, (1, 8, 1, 1))  # of a channel, which all pictures share
    assert base_distance(a, a) == 0
    apart = base_distance(a + level, b + level)
    assert apart == pytest.approx(1, abs=0.1)
    assert base_distance(a, a + rng.integers(-90, 90, a.shape)) == pytest.approx(0.005, abs=0.002)
    assert base_distance(b, a) == base_distance(a, b)
    flat = np.zeros_like(a)
    assert base_distance(flat, flat) == 0
    assert base_distance(a[:, :, :9, :9], b[:, :, :9, :9]) is None
