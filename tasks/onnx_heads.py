"""The heads that ship with a codec as ONNX models, under the names of :mod:`vcm.runtime.networks`.

Each function mirrors one torch module, whose docstring describes it, in the form in which it ships. Sizes of layers
come from the tensors themselves, which have been compared with :func:`head_layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vcm.runtime.onnx.graph import Graph, Model
from vcm.runtime.onnx.layers import Layers
from vcm.runtime.onnx.layout import Parts, film, real, under
from vcm.runtime.onnx.sessions import Network
from vcm.runtime.onnx.stored import TensorSource, scoped
from vcm.tasks.shapes import ClassificationShape, DetectionShape, HeadShapes
from vcm.weights.safetensors_file import Layout

__all__ = ["head_layout", "head_networks"]

STRIDES = (8, 16, 32, 64)
BINS = 8
DEPTHS = (2, 2, 2, 1)


def head_networks(tensors: TensorSource, channels: int) -> dict[str, Callable[[], Network]]:
    """Makers of ``detect`` and ``classify``.

    Args:
        tensors: of a weights file, under those two names.
        channels: of the latents that they read.
    """
    return {"detect": partial(_detect, tensors, channels), "classify": partial(_classify, tensors, channels)}


def head_layout(shapes: HeadShapes, channels: int) -> Layout:
    """All tensors of the two heads. A test compares them with those of the torch modules."""
    detect, classify = _detect_parts(shapes.detect, channels), _classify_parts(shapes.classify, channels)
    return {**under("detect", detect), **under("classify", classify)}


def _detect_parts(shape: DetectionShape, channels: int) -> Parts:
    w, f = shape.width, shape.feature
    yield from real("inp.conv", w, channels, 3, 3)
    yield from film("film", w)
    yield from real("stem.0.conv", w, w, 3, 3)
    yield from real("stem.1.conv", w, w, 3, 3)
    yield from real("p8.conv", 4 * f, w, 1, 1)
    yield from real("p16.conv", f, w, 1, 1)
    yield from real("p32.conv", f, w, 3, 3)
    yield from real("p64.conv", f, f, 3, 3)
    for level, depth in enumerate(DEPTHS):
        for i in range(depth):
            yield from real(f"levels.{level}.tower.{i}.conv", f, f, 3, 3)
        yield from real(f"levels.{level}.predict", shape.classes + 4 * BINS, f, 1, 1)


def _classify_parts(shape: ClassificationShape, channels: int) -> Parts:
    w = shape.width
    yield from real("inp.conv", w, channels, 3, 3)
    yield from film("film", w)
    yield from real("body.0.conv", w, w, 3, 3)
    yield from real("body.1.conv", w, w, 3, 3)
    yield from real("fc", shape.classes, 2 * w)


def _detect(tensors: TensorSource, channels: int) -> Model:
    """``detect``."""
    g = Graph("detect")
    net = Layers(g, scoped(tensors, "detect."))
    y = g.input("y_base", "float32", (1, channels, "h", "w"))
    quality = g.input("quality", "float32", (1,))
    h = net.film(net.conv_relu(y, "inp"), quality, "film")
    stem = g.node("Add", h, net.conv_relu(net.conv_relu(h, "stem.0"), "stem.1"))
    p32 = net.conv_relu(stem, "p32", 2)
    pyramid = (
        g.shuffle(net.conv_relu(stem, "p8"), 2), net.conv_relu(stem, "p16"), p32, net.conv_relu(p32, "p64", 2)
    )  # fmt: skip
    found: list[tuple[str, str, int]] = []
    for level, (x, depth) in enumerate(zip(pyramid, DEPTHS, strict=True)):
        for i in range(depth):
            x = net.conv_relu(x, f"levels.{level}.tower.{i}")
        out = net.conv(x, f"levels.{level}.predict")
        classes = len(net.tensor(f"levels.{level}.predict.bias")) - 4 * BINS
        sizes = g.constant(np.array([classes, 4 * BINS], np.int64))
        logits, bins = g.nodes("Split", [out, sizes], 2, axis=1)
        found.append((logits, bins, classes))
    for stride, (logits, _, classes) in zip(STRIDES, found, strict=True):
        g.output(logits, f"logits{stride}", "float32", (1, classes, f"h{stride}", f"w{stride}"))
    for stride, (_, bins, _) in zip(STRIDES, found, strict=True):
        g.output(bins, f"bins{stride}", "float32", (1, 4 * BINS, f"h{stride}", f"w{stride}"))
    return g.model()


def _classify(tensors: TensorSource, channels: int) -> Model:
    """``classify``."""
    g = Graph("classify")
    net = Layers(g, scoped(tensors, "classify."))
    y = g.input("y_base", "float32", (1, channels, "h", "w"))
    quality = g.input("quality", "float32", (1,))
    h = net.film(net.conv_relu(y, "inp"), quality, "film")
    h = net.conv_relu(net.conv_relu(h, "body.0", 2), "body.1")
    both = g.node("Concat", g.node("GlobalAveragePool", h), g.node("GlobalMaxPool", h), axis=1)
    weight, bias = net.tensor("fc.weight"), net.tensor("fc.bias")
    out = g.node("Gemm", g.node("Flatten", both), g.constant(weight), g.constant(bias), transB=1)
    g.output(out, "logits", "float32", (1, len(bias)))
    return g.model()
