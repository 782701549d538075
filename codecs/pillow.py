"""JPEG, WebP, JPEG 2000, AVIF and HEIC through Pillow and pillow-heif, and an uncompressed reference.

Every encoder gets an array, never a file, so no EXIF, ICC profile or thumbnail can reach the output. One thread each,
so that times compare and bytes do not depend on the machine.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import PIL
from PIL import Image as PilImage
from PIL import features

from vcm.codecs.protocol import CodecInfo, Image, QualityRange, check_image, check_size
from vcm.errors import ImageError, LimitError, MissingDependencyError, VcmError
from vcm.limits import MAX_PIXELS

__all__ = ["HeicCodec", "Jpeg2000Codec", "PillowCodec", "UncompressedCodec", "avif", "jpeg", "webp"]

_PERCENT = QualityRange(0, 100)
_PSNR = QualityRange(15, 60, unit="dB", integer=False)
_NONE = QualityRange(0, 0)


def _open(data: bytes, format: str, name: str) -> Image:
    """Decode with Pillow, one format allowed, the size checked before the pixels are allocated."""
    try:
        with PilImage.open(io.BytesIO(data), formats=[format]) as picture:
            check_size(*picture.size)
            return np.asarray(picture.convert("RGB"))
    except VcmError:
        raise
    except PilImage.DecompressionBombError as error:  # Pillow's own limit, a little lower or higher than ours
        raise LimitError("picture size", expected=f"1 to {MAX_PIXELS} pixels", found=str(error)) from error
    except PIL.UnidentifiedImageError as error:  # its text holds a memory address
        raise ImageError(f"{name} cannot decode the file", expected=f"a {format} file", found="other bytes") from error
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise ImageError(f"{name} cannot decode the file", expected=f"a {format} file", found=str(error)) from error


@dataclass(frozen=True)
class PillowCodec:
    """A format whose Pillow writer takes ``quality=``.

    Attributes:
        name: name in reports.
        format: Pillow's format name.
        library: Pillow feature whose version is recorded.
        options: further keyword arguments of ``Image.save``, as pairs; recorded.
        max_side: longest side that the format holds.
    """

    name: str
    format: str
    library: str
    options: tuple[tuple[str, str | int | bool], ...] = ()
    max_side: int = 65535
    quality_range: QualityRange = _PERCENT

    def __post_init__(self) -> None:
        if not features.check(self.library):
            raise MissingDependencyError(
                f"this Pillow was built without {self.library}", found=f"Pillow {PIL.__version__}"
            )

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        level = int(self.quality_range.check(quality))
        if max(image.shape[:2]) > self.max_side:
            raise ImageError(
                f"too large for {self.name}", expected=f"sides to {self.max_side}", found=image.shape[1::-1]
            )
        out = io.BytesIO()
        try:
            PilImage.fromarray(image).save(out, format=self.format, quality=level, **dict(self.options))
        except (OSError, ValueError) as error:
            raise ImageError(f"{self.name} cannot encode the picture", found=str(error)) from error
        return out.getvalue()

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        return _open(data, self.format, self.name)

    def describe(self) -> CodecInfo:
        """Pillow's and the library's version, and the options of the writer."""
        version = f"Pillow {PIL.__version__}, {self.library} {features.version(self.library)}"
        return CodecInfo(self.name, version, self.options)


def jpeg() -> PillowCodec:
    """Baseline JPEG, 4:2:0, optimised Huffman tables. ``quality`` is libjpeg's, 1 … 100."""
    options = (("optimize", True), ("progressive", False), ("subsampling", "4:2:0"))
    return PillowCodec("jpeg", "JPEG", "libjpeg_turbo", options, quality_range=QualityRange(1, 100))


def webp() -> PillowCodec:
    """Lossy WebP (VP8 intra), 4:2:0, slowest and best method. ``quality`` is libwebp's, 0 … 100."""
    return PillowCodec("webp", "WEBP", "webp", (("method", 6),), max_side=16383)


def avif(speed: int = 6) -> PillowCodec:
    """AVIF (AV1 intra by libaom), 4:2:0, one thread. ``quality`` is libavif's, 0 … 100."""
    options = (("codec", "aom"), ("max_threads", 1), ("speed", speed), ("subsampling", "4:2:0"))
    return PillowCodec("avif", "AVIF", "avif", options)


@dataclass(frozen=True)
class Jpeg2000Codec:
    """JPEG 2000 in a JP2 file: irreversible 9/7 wavelet, colour transform, one layer.

    ``quality`` is the target PSNR in dB.
    """

    name: str = "jpeg2000"
    quality_range: QualityRange = _PSNR

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        target = self.quality_range.check(quality)
        # OpenJPEG needs at least one pixel in the lowest band of each axis.
        levels = min(5, int(np.log2(min(image.shape[:2]))))
        out = io.BytesIO()
        try:
            PilImage.fromarray(image).save(
                out,
                format="JPEG2000",
                quality_mode="dB",
                quality_layers=[target],
                irreversible=True,
                num_resolutions=levels + 1,
            )
        except (OSError, ValueError) as error:
            raise ImageError("jpeg2000 cannot encode the picture", found=str(error)) from error
        return out.getvalue()

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        return _open(data, "JPEG2000", self.name)

    def describe(self) -> CodecInfo:
        """Pillow's and OpenJPEG's version and the writer's options."""
        version = f"Pillow {PIL.__version__}, OpenJPEG {features.version('jpg_2000')}"
        settings = (("container", "JP2"), ("irreversible", True), ("quality_mode", "dB"))
        return CodecInfo(self.name, version, settings)


@dataclass(frozen=True)
class HeicCodec:
    """HEVC intra in a HEIF file: x265 through pillow-heif. ``quality`` is libheif's, 0 … 100.

    Attributes:
        preset: x265 preset.
        tune: x265 tune; ``ssim`` is libheif's own choice, ``psnr`` is the fair one for PSNR curves.
        chroma: 420, 422 or 444.
    """

    preset: str = "slow"
    tune: str = "ssim"
    chroma: int = 420
    name: str = "heic"
    quality_range: QualityRange = _PERCENT

    def __post_init__(self) -> None:
        _heif()

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        height, width = image.shape[:2]
        out = io.BytesIO()
        try:
            _heif().encode(
                "RGB",
                (width, height),
                image.tobytes(),
                out,
                quality=int(self.quality_range.check(quality)),
                chroma=self.chroma,
                enc_params={"preset": self.preset, "tune": self.tune, "x265:pools": "none"},
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ImageError("heic cannot encode the picture", found=str(error)) from error
        return out.getvalue()

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        try:
            picture = _heif().open_heif(data, convert_hdr_to_8bit=True, bgr_mode=False)
            check_size(*picture.size)
            return np.asarray(picture.to_pillow().convert("RGB"))
        except VcmError:
            raise
        except (OSError, ValueError, SyntaxError, RuntimeError, EOFError) as error:
            raise ImageError("heic cannot decode the file", expected="a HEIF file", found=str(error)) from error

    def describe(self) -> CodecInfo:
        """pillow-heif's, libheif's and x265's version, and the encoder's parameters."""
        module = _heif()
        info = module.libheif_info()
        version = f"pillow-heif {module.__version__}, libheif {info['libheif']}, {info['HEIF']}"
        return CodecInfo(
            self.name,
            version,
            (("chroma", self.chroma), ("preset", self.preset), ("tune", self.tune), ("pools", "none")),
        )


def _heif() -> ModuleType:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependencyError("HEIC needs pillow-heif: pip install 'vcm[eval]'") from error
    return pillow_heif


@dataclass(frozen=True)
class UncompressedCodec:
    """The picture itself as a binary PPM file: the ceiling of every accuracy curve. ``quality`` is ignored (0)."""

    name: str = "uncompressed"
    quality_range: QualityRange = _NONE

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        self.quality_range.check(quality)
        return b"P6 %d %d 255\n" % (image.shape[1], image.shape[0]) + image.tobytes()

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        return _open(data, "PPM", self.name)

    def describe(self) -> CodecInfo:
        """Portable pixmap."""
        return CodecInfo(self.name, "PPM P6")
