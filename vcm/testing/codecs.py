"""What every image codec of an evaluation must keep, as one call in a test of yours.

>>> from vcm.codecs.anchors import load_anchor
>>> from vcm.testing.codecs import check_codec
>>> check_codec(load_anchor("jpeg"))
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np

from vcm.codecs.protocol import Image, ImageCodec
from vcm.errors import OptionError, VcmError

__all__ = ["check_codec", "sample_pictures"]


def sample_pictures() -> tuple[Image, ...]:
    """Three small pictures, uint8 ``(H, W, 3)``: smooth, half noise, odd sides."""
    out = []
    for seed, (height, width) in enumerate([(64, 96), (80, 64), (67, 93)]):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        smooth = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
        noise = rng.integers(-40, 41, smooth.shape) * (x > width * (1 - seed / 2))[:, :, None]
        out.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return tuple(out)


def _expect(what: str, held: bool, found: object) -> None:
    if not held:
        raise AssertionError(f"{what}: found {found}")


def _psnr(a: Image, b: Image) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def check_codec(codec: ImageCodec, pictures: Sequence[Image] | None = None, *, min_psnr: float = 20.0) -> None:
    """Try ``codec`` on ``pictures`` and raise at the first promise that it breaks.

    The promises of :class:`vcm.codecs.protocol.ImageCodec`, which an evaluation relies on: a file holds all that
    decoding needs, the picture comes back in its size, the same picture gives the same bytes (from a pickled copy too:
    worker processes have one each), more quality costs more bytes and errs less, wrong qualities are
    :class:`~vcm.errors.OptionError`, damaged files are :class:`~vcm.errors.VcmError`.

    Args:
        codec: yours.
        pictures: uint8 ``(H, W, 3)``; ``None`` takes :func:`sample_pictures`.
        min_psnr: dB that the best quality must reach.

    Raises:
        AssertionError: names the promise and what was found.
    """
    _expect("it has the members of ImageCodec", isinstance(codec, ImageCodec), type(codec))
    span, info = codec.quality_range, codec.describe()
    _expect("describe() carries the codec's name", info.name == codec.name, info.name)
    copy: ImageCodec = pickle.loads(pickle.dumps(codec))
    _expect("a pickled copy describes itself alike", copy.describe() == info, copy.describe())
    sizes, psnr = np.zeros(2), np.zeros(2)
    for picture in sample_pictures() if pictures is None else pictures:
        before = picture.copy()
        for i, fraction in enumerate((0.2, 0.9)):
            quality = span.check(span.at(fraction))
            data = codec.compress(picture, quality)
            _expect("compress() leaves the picture as it was", np.array_equal(before, picture), "a changed one")
            _expect("a file is bytes", type(data) is bytes, type(data))
            _expect("the same picture gives the same bytes", copy.compress(picture, quality) == data, "others")
            decoded = copy.decompress(data)
            wanted = (picture.shape, np.dtype(np.uint8))
            found = (decoded.shape, decoded.dtype)
            _expect(f"the picture comes back as {wanted}", found == wanted, found)
            sizes[i] += len(data)
            psnr[i] += _psnr(picture, decoded)
        _expect(f"quality {span.at(1)} reaches {min_psnr} dB", _best(codec, picture) >= min_psnr, _best(codec, picture))
        for bad in (b"", b"not a picture", data[: len(data) // 2]):
            _refuses(codec, bad)
    if span.low < span.high:
        _expect("more quality costs more bytes", sizes[0] < sizes[1], sizes.tolist())
        _expect("more quality errs less", psnr[0] < psnr[1], psnr.tolist())
    for wrong in (span.low - 1, span.high + 1, float("nan")):
        try:
            codec.compress(sample_pictures()[0], wrong)
        except OptionError:
            continue
        raise AssertionError(f"quality {wrong} is an OptionError: found none")


def _best(codec: ImageCodec, picture: Image) -> float:
    return _psnr(picture, codec.decompress(codec.compress(picture, codec.quality_range.at(1))))


def _refuses(codec: ImageCodec, data: bytes) -> None:
    try:
        codec.decompress(data)
    except VcmError:
        return
    except Exception as error:
        raise AssertionError(f"a damaged file of {len(data)} bytes is a VcmError: found {error!r}") from error
    raise AssertionError(f"a damaged file of {len(data)} bytes is an error: found a picture")
