"""What ``vcm bench`` times: this codec's operations, and those of others on the same picture."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, features

import vcm
from vcm.cli import output

if TYPE_CHECKING:
    from vcm.api import Codec

__all__ = ["compressai", "in_bytes", "ours", "rivals", "throughput"]

Works = dict[str, Callable[[], object]]
_Pixels = npt.NDArray[np.uint8]
_VARIANTS = 16
_BLOCKS = 8


def ours(codec: Codec, single: Codec, pixels: _Pixels) -> Works:
    """The codec's operations; ``single`` is the same with one thread."""
    data = codec.encode(pixels).to_bytes()
    return {
        "encode": lambda: codec.encode(pixels).to_bytes(),
        "encode, base only": lambda: codec.encode(pixels, base_only=True).to_bytes(),
        "encode, base only, one core": lambda: single.encode(pixels, base_only=True).to_bytes(),
        "base decode + detect": lambda: codec.detect(data),
        "base decode + detect, one core": lambda: single.detect(data),
        "decode": lambda: codec.decode(data),
    }


def in_bytes(codec: Codec, narrow: Codec, pixels: _Pixels) -> Works:
    """Both directions by ``narrow``, the same codec with ``precision="int8"``."""
    data = codec.encode(pixels).to_bytes()
    return {
        "encode, int8": lambda: narrow.encode(pixels).to_bytes(),
        "decode, int8": lambda: narrow.decode(data),
    }


def rivals(codec: Codec, pixels: _Pixels) -> Works:
    """JPEG and AVIF by Pillow, and detection on pixels by the twin, after our decoding and after JPEG's."""
    twin, data = vcm.load_twin("vcm-s-twin"), codec.encode(pixels).to_bytes()
    picture, jpeg = Image.fromarray(pixels), _saved(pixels, "JPEG", quality=75)
    works: Works = {
        "JPEG encode, quality 75": lambda: _saved(pixels, "JPEG", quality=75),
        "JPEG decode": lambda: _opened(jpeg),
        "decode + twin": lambda: twin.detect(codec.decode(data)),
        "JPEG decode + twin": lambda: twin.detect(_opened(jpeg)),
    }
    if features.check("avif"):
        avif = _saved(pixels, "AVIF", quality=60, speed=6)
        works["AVIF encode, speed 6"] = lambda: _saved(picture, "AVIF", quality=60, speed=6)
        works["AVIF decode"] = lambda: _opened(avif)
    return works


def _saved(picture: _Pixels | Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    shown = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    shown.save(out, form, **options)
    return out.getvalue()


def _opened(data: bytes) -> _Pixels:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def compressai(pixels: _Pixels) -> Works:
    """CompressAI's mbt2018-mean; nothing where it is not installed. It takes seconds to import, so not before."""
    try:
        with output.working("importing CompressAI"):
            from compressai.zoo import mbt2018_mean
    except ImportError:
        return {}
    network: Any = mbt2018_mean(quality=4, metric="mse", pretrained=False).eval()
    network.update(force=True)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    # The network takes sides that are multiples of 64; padding is part of its work as it is of ours.
    padding = (0, -x.shape[3] % 64, 0, -x.shape[2] % 64)
    x = torch.nn.functional.pad(x, padding, mode="replicate")

    def compress() -> Any:
        with torch.inference_mode():
            return network.compress(x)

    coded = compress()

    def decompress() -> Any:
        with torch.inference_mode():
            return network.decompress(coded["strings"], coded["shape"])

    return {"mbt2018-mean compress": compress, "mbt2018-mean decompress": decompress}


def throughput(codec: Codec, pixels: _Pixels, pictures: int) -> dict[str, tuple[float, float]]:
    """Pictures per second one by one and by ``…_many``, by the operation's name; blocks of both in turn."""
    varied = [np.ascontiguousarray(np.roll(pixels, 16 * i, axis=1)) for i in range(_VARIANTS)]
    files = [codec.encode(picture, base_only=True).to_bytes() for picture in varied]
    count = max(1, pictures // _BLOCKS)
    sources, data = ((varied * count)[:count], (files * count)[:count])
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encode_many": (
            lambda: [codec.encode(p).to_bytes() for p in sources],
            lambda: [done.get().to_bytes() for done in codec.encode_many(sources)],
        ),
        "detect_many": (
            lambda: [codec.detect(d) for d in data],
            lambda: [done.get() for done in codec.detect_many(data)],
        ),
    }
    out = {}
    for name, pair in works.items():
        with output.working(f"{name}, {count * _BLOCKS} pictures"):
            pair[1]()  # makes its sessions
            taken = [0.0, 0.0]
            for block in range(_BLOCKS):
                for i in (0, 1) if block % 2 else (1, 0):
                    start = time.perf_counter()
                    pair[i]()
                    taken[i] += time.perf_counter() - start
        out[name] = (count * _BLOCKS / taken[0], count * _BLOCKS / taken[1])
    return out
