"""Every limit of the format, the range check that enforces them, and the two checksums."""

from __future__ import annotations

import binascii
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import google_crc32c

from vcm.errors import FormatError, OptionError
from vcm.limits import DEFAULT_BYTES, MAX_PIXELS, MAX_SIDE

__all__ = [
    "MAX_CHUNKS", "MAX_CHUNK_BYTES", "MAX_FILE_BYTES", "MAX_KEY_BYTES", "MAX_LAYERS", "MAX_METADATA_BYTES",
    "MAX_PIXELS", "MAX_QUALITY", "MAX_SIDE", "MAX_TILE_LOG2", "MIN_TILE_LOG2", "check_bytes", "check_range",
    "crc16", "crc32c", "found_in_file", "max_base_bytes",
]  # fmt: skip

MAX_CHUNKS = 1_024
"""Most chunks in a file, the layers included."""
MAX_LAYERS = 16
"""Most layers in a file, the base included."""
MAX_CHUNK_BYTES = 1 << 30
"""Longest payload of a chunk, bytes."""
MAX_METADATA_BYTES = 1 << 24
"""Most bytes that all EXIF, ICC and entry chunks of a file may take together, frames included."""
_MAX_BASE_BYTES_PER_PIXEL = 8
_MAX_BASE_BYTES_BESIDE = 1 << 16
MAX_FILE_BYTES = DEFAULT_BYTES
"""Default limit of :func:`vcm.bitstream.read`, bytes."""
MAX_KEY_BYTES = 255
"""Longest key of a metadata entry, bytes of UTF-8."""
MAX_QUALITY = 1_023
"""Largest quality index of a layer (10 bits)."""
MIN_TILE_LOG2, MAX_TILE_LOG2 = 10, 12
"""Tiles have sides of 1024 to 4096 pixels: networks see a tile in one piece, and a few bytes can claim any size."""


def max_base_bytes(width: int, height: int) -> int:
    """Most bytes of the base prefix whose coded picture has this size: six times what the worst symbols take.

    Args:
        width, height: of the picture that the base is coded from, pixels; the limit counts whole blocks of 16.
    """
    blocks = -(-width // 16) * -(-height // 16)
    return _MAX_BASE_BYTES_BESIDE + _MAX_BASE_BYTES_PER_PIXEL * 256 * blocks


def check_range(what: str, value: int, low: int, high: int) -> None:
    """Refuse ``value`` unless it is an integer in ``low … high``.

    Raises:
        OptionError: it is not.
    """
    try:
        inside = low <= operator.index(value) <= high
    except TypeError:
        inside = False
    if not inside:
        raise OptionError(f"{what} is out of range", expected=f"{low} … {high}", found=value)


def check_bytes(what: str, value: object) -> None:
    """Refuse ``value`` unless it is ``bytes`` (a view or bytearray could change after its checksum was taken).

    Raises:
        OptionError: it is not.
    """
    if not isinstance(value, bytes):
        raise OptionError(f"{what} is of the wrong type", expected="bytes", found=type(value).__name__)


@contextmanager
def found_in_file() -> Iterator[None]:
    """Turn an :class:`OptionError` of a constructor into a :class:`FormatError`: the bad value came from a file.

    So each range stands in one place, and the error still says whose fault it is.
    """
    try:
        yield
    except OptionError as error:
        raise FormatError(error.what, expected=error.expected, found=error.found) from None


def crc16(data: bytes | memoryview) -> int:
    """CRC-16/IBM-3740: polynomial 0x1021, initial value 0xFFFF, not reflected; ``b"123456789"`` gives 0x29B1.

    The initial value is not zero because then a run of zero bytes, the commonest damage of a disk, would check out.
    """
    return binascii.crc_hqx(data, 0xFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, as in iSCSI); ``b"123456789"`` gives 0xE3069283."""
    return int(google_crc32c.value(data))
