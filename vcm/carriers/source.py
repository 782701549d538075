"""A host file that is read in places, and how much of it was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, BytesIO
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from vcm.errors import InputError, LimitError, OptionError, TruncatedError, reason

__all__ = ["HostSource", "Places", "opened"]

HostSource = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A picture's file: its path, its bytes, or a binary file object that can seek; what it holds from 0 on is the file."""

_PIECE_BYTES = 1 << 20


class Places:
    """A file that is read at places.

    Args:
        file: can seek.

    Attributes:
        size: bytes of the file.
        bytes_read: bytes that were taken from it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, SEEK_END)
        self.bytes_read = 0

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on; what is there is known before memory is taken.

        Raises:
            TruncatedError: the file ends before that.
        """
        if offset + count > self.size:
            raise TruncatedError("the picture's file ends too soon", expected=offset + count, found=self.size)
        return self.peek(offset, count)

    def peek(self, offset: int, count: int) -> bytes:
        """Likewise, but fewer bytes where the file ends.

        Raises:
            TruncatedError: the file ends sooner than it said.
        """
        wanted = max(0, min(count, self.size - offset))
        self._file.seek(offset)
        taken = bytearray()
        while len(taken) < wanted:
            piece = self._file.read(min(wanted - len(taken), _PIECE_BYTES))
            if not piece:
                raise TruncatedError("the picture's file ends too soon", expected=offset + wanted, found="less")
            taken += piece
        self.bytes_read += len(taken)
        return bytes(taken)

    def pieces(self, offset: int, count: int) -> Iterator[bytes]:
        """``count`` bytes from ``offset`` on, a piece at a time.

        Raises:
            TruncatedError: the file ends before that.
        """
        for at in range(offset, offset + count, _PIECE_BYTES):
            yield self.read(at, min(_PIECE_BYTES, offset + count - at))


@contextmanager
def opened(source: HostSource, max_bytes: int | None = None) -> Iterator[Places]:
    """``source`` to be read in places. No byte is read ahead; the caller's own file object is left open.

    Args:
        source: the file.
        max_bytes: refuse longer ones.

    Raises:
        InputError: it cannot be read.
        LimitError: it is longer than ``max_bytes``.
        OptionError: it is no file, or cannot seek.
    """
    name = source if isinstance(source, str | PathLike) else type(source).__name__
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            yield _checked(Places(BytesIO(source)), max_bytes)
        elif isinstance(source, str | PathLike):
            with Path(source).open("rb", buffering=0) as file:
                yield _checked(Places(file), max_bytes)
        elif hasattr(source, "seek") and hasattr(source, "read"):
            yield _checked(Places(source), max_bytes)
        else:
            expected = "a path, bytes or a binary file object that can seek"
            raise OptionError("cannot read from this", expected=expected, found=name)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or a closed file object
        raise InputError(f"cannot read {name}", found=reason(error)) from error


def _checked(places: Places, max_bytes: int | None) -> Places:
    if max_bytes is not None and places.size > max_bytes:
        raise LimitError("the picture's file is too long", expected=f"at most {max_bytes} bytes", found=places.size)
    return places
