"""Convolutions of bytes: activations in 8 bits, weights in 8 bits for each output channel, sums in 32.

Three to four times as fast as float32 where the processor multiplies bytes (AVX-512 VNNI, AVX-VNNI, ARM's products),
and not exact: a network's outputs move by a fraction of a percent of their range. What goes into a convolution and what
comes out is cut to a range that is found beforehand, by running the same network in float32 on a picture that has all
that pictures have (:class:`Watch`).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vcm.runtime.onnx.graph import Graph

__all__ = ["Bytes", "Grid", "Grids", "Narrow", "Watch", "bytes_are_fast"]

_Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """What the bytes of an array stand for: ``steps[channel] · (byte − zero)``; steps float64 (C,)."""

    steps: npt.NDArray[np.float64]
    zero: int


Grids: TypeAlias = Mapping[str, Grid]
"""Of what goes into (``NAME.x``) and comes out of (``NAME.y``) each convolution."""
_ZEROS = (12, 24, 48, 80, 112, 128)
_SAMPLES = 1500
_SHARES = (1.1, 0.9, 0.75)
_FLAGS = ("avx512_vnni", "avx_vnni", "asimddp")


def bytes_are_fast() -> bool:
    """Whether the processor multiplies bytes four at a time without saturation; false where that cannot be told."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace").split()
    except OSError:
        return False
    return any(flag in flags for flag in _FLAGS)


class Watch:
    """Convolutions in float32; what goes in and comes out becomes an output of the graph, after its own."""

    def __init__(self) -> None:
        self._names: list[tuple[str, bool]] = []

    def conv(self, graph: Graph, x: str, weight: _Floats, bias: _Floats, name: str, stride: int, leaky: bool) -> str:
        """A convolution; ``leaky`` says that a leaky ReLU follows."""
        y = graph.conv(x, weight, bias, stride=stride)
        for value, what in ((x, "x"), (y, "y")):
            self._names.append((f"{name}.{what}", leaky and what == "y"))
            graph.output(value, f"{name}.{what}", "float32", tuple(f"{name}.{what}{i}" for i in range(4)))
        return y

    def grids(self, outputs: Sequence[_Floats]) -> Grids:
        """Grids that lose least of ``outputs``, all those of the graph; what the graph had before comes last."""
        return {name: _grid(value, leaky) for (name, leaky), value in zip(self._names, outputs, strict=False)}


def _grid(values: _Floats, leaky: bool) -> Grid:
    """The steps, and the place of 0, at which bytes lose least of ``values`` (1, C, h, w), cut ones included.

    Under a leaky ReLU what is lost below 0 counts a hundredth.
    """
    x = values.reshape(values.shape[1], -1)
    x = x[:, :: max(1, x.shape[1] // _SAMPLES)].astype(np.float32)
    weight = np.where(x < 0, np.float32(0.01), np.float32(1)) if leaky else np.ones_like(x)
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 1e-6)
    best = np.inf
    for zero in _ZEROS:
        widest = np.maximum(high / (255 - zero), -low / zero)
        steps = widest[:, None] * np.array(_SHARES)
        losses = []
        for step in steps.T[:, :, None].astype(np.float32):
            kept = np.rint(x / step).clip(-zero, 255 - zero) * step
            losses.append((weight * (kept - x) ** 2).sum(axis=1))
        each = np.array(losses)
        if each.min(axis=0).sum() < best:
            best = each.min(axis=0).sum()
            found = Grid(steps[np.arange(len(steps)), each.argmin(axis=0)], zero)
    return found


@dataclass(frozen=True, slots=True)
class Bytes:
    """Convolutions of bytes.

    Attributes:
        grids: from :class:`Watch`, of the same network.
    """

    grids: Grids

    def conv(self, graph: Graph, x: str, weight: _Floats, bias: _Floats, name: str, stride: int, leaky: bool) -> str:
        """A convolution from float32 to float32."""
        source, result = self.grids[f"{name}.x"], self.grids[f"{name}.y"]
        scaled = weight * source.steps[:, None, None]  # in float64, the steps of the input's channels taken in
        unit = np.maximum(np.abs(scaled).max(axis=(1, 2, 3)), 1e-30) / 127
        whole = np.rint(scaled / unit[:, None, None, None]).astype(np.int8)
        sums = np.rint(bias / unit).clip(-(2**31), 2**31 - 1).astype(np.int32)
        one, constant = graph.scalar(1.0), graph.constant
        zeros = [constant(np.asarray(grid.zero, np.uint8), "zero") for grid in (source, result)]
        kernel = weight.shape[2]
        # Steps of channels by products of their own: onnxruntime's operators are quick, or right, with one step only.
        inverse = constant((1 / source.steps)[:, None, None].astype(np.float32))
        steps = constant(result.steps[:, None, None].astype(np.float32))
        y = graph.node(
            "QLinearConv", graph.node("QuantizeLinear", graph.node("Mul", x, inverse), one, zeros[0]), one, zeros[0],
            constant(whole, "weight"), constant((unit / result.steps).astype(np.float32), "scale"),
            constant(np.zeros(len(unit), np.int8), "zero"), one, zeros[1], constant(sums, "bias"),
            kernel_shape=weight.shape[2:], strides=(stride, stride), pads=(kernel // 2,) * 4, group=1,
        )  # fmt: skip
        return graph.node("Mul", graph.node("DequantizeLinear", y, one, zeros[1]), steps)


Narrow: TypeAlias = Watch | Bytes
