"""The networks that must be exact: integer convolutions as ONNX models, and in numpy.

The arithmetic is specified in :mod:`vcm.nn.integer`. A convolution of integers whose accumulators stay below 2**24 is
exact in float32 in any order of its sums; onnxruntime's direct and GEMM kernels qualify, Winograd's, bfloat16 or
TensorFloat-32 would not. Requantisation follows in float64, whose products stay below 2**53.
:meth:`IntegerNetwork.reference` evaluates the same layers in numpy and float64, by matrix products: what a session is
compared with before it is trusted, and what runs where it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcm.runtime.networks import Array
from vcm.runtime.onnx.graph import Graph, Model
from vcm.weights.integers import MAX_ACTIVATION, SHIFT, check_integers

__all__ = ["CONTEXT", "FEATURE", "IntegerLayer", "IntegerNetwork"]

CONTEXT = (-128, 127)
"""Least and greatest value of a context that networks read."""
FEATURE = (0, MAX_ACTIVATION)
"""Least and greatest value that a hidden layer gives."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLayer:
    """A convolution: ``clamp(floor((acc · multiplier + 2**23) / 2**24), low, high)``, ``acc`` its sums and ``bias``.

    Attributes:
        weight: int8 (out, in, k, k); zero padding keeps the size.
        bias, multiplier: int32 (out,).
        low, high: what the result is clamped to.

    Raises:
        WeightsError: a weight, accumulator or multiplier may leave the range on which exactness rests.
    """

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int32]
    low: int
    high: int

    def __post_init__(self) -> None:
        check_integers(self.weight, self.bias, self.multiplier)

    def add_to(self, graph: Graph, x: str) -> str:
        """This layer at ``x``, float32 integers of magnitude at most 255; gives the same kind."""
        acc = graph.conv(x, self.weight.astype(np.float32), self.bias.astype(np.float32))
        factor = graph.constant(self.multiplier[:, None, None] * 2.0**-SHIFT)  # exact: only the exponent changes
        wide = graph.node("Mul", graph.node("Cast", acc, to=11), factor)
        whole = graph.node("Floor", graph.node("Add", wide, graph.constant(np.asarray(0.5))))
        return graph.clip(graph.node("Cast", whole, to=1), self.low, self.high)

    def reference(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """This layer at ``x`` (1, in, h, w), integers of magnitude at most 255, by one matrix product in float64."""
        out, _, k, _ = self.weight.shape
        _, channels, h, w = x.shape
        r = k // 2
        padded = np.pad(x[0], ((0, 0), (r, r), (r, r)))
        columns = np.stack([padded[:, i : i + h, j : j + w] for i in range(k) for j in range(k)], axis=1)
        acc = self.weight.reshape(out, -1).astype(np.float64) @ columns.reshape(channels * k * k, h * w)
        acc += self.bias[:, None]
        whole = np.floor(acc * self.multiplier[:, None] * 2.0**-SHIFT + 0.5)
        clamped: npt.NDArray[np.float64] = np.clip(whole, self.low, self.high).reshape(1, out, h, w)
        return clamped


def _shuffled(x: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    _, c, h, w = x.shape
    parts = x.reshape(c // factor**2, factor, factor, h, w).transpose(0, 3, 1, 4, 2)
    return parts.reshape(1, c // factor**2, h * factor, w * factor)


@dataclass(frozen=True, slots=True, eq=False)
class IntegerNetwork:
    """Integer layers in a row, in the shape that all integer networks of a layer's entropy model have.

    ::

        inputs ─ concatenated ─ [fuse] ─ layers ─ [shuffle] ─► last output
                                  └──────────────────────────► first output, where there is a fuse

    Attributes:
        name: as in :mod:`vcm.runtime.networks`.
        inputs: name, channels, and least and greatest value of each input; ``quality`` is spread over all positions.
        fuse: a layer whose result is given back as well, or ``None``.
        layers: the others.
        shuffle: channels become positions by this factor at the end; 1 for no such thing.
        outputs: names.
    """

    name: str
    inputs: tuple[tuple[str, int, int, int], ...]
    fuse: IntegerLayer | None
    layers: tuple[IntegerLayer, ...]
    shuffle: int
    outputs: tuple[str, ...]

    def model(self) -> Model:
        """As an ONNX model."""
        g = Graph(self.name)
        parts: list[str] = []
        for name, channels, _, _ in self.inputs:
            plane = name == "quality"
            value = g.input(name, "float32", (1, channels, *((1, 1) if plane else ("h", "w"))))
            if plane:
                shape = g.node("Shape", parts[0], start=2)
                ones = g.constant(np.array([1, 1], np.int64))
                value = g.node("Expand", value, g.node("Concat", ones, shape, axis=0))
            parts.append(value)
        h = g.concat(*parts)
        results = []
        if self.fuse is not None:
            h = self.fuse.add_to(g, h)
            results.append(h)
        for layer in self.layers:
            h = layer.add_to(g, h)
        results.append(h if self.shuffle == 1 else g.shuffle(h, self.shuffle))
        for name, value in zip(self.outputs, results, strict=True):
            g.output(value, name, "float32", (1, f"{name}_channels", f"{name}_h", f"{name}_w"))
        return g.model()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        """The outputs, in numpy and float64: exact on every machine, and slow."""
        h, w = arrays[0].shape[2:]
        x = np.concatenate([np.broadcast_to(a, (1, a.shape[1], h, w)) for a in arrays], axis=1).astype(np.float64)
        results = []
        if self.fuse is not None:
            x = self.fuse.reference(x)
            results.append(x)
        for layer in self.layers:
            x = layer.reference(x)
        results.append(_shuffled(x, self.shuffle))
        return tuple(np.ascontiguousarray(r, np.float32) for r in results)

    def self_test(self, run: Callable[..., tuple[Array, ...]]) -> bool:
        """Whether ``run`` gives what :meth:`reference` gives, at inputs of full range and at those of largest sums."""
        rng = np.random.default_rng(0)
        random = [
            rng.integers(low, high + 1, (1, c, *((1, 1) if name == "quality" else (9, 11)))).astype(np.float32)
            for name, c, low, high in self.inputs
        ]
        # At every position as far from 0 as it goes, of the sign that adds up in one output of the first layer.
        first = self.fuse or self.layers[0]
        weight = first.weight[int(np.abs(first.weight.astype(np.int64)).sum((1, 2, 3)).argmax())]
        sign = np.sign(weight.astype(np.int64).sum((1, 2)))
        far, at = [], 0
        for (_, c, low, high), like in zip(self.inputs, random, strict=True):
            value = np.where(sign[at : at + c] < 0, low, high).astype(np.float32)
            far.append(np.ascontiguousarray(np.broadcast_to(value[None, :, None, None], like.shape)))
            at += c
        for arrays in (random, far):
            found, expected = run(*arrays), self.reference(*arrays)
            if not all(np.array_equal(f, e) for f, e in zip(found, expected, strict=True)):
                return False
        return True
