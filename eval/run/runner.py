"""Runs codecs over pictures: cached, in parallel, and with every failure counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vcm.codecs.protocol import CodecInfo, ImageCodec, LatentTaskCodec
from vcm.codecs.resampled import ResampledCodec
from vcm.errors import OptionError
from vcm.eval.data.datasets import Dataset, Picture
from vcm.eval.data.kodak import why_not_kodak
from vcm.eval.data.pseudo import pseudo_ground_truth
from vcm.eval.machines.protocol import Machine, MachineInfo
from vcm.eval.metrics.distortion import metric
from vcm.eval.run.pool import Setup, WorkerPool
from vcm.eval.run.protocols import Point, Protocol, Reference
from vcm.eval.run.records import Cache, Record, cache_path
from vcm.eval.run.views import check_names
from vcm.eval.run.worker import Job
from vcm.io.coco import CocoGroundTruth, CocoImage

__all__ = ["EXAMPLES", "CodecRun", "Run", "Skipped", "run"]

EXAMPLES = 3
"""Pictures that the report shows; their coded files are kept."""

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
        family: name of the codec that codes: for one on smaller pictures the inner one's, else its own.
        percent: scale of each side for one on smaller pictures, else ``None``.
        points: in the order of the protocol.
        records: by point label, then by picture name; the same pictures everywhere.
    """

    info: CodecInfo
    family: str
    percent: int | None
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
        references: published curves of the protocol that are of these pictures.
        examples: names of the pictures that the report shows.
        streams: folder with their coded files, and maybe with those of others.
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
    references: tuple[Reference, ...]
    examples: tuple[str, ...]
    streams: Path
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
            times are those of the run that coded. By default only those of :attr:`Run.examples` are, in
            ``out/streams``.
        progress: told after each record.

    Raises:
        OptionError: no codec, two of one name, a detection protocol without boxes or machine, or no picture that every
            codec could do.
        OutputError: the cache cannot be written.
    """
    _check(protocol, dataset, codecs, machines, jobs, pseudo)
    metrics, notes = _available(protocol.metrics)
    examples = tuple(picture.name for picture in dataset.spread(EXAMPLES))
    place, names = (out / "streams", frozenset(examples)) if streams is None else (streams, None)
    infos = tuple(machine.describe() for machine in machines)
    check_names(infos)
    digests = {picture.name: picture.digest() for picture in dataset.pictures}
    skipped = [Skipped(name, "", "", reason) for name, reason in dataset.missing]
    runs: list[tuple[ImageCodec, CodecInfo, tuple[Point, ...], list[Record]]] = []
    computed = 0
    setup = Setup(tuple(codecs), tuple(machines), metrics, place, names)
    with WorkerPool(setup, jobs) as workers:
        for codec in codecs:
            info, (family, _) = codec.describe(), _family(codec)
            points = protocol.points_of(codec.name, codec.quality_range, family=family)
            wanted = [Job(point, picture) for point in points for picture in dataset.pictures]
            # A codec that reads its own latents is seen by no machine and no metric: adding one changes nothing of it.
            seen = ((), ()) if isinstance(codec, LatentTaskCodec) else (infos, metrics)
            with closing(Cache(cache_path(out / "cache", info, *seen))) as cache:
                records, todo = _split(cache, wanted, digests)
                computed += len(todo)
                for record in workers.measure(codec.name, todo):
                    cache.add(record)
                    records.append(record)
                    if progress is not None:
                        progress(codec.name, len(records), len(wanted))
            skipped += _failures(codec.name, records)
            runs.append((codec, info, points, records))
    bad = {skip.picture for skip in skipped}
    kept = tuple(picture for picture in dataset.pictures if picture.name not in bad)
    if not kept:
        found = f"{skipped[0].picture}: {skipped[0].codec} {skipped[0].reason}"
        raise OptionError("no picture that every codec could do", found=found)
    codec_runs = tuple(CodecRun(i, *_family(c), points, _by_point(points, rows, kept)) for c, i, points, rows in runs)
    truth = dataset.ground_truth.select([p.id for p in kept]) if dataset.ground_truth else None
    if pseudo is not None:
        truth = _pseudo_truth(pseudo, kept, codec_runs)
    left = Dataset(dataset.name, dataset.root, dataset.layout, kept, truth, dataset.notes, dataset.missing)
    references, refusals = _references(protocol, kept)
    return Run(
        protocol, left, infos, metrics, codec_runs, references, examples, place, tuple(skipped), (*notes, *refusals),
        computed, sum(len(records) for _, _, _, records in runs) - computed, jobs,
    )  # fmt: skip


def _family(codec: ImageCodec) -> tuple[str, int | None]:
    return (codec.inner.name, codec.percent) if isinstance(codec, ResampledCodec) else (codec.name, None)


def _references(protocol: Protocol, kept: Sequence[Picture]) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Published curves that are of these very pictures, and a note for those that are not."""
    of_kodak = [reference for reference in protocol.references if reference.pictures == "kodak"]
    reason = why_not_kodak(kept) if of_kodak else ""
    if not reason:
        return protocol.references, ()
    names = ", ".join(reference.name for reference in of_kodak)
    left = tuple(reference for reference in protocol.references if reference not in of_kodak)
    return left, (f"not compared with {names}, whose numbers are of the 24 Kodak pictures: {reason}",)


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


def _failures(codec: str, records: Sequence[Record]) -> list[Skipped]:
    failed = [record for record in records if record.error is not None]
    # A picture that could not even be read fails in the same way at every point: one line is enough.
    unread = {r.picture: Skipped(r.picture, "", "", r.error or "") for r in failed if not r.digest}
    return [*unread.values(), *(Skipped(r.picture, codec, r.point, r.error or "") for r in failed if r.digest)]


def _by_point(
    points: tuple[Point, ...], records: Sequence[Record], kept: Sequence[Picture]
) -> dict[str, dict[str, Record]]:
    names = {picture.name for picture in kept}
    table: dict[str, dict[str, Record]] = {point.label: {} for point in points}
    for record in records:
        if record.picture in names:
            table[record.point][record.picture] = record
    return table
