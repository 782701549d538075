"""Pictures out: a file is written whole or not at all, and metadata never cost the picture."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from vcm.errors import OptionError, OutputError, reason
from vcm.io.files import whole_file

__all__ = ["QUALITIES", "MetadataWarning", "picture_bytes", "picture_format", "save_picture"]

# A JPEG segment has 65,533 bytes; Pillow splits profiles into several, and EXIF cannot be.
_MAX_JPEG_EXIF = 65533

QUALITIES = {"JPEG": 90, "WEBP": 90, "AVIF": 80}
"""Qualities by Pillow's name of the format: a decoded photograph of quality 50 loses 0.2 dB in each, and is at 2.5 to 5
times its VCM file's bytes (measured on Kodak's pictures). JPEG at 95 without subsampling was at 7.5."""


class MetadataWarning(UserWarning):
    """Metadata do not fit into the format or are damaged: the picture was written without them."""


def save_picture(
    image: Image.Image,
    path: str | os.PathLike[str],
    exif: bytes | None = None,
    icc: bytes | None = None,
    *,
    quality: int | None = None,
) -> None:
    """Writes a picture whole or not at all: to a temporary file in the same folder, which then takes the name.

    Args:
        image: any PIL image.
        path: where to; the extension chooses the format.
        exif, icc: metadata to store where the format can.
        quality: of JPEG, WebP and AVIF, 1 … 100 in the format's own scale; by default that of :data:`QUALITIES`.
            A JPEG of 95 and more has colours at full size.

    Raises:
        OptionError: ``quality`` is out of range, or the format has none.
        OutputError: unknown extension, a folder that is not there or not writable, a target that is not a plain file,
            or a picture that the format cannot hold.

    Warns:
        MetadataWarning: written without metadata that the format cannot hold.
    """
    data = picture_bytes(image, picture_format(path), exif, icc, name=str(path), quality=quality)
    with whole_file(path) as part:
        part.write_bytes(data)


def picture_bytes(
    image: Image.Image,
    kind: str,
    exif: bytes | None = None,
    icc: bytes | None = None,
    *,
    name: str = "picture",
    quality: int | None = None,
) -> memoryview:
    """A picture's file.

    Args:
        image: any PIL image.
        kind: Pillow's name of the format.
        exif, icc: metadata to store where the format can.
        name: begins the messages.
        quality: as for :func:`save_picture`.

    Raises:
        OptionError: as for :func:`save_picture`.
        OutputError: the format cannot hold the picture.

    Warns:
        MetadataWarning: as for :func:`save_picture`.
    """
    options: dict[str, Any] = {}
    if kind in QUALITIES:
        options["quality"] = _quality(QUALITIES[kind] if quality is None else quality)
    elif quality is not None:
        raise OptionError(f"{name}: {kind} has no quality", expected=", ".join(QUALITIES), found=kind)
    if kind == "JPEG":
        options["subsampling"] = "4:4:4" if options["quality"] >= 95 else "4:2:0"
        image = image.convert("RGB") if image.mode not in ("L", "RGB", "CMYK") else image
    wanted = {"EXIF": exif, "ICC profile": icc}
    present = [what for what, block in wanted.items() if block]
    failure: Exception | None = None
    for kept in [present, *([what] for what in present if len(present) > 1), *([[]] if present else [])]:
        try:
            data = _encoded(image, kind, options, *(wanted[what] if what in kept else None for what in wanted))
        except Exception as error:  # each encoder has its own way to say no
            failure = error
            continue
        lost = " and ".join(what for what in present if what not in kept)
        if failure is not None:
            text = f"{name}: written without its {lost}, which {kind} cannot hold ({reason(failure)})"
            warnings.warn(text, MetadataWarning, stacklevel=2)
        return data
    raise OutputError(f"{name}: cannot be written as {kind}", found=failure and reason(failure)) from failure


def _quality(quality: int) -> int:
    if not 1 <= quality <= 100:
        raise OptionError("the picture's quality is out of range", expected="1 to 100", found=quality)
    return quality


def _encoded(
    image: Image.Image, kind: str, options: dict[str, Any], exif: bytes | None, icc: bytes | None
) -> memoryview:
    if kind == "JPEG" and exif and len(exif) > _MAX_JPEG_EXIF:
        raise ValueError(f"EXIF has {len(exif)} bytes, and a JPEG segment {_MAX_JPEG_EXIF}")
    buffer = BytesIO()
    # Pillow would otherwise fall back on what it read with the picture, in some formats only.
    image.save(buffer, kind, **options, **({"exif": exif} if exif else {}), icc_profile=icc)
    return buffer.getbuffer()


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
