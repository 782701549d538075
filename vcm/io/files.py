"""Files that are there whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from vcm.errors import OutputError

__all__ = ["whole_file", "write_atomically"]


@contextmanager
def whole_file(path: str | PathLike[str], *, verb: str = "write") -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends.

    Readers see the old file or the new one, and a block that fails leaves nothing behind.

    Args:
        path: the file, in a folder that is there.
        verb: what the error says cannot be done.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, or ``path`` is no regular file.
    """
    target = Path(path)
    # In the same folder: a rename is atomic only within a file system. Not by `tempfile`: nobody but the owner may read
    # its files.
    part = target.parent / f".vcm-{secrets.token_hex(8)}.part"
    if "\0" in str(target):
        raise OutputError(f"cannot {verb} {str(target)!r}", expected="a name without NUL")
    try:
        # Renaming onto a device or pipe would replace it by a file.
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot {verb} {target}", expected="a regular file or a new name")
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot {verb} {target}", found=error.strerror or str(error)) from error


def write_atomically(path: Path, data: str | bytes | memoryview, *, verb: str = "write") -> None:
    """Write a whole file or none; folders are made.

    Args:
        path: the file.
        data: its content; text as UTF-8.
        verb: what the error says cannot be done.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot {verb} {path}", found=error.strerror) from error
    with whole_file(path, verb=verb) as part:
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
