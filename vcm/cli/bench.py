"""``vcm bench``: times on this machine, beside CompressAI's mbt2018-mean on the same picture."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

import vcm
from vcm.cli import output
from vcm.io.pictures import load_image

if TYPE_CHECKING:
    from vcm.api import Codec

__all__ = ["Timing", "run_bench"]

_ANCHOR = "CompressAI mbt2018-mean, quality 4, initialised weights"
_ABSENT = "CompressAI is not installed, so only our own times follow (pip install 'vcm[compressai]')"


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one operation.

    Attributes:
        name: the operation.
        median_ms, fastest_ms: over the runs after one warm-up, milliseconds.
    """

    name: str
    median_ms: float
    fastest_ms: float


def run_bench(image: Path | None, model: str, *, runs: int, threads: int | None, json: bool) -> None:
    """Times everything and prints it.

    Args:
        image: a picture, or ``None`` for scikit-image's cat.
        model: shipped model or path of weights.
        runs: timed runs of each operation, after one that is not counted.
        threads: of torch and onnxruntime, or ``None`` to leave them.
        json: print one JSON document.

    Raises:
        VcmError: as loading, reading and coding say.
    """
    pixels, name = _picture(image)
    with output.working(f"loading {model}"):
        codec = vcm.load(model, threads=threads)
    with _threads(threads):
        ours = _ours(codec, pixels, runs)
        anchor = _anchor(pixels, runs)
        used = torch.get_num_threads()
    ratios = _ratios(ours, anchor)
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
                "torch": torch.__version__,
                "timings": [asdict(timing) for timing in ours],
                "anchor": {"name": _ANCHOR, "timings": [asdict(timing) for timing in anchor]} if anchor else None,
                "ratios": ratios,
            }
        )
        return
    output.say(f"{name}, {width}x{height}; {codec.name} by {codec.backend}; median of {runs} after a warm-up")
    output.say(f"{_machine()}, {used} thread{'' if used == 1 else 's'}, torch {torch.__version__}")
    rows = [(timing.name, f"{timing.median_ms:.1f}", f"{timing.fastest_ms:.1f}") for timing in ours]
    rows += [
        (f"mbt2018-mean {timing.name}", f"{timing.median_ms:.1f}", f"{timing.fastest_ms:.1f}") for timing in anchor
    ]
    output.print_table(("operation", "median ms", "fastest ms"), rows)
    if not anchor:
        output.say(_ABSENT)
        return
    output.say(f"Beside {_ANCHOR}: its bits and pictures mean nothing here, only its work")
    for what, ratio in ratios.items():
        output.say(f"{what}: {ratio:.2f} times the speed")


def _picture(image: Path | None) -> tuple[npt.NDArray[np.uint8], str]:
    if image is not None:
        return load_image(image).pixels, str(image)
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


def _time(name: str, work: Callable[[], object], runs: int) -> Timing:
    with output.working(name):
        work()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) * 1e3)
    return Timing(name, statistics.median(times), min(times))


def _ours(codec: Codec, pixels: npt.NDArray[np.uint8], runs: int) -> list[Timing]:
    data = codec.encode(pixels).to_bytes()
    return [
        _time("encode", lambda: codec.encode(pixels).to_bytes(), runs),
        _time("encode, base only", lambda: codec.encode(pixels, base_only=True).to_bytes(), runs),
        _time("base decode + detect", lambda: codec.detect(data), runs),
        _time("decode", lambda: codec.decode(data), runs),
    ]


def _anchor(pixels: npt.NDArray[np.uint8], runs: int) -> list[Timing]:
    """Times of mbt2018-mean; none where CompressAI is not installed. It takes seconds to import, so not before."""
    try:
        with output.working("importing CompressAI"):
            from compressai.zoo import mbt2018_mean
    except ImportError:
        return []
    network: Any = mbt2018_mean(quality=4, metric="mse", pretrained=False).eval()
    network.update(force=True)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    # The network takes sides that are multiples of 64; padding is part of its work as it is of ours.
    padding = (0, -x.shape[3] % 64, 0, -x.shape[2] % 64)
    x = torch.nn.functional.pad(x, padding, mode="replicate")
    with torch.inference_mode():
        coded = network.compress(x)
        return [
            _time("compress", lambda: network.compress(x), runs),
            _time("decompress", lambda: network.decompress(coded["strings"], coded["shape"]), runs),
        ]


def _ratios(ours: list[Timing], anchor: list[Timing]) -> dict[str, float]:
    """How many times as fast as the anchor each of our operations is."""
    if not anchor:
        return {}
    mine = {timing.name: timing.median_ms for timing in ours}
    theirs = {timing.name: timing.median_ms for timing in anchor}
    return {
        "encode": theirs["compress"] / mine["encode"],
        "encode, base only": theirs["compress"] / mine["encode, base only"],
        "base decode + detect, against its decoding alone": theirs["decompress"] / mine["base decode + detect"],
        "decode": theirs["decompress"] / mine["decode"],
    }
