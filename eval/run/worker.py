"""Measures one picture at one point. Runs in worker processes; everything here is picklable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcm.codecs.protocol import Image, ImageCodec, LatentTaskCodec, LayeredCodec
from vcm.codecs.rate import nearest_rate
from vcm.errors import ImageError, VcmError
from vcm.eval.data.datasets import Picture, read_picture
from vcm.eval.machines.protocol import Machine
from vcm.eval.metrics.distortion import metric
from vcm.eval.run.protocols import Point
from vcm.eval.run.records import Found, Record
from vcm.eval.run.streams import Stream, Streams
from vcm.structures import Detections

__all__ = ["HEAD", "Job", "Worker"]

HEAD = "head"
"""Machine name of a codec's own head on its base latents."""

_WARM_UP = 256
"""Side of the corner of the first picture on which everything runs once, unmeasured."""

_SEARCH_STEPS = 1024
"""Steps into which a continuous quality is divided to search for a rate."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture at one point."""

    point: Point
    picture: Picture


class Worker:
    """One codec, with the machines and metrics that look at what it gives.

    Args:
        codec: the codec. One that detects on its own latents is not shown to the machines and has no distortion.
        machines: pixel machines.
        metrics: names of distortion metrics.
        streams: folder where coded files are kept and looked for; ``None`` codes every time.
        kept: names of the pictures whose files are kept there; ``None``: all.
    """

    def __init__(
        self, codec: ImageCodec, machines: Sequence[Machine], metrics: Sequence[str], streams: Path | None = None,
        kept: frozenset[str] | None = None,
    ) -> None:  # fmt: skip
        self._codec = codec
        self._reads_latents = isinstance(codec, LatentTaskCodec)
        self._machines = () if self._reads_latents else tuple(machines)
        self._metrics = () if self._reads_latents else tuple(metric(name) for name in metrics)
        self._streams = None if streams is None else Streams(streams, codec.describe())
        self._kept = kept
        self._warm = False

    def measure(self, job: Job) -> Record:
        """Never raises for a bad picture or a codec that fails on it: the record then says why."""
        point, picture = job.point, job.picture
        digest = ""
        try:
            image, digest = read_picture(picture)
            if not self._warm:
                self._warm_up(image, point)
            return self._measure(point, picture.name, image, digest)
        except VcmError as error:
            reason = str(error)
        except Exception as error:  # a bug of a library must cost one picture, and be seen, not the whole run
            reason = f"{type(error).__name__}: {error}"
        return Record(point.label, picture.name, digest, error=" ".join(reason.split())[:500])

    def _warm_up(self, image: Image, point: Point) -> None:
        """Load weights and let libraries set themselves up outside the measured times."""
        self._warm = True
        corner = image[:_WARM_UP, :_WARM_UP].copy()
        quality = point.quality if point.quality is not None else self._codec.quality_range.at(0.5)
        # What fails here fails again on the whole picture, and is recorded there.
        with contextlib.suppress(VcmError):
            data = self._codec.compress(corner, quality)
            if isinstance(self._codec, LatentTaskCodec):
                self._codec.detect(data)
                return
            decoded = self._codec.decompress(data)
            for machine in self._machines:
                machine.detect(decoded)

    def _measure(self, point: Point, name: str, image: Image, digest: str) -> Record:
        height, width = image.shape[:2]
        memory = _Memory()
        streams = self._streams if self._kept is None or name in self._kept else None
        kept = streams.get(point, digest) if streams is not None else None
        stream = kept or self._encode(point, image, digest, streams)
        data = stream.data
        found: dict[str, Found] = {}
        metrics: dict[str, float] = {}
        decode_s = 0.0
        if isinstance(self._codec, LatentTaskCodec):
            found[HEAD] = _timed_head(self._codec, data)
            peak = memory.peak_mib()
        else:
            decoding = time.perf_counter()
            decoded = self._codec.decompress(data)
            decode_s = time.perf_counter() - decoding
            peak = memory.peak_mib()
            if decoded.shape != image.shape:
                raise ImageError(f"{self._codec.name} decoded another size", expected=image.shape, found=decoded.shape)
            metrics = self._distortion(image, decoded)
            for machine in self._machines:
                begin = time.perf_counter()
                objects = machine.detect(decoded)
                found[machine.name] = Found.of(objects, time.perf_counter() - begin)
        layers = self._codec.layer_bytes(data) if isinstance(self._codec, LayeredCodec) else {}
        return Record(
            point.label, name, digest, None, stream.quality, width, height, len(data), layers, stream.encode_s,
            decode_s, None if kept else peak, metrics, found,
        )  # fmt: skip

    def _encode(self, point: Point, image: Image, digest: str, streams: Streams | None) -> Stream:
        quality = point.quality if point.quality is not None else self._search(image, point.target_bpp or 0.0)
        start = time.perf_counter()
        data = self._codec.compress(image, quality)
        stream = Stream(data, quality, time.perf_counter() - start)
        if streams is not None:
            streams.put(point, digest, stream)
        return stream

    def _distortion(self, image: Image, decoded: Image) -> dict[str, float]:
        values = {}
        for row in self._metrics:
            if min(image.shape[:2]) < row.min_side:
                continue
            try:
                values[row.name] = row(image, decoded)
            except ImageError:
                continue  # the metric is undefined here (a flat picture); its count in the results tells
        return values

    def _search(self, image: Image, target: float) -> float:
        """The quality whose file is nearest to ``target`` bits per pixel; the rate rises with quality."""
        span, pixels = self._codec.quality_range, image.shape[0] * image.shape[1]
        steps = int(span.high - span.low) if span.integer else _SEARCH_STEPS

        def code(step: int) -> tuple[float, float]:
            quality = span.at(step / steps) if steps else span.low
            return quality, 8 * len(self._codec.compress(image, quality)) / pixels

        return nearest_rate(code, lambda tried: tried[1], target, steps)[0]


def _timed_head(codec: LatentTaskCodec, data: bytes) -> Found:
    start = time.perf_counter()
    found: Detections = codec.detect(data)
    return Found.of(found, time.perf_counter() - start)


class _Memory:
    """High-water mark of resident memory between two moments. Linux tells; elsewhere it is unknown."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets the process's high-water mark
            self._before: int | None = _status("VmRSS")
        except OSError:
            self._before = None

    def peak_mib(self) -> float | None:
        """MiB above the level at the beginning. External programs are processes of their own and not seen."""
        if self._before is None:
            return None
        return round(max(_status("VmHWM") - self._before, 0) / 1024, 1)


def _status(key: str) -> int:
    """A field of ``/proc/self/status`` in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise OSError(key)
