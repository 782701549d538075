"""What is carried: a base prefix, and what binds it to the picture that carries it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vcm.bitstream import Bitstream, parse
from vcm.bitstream.limits import crc16
from vcm.errors import ChecksumError, FormatError, LimitError, TruncatedError, VersionError

__all__ = ["MAX_SEGMENT_BYTES", "SEGMENT_UUID", "Segment"]

MAX_SEGMENT_BYTES = 1 << 24
"""Longest segment, bytes: sixteen times what a base of the largest picture takes."""
SEGMENT_UUID = bytes.fromhex("bfed3e7880d95a38b87886ca4403f699")
"""Names our ``uuid`` box, in JPEG's JUMBF and in ISO files."""

_VERSION = 1
_HEAD = struct.Struct("<BQI")
_CRC = struct.Struct("<H")
_HEAD_BYTES = _HEAD.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Segment:
    """A base and the picture that it belongs to.

    Attributes:
        host_bytes: length of the picture's file, without all that carries the segment.
        checksum: CRC-32C over what of it makes its pixels, see :func:`vcm.carriers.carry.picture_checksum`.
        stream: header and base layer.

    Raises:
        FormatError: ``stream`` has more than its base.
        LimitError: it is too long to be carried.
    """

    host_bytes: int
    checksum: int
    stream: Bitstream

    def __post_init__(self) -> None:
        if len(self.stream.chunks) != 1:
            raise FormatError("a picture carries a base alone", expected="1 chunk", found=len(self.stream.chunks))
        check_length(_HEAD_BYTES + self.stream.total_bytes)

    def pack(self) -> bytes:
        """The segment as bytes."""
        head = _HEAD.pack(_VERSION, self.host_bytes, self.checksum)
        return head + _CRC.pack(crc16(head)) + self.stream.to_bytes()

    @classmethod
    def unpack(cls, data: bytes) -> Segment:
        """The segment that ``data`` is.

        Raises:
            VersionError: of another version of this form.
            TruncatedError: it ends inside its head or the base.
            ChecksumError: it is damaged.
            FormatError: it is malformed otherwise.
        """
        if data and data[0] != _VERSION:
            raise VersionError("unknown version of a carried base", expected=_VERSION, found=data[0])
        if len(data) < _HEAD_BYTES:
            raise TruncatedError("a carried base ends inside its head", expected=_HEAD_BYTES, found=len(data))
        (stored,), computed = _CRC.unpack_from(data, _HEAD.size), crc16(data[: _HEAD.size])
        if stored != computed:
            raise ChecksumError("a carried base is damaged", expected=f"CRC {stored:#06x}", found=f"{computed:#06x}")
        _, host_bytes, checksum = _HEAD.unpack_from(data)
        return cls(host_bytes, checksum, parse(memoryview(data)[_HEAD_BYTES:]))


def check_length(count: int) -> None:
    """Refuse a segment of ``count`` bytes if that is too long.

    Raises:
        LimitError: it is.
    """
    if count > MAX_SEGMENT_BYTES:
        raise LimitError("a carried base is too long", expected=f"at most {MAX_SEGMENT_BYTES} bytes", found=count)
