"""WebP (RFC 9649): the segment is a RIFF chunk ``VCMB``: behind VP8X, or at the end of a file that has no VP8X.

Decoders look for the picture at once where no VP8X says that there is more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vcm.carriers.hosts import Part, Role, check_parts, cut, malformed
from vcm.carriers.png import only_segment
from vcm.carriers.source import Places

__all__ = ["WebP"]

_OURS = b"VCMB"
_METADATA = frozenset({"EXIF", "XMP ", "VP8X"})  # VP8X says which metadata there are
_FRAME, _START, _SIZE_BEFORE = 8, 12, 8
_MOST = (1 << 32) - 10


class WebP:
    """See :class:`vcm.carriers.hosts.Host`."""

    name = "WebP"
    exif = "EXIF"

    def parts(self, file: Places) -> Iterator[Part]:
        """See :class:`vcm.carriers.hosts.Host`."""
        end = _SIZE_BEFORE + int.from_bytes(file.read(0, _START)[4:8], "little")
        if end > file.size or end % 2:
            raise malformed(self.name, f"an even number of bytes, at most {file.size}", end)
        offset, count = _START, 0
        while offset < end:
            frame = file.read(offset, _FRAME)
            length = int.from_bytes(frame[4:], "little")
            size = _FRAME + length + length % 2
            if offset + size > end:
                raise malformed(self.name, f"a chunk that ends before byte {end}", offset + size)
            kind = frame[:4].decode("latin-1")
            role = Role.OURS if frame[:4] == _OURS else Role.METADATA if kind in _METADATA else Role.PICTURE
            yield Part(kind, offset, size, _FRAME, length, role)
            offset += size
            count += 1
            check_parts(self.name, count)

    def last(self, part: Part) -> bool:
        """See :class:`vcm.carriers.hosts.Host`."""
        return False

    def segment(self, file: Places, ours: Sequence[Part]) -> bytes | None:
        """See :class:`vcm.carriers.hosts.Host`."""
        return only_segment(file, ours)

    def with_segment(self, data: memoryview, parts: Sequence[Part], segment: bytes) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        if not parts:
            raise malformed(self.name, "a picture", "no chunk")
        at = parts[0].end if parts[0].kind == "VP8X" else parts[-1].end
        chunk = _OURS + len(segment).to_bytes(4, "little") + segment + bytes(len(segment) % 2)
        return _resized(b"".join((data[:at], chunk, data[at:])), len(chunk))

    def without(self, data: memoryview, ours: Sequence[Part]) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        return _resized(cut(data, ours), -sum(part.size for part in ours))


def _resized(data: bytes, more: int) -> bytes:
    """A file whose RIFF chunk has become longer or shorter."""
    size = int.from_bytes(data[4:8], "little") + more
    if size > _MOST:
        raise malformed("WebP", f"at most {_MOST} bytes", size)
    return b"".join((data[:4], size.to_bytes(4, "little"), data[8:]))
