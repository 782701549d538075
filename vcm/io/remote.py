"""Files that are not on a disk here: ``s3://``, ``gs://``, ``http(s)://`` and whatever else fsspec knows.

Every function that takes a path takes such an address as well. fsspec and what it needs for a scheme are imported when
the first address is met; files on a disk never come here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from vcm.errors import InputError, MissingDependencyError, OutputError, reason
from vcm.requirements import needing

if TYPE_CHECKING:
    import fsspec

__all__ = ["Address", "address_of", "exists", "file_system", "open_remote", "place", "read_remote", "write_remote"]

# One letter is a drive of Windows. A Path of an address has lost one of its slashes.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
"""What fsspec needs for a scheme; the extra ``remote`` brings it."""

_PIECE_BYTES = 1 << 20


class Address(type(Path())):  # type: ignore[misc]  # the concrete class of this system
    """An address where a :class:`Path` is wanted: names and suffixes are taken apart alike, and its text is whole."""

    __slots__ = ()

    def __str__(self) -> str:
        return _ADDRESS.sub(r"\1://", self.as_posix(), count=1)

    def as_posix(self) -> str:
        return str(super().__str__()).replace(os.sep, "/")


def place(text: str) -> Path:
    """A path, or the address that ``text`` is."""
    return Path(text) if address_of(text) is None else Address(text)


def address_of(name: object) -> str | None:
    """``name`` as an address; ``None`` where it is a path on a disk here, or no name at all.

    Args:
        name: text such as ``s3://bucket/key``, or a :class:`Path` made of it, which has lost a slash.
    """
    if not isinstance(name, str | os.PathLike):
        return None
    text = os.fspath(name)
    if not isinstance(text, str):
        return None
    if not isinstance(name, str):
        text = text.replace(os.sep, "/")
        found = _ADDRESS.match(text)
    else:
        found = _ADDRESS.match(text) if "://" in text else None
    return None if found is None else f"{found[1]}://{text[found.end() :]}"


def file_system(address: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        MissingDependencyError: fsspec, or what it needs for the scheme, is not installed.
        InputError: there is no such scheme, or the address is malformed.
    """
    scheme = address.partition("://")[0]
    with needing(f"{scheme}://"):
        import fsspec
    try:
        system, path = fsspec.url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        how = f"pip install {'the package that fsspec names' if package is None else chr(39) + 'vcm[remote]' + chr(39)}"
        what = f"{scheme}:// needs {package or reason(error)}, which is not installed: {how}"
        raise MissingDependencyError(what) from error
    except ValueError as error:
        raise InputError(f"cannot read {address}", found=reason(error)) from error
    return system, path


@contextmanager
def _reading(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        cause = error.__cause__
        # fsspec says the same of a server that is not there.
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise InputError(f"cannot read {address}", found=reason(cause)) from error
        raise InputError(f"{address}: no such file") from error
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"cannot read {address}", found=reason(error)) from error


@contextmanager
def open_remote(address: str) -> Iterator[BinaryIO]:
    """A file object that asks for the ranges that are read of it, and for nothing ahead of them.

    Raises:
        InputError: it cannot be opened.
        MissingDependencyError: as of :func:`file_system`.
    """
    file = _Ranges(address)
    try:
        yield cast(BinaryIO, file)
    finally:
        file.close()


class _Ranges:
    """What :func:`open_remote` gives: errors of all file systems are one."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._system, self._path = file_system(address)
        self._at = 0
        self._passed: int | None = None  # bytes that a stream from the first byte on has given
        with _reading(address):
            self._file: Any = self._system.open(self._path, "rb", cache_type="none")
            self._size: int | None = getattr(self._file, "size", None)

    def read(self, count: int = -1) -> bytes:
        with _reading(self._address):
            if self._passed is None:
                try:
                    if self._file.tell() != self._at:
                        self._file.seek(self._at)
                    data = bytes(self._file.read(count))
                except ValueError:  # a web server that knows no ranges: it sends the file until we have what we want
                    if not self._address.startswith("http"):
                        raise
                    data = self._streamed(count)
            else:
                data = self._streamed(count)
        self._at += len(data)
        return data

    def _streamed(self, count: int) -> bytes:
        if self._passed is None or self._passed > self._at:
            self._file.close()
            self._file = self._system.open(self._path, "rb", block_size=0)
            self._passed = 0
        while self._passed < self._at and (piece := self._file.read(min(self._at - self._passed, _PIECE_BYTES))):
            self._passed += len(piece)
        data = bytes(self._file.read(count))
        self._passed += len(data)
        return data

    def seekable(self) -> bool:
        return self._size is not None

    def seek(self, to: int, whence: int = os.SEEK_SET) -> int:
        self._at = to + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size or 0}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()


def read_remote(address: str, max_bytes: int, *, end: int | None = None) -> bytes:
    """A file, or the first bytes of it, in one request.

    Args:
        address: of the file.
        max_bytes: no more than this is taken; one byte over it says that the file is longer.
        end: how many bytes are wanted; ``None``: all.

    Raises:
        InputError: it cannot be read.
        MissingDependencyError: as of :func:`file_system`.
    """
    if end is not None:
        system, path = file_system(address)
        with _reading(address):
            return bytes(system.cat_file(path, start=0, end=end))[:end]
    with open_remote(address) as file:
        return file.read(max_bytes + 1)


def write_remote(address: str, data: bytes | Path, *, verb: str = "write") -> None:
    """Write a whole file: object stores show it when its last byte has arrived. Over HTTP it is a PUT.

    Args:
        address: of the file.
        data: its bytes, or a file on a disk that holds them.
        verb: what the error says cannot be done.

    Raises:
        OutputError: it cannot be written.
        MissingDependencyError: as of :func:`file_system`.
    """
    system, path = file_system(address)
    content = data if isinstance(data, bytes) else data.read_bytes()
    try:
        if address.startswith(("http://", "https://")):
            import io

            system.put_file(io.BytesIO(content), path, method="put")
        else:
            system.pipe_file(path, content)
    except Exception as error:  # each file system has errors of its own
        raise OutputError(f"cannot {verb} {address}", found=reason(error)) from error


def exists(address: str) -> bool:
    """Whether a file is there.

    Raises:
        InputError: nobody can tell.
        MissingDependencyError: as of :func:`file_system`.
    """
    system, path = file_system(address)
    with _reading(address):
        return bool(system.isfile(path))
