"""Pictures in and out: whatever Pillow opens becomes upright 8-bit RGB; a picture is written whole or not at all.

Sizes are checked from the header before pixels are decoded. Torch is not imported.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from vcm.errors import ImageError, OutputError
from vcm.io.files import whole_file

if TYPE_CHECKING:
    import torch

    ImageSource = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | torch.Tensor

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "MIN_SIDE",
    "AlphaWarning",
    "SourceImage",
    "check_size",
    "load_image",
    "picture_format",
    "save_picture",
]

MIN_SIDE = 16
"""Smallest width and height that can be coded, pixels."""
MAX_SIDE = 65535
"""Largest width and height, pixels."""
MAX_PIXELS = 1 << 28
"""Most pixels in one picture."""

# A PNG byte can inflate to at most about 1,032 bytes of 8 one-bit pixels; a JPEG byte stands for fewer pixels still.
# A big picture in a file smaller than this is a lie in the header, refused before its memory is taken.
_MAX_PIXELS_PER_BYTE = 8300
_SUSPICIOUS_PIXELS = 1 << 22

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Formats whose decoders give no warnings, so that threads may decode them side by side.
_SILENT_FORMATS = frozenset({None, "JPEG", "MPO", "PNG", "WEBP"})

# EXIF is a TIFF directory. In a TIFF file these tags describe the pixels of that very file, or hold other metadata
# blocks (XMP can repeat the position, so it goes as well); none of them means anything for a decoded picture.
_NOT_EXIF = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 292, 293, 317, 320, 322,
     323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531, 532, 700, 33723, 34377, 34675}
)  # fmt: skip

# Pillow's limit on pixels is a process-wide variable, and so is the list of warning filters.
_PILLOW_LOCK = threading.RLock()


class AlphaWarning(UserWarning):
    """The picture has an alpha channel, which is not coded: it was composited on white."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A picture to be coded.

    Attributes:
        pixels: uint8 ``(height, width, 3)``, RGB, upright (EXIF orientation applied), C-contiguous.
        width, height: pixels.
        bit_depth: 8 or 16, of the source; 16-bit sources are scaled to 8.
        grey: the source had no colour.
        alpha: the source had an alpha channel or a transparent colour (composited on white).
        icc: RGB colour profile. A profile of another colour space was applied instead, and is ``None`` here.
        exif: ``b"Exif\\0\\0"`` and a TIFF block, without orientation and, unless asked for, position; or ``None``.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    bit_depth: int = 8
    grey: bool = False
    alpha: bool = False
    icc: bytes | None = None
    exif: bytes | None = None


def check_size(width: int, height: int, name: str = "picture") -> None:
    """Raises :class:`ImageError` unless a picture of this size can be coded. ``name`` begins the message."""
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name}: too small", expected=f"at least {MIN_SIDE} pixels a side", found=f"{width}x{height}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{name}: too large", expected=f"at most {MAX_SIDE} pixels a side", found=f"{width}x{height}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: too large", expected=f"at most {MAX_PIXELS} pixels", found=f"{width}x{height}")


def load_image(source: ImageSource, *, keep_gps: bool = False) -> SourceImage:
    """Reads a picture as upright 8-bit RGB.

    Args:
        source: a path; a PIL image of any mode; a uint8 array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or
            ``(H, W, 4)``; or a torch tensor ``(C, H, W)`` with 1, 3 or 4 channels, uint8 or floating point in 0 … 1.
            Of several frames the first (of a PIL image the current one) is taken.
        keep_gps: keep the position in EXIF.

    Raises:
        ImageError: not a picture, truncated, unreadable, or of a size or type that cannot be coded.

    Warns:
        AlphaWarning: the picture has an alpha channel; it was composited on white.
    """
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), keep_gps)
    if isinstance(source, Image.Image):
        found = _from_pillow(source, "picture", keep_gps)
    elif isinstance(source, np.ndarray):
        found = _from_array(source, "HWC")
    elif _is_tensor(source):
        found = _from_tensor(source)
    else:
        raise ImageError(
            "cannot read a picture from this",
            expected="a path, PIL image, array or tensor",
            found=type(source).__name__,
        )
    return _warned(found, "picture")


def _load_path(path: Path, keep_gps: bool) -> SourceImage:
    name = str(path)
    try:
        if path.is_dir():
            raise ImageError(f"{name}: not a picture", expected="a file", found="a directory")
        if not path.exists():
            raise ImageError(f"{name}: no such file")
        if not path.is_file():
            raise ImageError(f"{name}: not a picture", expected="a file", found="a device or pipe")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ImageError(f"{name}: not a picture", expected="a file", found="an empty file")
            with _opened(file, name) as image:
                check_size(*image.size, name)
                pixels = image.width * image.height
                if image.format in ("PNG", "JPEG") and pixels > max(_SUSPICIOUS_PIXELS, size * _MAX_PIXELS_PER_BYTE):
                    raise ImageError(
                        f"{name}: truncated picture",
                        expected=f"{pixels} pixels",
                        found=f"{size} bytes",
                    )
                found = _from_pillow(image, name, keep_gps)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageError(f"{name}: cannot be read", found=_reason(error)) from error
    return _warned(found, name)


def _warned(image: SourceImage, name: str) -> SourceImage:
    if image.alpha:
        warnings.warn(f"{name}: the alpha channel is not coded; composited on white", AlphaWarning, stacklevel=3)
    return image


def _reason(error: BaseException) -> str:
    """The text of an error of another library, on one line and never empty."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow's warnings stay inside, and our limit on pixels, which is checked from the header, stands for Pillow's."""
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        if before is not None:
            Image.MAX_IMAGE_PIXELS = max(before, MAX_PIXELS)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _opened(file: Any, name: str) -> Image.Image:
    try:
        with _quiet_pillow():
            image = Image.open(file)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too large", expected=f"at most {MAX_PIXELS} pixels", found=_reason(error)) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in any known format") from error
    except Exception as error:  # a decoder that meets a hostile file may raise anything
        raise ImageError(f"{name}: cannot be read as a picture", found=_reason(error)) from error
    if image.format == "EPS":
        raise ImageError(f"{name}: not a picture", expected="pixels", found="an EPS program, which is not run")
    return image


def _from_pillow(image: Image.Image, name: str, keep_gps: bool) -> SourceImage:
    check_size(*image.size, name)
    # A 16-bit PNG in colour is reduced by Pillow while it decodes; only the decoder's raw mode tells, and only before.
    sixteen = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    deep, grey = sixteen or image.mode in _DEEP_MODES, image.mode in _GREY_MODES
    try:
        if image.format in _SILENT_FORMATS:
            image.load()
        else:
            with _quiet_pillow():
                image.load()
        with _quiet_pillow():
            orientation, exif = _exif(image, keep_gps)
        rgb, alpha, icc = _to_rgb(image, sixteen)
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        pixels = np.array(rgb, dtype=np.uint8, order="C")
    except ImageError as error:
        raise ImageError(f"{name}: {error.what}", expected=error.expected, found=error.found) from error
    except Exception as error:  # a decoder that meets a hostile file may raise anything
        raise ImageError(f"{name}: truncated or damaged picture", found=_reason(error)) from error
    return SourceImage(pixels, rgb.width, rgb.height, 16 if deep else 8, grey, alpha, icc, exif)


def _to_rgb(image: Image.Image, sixteen: bool) -> tuple[Image.Image, bool, bytes | None]:
    """RGB pixels, whether there was alpha, and the RGB profile that still holds (``sixteen``: 16-bit samples)."""
    profile = image.info.get("icc_profile") or None
    alpha = image.mode in _ALPHA_MODES or "transparency" in image.info or _palette_has_alpha(image)
    if image.mode in _DEEP_MODES:
        return _eight_bits(image, sixteen).convert("RGB"), False, _rgb_profile(profile)
    if alpha:
        premultiplied = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        rgba = (image.convert(premultiplied) if premultiplied else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB"), True, _rgb_profile(profile)
    if profile and _rgb_profile(profile) is None:
        applied = _apply_profile(image, profile)
        if applied is not None:
            return applied, False, None
    return image.convert("RGB"), False, _rgb_profile(profile)


def _palette_has_alpha(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")


def _rgb_profile(profile: bytes | None) -> bytes | None:
    """The profile, if its header says that it is about RGB (bytes 16 to 20)."""
    return profile if profile and profile[16:20] == b"RGB " else None


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """sRGB through the picture's own CMYK, grey or Lab profile; ``None`` if the profile does not fit or is damaged."""
    try:
        from PIL import ImageCms

        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except Exception:  # a damaged profile must not cost the picture; Pillow's own conversion follows
        return None


def _eight_bits(image: Image.Image, sixteen: bool) -> Image.Image:
    """Mode ``L`` of a deeper picture, scaled and rounded, never clipped.

    16-bit samples: 0 … 65535. ``I`` and ``F`` do not say their range, so the smallest of these that holds every value
    is taken: 0 … 1 (``F`` only), 0 … 255, 0 … 65535; values outside all of them are stretched from least to greatest.
    """
    values: npt.NDArray[Any] = np.asarray(image).astype(np.float32 if image.mode.startswith("I;16") else np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("values cannot be scaled", expected="finite numbers", found="NaN or infinity")
    if low >= 0 and (sixteen or high <= 65535):
        if sixteen:
            full = 65535.0
        elif image.mode == "F" and high <= 1:
            full = 1.0
        else:
            full = 255.0 if high <= 255 else 65535.0
        scaled = values * (255.0 / full)
    else:
        scaled = (values - low) * (255.0 / ((high - low) or 1.0))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _exif(image: Image.Image, keep_gps: bool) -> tuple[int, bytes | None]:
    """The orientation (1 … 8) and the EXIF block to keep. A damaged block is as good as none."""
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        kept = Image.Exif()
        for tag, value in exif.items():
            if tag not in _NOT_EXIF and tag not in (ExifTags.Base.Orientation, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                kept[tag] = value
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if ifd in exif and (ifd != ExifTags.IFD.GPSInfo or keep_gps):
                block = dict(exif.get_ifd(ifd))
                if ifd == ExifTags.IFD.Exif and ExifTags.IFD.Interop in block:
                    del block[ExifTags.IFD.Interop]  # an offset into the old block
                kept[ifd] = block
        return int(orientation) if orientation in range(1, 9) else 1, kept.tobytes() if len(kept) else None
    except Exception:  # EXIF is a hostile format of its own, and the picture does not need it
        return 1, None


def _from_array(array: npt.NDArray[Any], layout: str) -> SourceImage:
    """From uint8 ``(H, W)`` or ``(H, W, C)``; ``layout`` is what the caller had, for messages."""
    if array.dtype != np.uint8:
        raise ImageError("array has the wrong type", expected="uint8", found=array.dtype)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        wanted = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)" if layout == "HWC" else "(C, H, W) with C of 1, 3 or 4"
        found = array.shape if layout == "HWC" or array.ndim != 3 else (array.shape[2], array.shape[0], array.shape[1])
        raise ImageError(f"picture is not {layout}", expected=wanted, found=found)
    height, width, channels = array.shape
    check_size(width, height)
    if channels == 4:
        rgb, _, _ = _to_rgb(Image.fromarray(np.ascontiguousarray(array)), False)
        pixels = np.array(rgb, dtype=np.uint8)
    else:
        # A copy: the caller may go on writing into the array.
        pixels = np.array(np.broadcast_to(array, (height, width, 3)), dtype=np.uint8, order="C")
    return SourceImage(pixels, width, height, 8, channels == 1, channels == 4)


def _is_tensor(source: object) -> bool:
    # Nobody holds a tensor before torch is imported, so this needs no import.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_tensor(tensor: Any) -> SourceImage:
    """From a torch tensor ``(C, H, W)``, uint8 or floating point in 0 … 1, on any device."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise ImageError(
            "tensor is not a CHW picture", expected="(C, H, W) with C of 1, 3 or 4", found=tuple(tensor.shape)
        )
    check_size(int(tensor.shape[2]), int(tensor.shape[1]))
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        values = tensor.float().numpy()
        low, high = float(values.min()), float(values.max())
        # Written so that NaN fails too. A thousandth is the room that half precision and resizing need.
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ImageError(
                "float tensor is out of range", expected="values from 0 to 1", found=f"{low:g} to {high:g}"
            )
        array = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    else:
        array = tensor.numpy()
        if array.dtype != np.uint8:
            raise ImageError("tensor has the wrong type", expected="uint8 or floating point", found=tensor.dtype)
    return _from_array(array.transpose(1, 2, 0), "CHW")


def save_picture(
    image: Image.Image, path: str | os.PathLike[str], exif: bytes | None = None, icc: bytes | None = None
) -> None:
    """Writes a picture whole or not at all: to a temporary file in the same folder, which then takes the name.

    Args:
        image: any PIL image.
        path: where to; the extension chooses the format (JPEG and WebP at quality 95).
        exif, icc: metadata to store where the format can.

    Raises:
        OutputError: unknown extension, a folder that is not there or not writable, a target that is not a plain file,
            or a picture that the format cannot hold.
    """
    path = Path(path)
    kind = picture_format(path)
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    if kind == "JPEG":
        options["subsampling"] = 0
        image = image.convert("RGB") if image.mode not in ("L", "RGB", "CMYK") else image
    if exif:
        options["exif"] = exif
    # Pillow would otherwise fall back on what it read with the picture, in some formats only.
    options["icc_profile"] = icc
    buffer = BytesIO()
    try:
        image.save(buffer, kind, **options)
    except Exception as error:  # each encoder has its own way to say no
        raise OutputError(f"{path}: cannot be written as {kind}", found=_reason(error)) from error
    with whole_file(path) as part:
        part.write_bytes(buffer.getbuffer())


def picture_format(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the format that a path's extension stands for.

    Raises:
        OutputError: no format that can be written has this extension.
    """
    suffix = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if kind is None or kind not in Image.SAVE:
        found = f"'{suffix}'" if suffix else "none"
        raise OutputError(
            f"{path}: no picture format", expected="an extension such as .png, .jpg, .webp or .tiff", found=found
        )
    return kind
