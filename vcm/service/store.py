"""The archive behind a service: asked from many threads, added to, and opened anew when it has grown."""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from PIL import Image

from vcm.api import Codec
from vcm.archive.archive import Archive, Hit, Hits
from vcm.archive.folders import Folder, locked, read_bytes
from vcm.archive.ingest import IngestOptions, Read, content_of, take
from vcm.archive.show import Codecs
from vcm.archive.table import FOLDER, utc, write_parts
from vcm.bitstream import MAGIC, parse
from vcm.errors import InputError, LimitError
from vcm.io.save import picture_bytes
from vcm.service.options import ServiceOptions
from vcm.structures import Detections

__all__ = ["LEAST_SCORE", "Busy", "Sized", "Store"]

LEAST_SCORE = 0.05
"""Least score of detections that are asked for: what is kept serves every other."""
_LOOK_AGAIN = 2.0  # seconds after which others may have added something
_PREVIEW_SIDE = 512
_MEMORY = 64 << 20  # of previews
_ENTRIES = 20_000

T = TypeVar("T")


class Busy(Exception):
    """More work is waiting than may."""


@dataclass(frozen=True, slots=True)
class Sized(Generic[T]):
    """A value, and how many bytes of the archive were read for it now."""

    value: T
    bytes_read: int


class _Kept(Generic[T]):
    """The values that were asked for last, up to a number and a weight."""

    def __init__(self, entries: int, weight: int | None = None, of: Callable[[T], int] = lambda _: 0) -> None:
        self._entries, self._most, self._of = entries, weight, of
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        with self._lock:
            if key in self._values:
                return
            self._values[key] = value
            self._weight += self._of(value)
            while len(self._values) > self._entries or (self._most is not None and self._weight > self._most):
                self._weight -= self._of(self._values.popitem(last=False)[1])


class Store:
    """An archive for many threads.

    Args:
        name: folder or address of the archive; it may be empty.
        codec: encodes what is added.
        options: limits.
    """

    def __init__(self, name: str, codec: Codec, options: ServiceOptions) -> None:
        self.folder, self._codec, self._options = Folder(name), codec, options
        self._codecs = Codecs()
        self._archive: Archive | None = None
        self._parts: list[str] = []
        self._looked = float("-inf")
        self._lock = threading.Lock()  # of the archive's connection
        self._adding = threading.Lock()
        self._places = threading.Semaphore(options.jobs)
        self._waiting = 0
        self._count = threading.Lock()
        self._hits: _Kept[Hit] = _Kept(_ENTRIES)
        self._found: _Kept[Detections] = _Kept(_ENTRIES)
        self._previews: _Kept[bytes] = _Kept(_ENTRIES, _MEMORY, len)

    # -- asking --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[Archive | None]:
        with self._lock:
            now = time.monotonic()
            if now - self._looked > _LOOK_AGAIN:
                self._looked = now
                parts = self.folder.names(FOLDER, ".parquet")
                if parts != self._parts:
                    if self._archive is not None:
                        self._archive.close()
                    self._archive = Archive(self.folder.name) if parts else None
                    self._parts = parts
            yield self._archive

    def query(self, text: str, limit: int) -> Hits:
        """Pictures that a query is true of, newest first.

        Raises:
            QueryError: it is not well formed.
            InputError: the archive cannot be read.
        """
        with self._open() as archive:
            if archive is None:
                return Hits(0, ())
            hits = archive.query(text, limit=limit)
        return hits

    def labels(self) -> list[str]:
        """Classes that were found in any picture, sorted."""
        with self._open() as archive:
            return [] if archive is None else archive.labels()

    def stored(self) -> tuple[int, int]:
        """How many pictures there are, and their bytes."""
        with self._open() as archive:
            return (0, 0) if archive is None else archive.stored()

    def hit(self, picture: str) -> Hit | None:
        """A picture by its name; ``None`` if it is not there."""
        kept = self._hits.get(picture)
        if kept is None:
            found = self.query(f"picture = {picture}", 1).pictures
            if not found:
                return None
            kept = found[0]
            self._hits.put(picture, kept)
        return kept

    # -- of one picture ------------------------------------------------------------------------------------------------

    @contextmanager
    def _working(self) -> Iterator[None]:
        """A place at the networks.

        Raises:
            Busy: too many wait for one.
        """
        with self._count:
            if self._waiting >= self._options.waiting + self._options.jobs:
                raise Busy
            self._waiting += 1
        try:
            with self._places:
                yield
        finally:
            with self._count:
                self._waiting -= 1

    def base(self, hit: Hit) -> bytes:
        """Header and base; no more is read."""
        return read_bytes(self.folder.at(hit.file), hit.base_bytes)

    def data(self, hit: Hit, end: int | None = None) -> bytes:
        """All that is stored of a picture, or its first ``end`` bytes."""
        if hit.rest is None or (end is not None and end <= hit.base_bytes):
            return read_bytes(self.folder.at(hit.file), end)
        rest = read_bytes(self.folder.at(hit.rest), None if end is None else end - hit.base_bytes)
        return read_bytes(self.folder.at(hit.file)) + rest

    def detections(self, hit: Hit, score: float) -> Sized[Detections]:
        """Objects of a picture, from its base: read and run once, and kept.

        Raises:
            Busy: too many wait.
            VcmError: the file cannot be read, or no weights at hand read it.
        """
        found, count = self._found.get(hit.picture), 0
        if found is None:
            with self._working():
                found = self._found.get(hit.picture)  # another that waited may have asked for the same
                if found is None:
                    stream = parse(self.base(hit))
                    found, count = self._codecs.of(stream).detect(stream, score=LEAST_SCORE), hit.base_bytes
                    self._found.put(hit.picture, found)
        return Sized(found.filter(score=score), count)

    def preview(self, hit: Hit) -> Sized[bytes]:
        """A JPEG of at most 512 pixels a side, from the base.

        Raises:
            Busy, VcmError: as of :meth:`detections`.
        """
        kept = self._previews.get(hit.picture)
        if kept is not None:
            return Sized(kept, 0)
        with self._working():
            kept = self._previews.get(hit.picture)
            if kept is not None:
                return Sized(kept, 0)
            stream = parse(self.base(hit))
            picture = self._codecs.of(stream).decode(stream, layers=1)
            picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=80)
        self._previews.put(hit.picture, out.getvalue())
        return Sized(out.getvalue(), hit.base_bytes)

    def picture(self, hit: Hit, format: str) -> Sized[bytes]:
        """The picture as a file of ``format`` (Pillow's name), decoded now.

        A picture layer of that very format goes out as it is.

        Raises:
            Busy, VcmError: as of :meth:`detections`.
        """
        with self._working():
            data = self.data(hit)
            stream = parse(data)
            layer, metadata = stream.picture, stream.metadata
            if layer is not None and layer.format.name == format and metadata.icc is None:
                return Sized(layer.data, len(data))
            picture = self._codecs.of(stream).decode(stream)
            file = picture_bytes(picture, format, None, metadata.icc)
            return Sized(bytes(file), len(data))

    # -- adding --------------------------------------------------------------------------------------------------------

    def add(self, data: bytes, source: str, camera: str) -> tuple[Hit, bool]:
        """Take a picture, or a VCM file, in; and whether it is new.

        Raises:
            LimitError: it has too many pixels.
            Busy: too many wait.
            VcmError: it cannot be read, or the archive not be written.
        """
        picture = content_of(data)
        if (known := self.hit(picture)) is not None:
            return known, False
        _check_pixels(data, self._options.max_pixels)
        with self._working():
            read = Read(source, camera, utc(time.time()), picture, data)
            record = take(self._codec, self.folder, read, IngestOptions())
        with self._adding, locked(self.folder):
            write_parts(self.folder, [record])
        with self._lock:
            self._looked = float("-inf")
        hit = self.hit(picture)
        if hit is None:
            raise InputError(f"{self.folder}: the picture that was added is not there")
        return hit, True


def _check_pixels(data: bytes, most: int) -> None:
    """Refuse a picture of more pixels, by what its header says."""
    if data.startswith(MAGIC):
        stream = parse(data)
        width, height = stream.width, stream.height
    else:
        try:
            with Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
        except Image.DecompressionBombError as error:
            raise LimitError("the picture has too many pixels", expected=f"at most {most}") from error
        except Exception:  # its reader says better what is wrong
            return
    if width * height > most:
        raise LimitError("the picture has too many pixels", expected=f"at most {most}", found=width * height)
