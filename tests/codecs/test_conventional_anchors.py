"""JPEG, WebP, JPEG 2000, AVIF, HEIC, JPEG XL and the uncompressed reference."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image as PilImage
from skimage import data

from vcm.codecs.anchors import load_anchor
from vcm.codecs.protocol import Image, ImageCodec
from vcm.errors import ImageError, LimitError, MissingDependencyError, OptionError

LOSSY = ("jpeg", "webp", "jpeg2000", "avif", "heic", "jpegxl")


def _codec(name: str) -> ImageCodec:
    try:
        return load_anchor(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))


def _photo(height: int = 97, width: int = 131) -> Image:
    """An odd-sized corner of a photograph."""
    return np.ascontiguousarray(data.coffee()[100 : 100 + height, 150 : 150 + width])


def _psnr(a: Image, b: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("name", LOSSY)
def test_round_trip_keeps_size_and_picture(name: str) -> None:
    codec, image = _codec(name), _photo()
    decoded = codec.decompress(codec.compress(image, codec.quality_range.at(0.9)))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert _psnr(image, decoded) > 30


@pytest.mark.parametrize("name", LOSSY)
def test_better_quality_is_a_larger_file_and_a_better_picture(name: str) -> None:
    codec, image = _codec(name), _photo()
    files = [codec.compress(image, codec.quality_range.at(f)) for f in (0.2, 0.8)]
    assert len(files[0]) < len(files[1])
    worse, better = (_psnr(image, codec.decompress(file)) for file in files)
    assert worse < better


@pytest.mark.parametrize("name", LOSSY)
def test_same_picture_gives_same_bytes_also_from_a_pickled_codec(name: str) -> None:
    codec, image = _codec(name), _photo(64, 64)
    quality = codec.quality_range.at(0.5)
    copy = pickle.loads(pickle.dumps(codec))
    assert codec.compress(image, quality) == copy.compress(image, quality)
    assert codec.describe() == copy.describe()


@pytest.mark.parametrize("name", [*LOSSY, "uncompressed"])
def test_foreign_truncated_and_empty_files_are_image_errors(name: str) -> None:
    codec = _codec(name)
    good = codec.compress(_photo(), codec.quality_range.at(0.7))
    for bad in (b"", b"not a picture", good[: len(good) // 2]):
        with pytest.raises(ImageError):
            codec.decompress(bad)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jpeg2000"])
def test_no_metadata_in_the_file(name: str) -> None:
    codec = _codec(name)
    with PilImage.open(io.BytesIO(codec.compress(_photo(), codec.quality_range.at(0.5)))) as picture:
        assert not picture.getexif()
        assert "icc_profile" not in picture.info


def test_quality_is_checked() -> None:
    with pytest.raises(OptionError):
        _codec("jpeg").compress(_photo(), 101)
    with pytest.raises(OptionError):
        _codec("jpeg").compress(_photo(), 10.5)


def test_jpeg_is_what_pillow_writes_with_optimised_tables() -> None:
    image, out = _photo(), io.BytesIO()
    PilImage.fromarray(image).save(out, "JPEG", quality=10, optimize=True)
    assert _codec("jpeg").compress(image, 10) == out.getvalue()


def test_uncompressed_gives_the_picture_back() -> None:
    codec, image = _codec("uncompressed"), _photo()
    data_ = codec.compress(image, 0)
    assert np.array_equal(codec.decompress(data_), image)
    assert len(data_) == image.size + len(b"P6 131 97 255\n")


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 3), (256, 256), (225, 400), (300, 400), (97, 131)])
def test_jpeg_xl_size_header_is_read_before_decoding(shape: tuple[int, int]) -> None:
    codec = _codec("jpegxl")
    from vcm.codecs.jpegxl import codestream_size

    image = np.full((*shape, 3), 90, np.uint8)
    assert codestream_size(codec.compress(image, 5)) == (shape[1], shape[0])


def test_a_lie_about_the_size_is_refused_before_decoding() -> None:
    header = b"P6 100000 100000 255\n"
    with pytest.raises(LimitError):
        _codec("uncompressed").decompress(header + bytes(100))
    # A JPEG XL codestream of 2**30 × 2**30: not small, 30 bits a side.
    bits = 0 | 3 << 1 | (2**30 - 1) << 3 | 0 << 33 | 3 << 36 | (2**30 - 1) << 38
    with pytest.raises(LimitError):
        _codec("jpegxl").decompress(b"\xff\x0a" + bits.to_bytes(12, "little"))
