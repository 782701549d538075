"""HEIC pictures, as phones take them, where pillow-heif is installed. Pillow's registry is left alone."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from vcm.errors import ImageError

__all__ = ["heif_image"]

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def heif_image(file: BinaryIO, name: str) -> Image.Image | None:
    """A file as a HEIC picture, whose pixels are not decoded yet; ``None`` where it is none.

    Args:
        file: seekable.
        name: begins the messages.

    Raises:
        ImageError: pillow-heif is not installed.
    """
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    if start[4:8] != b"ftyp" or start[8:12] not in _BRANDS:
        return None
    try:
        from pillow_heif import HeifImageFile
    except ModuleNotFoundError as error:
        # One of many inputs, perhaps, so no wrong call.
        expected = "pillow-heif, which is not installed: pip install 'vcm[heic]'"
        raise ImageError(f"{name}: a HEIC picture", expected=expected) from error
    picture: Image.Image = HeifImageFile(file)
    return picture
