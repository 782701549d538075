"""``vcm bench``: times on this machine, beside other codecs on the same picture, and how far each is from its aim."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

import vcm
from vcm.cli import output
from vcm.cli.bench_timing import Timing, beside, cold_start, in_turn
from vcm.cli.bench_work import compressai, in_bytes, ours, rivals, throughput
from vcm.errors import OptionError
from vcm.io.pictures import load_image

if TYPE_CHECKING:
    from vcm.api import Codec

__all__ = ["Row", "run_bench"]

_ANCHOR = "CompressAI mbt2018-mean, quality 4, initialised weights"
_ABSENT = "CompressAI is not installed, so nothing is compared with it (pip install 'vcm[compressai]')"
_LOOP = ["-c", "print(flush=True)\nwhile True: pass"]
_ENCODE = """
import sys, numpy, vcm
codec, pixels = vcm.load(sys.argv[1]), numpy.load(sys.argv[2])
codec.encode(pixels)
print(flush=True)
while True: codec.encode(pixels)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing and its aim.

    Attributes:
        name: the thing.
        value: measured.
        unit: ``times``, ``ms``, ``s`` or ``MB``.
        floor: what it must reach: at least, or where ``less`` at most. ``None`` for what is only shown.
        target: what it should reach.
        less: whether less is better.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    target: float | None = None
    less: bool = False

    @property
    def verdict(self) -> str:
        """``target``, ``floor`` or ``below``: how far it reaches; empty where there is no aim."""
        if self.floor is None or self.target is None:
            return ""
        sign = -1 if self.less else 1
        if sign * self.value >= sign * self.target:
            return "target"
        return "floor" if sign * self.value >= sign * self.floor else "below"


def run_bench(
    image: Path | None, model: str, *, runs: int, threads: int | None, quick: bool, pictures: int, json: bool
) -> None:
    """Times everything and prints it.

    Args:
        image: a picture, or ``None`` for scikit-image's cat.
        model: shipped model or path of weights.
        runs: timed runs of each operation, after one that is not counted.
        threads: of torch and onnxruntime, or ``None`` to leave them.
        quick: operations in this process only.
        pictures: of the throughput.
        json: print one JSON document.

    Raises:
        VcmError: as loading, reading and coding say.
    """
    pixels, name = _picture(image)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    with output.working(f"loading {model}"):
        codec, single = vcm.load(model, threads=threads), vcm.load(model, threads=1)
    with _threads(threads):
        anchor = compressai(pixels)
        works = {**ours(codec, single, pixels), **rivals(codec, pixels), **anchor}
        with suppress(OptionError):  # where the processor does not multiply bytes
            works |= in_bytes(codec, vcm.load(model, threads=threads, precision="int8"), pixels)
        timings = in_turn(works, runs)
        rows = _rows({timing.name: timing.median_ms for timing in timings})
        if not quick:
            rows += [*_cold(codec, pixels, model, runs), *_crowded(codec, pixels, model, runs)]
            rows += _many(throughput(codec, pixels, pictures))
        used = torch.get_num_threads()
    height, width, _ = pixels.shape
    if json:
        output.print_json(
            {
                "image": name,
                "width": width,
                "height": height,
                "model": codec.name,
                "backend": codec.backend,
                "runs": runs,
                "threads": used,
                "machine": _machine(),
                "load": load,
                "torch": torch.__version__,
                "anchor": _ANCHOR if anchor else None,
                "timings": [asdict(timing) for timing in timings],
                "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
            }
        )
        return
    output.say(f"{name}, {width}x{height}; {codec.name} by {codec.backend}; medians of {runs} in turn, after a warm-up")
    output.say(f"{_machine()}, {used} thread{'' if used == 1 else 's'}, torch {torch.__version__}")
    if load > 0.5:
        output.say(f"Other processes wanted {load:.1f} cores before this began: the times are not those of the machine")
    _print(timings, rows)
    output.say(f"mbt2018-mean: {_ANCHOR}; its bits and pictures mean nothing here" if anchor else _ABSENT)


def _print(timings: list[Timing], rows: list[Row]) -> None:
    output.print_table(
        ("operation", "median ms", "fastest ms"),
        [(timing.name, f"{timing.median_ms:.1f}", f"{timing.fastest_ms:.1f}") for timing in timings],
    )
    shown = []
    for row in rows:
        aims = [f"{'≤' if row.less else '≥'} {aim:g}" if aim is not None else "" for aim in (row.floor, row.target)]
        shown.append((row.name, f"{row.value:.3g} {row.unit}", *aims, row.verdict))
    output.print_table(("", "measured", "floor", "target", "reaches"), shown, left=(0, 4))


def _rows(ms: dict[str, float]) -> list[Row]:
    """What follows from times of operations."""
    rows = []
    if "mbt2018-mean compress" in ms:
        rows += [
            Row("encode, mbt2018-mean's compress", ms["mbt2018-mean compress"] / ms["encode"], "times", 3, 6),
            Row("decode, its decompress", ms["mbt2018-mean decompress"] / ms["decode"], "times", 4, 8),
        ]
        if "encode, int8" in ms:
            rows += [
                Row("encode in int8, its compress", ms["mbt2018-mean compress"] / ms["encode, int8"], "times", 3, 6),
                Row("decode in int8, decompress", ms["mbt2018-mean decompress"] / ms["decode, int8"], "times", 4, 8),
            ]
    path = ms["base decode + detect"]
    jpeg = ms["encode, base only"] / ms["JPEG encode, quality 75"]
    rows += [
        Row("base-only encode, one core", ms["encode, base only, one core"], "ms", 45, 20, less=True),
        Row("base-only encode, of JPEG's encode", jpeg, "times", less=True),
        Row("base decode + detect", path, "ms", 15, 8, less=True),
        Row("base decode + detect, one core", ms["base decode + detect, one core"], "ms", less=True),
        Row("machine path, decode + twin", ms["decode + twin"] / path, "times", 12, 25),
        Row("machine path, JPEG decode + twin", ms["JPEG decode + twin"] / path, "times", 4, 8),
    ]
    if "AVIF encode, speed 6" in ms:
        rows += [
            Row("encode, AVIF's encode", ms["AVIF encode, speed 6"] / ms["encode"], "times"),
            Row("decode, AVIF's decode", ms["AVIF decode"] / ms["decode"], "times"),
        ]
    return rows


def _cold(codec: Codec, pixels: npt.NDArray[np.uint8], model: str, runs: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, output.working("vcm detect from the shell"):
        file = Path(folder) / "a.vcm"
        codec.encode(pixels).save(file)
        cold = cold_start(["detect", str(file), "--model", model], runs)
    if cold is None:
        return []
    return [
        Row("vcm detect, from the shell", cold.seconds, "s", 0.7, 0.4, less=True),
        Row("vcm detect, most memory", cold.megabytes, "MB", 250, 150, less=True),
    ]


def _crowded(codec: Codec, pixels: npt.NDArray[np.uint8], model: str, runs: int) -> list[Row]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, output.working("encode beside other processes"):
        array = Path(folder) / "a.npy"
        np.save(array, pixels)
        loops = f"encode beside {cores} busy loop{'' if cores == 1 else 's'}"
        others = {loops: [_LOOP] * cores, "encode beside another": [["-c", _ENCODE, model, str(array)]]}
        slower = beside(lambda: codec.encode(pixels), others, runs)
    floors = {loops: 3.0, "encode beside another": 3.0}
    return [Row(name, value, "times", floors[name], 2, less=True) for name, value in slower.items()]


def _many(rates: dict[str, tuple[float, float]]) -> list[Row]:
    rows = []
    for name, (one, many) in rates.items():
        rows += [Row(f"{name}, pictures/s of one by one", many / one, "times", 1.3, 1.8)]
        rows += [Row(f"{name}, pictures/s", many, "/s")]
    return rows


def _picture(image: Path | None) -> tuple[npt.NDArray[np.uint8], str]:
    if image is not None:
        return load_image(image, **output.state.limits).pixels, str(image)
    import skimage.data

    return np.asarray(skimage.data.chelsea(), dtype=np.uint8), "scikit-image's cat"


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
