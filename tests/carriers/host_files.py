"""Pictures of every format that carries a base, made here; and a base of the tests' tiny codec."""

from __future__ import annotations

import contextlib
import io
from functools import cache

import numpy as np
from PIL import Image, features

from vcm.bitstream import BaseLayer, Bitstream, SourceKind

WIDTH, HEIGHT = 64, 48


def picture(seed: int = 1) -> Image.Image:
    """64×48, noise of low frequency."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def written(format: str, seed: int = 1, **options: object) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    picture(seed).save(out, format, **options)
    return out.getvalue()


def with_exif(orientation: int) -> bytes:
    """An EXIF block as Pillow writes it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "A camera"
    return exif.tobytes()


def jpeg_xl() -> bytes:
    """JPEG XL in its container; the decoder is not needed here."""
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(np.asarray(picture()), usecontainer=True))


@cache
def hosts() -> dict[str, bytes]:
    """A file of each kind by name."""
    files = {
        "jpeg": written("JPEG"),
        "jpeg progressive": written("JPEG", progressive=True, quality=90),
        "jpeg exif": written("JPEG", exif=with_exif(6), icc_profile=bytes(300)),
        "png": written("PNG"),
        "png exif": written("PNG", exif=with_exif(3)),
        "webp": written("WEBP"),
        "webp lossless": written("WEBP", lossless=True),
        "webp exif": written("WEBP", exif=with_exif(8)),
    }
    if features.check("avif"):
        files["avif"] = written("AVIF")
    try:
        import pillow_heif

        heif = pillow_heif.from_pillow(picture())
        out = io.BytesIO()
        heif.save(out)
        files["heic"] = out.getvalue()
    except (ImportError, RuntimeError):
        pass
    with contextlib.suppress(ImportError):
        files["jxl"] = jpeg_xl()
    return files


def base(stream: bytes = b"a stream of some bytes", *, width: int = WIDTH, height: int = HEIGHT) -> Bitstream:
    """A base layer that is well-formed and decodes to nothing; a long one says that it is of a larger picture."""
    if len(stream) > 60_000:
        width, height = max(width, 1000), max(height, 1000)
    layer = BaseLayer(1, width, height, 8, 500, bytes(range(8)), 10, (stream,))
    return Bitstream.of_base(layer, source=SourceKind())
