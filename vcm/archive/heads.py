"""A new head over an old archive: bases are read, rows are added, and no pixel is decoded."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vcm.api.many import run_many
from vcm.archive.archive import Archive
from vcm.archive.folders import Folder, locked, read_bytes
from vcm.archive.ingest import COMMIT, Summary, objects_of
from vcm.archive.table import Found, Record, known, write_parts
from vcm.bitstream import parse
from vcm.errors import HeadError, InputError, OutputError, VcmError, reason
from vcm.runtime.onnx.sessions import default_threads
from vcm.structures import Classification, Detections
from vcm.tasks.protocol import Head

if TYPE_CHECKING:
    from vcm.api import Codec
    from vcm.bitstream import Bitstream

__all__ = ["CLASSIFY", "add_head_rows"]

CLASSIFY = "classify"
_PICTURE = "picture, source, time, camera, width, height, source_bytes, bytes, base_bytes, file, rest"


def add_head_rows(
    archive: str | os.PathLike[str],
    codec: Codec,
    head: str | os.PathLike[str],
    *,
    score: float = 0.2,
    jobs: int | None = None,
    commit: int = COMMIT,
    progress: Callable[[Summary, int], None] | None = None,
    failed: Callable[[str, VcmError], None] | None = None,
) -> Summary:
    """Run a head on the bases of all pictures that it has not seen.

    Args:
        archive: folder or address.
        codec: reads the bases; with networks of one thread, where ``jobs`` is more than 1.
        head: file of a head that detects or classifies, or ``classify``: the codec's own.
        score: objects and classes of at least this score get a row, 0 … 1.
        jobs, commit, progress, failed: as of :func:`vcm.archive.ingest`.

    Returns:
        What was done; ``base_bytes`` are those that were read, ``bytes`` those that are stored.

    Raises:
        HeadError: the head neither detects nor classifies.
        InputError: there is no archive.
        OutputError: it cannot be written, or another writes to it.
        FingerprintError, WeightsError: as of :meth:`vcm.Codec.add_head`.
    """
    folder, summary, start = Folder(archive), Summary(), time.monotonic()
    name = _named(codec, head)
    with locked(folder):
        seen = known(folder, name)
        with Archive(archive) as opened:
            rows = opened.sql(f"SELECT {_PICTURE} FROM pictures ORDER BY camera, time, picture").rows
        todo = [record for record in (replace(Record(*row), head=name) for row in rows) if record.picture not in seen]
        summary.known = len(rows) - len(todo)

        def work(record: Record) -> Record:
            stream = parse(read_bytes(folder.at(record.file), record.base_bytes))
            return replace(record, objects=_objects(codec, name, stream, score))

        records: list[Record] = []
        try:
            for count, outcome in enumerate(run_many(work, todo, jobs or default_threads()), 1):
                if isinstance(outcome.error, OutputError | HeadError):
                    raise outcome.error
                if outcome.error is not None:
                    summary.failed += 1
                    if failed is not None:
                        failed(folder.at(outcome.source.file), outcome.error)
                elif outcome.result is not None:
                    records.append(outcome.result)
                    summary.add(outcome.result)
                if count % commit == 0:
                    write_parts(folder, records)
                    records.clear()
                if progress is not None:
                    progress(replace(summary, seconds=time.monotonic() - start), len(rows))
        finally:  # what is done is kept when somebody stops us
            write_parts(folder, records)
    summary.seconds = time.monotonic() - start
    return summary


def _named(codec: Codec, head: str | os.PathLike[str]) -> str:
    """The name of a head in the tables: its file's, and of what is in it."""
    if head == CLASSIFY:
        return CLASSIFY
    path = Path(head)
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise InputError(f"cannot read {path}", found=reason(error)) from error
    name = f"{path.stem}-{content}"
    if name not in codec.heads:
        codec.add_head(name, path)
    result = _result(codec, name)
    if result not in (Detections, Classification):
        found = getattr(result, "__name__", result)
        raise HeadError(f"{path} gives no rows", expected="a head that detects or classifies", found=found)
    return name


def _result(codec: Codec, name: str) -> object:
    """The type of what a head gives."""
    head = codec.head(name)
    return head.spec.result if isinstance(head, Head) else Classification


def _objects(codec: Codec, name: str, stream: Bitstream, score: float) -> tuple[Found, ...]:
    if _result(codec, name) is Detections:
        return objects_of(codec.run(name, stream, score=score), name)
    found = codec.run(name, stream)
    best = sorted((one for one in enumerate(found) if one[1].score >= score), key=lambda one: -one[1].score)
    return tuple(Found(one.name, one.score, None, index, name) for index, one in best)
