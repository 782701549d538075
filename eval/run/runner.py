"""Runs codecs over pictures: cached, in parallel, and with every failure counted."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from vcm.allocator import keep_freed_memory
from vcm.codecs.protocol import CodecInfo, ImageCodec, LatentTaskCodec
from vcm.errors import OptionError
from vcm.eval.data.datasets import Dataset, Picture
from vcm.eval.data.pseudo import pseudo_ground_truth
from vcm.eval.machines.protocol import Machine, MachineInfo
from vcm.eval.metrics.distortion import metric
from vcm.eval.run.protocols import Point, Protocol
from vcm.eval.run.records import Cache, Record, cache_path
from vcm.eval.run.views import check_names
from vcm.eval.run.worker import Job, Worker
from vcm.io.coco import CocoGroundTruth, CocoImage

__all__ = ["CodecRun", "Run", "Skipped", "run"]

Progress = Callable[[str, int, int], None]
"""Called with the codec's name, records at hand, and records wanted."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that counts for no codec, since one of them could not do it.

    Attributes:
        picture: name.
        codec, point: where it failed; empty where the picture itself is broken or missing.
        reason: one line.
    """

    picture: str
    codec: str
    point: str
    reason: str


@dataclass(frozen=True, slots=True)
class CodecRun:
    """All records of one codec.

    Attributes:
        info: the codec.
        points: in the order of the protocol.
        records: by point label, then by picture name; the same pictures everywhere.
    """

    info: CodecInfo
    points: tuple[Point, ...]
    records: dict[str, dict[str, Record]]


@dataclass(frozen=True, slots=True)
class Run:
    """What :func:`run` measured.

    Attributes:
        protocol, dataset: as given; the data set without the skipped pictures.
        machines: as described.
        metrics: distortion metrics that could be computed here.
        codecs: in the order given.
        skipped: pictures left out everywhere, with every reason.
        notes: what a reader must know: metrics that are missing, and why.
        computed, cached: records measured now, and taken from the cache.
        jobs: processes.
    """

    protocol: Protocol
    dataset: Dataset
    machines: tuple[MachineInfo, ...]
    metrics: tuple[str, ...]
    codecs: tuple[CodecRun, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    computed: int
    cached: int
    jobs: int


def run(
    protocol: Protocol,
    dataset: Dataset,
    codecs: Sequence[ImageCodec],
    machines: Sequence[Machine],
    out: Path,
    *,
    jobs: int = 1,
    pseudo: str | None = None,
    streams: Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Measure every codec at every point on every picture.

    Args:
        protocol: what is measured.
        dataset: the pictures.
        codecs: with different names.
        machines: pixel machines; needed by a detection protocol.
        out: folder; the cache lies in ``out/cache``. What lies there is not measured again.
        jobs: worker processes; 1 measures in this process.
        pseudo: name of the machine whose detections on ``uncompressed`` are the ground truth, in place of the data
            set's boxes.
        streams: folder where coded files are kept and looked for, so that other machines need not wait for encoders;
            times are those of the run that coded.
        progress: told after each record.

    Raises:
        OptionError: no codec, two of one name, a detection protocol without boxes or machine, or no picture that every
            codec could do.
        OutputError: the cache cannot be written.
    """
    _check(protocol, dataset, codecs, machines, jobs, pseudo)
    metrics, notes = _available(protocol.metrics)
    infos = tuple(machine.describe() for machine in machines)
    check_names(infos)
    digests = {picture.name: _digest(picture) for picture in dataset.pictures}
    skipped = [Skipped(name, "", "", reason) for name, reason in dataset.missing]
    runs: list[tuple[CodecInfo, tuple[Point, ...], list[Record]]] = []
    computed = 0
    with closing(_Workers(codecs, machines, metrics, streams, jobs)) as workers:
        for codec in codecs:
            info = codec.describe()
            points = protocol.points_of(codec.name, codec.quality_range)
            wanted = [Job(point, picture) for point in points for picture in dataset.pictures]
            with closing(Cache(cache_path(out / "cache", info, infos, metrics))) as cache:
                records, todo = _split(cache, wanted, digests)
                computed += len(todo)
                for record in workers.measure(codec.name, todo):
                    cache.add(record)
                    records.append(record)
                    if progress is not None:
                        progress(codec.name, len(records), len(wanted))
            skipped += _failures(codec.name, records)
            runs.append((info, points, records))
    bad = {skip.picture for skip in skipped}
    kept = tuple(picture for picture in dataset.pictures if picture.name not in bad)
    if not kept:
        found = f"{skipped[0].picture}: {skipped[0].codec} {skipped[0].reason}"
        raise OptionError("no picture that every codec could do", found=found)
    codec_runs = tuple(_by_point(info, points, rows, kept) for info, points, rows in runs)
    truth = dataset.ground_truth.select([p.id for p in kept]) if dataset.ground_truth else None
    if pseudo is not None:
        truth = _pseudo_truth(pseudo, kept, codec_runs)
    left = Dataset(dataset.name, dataset.root, dataset.layout, kept, truth, dataset.notes, dataset.missing)
    return Run(
        protocol, left, infos, metrics, codec_runs,
        tuple(skipped), notes, computed, sum(len(records) for _, _, records in runs) - computed, jobs,
    )  # fmt: skip


def _split(cache: Cache, wanted: Sequence[Job], digests: Mapping[str, str]) -> tuple[list[Record], list[Job]]:
    """Records that are there, and what is left to do."""
    records, todo = [], []
    for job in wanted:
        known = cache.records.get((job.point.label, job.picture.name, digests[job.picture.name]))
        if known is None:
            todo.append(job)
        else:
            records.append(known)
    return records, todo


def _check(
    protocol: Protocol,
    dataset: Dataset,
    codecs: Sequence[ImageCodec],
    machines: Sequence[Machine],
    jobs: int,
    pseudo: str | None,
) -> None:
    if not codecs:
        raise OptionError("no codec to evaluate")
    for what, names in (("codec", [c.name for c in codecs]), ("machine", [m.name for m in machines])):
        if len(set(names)) < len(names):
            raise OptionError(f"two {what}s of one name", found=", ".join(names))
    if jobs < 1:
        raise OptionError("jobs is out of range", expected="at least 1", found=jobs)
    if protocol.task == "detection" and not machines:
        raise OptionError(f"{protocol.name} needs a machine", expected="--machine")
    if protocol.task == "distortion" and machines:
        raise OptionError(f"{protocol.name} measures distortion only", expected="no --machine")
    if protocol.task == "distortion" and any(isinstance(codec, LatentTaskCodec) for codec in codecs):
        raise OptionError(f"{protocol.name} measures pixels", expected="codecs that give a picture")
    known = pseudo in [m.name for m in machines] and "uncompressed" in [c.name for c in codecs]
    if pseudo is not None and not known:
        expected = "one of the machines, and the codec uncompressed"
        raise OptionError("pseudo ground truth", expected=expected, found=pseudo)
    if protocol.task == "detection" and dataset.ground_truth is None and pseudo is None:
        expected = "a COCO or OpenImages folder, or --pseudo"
        raise OptionError(f"{protocol.name} needs boxes", expected=expected, found=f"a {dataset.layout} folder")


def _pseudo_truth(machine: str, kept: Sequence[Picture], runs: Sequence[CodecRun]) -> CocoGroundTruth:
    source = next(run for run in runs if run.info.name == "uncompressed")
    images, found = [], {}
    for picture in kept:
        record = source.records[source.points[0].label][picture.name]
        images.append(CocoImage(picture.id, picture.name, record.width, record.height))
        found[picture.id] = record.found[machine].detections(record.width, record.height)
    return pseudo_ground_truth(images, found, machine=machine)


def _available(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics that can be computed here, and a note for each that cannot."""
    missing = {name: metric(name).missing() for name in names}
    notes = tuple(f"{metric(n).title} was not computed: {', '.join(m)} is missing" for n, m in missing.items() if m)
    return tuple(name for name in names if not missing[name]), notes


def _digest(picture: Picture) -> str:
    """As :func:`read_picture` gives; empty where the file cannot be read, which no record matches."""
    try:
        return sha256(picture.path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _failures(codec: str, records: Sequence[Record]) -> list[Skipped]:
    failed = [record for record in records if record.error is not None]
    # A picture that could not even be read fails in the same way at every point: one line is enough.
    unread = {r.picture: Skipped(r.picture, "", "", r.error or "") for r in failed if not r.digest}
    return [*unread.values(), *(Skipped(r.picture, codec, r.point, r.error or "") for r in failed if r.digest)]


def _by_point(
    info: CodecInfo, points: tuple[Point, ...], records: Sequence[Record], kept: Sequence[Picture]
) -> CodecRun:
    names = {picture.name for picture in kept}
    table: dict[str, dict[str, Record]] = {point.label: {} for point in points}
    for record in records:
        if record.picture in names:
            table[record.point][record.picture] = record
    return CodecRun(info, points, table)


class _Workers:
    """Workers in processes of their own, or, with one job, in this one.

    Processes are spawned, not forked: torch and onnxruntime hold threads that do not survive a fork.
    """

    def __init__(
        self, codecs: Sequence[ImageCodec], machines: Sequence[Machine], metrics: Sequence[str], streams: Path | None,
        jobs: int,
    ) -> None:  # fmt: skip
        self._setup = (tuple(codecs), tuple(machines), tuple(metrics), streams)
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """Stop what has not begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def measure(self, codec: str, todo: Sequence[Job]) -> Iterator[Record]:
        """Records as they come."""
        if self._jobs == 1:
            _start(*self._setup)
            for job in todo:
                yield _work(codec, job)
            return
        if not todo:
            return
        done: set[tuple[str, str]] = set()
        self._pool = self._pool or self._executor(self._jobs)
        try:
            for future in as_completed([self._pool.submit(_work, codec, job) for job in todo]):
                record = future.result()
                done.add((record.point, record.picture))
                yield record
        except BrokenProcessPool:
            self.close()
        left = [job for job in todo if (job.point.label, job.picture.name) not in done]
        # A library has crashed a process. The guilty picture is among the first of those left, which the processes
        # held: these get a process each, so that only it is lost.
        held = 2 * self._jobs + 1
        for job in left[:held]:
            yield self._alone(codec, job)
        yield from self.measure(codec, left[held:])

    def _alone(self, codec: str, job: Job) -> Record:
        with self._executor(1) as pool:
            try:
                return pool.submit(_work, codec, job).result()
            except BrokenProcessPool:
                reason = f"the process crashed while {codec} worked on it"
                return Record(job.point.label, job.picture.name, _digest(job.picture), error=reason)

    def _executor(self, jobs: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, get_context("spawn"), _start_process, self._setup)


_workers: dict[str, Worker] = {}


def _start_process(*setup: Any) -> None:
    keep_freed_memory()
    # Processes are the parallelism. A library that is loaded later reads the variable; torch may be here already.
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _start(*setup)


def _end_with_parent() -> None:
    # A killed run cannot tell its processes to stop, and they would wait for work, with their memory, for ever.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start(
    codecs: tuple[ImageCodec, ...], machines: tuple[Machine, ...], metrics: tuple[str, ...], streams: Path | None
) -> None:
    _workers.clear()
    _workers.update({codec.name: Worker(codec, machines, metrics, streams) for codec in codecs})


def _work(codec: str, job: Job) -> Record:
    return _workers[codec].measure(job)
