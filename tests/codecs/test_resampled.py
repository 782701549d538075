"""Any codec on a smaller picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from vcm.codecs.pillow import UncompressedCodec, jpeg
from vcm.codecs.resampled import ResampledCodec
from vcm.errors import ImageError, OptionError


@settings(max_examples=60, deadline=None)
@given(st.integers(7, 99), st.integers(1, 300), st.integers(1, 300))
def test_every_size_comes_back(percent: int, width: int, height: int) -> None:
    codec = ResampledCodec(UncompressedCodec(), percent)
    image = np.full((height, width, 3), 77, np.uint8)
    decoded = codec.decompress(codec.compress(image, 0))
    assert decoded.shape == image.shape
    assert np.array_equal(decoded, image)


def test_one_byte_more_than_the_inner_file() -> None:
    codec = ResampledCodec(UncompressedCodec(), 50)
    data_ = codec.compress(np.zeros((5, 7, 3), np.uint8), 0)
    assert data_[1:] == UncompressedCodec().compress(np.zeros((3, 4, 3), np.uint8), 0)
    assert data_[0] == 1 | 1 << 4  # 8 − 7 and 6 − 5


def test_fewer_bytes_than_the_full_picture() -> None:
    image = np.ascontiguousarray(data.coffee()[:200, :200])
    sizes = [len(ResampledCodec(jpeg(), p).compress(image, 50)) for p in (25, 50, 75)]
    assert sizes == sorted(sizes)
    assert sizes[-1] < len(jpeg().compress(image, 50))


def test_scale_is_part_of_the_identity() -> None:
    half, quarter = (ResampledCodec(jpeg(), p).describe() for p in (50, 25))
    assert half.name == "jpeg@50"
    assert half.fingerprint != quarter.fingerprint


def test_refusals() -> None:
    for percent in (0, 6, 100):
        with pytest.raises(OptionError):
            ResampledCodec(jpeg(), percent)
    for bad in (b"", b"\x11"):
        with pytest.raises(ImageError):
            ResampledCodec(jpeg(), 50).decompress(bad)
