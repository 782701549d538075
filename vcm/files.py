"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from vcm.errors import OutputError

__all__ = ["write_atomically"]


def write_atomically(path: Path, data: str | bytes, *, verb: str = "write") -> None:
    """Write a whole file or none; folders are made, and processes that write one path do not meet.

    Args:
        path: the file.
        data: its content; text as UTF-8.
        verb: what the error says cannot be done.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot {verb} {path}", found=error.strerror) from error
