"""A folder on a disk or at an address: whole files in, ranges out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from vcm.errors import InputError, OutputError, reason
from vcm.io.files import write_atomically
from vcm.io.remote import address_of, file_system, read_remote, write_remote

__all__ = ["MAX_FILE_BYTES", "Folder", "locked", "read_bytes"]

MAX_FILE_BYTES = 1 << 30
"""Longest file that is read into memory."""


def read_bytes(name: str, end: int | None = None) -> bytes:
    """A file, or its first ``end`` bytes: by one range request where it is at an address.

    Raises:
        InputError: it cannot be read, or is too long.
    """
    if address_of(name) is not None:
        data = read_remote(name, MAX_FILE_BYTES, end=end)
    else:
        try:
            with Path(name).open("rb", buffering=0 if end else -1) as file:
                data = file.read(MAX_FILE_BYTES + 1 if end is None else end)
        except FileNotFoundError as error:
            raise InputError(f"{name}: no such file") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(f"cannot read {name}", found=reason(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"cannot read {name}", expected=f"at most {MAX_FILE_BYTES} bytes")
    return data


class Folder:
    """A folder by its path or address. Names in it are relative, with ``/``; absolute ones and addresses stay.

    Attributes:
        name: the path or address, without a slash at the end.
        remote: it is at an address.
    """

    def __init__(self, name: str | os.PathLike[str]) -> None:
        address = address_of(name)
        self.remote = address is not None
        self.name = (address or os.fspath(name)).rstrip("/") or "/"

    def __str__(self) -> str:
        return self.name

    def at(self, name: str) -> str:
        """The path or address of a name in this folder."""
        return name if address_of(name) is not None or Path(name).is_absolute() else f"{self.name}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; folders are made.

        Raises:
            OutputError: it cannot be written.
        """
        place = self.at(name)
        if address_of(place) is not None:
            write_remote(place, data)
        else:
            write_atomically(Path(place), data)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Files below ``folder`` of that suffix, sorted, relative to this one; none where it is not there.

        Raises:
            InputError: nobody can tell.
        """
        if not self.remote:
            root = Path(self.name)
            found = root.joinpath(folder).rglob(f"*{suffix}")
            return sorted(path.relative_to(root).as_posix() for path in found if not _in_the_making(path))
        system, root_path = file_system(self.name)
        try:
            paths = system.find(f"{root_path.rstrip('/')}/{folder}")
        except FileNotFoundError:
            return []
        except Exception as error:  # each file system has errors of its own
            raise InputError(f"cannot list {self.name}", found=reason(error)) from error
        start = len(root_path.strip("/")) + 1
        return sorted(path.strip("/")[start:] for path in paths if path.endswith(suffix))


def _in_the_making(path: Path) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts[-2:])


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """For the one writer of an archive; a writer that dies gives it free. Object stores cannot be locked.

    Raises:
        OutputError: another writes to it, or the folder cannot be made.
    """
    if folder.remote or os.name == "nt":
        yield
        return
    import fcntl

    try:
        Path(folder.name).mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.name, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}", found=reason(error)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another ingest writes to {folder}") from error
        yield
    finally:
        os.close(handle)
