"""Base layers in pictures: found, checked, attached, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c

from vcm.bitstream import MAX_FILE_BYTES, Bitstream, parse
from vcm.carriers.bmff import BRANDS, JXL_SIGNATURE, Heif, JpegXl
from vcm.carriers.hosts import Host, Part, Role, orientation_in
from vcm.carriers.jpeg import Jpeg
from vcm.carriers.png import PNG_SIGNATURE, Png
from vcm.carriers.segment import Segment
from vcm.carriers.source import HostSource, Places, opened
from vcm.carriers.webp import WebP
from vcm.errors import FormatError, ImageError, StaleBaseError, TruncatedError, VcmError
from vcm.io.remote import address_of

__all__ = ["Carried", "attach_base", "check_base", "find_base", "host_format", "picture_checksum", "strip_base"]

_SNIFFED = 64
_MOST_EXIF = 1 << 16


@dataclass(frozen=True, slots=True)
class Carried:
    """A base layer in a picture.

    Attributes:
        host: format of the picture: JPEG, PNG, WebP, HEIF (which AVIF is as well) or JPEG XL.
        stream: header and base layer.
        offset: in the file of the first byte that carries it.
        bytes: that it takes in the file, frames of the format included.
        bytes_read: that were taken from the file.
    """

    host: str
    stream: Bitstream
    offset: int
    bytes: int
    bytes_read: int


def host_format(source: HostSource) -> str | None:
    """The format of a picture that can carry a base, by its first bytes; ``None`` of all other files.

    Raises:
        InputError: the file cannot be read.
    """
    with opened(source) as file:
        host = _host_of(file)
    return None if host is None else host.name


def find_base(source: HostSource) -> Carried | None:
    """The base that a picture carries. Reads frames and the segment; nothing of the picture is decoded.

    A file of another length than the one that the base was attached to is read to its end, and compared. One of the
    same length is taken for the same: :func:`check_base` compares in any case.

    Args:
        source: path, bytes, or a binary file object that can seek.

    Returns:
        ``None`` if it carries none, or is no picture that can, or one that is damaged before any; and of a picture at
        an address, in which nothing is looked for.

    Raises:
        StaleBaseError: the picture was edited since.
        FormatError: the base is damaged, or there are two.
        InputError: the file cannot be read.
    """
    if address_of(source) is not None:
        return None
    with opened(source) as file:
        host = _host_of(file)
        if host is None:
            return None
        ours: list[Part] = []
        body = None
        try:
            for part in host.parts(file):
                if part.role is Role.OURS:
                    ours.append(part)
                    body = host.segment(file, ours)
                if body is not None or host.last(part):
                    break
        except VcmError:
            # What is wrong with a picture, its decoder says better.
            if not ours:
                return None
            raise
        if body is None:
            if ours:
                raise TruncatedError("packets of a carried base are missing", found=f"{len(ours)} packets")
            return None
        segment = Segment.unpack(body)
        taken = sum(part.size for part in ours)
        if file.size - taken != segment.host_bytes:
            _compare(file, host, segment)
        return Carried(host.name, segment.stream, ours[0].offset, taken, file.bytes_read)


def check_base(source: HostSource) -> Carried | None:
    """As :func:`find_base`, but the file is read to its end and the picture compared in any case.

    Raises:
        ImageError: the picture is malformed.
        StaleBaseError, FormatError, InputError: as of :func:`find_base`.
    """
    with opened(source) as file:
        host = _host_of(file)
        if host is None:
            return None
        parts = list(host.parts(file))
        ours = [part for part in parts if part.role is Role.OURS]
        if not ours:
            return None
        body = host.segment(file, ours)
        if body is None:
            raise TruncatedError("packets of a carried base are missing", found=f"{len(ours)} packets")
        segment = Segment.unpack(body)
        _compare(file, host, segment, parts)
        return Carried(host.name, segment.stream, ours[0].offset, sum(p.size for p in ours), file.bytes_read)


def attach_base(picture: bytes, stream: Bitstream | bytes) -> bytes:
    """A picture's file with a base in it; one that it carried before is replaced.

    Args:
        picture: the file: JPEG, PNG, WebP, AVIF, HEIC, or JPEG XL in its container.
        stream: of that very picture; only header and base are taken.

    Returns:
        the file. Nothing of it has changed but the length of a WebP's RIFF chunk, and of an AVIF's or HEIC's last box
        if that had none.

    Raises:
        ImageError: the picture is of another format, malformed, or cannot carry anything.
        FormatError: ``stream`` is no whole file.
        LimitError: the picture's file or the base is too long.
    """
    base = (stream if isinstance(stream, Bitstream) else parse(stream)).cut(1)
    base = Bitstream(base.header, base.chunks[:1])
    clean = strip_base(picture)
    with opened(clean) as file:
        host = _known(_host_of(file), clean)
        parts = _all_parts(host, file)
        # What the format must change of the file itself is changed before it is measured.
        draft = host.with_segment(memoryview(clean), parts, Segment(0, 0, base).pack())
    with opened(strip_base(draft)) as file:
        segment = Segment(file.size, picture_checksum(file, host, _all_parts(host, file)), base)
    return host.with_segment(memoryview(clean), parts, segment.pack())


def strip_base(picture: bytes) -> bytes:
    """A picture's file without any base that it carries, damaged ones too.

    Raises:
        ImageError: it is of a format that carries none, or malformed.
        LimitError: the file is too long.
    """
    with opened(picture, MAX_FILE_BYTES) as file:
        host = _known(_host_of(file), picture)
        ours = [part for part in _all_parts(host, file) if part.role is Role.OURS]
    return host.without(memoryview(picture), ours) if ours else bytes(picture)


def picture_checksum(file: Places, host: Host, parts: Sequence[Part]) -> int:
    """CRC-32C over the parts of a file that make its pixels, in their order, and one byte: the orientation in EXIF."""
    crc, orientation = 0, 1
    for part in parts:
        if part.role is Role.PICTURE:
            for piece in file.pieces(part.offset, part.size):
                crc = google_crc32c.extend(crc, piece)
        elif part.kind == host.exif and orientation == 1:
            orientation = orientation_in(file.read(part.offset + part.body, min(part.content, _MOST_EXIF)))
    return int(google_crc32c.extend(crc, bytes([orientation])))


def _compare(file: Places, host: Host, segment: Segment, parts: Sequence[Part] | None = None) -> None:
    """Refuse a base of another picture, and a second base.

    Raises:
        StaleBaseError, FormatError: as of :func:`find_base`.
    """
    parts = parts or _all_parts(host, file)
    ours = [part for part in parts if part.role is Role.OURS]
    body = host.segment(file, ours)
    if body is None or Segment.unpack(body) != segment:
        raise FormatError("the picture carries more than one base", expected=1)
    found = picture_checksum(file, host, parts)
    if found != segment.checksum:
        what = "the picture was edited after the base was attached"
        raise StaleBaseError(what, expected=f"checksum {segment.checksum:#010x}", found=f"{found:#010x}")


def _all_parts(host: Host, file: Places) -> list[Part]:
    try:
        parts = list(host.parts(file))
    except TruncatedError as error:
        raise ImageError(f"not a whole {host.name} file", expected=error.expected, found=error.found) from error
    if parts and parts[-1].end > file.size:
        raise ImageError(f"not a whole {host.name} file", expected=parts[-1].end, found=file.size)
    return parts


def _known(host: Host | None, data: bytes) -> Host:
    if host is None:
        expected = "JPEG, PNG, WebP, AVIF, HEIC, or JPEG XL in its container"
        found = "a bare JPEG XL codestream" if data[:2] == b"\xff\x0a" else "another file"
        raise ImageError("the picture cannot carry a base", expected=expected, found=found)
    return host


def _host_of(file: Places) -> Host | None:
    start = file.peek(0, _SNIFFED)
    if start.startswith(b"\xff\xd8\xff"):
        return Jpeg()
    if start.startswith(PNG_SIGNATURE):
        return Png()
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebP()
    if start.startswith(JXL_SIGNATURE):
        return JpegXl()
    if start[4:8] == b"ftyp":
        brands = start[8 : min(int.from_bytes(start[:4], "big"), len(start))]
        if any(brands[at : at + 4] in BRANDS for at in range(0, len(brands), 4)):
            return Heif()
    return None
