"""Where a file is read from, piece by piece, and the checks of its length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from vcm.errors import InputError, LimitError, OptionError, TruncatedError
from vcm.io.remote import address_of, open_remote

__all__ = ["Source", "check_end", "check_file_size", "file_of", "fill", "opened", "reading"]

Source = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""Where a file can be read from: a path or an address (``s3://`` …, see :mod:`vcm.io.remote`), its bytes, or a
binary file object at the file's first byte."""

_PIECE_BYTES = 1 << 20  # asked of a file object at once, so that a false length in a header costs no memory


@contextmanager
def opened(source: str | PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    """A file object over ``source``. Unbuffered, so that no byte is read ahead; the caller's own is left open.

    Raises:
        InputError: it cannot be opened, or read in the block.
        OptionError: it is nothing that can be read from.
    """
    with reading(source), file_of(source) as file:
        yield file


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Errors of the system in this block are about reading ``source``.

    Raises:
        InputError: instead of those.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or a closed file object
        name = source if isinstance(source, str | PathLike) else type(source).__name__
        raise InputError(f"cannot read {name}", found=getattr(error, "strerror", None) or str(error)) from error


def file_of(source: str | PathLike[str] | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """As :func:`opened`, but for the errors of the system."""
    if (address := address_of(source)) is not None:
        return open_remote(address)
    if isinstance(source, str | PathLike):
        return Path(source).open("rb", buffering=0)
    if not hasattr(source, "read"):
        found = type(source).__name__
        raise OptionError("cannot read from this", expected="a path, bytes or a binary file object", found=found)
    return nullcontext(source)


def fill(file: BinaryIO, taken: bytearray, count: int) -> None:
    """Read until ``taken`` holds ``count`` bytes or the file ends. Asks for no more; loops over short reads."""
    while len(taken) < count:
        piece: object = file.read(min(count - len(taken), _PIECE_BYTES))
        if not isinstance(piece, bytes):
            expected = "a blocking binary file object"
            raise OptionError("cannot read from this", expected=expected, found=f"read() gave {type(piece).__name__}")
        if not piece:
            break
        taken += piece


def check_file_size(size: int, max_bytes: int, what: str = "the file") -> None:
    """Raises :class:`LimitError` for a file that is too long."""
    if size > max_bytes:
        raise LimitError(f"{what} is too long", expected=f"at most {max_bytes} bytes", found=size)


def check_end(what: str, expected: int, found: int, whole_layers: tuple[str, ...]) -> None:
    """Raises :class:`TruncatedError` where fewer bytes are left than a part of a file takes."""
    if found < expected:
        raise TruncatedError(
            f"the file ends inside {what} (whole layers: {', '.join(whole_layers) or 'none'})",
            expected=f"{expected} bytes",
            found=found,
            whole_layers=whole_layers,
        )
