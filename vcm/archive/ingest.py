"""Pictures into an archive. What one picture goes through is one function, whichever engine calls it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from vcm.api.many import run_many
from vcm.archive.folders import Folder, locked, read_bytes
from vcm.archive.sources import Item, find, taken_at
from vcm.archive.table import DETECT, Found, Record, known, write_parts
from vcm.bitstream import MAGIC, Bitstream, parse
from vcm.errors import InputError, OptionError, OutputError, VcmError, reason
from vcm.io.remote import address_of, open_remote
from vcm.io.video import read_frames, started_at
from vcm.runtime.onnx.sessions import default_threads

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vcm.api import Codec
    from vcm.structures import Detections

__all__ = ["COMMIT", "FILES", "IngestOptions", "Summary", "ingest", "objects_of", "take"]

COMMIT = 256
"""Pictures whose rows are written together: as many are done again after a kill."""
FILES = "files"
_READERS = 4


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How pictures are taken in.

    Attributes:
        quality, base_quality: of the layers, 0 … 100.
        base_only: no enhancement.
        score: objects of at least this score get a row, 0 … 1.
        camera: of all pictures; by default the name of a file's folder.
        split: folders of bases and of what follows them, in the archive unless absolute or an address; by default a
            picture is one file.
        every: of a video, each so-manieth frame.

    Raises:
        OptionError: ``every`` is below 1, or ``score`` not 0 … 1.
    """

    quality: float = 50
    base_quality: float = 50
    base_only: bool = False
    score: float = 0.2
    camera: str | None = None
    split: tuple[str, str] | None = None
    every: int = 30

    def __post_init__(self) -> None:
        if self.every < 1:
            raise OptionError("every is out of range", expected="at least 1", found=self.every)
        if not 0 <= self.score <= 1:
            raise OptionError("score is out of range", expected="0 to 1", found=self.score)


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        pictures: taken in.
        known: were there already.
        failed: could not be read.
        source_bytes: of the pictures that were taken in.
        bytes: of their files.
        base_bytes: of these, bases.
        objects: found.
        seconds: that it took.
    """

    pictures: int = 0
    known: int = 0
    failed: int = 0
    source_bytes: int = 0
    bytes: int = 0
    base_bytes: int = 0
    objects: int = 0
    seconds: float = 0.0

    def add(self, record: Record) -> None:
        """Count a picture."""
        self.pictures += 1
        self.source_bytes += record.source_bytes
        self.bytes += record.bytes
        self.base_bytes += record.base_bytes
        self.objects += len(record.objects)


@dataclass(frozen=True, slots=True)
class Read:
    """A picture that was read and is not in the archive.

    Attributes:
        source: as of :class:`Record`.
        camera: as of :class:`Record`.
        time: of the file, or of the frame.
        picture: as of :class:`Record`.
        data: the file, or uint8 ``(H, W, 3)`` of a frame.
    """

    source: str
    camera: str
    time: datetime
    picture: str
    data: bytes | npt.NDArray[np.uint8]


def content_of(data: bytes) -> str:
    """The name that a content has in an archive: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def objects_of(found: Detections, head: str = DETECT) -> tuple[Found, ...]:
    """Detections as they stand in rows."""
    return tuple(Found(one.name, one.score, one.box, one.category_id, head) for one in found)


def take(codec: Codec, archive: Folder, one: Read, options: IngestOptions) -> Record:
    """Encode a picture, write its files, and find what is in it. A VCM file is taken as it is.

    Raises:
        VcmError: the picture cannot be read or coded, or its files not be written.
    """
    if isinstance(one.data, bytes) and one.data.startswith(MAGIC):
        stream, taken = parse(one.data), None
    else:
        stream = codec.encode(
            one.data, quality=options.quality, base_quality=options.base_quality, base_only=options.base_only
        )
        taken = taken_at(one.data) if isinstance(one.data, bytes) else None
    found = codec.detect(stream, score=options.score)
    file, rest = _write(archive, one.picture, stream, options)
    return Record(
        one.picture, one.source, taken or one.time, one.camera, stream.width, stream.height,
        len(one.data) if isinstance(one.data, bytes) else 0, stream.total_bytes, stream.header.base_bytes, file, rest,
        DETECT, objects_of(found),
    )  # fmt: skip


def _write(archive: Folder, picture: str, stream: Bitstream, options: IngestOptions) -> tuple[str, str | None]:
    data, end = stream.to_bytes(), stream.header.base_bytes
    place = f"{picture[:2]}/{picture}"
    if options.split is None:
        file = f"{FILES}/{place}.vcm"
        archive.write(file, data)
        return file, None
    hot, cold = (name.rstrip("/") for name in options.split)
    file, rest = f"{hot}/{place}.vcm", f"{cold}/{place}.rest" if end < len(data) else None
    if rest is not None:
        archive.write(rest, data[end:])
    archive.write(file, data[:end])
    return file, rest


def read_all(items: Iterable[Item], options: IngestOptions, failed: Callable[[str, VcmError], None]) -> Iterator[Read]:
    """The contents of files, and the frames of videos, in order. A file that cannot be read is reported."""

    def one(item: Item) -> Read | Item:
        if item.video:
            return item
        data = read_bytes(item.name)
        return Read(item.name, item.camera, item.changed, content_of(data), data)

    for outcome in run_many(one, items, _READERS):
        if outcome.error is not None:
            failed(outcome.source.name, outcome.error)
        elif isinstance(outcome.result, Read):
            yield outcome.result
        else:
            try:
                yield from _frames(outcome.source, options.every)
            except VcmError as error:
                failed(outcome.source.name, error)


def _frames(item: Item, every: int) -> Iterator[Read]:
    """Of a video; a frame's name is of the video's content and of its number."""
    content, start = _content_of_file(item.name), started_at(item.name) or item.changed
    for frame in read_frames(item.name, every):
        picture = content_of(f"{content}#{frame.index}".encode())
        when = start + timedelta(seconds=frame.seconds)
        yield Read(f"{item.name}#{frame.index}", item.camera, when, picture, frame.pixels)


def _content_of_file(name: str) -> str:
    """As :func:`content_of`, of a file that may be longer than memory."""
    content = hashlib.sha256()
    address = address_of(name)
    try:
        with Path(name).open("rb") if address is None else open_remote(address) as file:
            while piece := file.read(1 << 20):
                content.update(piece)
    except OSError as error:
        raise InputError(f"cannot read {name}", found=reason(error)) from error
    return content.hexdigest()[:32]


def ingest(
    sources: Iterable[str],
    archive: str | os.PathLike[str],
    codec: Codec,
    options: IngestOptions | None = None,
    *,
    jobs: int | None = None,
    commit: int = COMMIT,
    progress: Callable[[Summary, int], None] | None = None,
    failed: Callable[[str, VcmError], None] | None = None,
) -> Summary:
    """Take pictures into an archive: what is there already is left alone, so that a run that ended goes on.

    Args:
        sources: as of :func:`vcm.archive.sources.find`.
        archive: folder or address; made if it is not there.
        codec: with networks of one thread, where ``jobs`` is more than 1.
        options: how.
        jobs: pictures at once; by default one for each core that the process may use, at most 8.
        commit: pictures whose rows are written together.
        progress: called after each picture with the state of things and the number of files.
        failed: called with the name of what cannot be read, and why.

    Raises:
        InputError: a source is not there.
        OutputError: the archive cannot be written, or another ingest writes to it.
        MissingDependencyError: pyarrow is not installed, or what an address needs.
        OptionError: ``commit`` is below 1.
    """
    if commit < 1:
        raise OptionError("commit is out of range", expected="at least 1", found=commit)
    options = options or IngestOptions()
    folder, summary, start = Folder(archive), Summary(), time.monotonic()
    items = find(sources, options.camera)

    def fail(name: str, error: VcmError) -> None:
        summary.failed += 1
        if failed is not None:
            failed(name, error)

    def fresh() -> Iterator[Read]:
        for one in read_all(items, options, fail):
            if one.picture in seen:
                summary.known += 1
            else:
                seen.add(one.picture)
                yield one

    with locked(folder):
        seen = known(folder)
        outcomes = run_many(lambda one: take(codec, folder, one, options), fresh(), jobs or default_threads())
        records: list[Record] = []
        try:
            for count, outcome in enumerate(outcomes, 1):
                if isinstance(outcome.error, OutputError):  # the next picture would fail as well
                    raise outcome.error
                if outcome.error is not None:
                    fail(outcome.source.source, outcome.error)
                elif outcome.result is not None:
                    records.append(outcome.result)
                    summary.add(outcome.result)
                if count % commit == 0:
                    write_parts(folder, records)
                    records.clear()
                if progress is not None:
                    progress(replace(summary, seconds=time.monotonic() - start), len(items))
        finally:  # what is done is kept when somebody stops us
            write_parts(folder, records)
    summary.seconds = time.monotonic() - start
    return summary
