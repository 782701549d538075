"""Ingest on a Ray cluster: actors hold the model and pull batches, and each batch writes its own files and rows.

What is done is known from the archive itself, so a task that Ray tries again, or a run that is started again, does what
is missing and nothing twice. Batches are those of the local engine, and so are the bytes that they write.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from vcm.archive.folders import Folder, locked, read_bytes
from vcm.archive.ingest import COMMIT, IngestOptions, Read, Summary, content_of, take
from vcm.archive.sources import Item, find
from vcm.archive.table import Record, known, write_parts
from vcm.errors import InputError, OptionError, OutputError, VcmError
from vcm.requirements import needing

__all__ = ["ingest_on_ray"]


class _Worker:
    """An actor: one model, one core. Called with a batch, gives what became of it."""

    def __init__(self, weights: str, archive: str, options: dict[str, Any]) -> None:
        from vcm.api import load

        self._codec = load(weights, threads=1)
        self._archive, self._options = Folder(archive), IngestOptions(**options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        summary, records, problems = Summary(), [], []
        for name, camera, changed, picture in row["batch"]:
            try:
                data = read_bytes(name)
                # A file that changed since it was listed is another picture: the next run takes it.
                if content_of(data) != picture:
                    raise InputError(f"{name}: changed while it was taken in")
                record: Record = take(
                    self._codec, self._archive, Read(name, camera, changed, picture, data), self._options
                )
            except OutputError:
                raise
            except VcmError as error:
                problems.append((name, error.what, _text(error.expected), _text(error.found)))
            else:
                records.append(record)
                summary.add(record)
        write_parts(self._archive, records)
        return {"summary": asdict(summary), "problems": problems}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _hashed(row: dict[str, Any]) -> dict[str, Any]:
    """Name and content of a file; an error where it cannot be read."""
    item: Item = row["item"]
    try:
        return {"item": item, "picture": content_of(read_bytes(item.name)), "error": None}
    except VcmError as error:
        return {"item": item, "picture": None, "error": (error.what, _text(error.expected), _text(error.found))}


def ingest_on_ray(
    sources: Iterable[str],
    archive: str | os.PathLike[str],
    weights: str,
    options: IngestOptions | None = None,
    *,
    workers: int | None = None,
    commit: int = COMMIT,
    progress: Callable[[Summary, int], None] | None = None,
    failed: Callable[[str, VcmError], None] | None = None,
) -> Summary:
    """:func:`vcm.archive.ingest` on Ray Data: on the cluster that ``RAY_ADDRESS`` names, or one that is started here.

    Each file is read twice: for the hash of its content, by which files that are there already are passed over, and to
    be coded.

    Args:
        sources, archive, options, commit, progress, failed: as of :func:`vcm.archive.ingest`. Workers of other machines
            must reach sources and archive by the same names.
        weights: a shipped model or the path of weights, on every worker.
        workers: actors; by default as many as the cluster has cores.

    Raises:
        OptionError: a source is a video, whose frames the local engine takes.
        InputError, OutputError: as of :func:`vcm.archive.ingest`.
        MissingDependencyError: Ray is not installed.
    """
    with needing("engine ray"):
        import ray
        import ray.data

    if commit < 1:
        raise OptionError("commit is out of range", expected="at least 1", found=commit)
    options, folder, summary, start = options or IngestOptions(), Folder(archive), Summary(), time.monotonic()
    items = find(sources, options.camera)
    video = next((item for item in items if item.video), None)
    if video is not None:
        raise OptionError(f"{video.name}: engine ray takes no videos", expected="engine local")
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True  # the first of two files of one content is taken
        with locked(folder):
            batches = _batches(ray.data, items, known(folder), commit, summary, failed)
            count = min(workers or int(ray.cluster_resources().get("CPU", 1)), max(1, len(batches)))
            if batches:
                context.execution_options.preserve_order = False
                todo = ray.data.from_items([{"batch": batch} for batch in batches], override_num_blocks=len(batches))
                worker: Any = _Worker  # Ray's types know functions only
                done = todo.map(
                    worker, fn_constructor_args=(weights, folder.name, asdict(options)), concurrency=count, num_cpus=1
                )
                for row in done.iter_rows():
                    _add(summary, row, failed)
                    if progress is not None:
                        progress(replace(summary, seconds=time.monotonic() - start), len(items))
    finally:
        if started:
            ray.shutdown()
    summary.seconds = time.monotonic() - start
    return summary


def _batches(
    data: Any, items: list[Item], seen: set[str], commit: int, summary: Summary,
    failed: Callable[[str, VcmError], None] | None,
) -> list[list[tuple[Any, ...]]]:  # fmt: skip
    """What is to be done, in the order of the items."""
    fresh: list[tuple[Any, ...]] = []
    for row in data.from_items([{"item": item} for item in items]).map(_hashed).iter_rows():
        item, picture = row["item"], row["picture"]
        if picture is None:
            what, expected, found = row["error"]
            summary.failed += 1
            if failed is not None:
                failed(item.name, InputError(what, expected=expected, found=found))
        elif picture in seen:
            summary.known += 1
        else:
            seen.add(picture)
            fresh.append((item.name, item.camera, item.changed, picture))
    return [fresh[at : at + commit] for at in range(0, len(fresh), commit)]


def _add(summary: Summary, row: dict[str, Any], failed: Callable[[str, VcmError], None] | None) -> None:
    for key, value in row["summary"].items():
        setattr(summary, key, getattr(summary, key) + value)
    for name, what, expected, found in row["problems"]:
        summary.failed += 1
        if failed is not None:
            failed(name, InputError(what, expected=expected, found=found))
