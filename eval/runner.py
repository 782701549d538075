"""Runs codecs over pictures: cached, in parallel, and with every failure counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

from vcm.codecs.protocol import CodecInfo, ImageCodec, LatentTaskCodec
from vcm.errors import OptionError
from vcm.eval.data import Dataset, Picture
from vcm.eval.ground_truth import CocoGroundTruth, CocoImage
from vcm.eval.machines import Machine, MachineInfo
from vcm.eval.metrics import metric
from vcm.eval.protocols import Point, Protocol
from vcm.eval.pseudo import pseudo_ground_truth
from vcm.eval.records import Cache, Record, cache_path
from vcm.eval.worker import Job, Worker

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
        progress: told after each record.

    Raises:
        OptionError: no codec, two of one name, a detection protocol without boxes or machine, or no picture that every
            codec could do.
        OutputError: the cache cannot be written.
    """
    _check(protocol, dataset, codecs, machines, jobs, pseudo)
    metrics, notes = _available(protocol.metrics)
    infos = tuple(machine.describe() for machine in machines)
    digests = {picture.name: _digest(picture) for picture in dataset.pictures}
    skipped = [Skipped(name, "", "", reason) for name, reason in dataset.missing]
    runs: list[tuple[CodecInfo, tuple[Point, ...], list[Record]]] = []
    computed = cached = 0
    for codec in codecs:
        info = codec.describe()
        points = protocol.points_of(codec.name, codec.quality_range)
        cache = Cache(cache_path(out / "cache", info, infos, metrics))
        records: list[Record] = []
        todo: list[Job] = []
        for point in points:
            for picture in dataset.pictures:
                known = cache.records.get((point.label, picture.name, digests[picture.name]))
                if known is not None:
                    records.append(known)
                else:
                    todo.append(Job(point, picture))
        cached += len(records)
        computed += len(todo)
        total = len(records) + len(todo)
        try:
            for record in _measure(codec, machines, metrics, todo, jobs):
                cache.add(record)
                records.append(record)
                if progress is not None:
                    progress(codec.name, len(records), total)
        finally:
            cache.close()
        if progress is not None:
            progress(codec.name, total, total)
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
        tuple(skipped), notes, computed, cached, jobs,
    )  # fmt: skip


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
    """As :func:`vcm.eval.data.read_picture` gives; empty where the file cannot be read, which no record matches."""
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


def _measure(
    codec: ImageCodec, machines: Sequence[Machine], metrics: Sequence[str], todo: Sequence[Job], jobs: int
) -> Iterator[Record]:
    """Records as they come. Each codec has processes of its own, so that one's memory is not another's."""
    if not todo:
        return
    if jobs == 1:
        worker = Worker(codec, machines, metrics)
        for job in todo:
            yield worker.measure(job)
        return
    done: set[tuple[str, str]] = set()
    setup = (codec, tuple(machines), tuple(metrics))
    # Spawned, not forked: torch and onnxruntime hold threads that do not survive a fork.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start, setup)
    try:
        for future in as_completed([pool.submit(_work, job) for job in todo]):
            record = future.result()
            done.add((record.point, record.picture))
            yield record
    except BrokenProcessPool:
        pass  # below
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    left = [job for job in todo if (job.point.label, job.picture.name) not in done]
    # A library has crashed a process. The guilty picture is among the first of those left, which the processes held:
    # these get a process each, so that only it is lost.
    held = 2 * jobs + 1
    for job in left[:held]:
        yield _alone(setup, job)
    yield from _measure(codec, machines, metrics, left[held:], jobs)


def _alone(setup: tuple[ImageCodec, tuple[Machine, ...], tuple[str, ...]], job: Job) -> Record:
    with ProcessPoolExecutor(1, get_context("spawn"), _start, setup) as pool:
        try:
            return pool.submit(_work, job).result()
        except BrokenProcessPool:
            reason = f"the process crashed while {setup[0].name} worked on it"
            return Record(job.point.label, job.picture.name, _digest(job.picture), error=reason)


_worker: Worker | None = None


def _start(codec: ImageCodec, machines: tuple[Machine, ...], metrics: tuple[str, ...]) -> None:
    global _worker
    import torch

    torch.set_num_threads(1)  # processes are the parallelism
    _worker = Worker(codec, machines, metrics)


def _work(job: Job) -> Record:
    if _worker is None:
        raise RuntimeError("worker process without its initialiser")
    return _worker.measure(job)
