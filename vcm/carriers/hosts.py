"""What the formats of host files have in common: parts in a row, some of which are ours."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vcm.carriers.source import Places
from vcm.errors import ImageError, LimitError

__all__ = ["MAX_PARTS", "Host", "Part", "Role", "check_parts", "malformed", "orientation_in"]

MAX_PARTS = 1 << 18
"""Most parts of a host file: a PNG of 1 GB in chunks of 8 kB has half as many."""


class Role(Enum):
    """What a part is for: the picture's pixels, what is said about it, or to carry a segment of ours."""

    PICTURE = "picture"
    METADATA = "metadata"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a host file.

    Attributes:
        kind: what the format calls it.
        offset: of its first byte.
        size: bytes, frame included.
        body: bytes of its frame before its content.
        content: bytes of its content.
        role: what it is for.
    """

    kind: str
    offset: int
    size: int
    body: int
    content: int
    role: Role

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.size


class Host(Protocol):
    """A format of host files."""

    name: str
    exif: str
    """Kind of the part that holds EXIF; empty where EXIF does not turn the picture."""

    def parts(self, file: Places) -> Iterator[Part]:
        """The parts of ``file`` in order, each as soon as its frame was read; between and behind them may stand bytes
        that belong to none.

        Raises:
            ImageError: the file is malformed.
            TruncatedError: it ends inside a frame.
            LimitError: it has too many parts.
        """
        ...

    def last(self, part: Part) -> bool:
        """Whether no part of ours stands behind this one."""
        ...

    def segment(self, file: Places, ours: Sequence[Part]) -> bytes | None:
        """The segment that parts of ours hold together; ``None`` if more of them are needed.

        Raises:
            FormatError: they do not fit together, or there are too many.
            LimitError: the segment is too long.
        """
        ...

    def with_segment(self, data: memoryview, parts: Sequence[Part], segment: bytes) -> bytes:
        """The file ``data``, which has no part of ours, with one.

        Raises:
            ImageError: it cannot carry any.
        """
        ...

    def without(self, data: memoryview, ours: Sequence[Part]) -> bytes:
        """The file ``data`` without parts of ours."""
        ...


def malformed(name: str, expected: object, found: object) -> ImageError:
    """What to raise for a host file that is none."""
    return ImageError(f"not a well-formed {name} file", expected=expected, found=found)


def check_parts(name: str, count: int) -> None:
    """Refuse a file of ``count`` parts if that is too many.

    Raises:
        LimitError: it is.
    """
    if count > MAX_PARTS:
        raise LimitError(
            f"the {name} file has too many parts", expected=f"at most {MAX_PARTS}", found=f"{count} or more"
        )


def cut(data: memoryview, ours: Sequence[Part]) -> bytes:
    """``data`` without some of its parts."""
    pieces, at = [], 0
    for part in ours:
        pieces.append(data[at : part.offset])
        at = part.end
    return b"".join((*pieces, data[at:]))


_ORIENTATION, _SHORT = 0x0112, 3


def orientation_in(exif: bytes) -> int:
    """The orientation that an EXIF block says, 1 … 8; 1 where it says none or is damaged."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2], "")
    if not order:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for index in range(min(count, 1024)):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * index)
            if tag == _ORIENTATION:
                return int(value) if kind == _SHORT and values == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
