"""Layers that several of our networks have, as ONNX operators, in the form in which they ship (BatchNorm folded).

They mirror :mod:`vcm.nn.blocks` and :mod:`vcm.nn.trunk`. Sizes come from the tensors themselves, which have been
compared with what they must be.
"""

from __future__ import annotations

import numpy as np

from vcm.runtime.onnx.graph import Graph
from vcm.runtime.onnx.narrow import Narrow
from vcm.runtime.onnx.stored import TensorSource

__all__ = ["Layers"]


class Layers:
    """The layers of one module, added to one graph.

    Args:
        graph: the graph.
        tensors: of the module.
        narrow: computes those convolutions that bytes are good enough for; float32 by default.
    """

    def __init__(self, graph: Graph, tensors: TensorSource, narrow: Narrow | None = None) -> None:
        self.graph, self.tensor, self._narrow = graph, tensors, narrow

    def narrow_conv(self, x: str, name: str, *, stride: int = 1, leaky: bool = True) -> str:
        """:meth:`conv`, which may compute in bytes; ``leaky`` says that a leaky ReLU follows."""
        if self._narrow is None:
            return self.conv(x, name, stride=stride)
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self._narrow.conv(self.graph, x, weight, bias, name, stride, leaky)

    def conv(self, x: str, name: str, *, stride: int = 1, groups: int = 1) -> str:
        return self.graph.conv(
            x, self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"), stride=stride, groups=groups
        )

    def same_conv(self, x: str, name: str, *, stride: int = 1, groups: int = 1) -> str:
        """With TensorFlow's "same" padding for sizes that the stride divides: after the picture first."""
        weight = self.tensor(f"{name}.weight")
        total = weight.shape[2] - stride
        before = total // 2
        pads = (before, before, total - before, total - before) if stride > 1 else None
        return self.graph.conv(x, weight, self.tensor(f"{name}.bias"), stride=stride, pads=pads, groups=groups)

    def conv_relu(self, x: str, name: str, stride: int = 1) -> str:
        return self.graph.node("Relu", self.conv(x, f"{name}.conv", stride=stride))

    def residual(self, x: str, name: str) -> str:
        h = self.conv(self.graph.leaky(self.conv(x, f"{name}.conv1")), f"{name}.conv2")
        return self.graph.node("Add", x, h)

    def narrow_residual(self, x: str, name: str, *, both: bool = True) -> str:
        """:meth:`residual`, whose first or both convolutions may compute in bytes; the sum is in float32."""
        h, second = self.graph.leaky(self.narrow_conv(x, f"{name}.conv1")), f"{name}.conv2"
        h = self.narrow_conv(h, second, leaky=False) if both else self.conv(h, second)
        return self.graph.node("Add", x, h)

    def film(self, x: str, quality: str, name: str) -> str:
        """``x`` · (1 + gamma) + beta, both from the quality."""
        g = self.graph
        w1, w2 = self.tensor(f"{name}.fc1.weight"), self.tensor(f"{name}.fc2.weight")
        b1, b2 = self.tensor(f"{name}.fc1.bias"), self.tensor(f"{name}.fc2.bias").copy()
        channels = len(b2) // 2
        b2[:channels] += 1  # the 1 of 1 + gamma
        row = g.node("Reshape", quality, g.constant(np.array([1, 1], np.int64)))
        t = g.node("Sub", g.node("Mul", row, g.scalar(2.0)), g.scalar(1.0))
        hidden = g.node("Relu", g.node("Gemm", t, g.constant(w1), g.constant(b1), transB=1))
        both = g.node("Gemm", hidden, g.constant(w2), g.constant(b2), transB=1)
        shaped = g.node("Reshape", both, g.constant(np.array([2, channels, 1, 1], np.int64)))
        gamma, beta = g.nodes("Split", [shaped], 2, axis=0)
        return g.node("Add", g.node("Mul", x, gamma), beta)
