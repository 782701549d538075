"""Pictures in: whatever Pillow opens becomes upright 8-bit RGB. :mod:`vcm.io.save` is the way back.

Sizes are checked from the header before pixels are decoded. Nothing that other threads see is touched: Pillow's
warnings go to the application, and ``PIL.Image.MAX_IMAGE_PIXELS`` is its own. Torch is not imported.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from vcm.errors import ImageError, InputError, OptionError, reason
from vcm.io.colours import DEEP_MODES, GREY_MODES, ProfileUse, to_rgb, use_profile
from vcm.io.heif import heif_image
from vcm.io.metadata import picture_exif
from vcm.io.remote import address_of, read_remote
from vcm.limits import DEFAULT_BYTES, DEFAULT_PIXELS, MAX_PIXELS, MAX_SIDE, Limits

if TYPE_CHECKING:
    import torch

    ImageSource = (
        str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
        | torch.Tensor
    )  # fmt: skip

__all__ = ["MIN_SIDE", "AlphaWarning", "SourceImage", "check_size", "load_image"]

MIN_SIDE = 16
"""Smallest width and height that can be coded, pixels."""

# A PNG byte can inflate to at most about 1,032 bytes of 8 one-bit pixels; a JPEG byte stands for fewer pixels still.
# A big picture in a file smaller than this is a lie in the header, refused before its memory is taken. Other formats
# hold a flat picture of any size in a hundred bytes, which is no lie, but no photograph either.
_MAX_PIXELS_PER_BYTE = 8300
_SUSPICIOUS_PIXELS = {True: 1 << 22, False: 1 << 24}

# Of each block that a file has beside its pixels, as it stands there: two of them fit into a file of ours.
_MAX_BLOCK_BYTES = 1 << 22
_PIECE_BYTES = 1 << 20

# What Pillow sets by itself: then the application has not said what it takes.
_PILLOWS_LIMIT = (1 << 30) // 4 // 3

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
        icc: RGB colour profile that the pixels need; one of another colour space was applied instead.
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


def check_size(width: int, height: int, name: str = "picture", max_pixels: int = MAX_PIXELS) -> None:
    """Raises :class:`ImageError` unless a picture of this size can be coded. ``name`` begins the message."""
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name}: too small", expected=f"at least {MIN_SIDE} pixels a side", found=f"{width}x{height}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{name}: too large", expected=f"at most {MAX_SIDE} pixels a side", found=f"{width}x{height}")
    most = min(max_pixels, MAX_PIXELS)
    if width * height > most:
        expected = f"at most {most} pixels{' (max_pixels)' if most == max_pixels else ''}"
        raise ImageError(f"{name}: too large", expected=expected, found=f"{width}x{height}")


def load_image(
    source: ImageSource,
    *,
    keep_gps: bool = False,
    profile: ProfileUse = "keep",
    quiet: bool = False,
    bgr: bool = False,
    max_pixels: int = DEFAULT_PIXELS,
    max_bytes: int = DEFAULT_BYTES,
) -> SourceImage:
    """Reads a picture as upright 8-bit RGB.

    Args:
        source: a path or an address; the bytes of a picture file, or a binary file object at its first byte; a PIL
            image of any mode; a uint8 array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``, RGB; or a torch
            tensor ``(C, H, W)`` with 1, 3 or 4 channels, uint8 or floating point in 0 … 1. Of several frames the first
            (of a PIL image the current one) is taken.
        keep_gps: keep the position in EXIF.
        profile: what becomes of a file's or PIL image's RGB profile: ``keep`` it; be ``lean`` and keep it unless its
            colours are sRGB's; or ``apply`` it, so that the pixels are sRGB.
        quiet: do not warn of alpha.
        bgr: the array or tensor has its channels in OpenCV's order, BGR or BGRA.
        max_pixels: most pixels of the picture, whatever its source; above :data:`vcm.limits.MAX_PIXELS` that counts.
        max_bytes: most bytes of its file.

    Raises:
        ImageError: not a picture, truncated, unreadable, or of a size or type that cannot be coded; over a limit; of
            more pixels than its bytes can stand for; with a profile or EXIF of over 4 MiB. A file of more pixels than
            an application's own ``PIL.Image.MAX_IMAGE_PIXELS`` is too large, too; where that is at its default, it is
            twice as many, as Pillow has it. Sizes are refused before pixels are made.
        OptionError: no such use of a profile; ``bgr`` with something else than an array or tensor; or a limit is no
            whole number from 1 on.

    Warns:
        AlphaWarning: the picture has an alpha channel; it was composited on white.
    """
    if profile not in get_args(ProfileUse):
        raise OptionError("no such use of a profile", expected=", ".join(get_args(ProfileUse)), found=profile)
    name = "picture"
    if bgr:
        source = _from_bgr(source)
    how = _How(keep_gps, profile, Limits(max_pixels, max_bytes))
    if isinstance(source, (str, os.PathLike)):
        name = address_of(source) or str(source)
        found = (_from_path if address_of(source) is None else _from_address)(name, how)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        found = _from_file(io.BytesIO(source), len(source), name, how)
    elif isinstance(source, Image.Image):
        found = _from_pillow(source, name, how)
    elif isinstance(source, np.ndarray):
        found = _from_array(source, "HWC", how)
    elif _is_tensor(source):
        found = _from_tensor(source, how)
    elif hasattr(source, "read"):
        data = _all_of(source, max_bytes)  # type: ignore[arg-type]  # a tensor has no `read`
        found = _from_file(io.BytesIO(data), len(data), name, how)
    else:
        raise ImageError(
            "cannot read a picture from this",
            expected="a path, bytes, file object, PIL image, array or tensor",
            found=type(source).__name__,
        )
    if found.alpha and not quiet:
        warnings.warn(f"{name}: the alpha channel is not coded; composited on white", AlphaWarning, stacklevel=2)
    return found


@dataclass(frozen=True, slots=True)
class _How:
    """Options of :func:`load_image`."""

    keep_gps: bool
    profile: ProfileUse
    limits: Limits


def _from_address(name: str, how: _How) -> SourceImage:
    try:
        data = read_remote(name, how.limits.bytes)
    except InputError as error:
        raise ImageError(error.what, expected=error.expected, found=error.found) from error
    return _from_file(io.BytesIO(data), len(data), name, how)


def _from_path(name: str, how: _How) -> SourceImage:
    path = Path(name)
    try:
        # Opening a pipe would wait for its writer.
        if path.exists() and not path.is_file():
            found = "a folder" if path.is_dir() else "a device or pipe"
            raise ImageError(f"{name}: not a picture", expected="a file", found=found)
        with path.open("rb") as file:
            return _from_file(file, os.fstat(file.fileno()).st_size, name, how)
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageError(f"{name}: cannot be read", found=reason(error)) from error


def _all_of(file: BinaryIO, max_bytes: int) -> bytes:
    """All of a file object, or as much as tells that it is too long."""
    taken = bytearray()
    try:
        while len(taken) <= max_bytes and (piece := _piece(file, max_bytes + 1 - len(taken))):
            taken += piece
    except (OSError, ValueError) as error:  # ValueError: a closed file
        raise ImageError("picture: cannot be read", found=reason(error)) from error
    return bytes(taken)


def _piece(file: BinaryIO, most: int) -> bytes:
    data: object = file.read(min(most, _PIECE_BYTES))
    if not isinstance(data, bytes):
        expected = "a blocking binary file object"
        raise ImageError(
            "cannot read a picture from this", expected=expected, found=f"read() gave {type(data).__name__}"
        )
    return data


def _from_file(file: BinaryIO, size: int, name: str, how: _How) -> SourceImage:
    """From an open file of ``size`` bytes."""
    if size == 0:
        raise ImageError(f"{name}: not a picture", expected="a file", found="an empty file")
    if size > how.limits.bytes:
        raise ImageError(f"{name}: too large", expected=f"at most {how.limits.bytes} bytes (max_bytes)", found=size)
    with _opened(file, name) as image:
        check_size(*image.size, name, how.limits.pixels)
        pixels = image.width * image.height
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and pixels > limit != _PILLOWS_LIMIT:
            expected = f"at most {limit} pixels (PIL.Image.MAX_IMAGE_PIXELS)"
            raise ImageError(f"{name}: too large", expected=expected, found=f"{image.width}x{image.height}")
        whole = image.format in ("PNG", "JPEG")
        if pixels > max(_SUSPICIOUS_PIXELS[whole], size * _MAX_PIXELS_PER_BYTE):
            what = "truncated picture" if whole else "too many pixels for its bytes"
            raise ImageError(f"{name}: {what}", expected=f"{pixels} pixels", found=f"{size} bytes")
        return _from_pillow(image, name, how)


def _opened(file: BinaryIO, name: str) -> Image.Image:
    try:
        try:
            image: Image.Image = Image.open(file)
        except UnidentifiedImageError:
            heif = heif_image(file, name)
            if heif is None:
                raise
            image = heif
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        expected = f"at most twice PIL.Image.MAX_IMAGE_PIXELS, {Image.MAX_IMAGE_PIXELS}"
        raise ImageError(f"{name}: too large", expected=expected, found=reason(error)) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in any known format") from error
    except Exception as error:  # a decoder that meets a hostile file may raise anything
        raise ImageError(f"{name}: cannot be read as a picture", found=reason(error)) from error
    if image.format == "EPS":
        raise ImageError(f"{name}: not a picture", expected="pixels", found="an EPS program, which is not run")
    return image


def _from_pillow(image: Image.Image, name: str, how: _How) -> SourceImage:
    check_size(*image.size, name, how.limits.pixels)
    for key, what in (("icc_profile", "colour profile"), ("exif", "EXIF")):
        block = image.info.get(key)
        if isinstance(block, bytes) and len(block) > _MAX_BLOCK_BYTES:
            expected = f"at most {_MAX_BLOCK_BYTES} bytes"
            raise ImageError(f"{name}: its {what} is too long", expected=expected, found=len(block))
    # A 16-bit PNG in colour is reduced by Pillow while it decodes; only the decoder's raw mode tells, and only before.
    sixteen = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    deep, grey = sixteen or image.mode in DEEP_MODES, image.mode in GREY_MODES
    try:
        image.load()
        orientation, exif = picture_exif(image, how.keep_gps)
        rgb, alpha, found = to_rgb(image, sixteen)
        rgb, icc = use_profile(rgb, found, how.profile)
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        pixels = np.array(rgb, dtype=np.uint8, order="C")
    except ImageError as error:
        raise ImageError(f"{name}: {error.what}", expected=error.expected, found=error.found) from error
    except Exception as error:  # a decoder that meets a hostile file may raise anything
        raise ImageError(f"{name}: truncated or damaged picture", found=reason(error)) from error
    return SourceImage(pixels, rgb.width, rgb.height, 16 if deep else 8, grey, alpha, icc, exif)


def _from_array(array: npt.NDArray[Any], layout: str, how: _How) -> SourceImage:
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
    check_size(width, height, max_pixels=how.limits.pixels)
    if channels == 4:
        rgb, _, _ = to_rgb(Image.fromarray(np.ascontiguousarray(array)), False)
        pixels = np.array(rgb, dtype=np.uint8)
    else:
        # A copy: the caller may go on writing into the array.
        pixels = np.array(np.broadcast_to(array, (height, width, 3)), dtype=np.uint8, order="C")
    return SourceImage(pixels, width, height, 8, channels == 1, channels == 4)


def _from_bgr(source: Any) -> Any:
    """An array (H, W, C) or tensor (C, H, W) of BGR or BGRA as RGB or RGBA; of one channel, or another shape, as it is.

    Raises:
        OptionError: it is neither.
    """
    array = isinstance(source, np.ndarray)
    if not array and not _is_tensor(source):
        found = type(source).__name__
        raise OptionError("bgr says what an array holds", expected="an array or tensor", found=found)
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(source.shape[-1 if array else 0]) if source.ndim == 3 else None
    if order is None:
        return source
    return source[:, :, order] if array else source[order]


def _is_tensor(source: object) -> bool:
    # Nobody holds a tensor before torch is imported, so this needs no import.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_tensor(tensor: Any, how: _How) -> SourceImage:
    """From a torch tensor ``(C, H, W)``, uint8 or floating point in 0 … 1, on any device."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise ImageError(
            "tensor is not a CHW picture", expected="(C, H, W) with C of 1, 3 or 4", found=tuple(tensor.shape)
        )
    check_size(int(tensor.shape[2]), int(tensor.shape[1]), max_pixels=how.limits.pixels)
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
    return _from_array(array.transpose(1, 2, 0), "CHW", how)
