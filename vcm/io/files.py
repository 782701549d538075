"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

from vcm.errors import OutputError
from vcm.io.remote import address_of, write_remote

if sys.platform != "win32":  # there, what a killed writer left is told from a living one's by its age alone
    import fcntl

__all__ = ["whole_file", "write_atomically"]

_PREFIX, _SUFFIX = ".vcm-", ".part"
_OLD_SECONDS = 24 * 3600


@contextmanager
def whole_file(path: str | PathLike[str], *, verb: str = "write") -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends.

    Readers see the old file or the new one, and a block that fails leaves nothing behind. The new file is on the disk
    before it takes the name. It has the mode of the file that it replaces, and its owner where that may be given; a
    symbolic link is followed. What writers of ours that were killed left in the folder is removed.

    Args:
        path: the file, in a folder that is there; or an address (``s3://`` …).
        verb: what the error says cannot be done.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, or ``path`` is no regular file.
    """
    if (address := address_of(path)) is not None:
        with TemporaryDirectory() as here:
            part = Path(here) / Path(path).name
            yield part
            write_remote(address, part, verb=verb)
        return
    if "\0" in str(path):
        raise OutputError(f"cannot {verb} {str(path)!r}", expected="a name without NUL")
    try:
        old = _status(path)
        # Renaming onto a device or pipe would replace it by a file.
        if old is not None and not stat.S_ISREG(old.st_mode):
            raise OutputError(
                f"cannot {verb} {path}", expected="a regular file or a new name", found=_kind(old.st_mode)
            )
        target = Path(os.path.realpath(path))
        _sweep(target.parent)
        with _workplace(target.parent) as folder:
            part = folder / target.name
            # A new file's mode is what the umask and the folder say, and some libraries' files say otherwise.
            part.touch()
            mode = (part.stat() if old is None else old).st_mode
            part.unlink()
            yield part
            _settle(part, old, mode)
            part.replace(target)
            _sync(target.parent)
    except OSError as error:
        raise OutputError(f"cannot {verb} {path}", found=error.strerror or str(error)) from error


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
        if address_of(path) is None:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot {verb} {path}", found=error.strerror) from error
    with whole_file(path, verb=verb) as part:
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def _status(path: str | PathLike[str]) -> os.stat_result | None:
    """Of what a name leads to; ``None`` where there is nothing. A loop of links is an error."""
    try:
        return Path(path).stat()
    except FileNotFoundError:
        return None


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def _settle(part: Path, old: os.stat_result | None, mode: int) -> None:
    """Owner and mode as they were, and all bytes on the disk."""
    with part.open("rb+") as file:
        if old is not None and hasattr(os, "chown"):
            with suppress(OSError):  # giving a file away is for root
                os.chown(part, old.st_uid, old.st_gid)
        part.chmod(mode & 0o777)
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """The folder's list of names on the disk too, where the system knows how."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A folder of our own beside the target: a rename is atomic only within a file system.

    It is locked as long as its writer lives, on whatever machine that shares the disk. A folder rather than a file,
    because libraries write to a name of their own and rename it, which a lock on a file does not outlive.
    """
    while True:
        folder = parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        folder.mkdir(mode=0o700)
        try:
            handle = _locked(folder)
        except BlockingIOError:
            continue  # another's sweep was quicker than the lock, and removes the folder
        if folder.exists():
            break
        _close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _close(handle)


def _locked(folder: Path) -> int | None:
    """A handle that holds the folder's lock, or ``None`` where nothing can be locked.

    Raises:
        BlockingIOError: another has it.
    """
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


@lru_cache(maxsize=256)
def _sweep(folder: Path) -> None:
    """Remove what killed writers left. Once for a folder and process: it may hold many files."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):
                    _remove_if_left(entry)


def _remove_if_left(entry: os.DirEntry[str]) -> None:
    path = Path(entry.path)
    old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS
    if entry.is_dir(follow_symlinks=False):
        handle = _locked(path)
        try:
            if handle is not None or old:
                shutil.rmtree(path, ignore_errors=True)
        finally:
            _close(handle)
    elif entry.is_file(follow_symlinks=False) and old:  # by versions that wrote a file without a lock
        path.unlink()
