"""Our kinds of heads as ONNX models; those that ship with a codec are named as :mod:`vcm.runtime.networks` says.

Each function mirrors one torch module, whose docstring describes it, in the form in which it ships. Sizes of layers
come from the tensors themselves, which have been compared with the layout.
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
from vcm.tasks.array_keypoints import SAMPLES
from vcm.tasks.shapes import ClassificationShape, DetectionShape, HeadShapes, KeypointShape
from vcm.weights.safetensors_file import Layout

__all__ = [
    "classification_layout", "classification_network", "detection_layout", "detection_network", "head_layout",
    "head_networks", "keypoint_layout", "keypoint_network",
]  # fmt: skip

STRIDES = (8, 16, 32, 64)
BINS = 8
DEPTHS = (2, 2, 2, 1)


def head_networks(tensors: TensorSource, channels: int) -> dict[str, Callable[[], Network]]:
    """Makers of ``detect`` and ``classify``.

    Args:
        tensors: of a weights file, under those two names.
        channels: of the latents that they read.
    """
    return {
        "detect": partial(detection_network, scoped(tensors, "detect."), channels),
        "classify": partial(classification_network, scoped(tensors, "classify."), channels),
    }


def head_layout(shapes: HeadShapes, channels: int) -> Layout:
    """All tensors of the two heads. A test compares them with those of the torch modules."""
    detect, classify = detection_layout(shapes.detect, channels), classification_layout(shapes.classify, channels)
    return {**under("detect", detect), **under("classify", classify)}


def detection_layout(shape: DetectionShape, channels: int) -> Parts:
    """Tensors of a :class:`vcm.tasks.detection.DetectionHead`."""
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


def classification_layout(shape: ClassificationShape, channels: int) -> Parts:
    """Tensors of a :class:`vcm.tasks.classification.ClassificationHead`."""
    w = shape.width
    yield from real("inp.conv", w, channels, 3, 3)
    yield from film("film", w)
    yield from real("body.0.conv", w, w, 3, 3)
    yield from real("body.1.conv", w, w, 3, 3)
    yield from real("fc", shape.classes, 2 * w)


def keypoint_layout(shape: KeypointShape, channels: int, points: int) -> Parts:
    """Tensors of a :class:`vcm.tasks.keypoints.KeypointHead` for so many keypoints."""
    w = shape.width
    yield "mean", ("F16", (channels,))
    yield "spread", ("F16", (channels,))
    yield from real("inp.conv", w, channels, 3, 3)
    for i in range(shape.depth):
        yield from real(f"body.{i}.first.conv", w, w, 3, 3)
        yield from real(f"body.{i}.second.conv", w, w, 3, 3)
    yield from real("heat", points * shape.up**2, w, 1, 1)
    yield from real("visible", points, 2 * w)


def detection_network(tensors: TensorSource, channels: int) -> Model:
    """``detect``; names of ``tensors`` are those of :func:`detection_layout`."""
    g = Graph("detect")
    net = Layers(g, tensors)
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


def classification_network(tensors: TensorSource, channels: int) -> Model:
    """``classify``; names of ``tensors`` are those of :func:`classification_layout`."""
    g = Graph("classify")
    net = Layers(g, tensors)
    y = g.input("y_base", "float32", (1, channels, "h", "w"))
    quality = g.input("quality", "float32", (1,))
    h = net.film(net.conv_relu(y, "inp"), quality, "film")
    h = net.conv_relu(net.conv_relu(h, "body.0", 2), "body.1")
    both = g.node("Concat", g.node("GlobalAveragePool", h), g.node("GlobalMaxPool", h), axis=1)
    weight, bias = net.tensor("fc.weight"), net.tensor("fc.bias")
    out = g.node("Gemm", g.node("Flatten", both), g.constant(weight), g.constant(bias), transB=1)
    g.output(out, "logits", "float32", (1, len(bias)))
    return g.model()


def keypoint_network(tensors: TensorSource, channels: int, shape: KeypointShape) -> Model:
    """``keypoints``: heatmaps (B, K, S, S) and visibility (B, K), both logits, of B regions.

    Inputs are ``y_base`` (1, C, h, w) and ``at`` (1, B · n, n, 2): where the regions are sampled, n · n places each, x
    and y in -1 … 1 over the grid, as :func:`vcm.tasks.array_keypoints.sampling_grid` gives them.
    """
    g = Graph("keypoints")
    net = Layers(g, tensors)
    y = g.input("y_base", "float32", (1, channels, "h", "w"))
    at = g.input("at", "float32", (1, "places", shape.grid * SAMPLES, 2))
    mean, spread = (tensors(name)[:, None, None] for name in ("mean", "spread"))
    y = g.node("Div", g.node("Sub", y, g.constant(mean)), g.constant(spread))
    cut = g.node("GridSample", y, at, mode="bilinear", padding_mode="zeros", align_corners=0)
    cut = g.node("AveragePool", cut, kernel_shape=(SAMPLES, SAMPLES), strides=(SAMPLES, SAMPLES))
    size = shape.grid
    apart = g.node("Reshape", cut, g.constant(np.array([channels, -1, size, size], np.int64)))
    h = net.conv_relu(g.node("Transpose", apart, perm=(1, 0, 2, 3)), "inp")
    for i in range(shape.depth):
        more = net.conv(net.conv_relu(h, f"body.{i}.first"), f"body.{i}.second.conv")
        h = g.node("Relu", g.node("Add", h, more))
    heat = net.conv(h, "heat")
    heat = g.shuffle(heat, shape.up) if shape.up > 1 else heat
    both = g.node("Concat", g.node("GlobalAveragePool", h), g.node("GlobalMaxPool", h), axis=1)
    weight, bias = net.tensor("visible.weight"), net.tensor("visible.bias")
    visible = g.node("Gemm", g.node("Flatten", both), g.constant(weight), g.constant(bias), transB=1)
    side = size * shape.up
    g.output(heat, "heatmaps", "float32", ("boxes", len(bias), side, side))
    g.output(visible, "visible", "float32", ("boxes", len(bias)))
    return g.model()
