"""The fixed header, 17 bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from vcm.bitstream.chunks import FRAME_BYTES, MIN_LAYER_BYTES, ChunkKind
from vcm.bitstream.geometry import coded_size
from vcm.bitstream.limits import (
    MAX_CHUNK_BYTES,
    MAX_PIXELS,
    MAX_SIDE,
    check_range,
    crc16,
    found_in_file,
    max_base_bytes,
)
from vcm.errors import ChecksumError, LimitError, MagicError, OptionError, TruncatedError, VersionError

__all__ = ["FORMAT_VERSION", "HEADER_BYTES", "MAGIC", "Header", "SourceKind"]

MAGIC = b"VCM"
FORMAT_VERSION = 1
_FIELDS = struct.Struct("<3sBBHHBBI")
_CRC = struct.Struct("<H")
HEADER_BYTES = _FIELDS.size + _CRC.size
_MIN_BASE_BYTES = HEADER_BYTES + FRAME_BYTES + MIN_LAYER_BYTES
_MAX_BASE_BYTES = HEADER_BYTES + FRAME_BYTES + MAX_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class SourceKind:
    """What the source picture was, so that decoding can give back the same kind.

    Attributes:
        bit_depth: bits of a sample, 8 or 16.
        grey: one channel instead of three.
        alpha: the source had an alpha channel (version 1 does not code it).

    Raises:
        OptionError: ``bit_depth`` is neither 8 nor 16.
    """

    bit_depth: int = 8
    grey: bool = False
    alpha: bool = False

    def __post_init__(self) -> None:
        if self.bit_depth not in (8, 16):
            raise OptionError("bit depth is out of range", expected="8 or 16", found=self.bit_depth)

    def pack(self) -> int:
        """The source byte: bit 0 is 16-bit samples, bit 1 grey, bit 2 alpha."""
        return (self.bit_depth == 16) | bool(self.grey) << 1 | bool(self.alpha) << 2

    @classmethod
    def unpack(cls, value: int) -> SourceKind:
        """The kind that a source byte says.

        Raises:
            OptionError: a reserved bit is set.
        """
        check_range("source kind", value, 0, 7)
        return cls(16 if value & 1 else 8, bool(value & 2), bool(value & 4))


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed header.

    Attributes:
        codec_id: family of the codec, 0 … 255; the container only carries it.
        width, height: source picture, upright (after EXIF orientation), 1 … 65535 pixels, product at most 2**28.
        source: kind of the source picture.
        base_scale: the base is coded from a picture of this many eighths of each side, 1 … 16; or, from 129 to 255, of
            1/1024 … 127/1024 of it: :func:`vcm.bitstream.scale_ratio`.
        base_bytes: bytes of header and base chunk together, the prefix that tasks read; 41 … 2**30 + 24.

    Raises:
        OptionError: a field is out of its range.
        LimitError: the picture, or the enlarged one that the base is coded from, has too many pixels; or the base has
            more bytes than any base of its size needs.
    """

    codec_id: int
    width: int
    height: int
    source: SourceKind = field(default_factory=SourceKind)
    base_scale: int = 8
    base_bytes: int = _MIN_BASE_BYTES

    def __post_init__(self) -> None:
        check_range("codec id", self.codec_id, 0, 255)
        check_range("width", self.width, 1, MAX_SIDE)
        check_range("height", self.height, 1, MAX_SIDE)
        check_range("base_bytes", self.base_bytes, _MIN_BASE_BYTES, _MAX_BASE_BYTES)
        if self.width * self.height > MAX_PIXELS:
            found = f"{self.width}×{self.height} = {self.width * self.height}"
            raise LimitError("the picture has too many pixels", expected=f"at most {MAX_PIXELS}", found=found)
        most = max_base_bytes(*coded_size(self.width, self.height, self.base_scale))
        if self.base_bytes > most:
            what = "the base is too long for its picture"
            raise LimitError(what, expected=f"at most {most} bytes", found=self.base_bytes)

    def coded_size(self, kind: ChunkKind) -> tuple[int, int]:
        """``(width, height)`` in pixels of the picture that a layer of ``kind`` is coded from."""
        return coded_size(self.width, self.height, self.base_scale if kind == ChunkKind.BASE else 8)

    def pack(self) -> bytes:
        """The header as 17 bytes."""
        fields = _FIELDS.pack(
            MAGIC, FORMAT_VERSION, self.codec_id, self.width, self.height,
            self.source.pack(), self.base_scale, self.base_bytes,
        )  # fmt: skip
        return fields + _CRC.pack(crc16(fields))

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Header:
        """The header at the start of ``data``; bytes after it are not looked at.

        Raises:
            MagicError: these are not the first bytes of a VCM file.
            VersionError: the format version is unknown.
            TruncatedError: fewer than 17 bytes.
            ChecksumError: the header's CRC does not match.
            FormatError: a field is out of its range.
            LimitError: the picture has too many pixels.
        """
        start = bytes(data[: len(MAGIC)])
        if start != MAGIC[: len(start)]:
            raise MagicError("not a VCM file", expected=f"first bytes {MAGIC!r}", found=repr(start))
        # The version comes before the length: another version's header may have another length.
        if len(data) > len(MAGIC) and data[len(MAGIC)] != FORMAT_VERSION:
            raise VersionError("unknown format version", expected=FORMAT_VERSION, found=data[len(MAGIC)])
        if len(data) < HEADER_BYTES:
            raise TruncatedError("the file ends inside its header", expected=f"{HEADER_BYTES} bytes", found=len(data))
        (stored,) = _CRC.unpack_from(data, _FIELDS.size)
        computed = crc16(data[: _FIELDS.size])
        if stored != computed:
            raise ChecksumError("the header is damaged", expected=f"CRC {stored:#06x}", found=f"{computed:#06x}")
        _, _, codec_id, width, height, source, base_scale, base_bytes = _FIELDS.unpack_from(data)
        with found_in_file():
            return cls(codec_id, width, height, SourceKind.unpack(source), base_scale, base_bytes)
