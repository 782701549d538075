"""What is taken into an archive: files of folders, patterns and stores, one by one, in a fixed order."""

from __future__ import annotations

import glob
import io
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import ExifTags, Image

from vcm.archive.table import utc
from vcm.errors import InputError, reason
from vcm.io.remote import address_of, file_system

__all__ = ["Item", "find", "taken_at"]

_PICTURES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".jp2", ".jpeg", ".jpg", ".jxl", ".png", ".tif", ".tiff", ".vcm", ".webp"}
)
_VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


@dataclass(frozen=True, slots=True)
class Item:
    """A file to be taken in.

    Attributes:
        name: path or address.
        camera: whose picture it is.
        changed: when the file was, UTC.
    """

    name: str
    camera: str
    changed: datetime

    @property
    def video(self) -> bool:
        """It has frames, not one picture."""
        return PurePosixPath(self.name).suffix.lower() in _VIDEOS


def find(sources: Iterable[str], camera: str | None = None) -> list[Item]:
    """All files of the sources, each once: of a folder those with the suffix of a picture, a video or a VCM file.

    Args:
        sources: files, folders (with theirs), patterns with ``*``, ``?`` or ``[…]`` (``**`` is any depth); paths or
            addresses.
        camera: of all files; by default the name of the folder that a file lies in.

    Raises:
        InputError: a source is not there, or a pattern matches nothing.
    """
    found: dict[str, Item] = {}
    for source in sources:
        places = list(_local(source) if address_of(source) is None else _remote(source))
        if not places:
            raise InputError(f"{source}: no picture there")
        for name, changed in places:
            path = Path(name).absolute() if address_of(name) is None else Path(name)
            found.setdefault(name, Item(name, camera or path.parent.name or "unnamed", changed))
    return list(found.values())


def _wanted(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _PICTURES | _VIDEOS


def _local(source: str) -> Iterator[tuple[str, datetime]]:
    path = Path(source)
    if path.is_dir():
        found = [Path(at, name) for at, _, files in os.walk(path) for name in files if _wanted(name)]
        paths = [one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts)]
    elif path.exists():
        paths = [path]
    elif glob.has_magic(source):
        paths = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207  # patterns may be absolute
        paths = [one for one in paths if one.is_file()]
    else:
        raise InputError(f"{source}: no such file or folder")
    for one in sorted(paths):
        yield str(one), utc(one.stat().st_mtime)


def _remote(source: str) -> Iterator[tuple[str, datetime]]:
    scheme = source.partition("://")[0]
    system, path = file_system(source)
    try:
        if glob.has_magic(path):
            infos = {k: v for k, v in system.glob(path, detail=True).items() if "/." not in k}
        elif scheme not in ("http", "https") and system.isdir(path):
            infos = {k: v for k, v in system.find(path, detail=True).items() if _wanted(k) and "/." not in k}
        else:
            infos = {path: system.info(path)}
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such file or folder") from error
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"cannot read {source}", found=reason(error)) from error
    for name, info in sorted(infos.items()):
        if info.get("type") != "directory":
            yield name if "://" in name else f"{scheme}://{name.lstrip('/')}", _changed(info)


def _changed(info: dict[str, Any]) -> datetime:
    """When a file of a store was changed; now, where the store does not say."""
    for key in ("LastModified", "mtime", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        if isinstance(value, int | float):
            return utc(value)
    return utc(time.time())


def taken_at(data: bytes) -> datetime | None:
    """When a photograph was taken, by its EXIF, as UTC; ``None`` where it does not say. Without a zone it is UTC."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            exif = image.getexif()
            inner = exif.get_ifd(ExifTags.IFD.Exif)
        text = inner.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
        if not text:
            return None
        zone = inner.get(ExifTags.Base.OffsetTimeOriginal)
        when = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        if zone:
            when = datetime.fromisoformat(f"{when.isoformat()}{str(zone).strip(chr(0) + ' ')}")
            when = when.astimezone(UTC).replace(tzinfo=None)
    except Exception:  # EXIF is a hostile format of its own, and a picture without a time has its file's
        return None
    return when if 1900 <= when.year <= 9998 else None
