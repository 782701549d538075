"""JPEG (ITU-T T.81): the segment is a JUMBF superbox (ISO/IEC 19566-5) in APP11, split over as many as it needs.

Content credentials (C2PA) are carried in the same way; boxes are told apart by their instance number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from vcm.carriers.hosts import Part, Role, check_parts, cut, malformed
from vcm.carriers.segment import SEGMENT_UUID, check_length
from vcm.carriers.source import Places
from vcm.errors import FormatError, TruncatedError

__all__ = ["Jpeg"]

_APP11, _SOS, _EOI = 0xEB, 0xDA, 0xD9
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_NAMES = {0xDA: "SOS", 0xFE: "COM", **{0xE0 + n: f"APP{n}" for n in range(16)}}
_METADATA = frozenset({"APP1", "APP11", "APP13", "COM"})  # EXIF and XMP, other boxes, IPTC
_PACKET = struct.Struct(">2sHI4s4s")  # "JP", instance, sequence, and LBox and TBox of the superbox, in each packet
_BOX = struct.Struct(">I4s")
_MOST = 0xFFFF - 2 - _PACKET.size
_UUID_CONTENT = bytes.fromhex("7575696400110010800000aa00389b71")
_DESCRIPTION = _UUID_CONTENT + b"\x03" + b"vcm.base\0"  # content type; requestable, with a label; the label
_DESCRIBED = _BOX.pack(_BOX.size + len(_DESCRIPTION), b"jumd") + _DESCRIPTION
_BEFORE = len(_DESCRIBED) + _BOX.size + len(SEGMENT_UUID)
_MOST_BEFORE_SCAN = 4096


class Jpeg:
    """See :class:`vcm.carriers.hosts.Host`."""

    name = "JPEG"
    exif = "APP1"

    def parts(self, file: Places) -> Iterator[Part]:
        """See :class:`vcm.carriers.hosts.Host`."""
        offset, ours = 2, -1
        for count in range(_MOST_BEFORE_SCAN):
            frame = file.read(offset, 4)
            if frame[0] != 0xFF or frame[1] == 0:
                raise malformed(self.name, f"a marker at byte {offset}", frame[:2].hex())
            marker = frame[1]
            if marker == 0xFF:  # a fill byte
                offset += 1
                continue
            if marker in (_SOS, _EOI):
                yield Part("SOS", offset, file.size - offset, 0, file.size - offset, Role.PICTURE)
                return
            size = 2 if marker in _BARE else 2 + int.from_bytes(frame[2:], "big")
            if size < 4 and marker not in _BARE:
                raise malformed(self.name, "segments of at least 2 bytes", size - 2)
            kind = _NAMES.get(marker, f"{marker:02X}")
            role = Role.METADATA if kind in _METADATA else Role.PICTURE
            if marker == _APP11 and size - 4 >= _PACKET.size:
                instance = _instance_of_ours(file.peek(offset + 4, min(size - 4, _PACKET.size + len(_DESCRIBED))), ours)
                if instance is not None:
                    ours, role = instance, Role.OURS
            yield Part(kind, offset, size, min(size, 4), max(0, size - 4), role)
            offset += size
            check_parts(self.name, count)
        raise malformed(self.name, f"a scan within {_MOST_BEFORE_SCAN} segments", "none")

    def last(self, part: Part) -> bool:
        """See :class:`vcm.carriers.hosts.Host`."""
        return part.kind == "SOS"

    def segment(self, file: Places, ours: Sequence[Part]) -> bytes | None:
        """See :class:`vcm.carriers.hosts.Host`."""
        packets = [file.read(part.offset + 4, _PACKET.size) for part in ours]
        _, instance, _, length, _ = _PACKET.unpack(packets[0])
        total = int.from_bytes(length, "big") - _BOX.size
        check_length(total - _BEFORE)
        found = 0
        for number, (packet, part) in enumerate(zip(packets, ours, strict=True), 1):
            expected = _PACKET.pack(b"JP", instance, number, length, b"jumb")
            if packet != expected:
                raise FormatError("packets of a carried base do not fit", expected=expected.hex(), found=packet.hex())
            found += part.content - _PACKET.size
        if found < total:
            return None
        if found > total:
            raise FormatError("packets of a carried base are too long", expected=total, found=found)
        content = b"".join(
            file.read(part.offset + 4 + _PACKET.size, part.content - _PACKET.size) for part in ours
        )  # fmt: skip
        before = _DESCRIBED + _BOX.pack(max(0, total - len(_DESCRIBED)), b"uuid") + SEGMENT_UUID
        if content[:_BEFORE] != before:
            raise FormatError(
                "the box of a carried base is wrong", expected=before.hex(), found=content[:_BEFORE].hex()
            )
        return content[_BEFORE:]

    def with_segment(self, data: memoryview, parts: Sequence[Part], segment: bytes) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`.

        Behind JFIF's and EXIF's segments, which must come first, and before APP2: multi-picture files count their
        offsets from there.
        """
        at = 2
        for part in parts:
            if part.kind not in ("APP0", "APP1"):
                break
            at = part.end
        content = _DESCRIBED + _BOX.pack(_BEFORE - len(_DESCRIBED) + len(segment), b"uuid") + SEGMENT_UUID + segment
        length = (_BOX.size + len(content)).to_bytes(4, "big")
        instance = _free_instance(data, parts)
        packets = []
        for number, start in enumerate(range(0, len(content), _MOST), 1):
            piece = content[start : start + _MOST]
            head = _PACKET.pack(b"JP", instance, number, length, b"jumb")
            packets.append(b"\xff\xeb" + (2 + len(head) + len(piece)).to_bytes(2, "big") + head + piece)
        return b"".join((data[:at], *packets, data[at:]))

    def without(self, data: memoryview, ours: Sequence[Part]) -> bytes:
        """See :class:`vcm.carriers.hosts.Host`."""
        return cut(data, ours)


def _instance_of_ours(head: bytes, ours: int) -> int | None:
    """Instance number of an APP11 packet that begins our superbox, or goes on with it; ``None`` of all others."""
    if len(head) < _PACKET.size:
        raise TruncatedError("the picture's file ends inside APP11", expected=_PACKET.size, found=len(head))
    identifier, instance, number, _, kind = _PACKET.unpack_from(head)
    if identifier != b"JP" or kind != b"jumb":
        return None
    begins = number == 1 and head[_PACKET.size :] == _DESCRIBED
    return int(instance) if begins or (instance == ours and number > 1) else None


def _free_instance(data: memoryview, parts: Sequence[Part]) -> int:
    """An instance number that no other box of the file has."""
    used = {bytes(data[p.offset + 6 : p.offset + 8]) for p in parts if p.kind == "APP11" and p.content >= 4}
    return next(number for number in range(1, _MOST_BEFORE_SCAN + 2) if number.to_bytes(2, "big") not in used)
