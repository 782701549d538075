"""AVIF and HEIC (ISO/IEC 23008-12), and JPEG XL's container (ISO/IEC 18181-2): the segment is a ``uuid`` box.

AVIF and HEIC count offsets of their data from the start of the file, so the box is the last one there: nothing moves,
and a reader steps over the data by its length. In JPEG XL it stands before the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vcm.carriers.hosts import Part, Role, check_parts, cut, malformed
from vcm.carriers.png import only_segment
from vcm.carriers.segment import SEGMENT_UUID
from vcm.carriers.source import Places

__all__ = ["BRANDS", "JXL_SIGNATURE", "Heif", "JpegXl"]

JXL_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
BRANDS = frozenset(
    {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf", b"mif2"}
)
"""Brands of files that hold pictures."""
_METADATA = frozenset({"free", "skip", "uuid", "Exif", "xml ", "brob", "jumb"})
_FRAME, _LONG_FRAME = 8, 16
_U32 = 1 << 32


class _Boxes:
    """Files of boxes; see :class:`vcm.carriers.hosts.Host`."""

    name = ""
    exif = ""  # pictures are turned by properties, or in the codestream

    def parts(self, file: Places) -> Iterator[Part]:
        """See :class:`vcm.carriers.hosts.Host`."""
        offset, count = 0, 0
        while offset < file.size:
            frame = file.read(offset, _FRAME)
            size, body, kind = int.from_bytes(frame[:4], "big"), _FRAME, frame[4:].decode("latin-1")
            if size == 1:
                size, body = int.from_bytes(file.read(offset + _FRAME, 8), "big"), _LONG_FRAME
            elif size == 0:
                size = file.size - offset
            if size < body or offset + size > file.size:
                raise malformed(self.name, f"a box of {body} to {file.size - offset} bytes", size)
            role = Role.METADATA if kind in _METADATA else Role.PICTURE
            if kind == "uuid" and file.peek(offset + body, min(size - body, len(SEGMENT_UUID))) == SEGMENT_UUID:
                role, body = Role.OURS, body + len(SEGMENT_UUID)
            yield Part(kind, offset, size, body, size - body, role)
            offset += size
            count += 1
            check_parts(self.name, count)

    def last(self, part: Part) -> bool:
        """See :class:`vcm.carriers.hosts.Host`."""
        return False

    def segment(self, file: Places, ours: Sequence[Part]) -> bytes | None:
        """See :class:`vcm.carriers.hosts.Host`."""
        return only_segment(file, ours)

    def without(self, data: memoryview, ours: Sequence[Part]) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        return cut(data, ours)


class Heif(_Boxes):
    """AVIF and HEIC; see :class:`vcm.carriers.hosts.Host`."""

    name = "HEIF"

    def with_segment(self, data: memoryview, parts: Sequence[Part], segment: bytes) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`. A last box that says "to the end" gets its length instead."""
        last = parts[-1]
        sized = data
        if bytes(data[last.offset : last.offset + 4]) == bytes(4):
            if last.size >= _U32:
                raise malformed(self.name, f"a last box of fewer than {_U32} bytes", last.size)
            sized = memoryview(b"".join((data[: last.offset], last.size.to_bytes(4, "big"), data[last.offset + 4 :])))
        return b"".join((sized, _box(segment)))


class JpegXl(_Boxes):
    """JPEG XL's container; see :class:`vcm.carriers.hosts.Host`. A bare codestream has no place for a box."""

    name = "JPEG XL"

    def with_segment(self, data: memoryview, parts: Sequence[Part], segment: bytes) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        at = max((part.end for part in parts[:3] if part.kind in ("JXL ", "ftyp", "jxll")), default=0)
        return b"".join((data[:at], _box(segment), data[at:]))


def _box(segment: bytes) -> bytes:
    content = SEGMENT_UUID + segment
    return (_FRAME + len(content)).to_bytes(4, "big") + b"uuid" + content
