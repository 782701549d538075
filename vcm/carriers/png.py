"""PNG: the segment is a chunk ``vcMB`` behind IHDR: ancillary, private, and not safe to copy.

By the last, an editor that does not know it and changes the picture must leave it out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from vcm.carriers.hosts import Part, Role, check_parts, cut, malformed
from vcm.carriers.segment import check_length
from vcm.carriers.source import Places
from vcm.errors import FormatError

__all__ = ["PNG_SIGNATURE", "Png"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OURS = b"vcMB"
_METADATA = frozenset({"tEXt", "zTXt", "iTXt", "eXIf", "tIME"})
_FRAME, _CRC = 8, 4


class Png:
    """See :class:`vcm.carriers.hosts.Host`."""

    name = "PNG"
    exif = "eXIf"

    def parts(self, file: Places) -> Iterator[Part]:
        """See :class:`vcm.carriers.hosts.Host`."""
        offset, count = len(PNG_SIGNATURE), 0
        while True:
            frame = file.read(offset, _FRAME)
            length, name = int.from_bytes(frame[:4], "big"), frame[4:]
            if length >= 1 << 31 or not name.isalpha():
                raise malformed(self.name, "a chunk", frame.hex())
            if count == 0 and name != b"IHDR":
                raise malformed(self.name, "IHDR first", name.decode("ascii"))
            kind = name.decode("ascii")
            role = Role.OURS if name == _OURS else Role.METADATA if kind in _METADATA else Role.PICTURE
            yield Part(kind, offset, _FRAME + length + _CRC, _FRAME, length, role)
            if kind == "IEND":
                return
            offset += _FRAME + length + _CRC
            count += 1
            check_parts(self.name, count)

    def last(self, part: Part) -> bool:
        """See :class:`vcm.carriers.hosts.Host`."""
        return part.kind == "IDAT"

    def segment(self, file: Places, ours: Sequence[Part]) -> bytes | None:
        """See :class:`vcm.carriers.hosts.Host`."""
        return only_segment(file, ours)

    def with_segment(self, data: memoryview, parts: Sequence[Part], segment: bytes) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        chunk = len(segment).to_bytes(4, "big") + _OURS + segment
        at = parts[0].end
        return b"".join((data[:at], chunk, zlib.crc32(chunk[4:]).to_bytes(4, "big"), data[at:]))

    def without(self, data: memoryview, ours: Sequence[Part]) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        return cut(data, ours)


def only_segment(file: Places, ours: Sequence[Part]) -> bytes:
    """The segment of a format whose parts are long enough for any: the content of the only part.

    Raises:
        FormatError: there are several.
        LimitError: it is too long.
    """
    if len(ours) > 1:
        raise FormatError("the picture carries more than one base", expected=1, found=len(ours))
    check_length(ours[0].content)
    return file.read(ours[0].offset + ours[0].body, ours[0].content)
