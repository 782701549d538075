"""The picture's analysis and synthesis with most of their convolutions in bytes (:mod:`vcm.runtime.onnx.narrow`).

What bytes stand for is found when one of the two is first needed: both run in float32 on a picture of discs of all
sizes and colours that lie on one another, whose edges and sizes are distributed as those of photographs ("dead leaves":
Lee, Mumford & Huang 2001). It is drawn from a seed, so that the same weights give the same networks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from vcm.codecs.scalable.config import Architecture
from vcm.codecs.scalable.onnx_networks import analysis_network, picture_analysis, picture_synthesis
from vcm.runtime.networks import Array
from vcm.runtime.onnx.graph import Model
from vcm.runtime.onnx.narrow import Bytes, Grids, Watch
from vcm.runtime.onnx.sessions import Network, OnnxNetworks
from vcm.runtime.onnx.stored import TensorSource, scoped

__all__ = ["byte_networks", "dead_leaves"]

_SIDE = 384
_DISCS = 3000
_LEAST_RADIUS, _GRAIN = 4, 6


def byte_networks(tensors: TensorSource, a: Architecture) -> dict[str, Callable[[], Network]]:
    """Makers of ``picture.analysis`` and ``picture.synthesis``; arguments as of
    :func:`vcm.codecs.scalable.onnx_networks.codec_networks`.
    """
    found = _Found(tensors, a)
    return {"picture.analysis": found.analysis, "picture.synthesis": found.synthesis}


class _Found:
    """Both networks, and the grids of their bytes, which are found once."""

    def __init__(self, tensors: TensorSource, a: Architecture) -> None:
        self._base = partial(analysis_network, scoped(tensors, "model.analysis."), a)
        self._analysis = partial(picture_analysis, scoped(tensors, "model.picture_analysis."), a)
        self._synthesis = partial(picture_synthesis, scoped(tensors, "model.synthesis."), a)
        self._grids: tuple[Grids, Grids] | None = None
        self._lock = threading.Lock()

    def analysis(self) -> Model:
        return self._analysis(Bytes(self._both()[0]))

    def synthesis(self) -> Model:
        return self._synthesis(Bytes(self._both()[1]))

    def _both(self) -> tuple[Grids, Grids]:
        with self._lock:
            if self._grids is None:
                self._grids = self._find()
            return self._grids

    def _find(self) -> tuple[Grids, Grids]:
        watches = Watch(), Watch()
        networks = OnnxNetworks(
            {
                "base.analysis": self._base,
                "picture.analysis": lambda: self._analysis(watches[0]),
                "picture.synthesis": lambda: self._synthesis(watches[1]),
            },
            threads=1,
        )
        x = dead_leaves(_SIDE)
        (y_base,) = networks.run(
            "base.analysis", x
        )  # of a base as large as the picture, so their positions are the same
        analysed = networks.run("picture.analysis", x)
        half = np.array([0.5], np.float32)
        synthesised = networks.run("picture.synthesis", analysed[-1], y_base, half)
        return watches[0].grids(analysed), watches[1].grids(synthesised)


def dead_leaves(side: int, seed: int = 0) -> Array:
    """Float32 (1, 3, side, side), integers 0 … 255: discs, the number of which falls with the cube of the radius."""
    rng = np.random.default_rng(seed)
    out = np.zeros((side, side, 3), np.float32)
    radii = np.minimum(_LEAST_RADIUS / np.sqrt(rng.random(_DISCS) + 1e-4), side / 2).astype(int)
    for radius in radii.tolist():
        row, column = rng.integers(0, side, 2).tolist()
        at = slice(max(0, row - radius), row + radius + 1), slice(max(0, column - radius), column + radius + 1)
        y, x = np.arange(side)[at[0], None] - row, np.arange(side)[None, at[1]] - column
        inside = y * y + x * x <= radius * radius
        out[at][inside] = rng.integers(0, 256, 3) + rng.normal(0, _GRAIN, (int(inside.sum()), 1))
    return np.ascontiguousarray(np.clip(np.rint(out), 0, 255).transpose(2, 0, 1)[None], np.float32)
