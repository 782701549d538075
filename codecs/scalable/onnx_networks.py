"""The networks of a scalable model under the names of :mod:`vcm.runtime.networks`, as ONNX models.

Each function mirrors one torch module, whose docstring describes it, in the form in which it ships. Sizes of layers
come from the tensors themselves, which have been compared with :func:`vcm.codecs.scalable.stored.codec_layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vcm.codecs.scalable.config import Architecture, LayerSpec
from vcm.runtime.onnx.graph import Graph, Model
from vcm.runtime.onnx.integer import CONTEXT, FEATURE, IntegerLayer, IntegerNetwork
from vcm.runtime.onnx.layers import Layers
from vcm.runtime.onnx.narrow import Narrow
from vcm.runtime.onnx.sessions import Network
from vcm.runtime.onnx.stored import TensorSource, scoped

__all__ = ["analysis_network", "codec_networks", "picture_analysis", "picture_synthesis"]

_OFFSET, _SCALE = 127.0, 128.0
_MAX_PARAMETER = (1 << 16) - 1


def codec_networks(tensors: TensorSource, a: Architecture) -> dict[str, Callable[[], Network]]:
    """Makers of all networks of a codec, its heads apart.

    Args:
        tensors: of its weights file.
        a: its shape.
    """
    floats: dict[str, tuple[Callable[[TensorSource, Architecture], Model], str]] = {
        "base.analysis": (analysis_network, "analysis."),
        "picture.analysis": (picture_analysis, "picture_analysis."),
        "picture.synthesis": (picture_synthesis, "synthesis."),
        "preview": (_preview, "preview."),
    }
    out: dict[str, Callable[[], Network]] = {
        name: partial(make, scoped(tensors, f"model.{prefix}"), a) for name, (make, prefix) in floats.items()
    }
    for layer, spec in (("base", a.base), ("picture", a.picture)):
        own = scoped(tensors, f"model.{layer}.")
        kinds = ["hyper", *(f"{kind}.{i}" for kind in ("first", "second") for i in range(spec.slices))]
        kinds += ["base_features"] if spec.base else []
        out[f"{layer}.h_a"] = partial(_hyper_analysis, own, spec, layer)
        out |= {f"{layer}.{kind}": partial(_integer_network, own, spec, layer, kind) for kind in kinds}
    return out


def _centred(graph: Graph, x: str) -> str:
    """0 … 255 to −1 … 1, as the networks were trained."""
    return graph.node("Mul", graph.node("Sub", x, graph.scalar(_OFFSET)), graph.scalar(1 / _SCALE))


def analysis_network(tensors: TensorSource, a: Architecture) -> Model:
    """``base.analysis``, of a codec or of a pixel twin; names are those of :class:`BaseAnalysis`."""
    g = Graph("base.analysis")
    net = Layers(g, tensors)
    x = g.input("x", "float32", (1, 3, "H", "W"))
    h = g.clip(net.same_conv(_centred(g, x), "trunk.stem", stride=2), 0, 6)
    tap = max(i for i, b in enumerate(a.blocks) if b.stride == 2) - 1
    tapped = h
    for i, b in enumerate(a.blocks):
        name, width = f"trunk.blocks.{i}", b.c_in * b.expand
        wide = h if b.expand == 1 else g.clip(net.same_conv(h, f"{name}.expand"), 0, 6)
        wide = g.clip(net.same_conv(wide, f"{name}.depthwise", stride=b.stride, groups=width), 0, 6)
        out = net.same_conv(wide, f"{name}.project")
        h = g.node("Add", h, out) if b.stride == 1 and b.c_in == b.c_out else out
        tapped = h if i == tap else tapped
    up = g.shuffle(net.conv_relu(h, "up"), 2)
    h = net.conv_relu(g.concat(tapped, up), "merge")
    y = net.conv(g.node("Add", h, net.conv_relu(h, "mix")), "project")
    g.output(y, "y", "float32", (1, a.base.channels, "h", "w"))
    return g.model()


def _hyper_analysis(tensors: TensorSource, spec: LayerSpec, layer: str) -> Model:
    """``LAYER.h_a``."""
    g = Graph(f"{layer}.h_a")
    net = Layers(g, tensors)
    y = g.input("y", "float32", (1, spec.channels, "h", "w"))
    z = net.conv(g.node("Relu", net.conv(y, "h_a.conv1", stride=2)), "h_a.conv2", stride=2)
    g.output(z, "z", "float32", (1, spec.hyper, "hz", "wz"))
    return g.model()


def picture_analysis(tensors: TensorSource, a: Architecture, narrow: Narrow | None = None) -> Model:
    """``picture.analysis``; ``narrow`` as of :class:`Layers`."""
    g = Graph("picture.analysis")
    net = Layers(g, tensors, narrow)
    x = _centred(g, g.input("x", "float32", (1, 3, "H", "W")))
    # A 3×3 convolution of 2×2 blocks is a 6×6 convolution of pixels in steps of two.
    w = net.tensor("down2.weight")
    w = np.ascontiguousarray(w.reshape(-1, 3, 2, 2, 3, 3).transpose(0, 1, 4, 2, 5, 3).reshape(-1, 3, 6, 6))
    h = g.leaky(g.conv(x, w, net.tensor("down2.bias"), stride=2, pads=(2, 2, 2, 2)))
    h = net.narrow_residual(g.leaky(net.narrow_conv(h, "down4", stride=2)), "res4")
    h = net.narrow_residual(g.leaky(net.narrow_conv(h, "down8", stride=2)), "res8")
    linear = g.conv(x, net.tensor("linear"), stride=16, pads=(0, 0, 0, 0))
    y = g.node("Add", linear, net.conv(h, "down16", stride=2))
    g.output(y, "y", "float32", (1, a.picture.channels, "h", "w"))
    return g.model()


def picture_synthesis(tensors: TensorSource, a: Architecture, narrow: Narrow | None = None) -> Model:
    """``picture.synthesis``; ``narrow`` as of :class:`Layers`."""
    g = Graph("picture.synthesis")
    net = Layers(g, tensors, narrow)
    y = g.input("y_hat", "float32", (1, a.picture.channels, "h", "w"))
    base = g.input("base", "float32", (1, a.base.channels, "h", "w"))
    quality = g.input("quality", "float32", (1,))
    h = g.leaky(net.film(net.conv(g.concat(y, base), "mix"), quality, "film"))
    # Not everything in bytes: up to here, and in the second convolution of res8, they cost too much of the picture.
    h = net.narrow_residual(g.leaky(g.shuffle(net.conv(net.residual(h, "res16"), "up8"), 2)), "res8", both=False)
    h = net.narrow_residual(g.leaky(g.shuffle(net.narrow_conv(h, "up4"), 2)), "res4")
    h = g.leaky(g.shuffle(net.narrow_conv(h, "up2"), 2))
    h = g.node("Add", h, g.leaky(net.conv(h, "mix2")))
    # A transposed convolution whose stride is its kernel gives each position a block of its own: 1×1, then a shuffle.
    w = net.tensor("linear")
    blocks = np.ascontiguousarray(w.reshape(len(w), -1).T)[:, :, None, None]
    linear = g.shuffle(g.conv(y, blocks), 16)
    total = g.node("Add", linear, g.shuffle(net.conv(h, "out"), 2))
    x = g.node("Add", g.node("Mul", total, g.scalar(_SCALE)), g.scalar(_OFFSET))
    g.output(x, "x", "float32", (1, 3, "H", "W"))
    return g.model()


def _preview(tensors: TensorSource, a: Architecture) -> Model:
    """``preview``."""
    g = Graph("preview")
    net = Layers(g, tensors)
    h = net.residual(g.leaky(net.conv(g.input("y_base", "float32", (1, a.base.channels, "h", "w")), "inp")), "res")
    h = net.residual(g.leaky(g.shuffle(net.conv(h, "up"), 2)), "res8")
    x = g.node("Mul", g.shuffle(net.conv(h, "out"), 2), g.scalar(_SCALE))
    g.output(g.node("Add", x, g.scalar(_OFFSET)), "x", "float32", (1, 3, "H", "W"))
    return g.model()


def _integer_network(tensors: TensorSource, spec: LayerSpec, prefix: str, what: str) -> IntegerNetwork:
    """``LAYER.hyper``, ``.base_features``, ``.first.i`` or ``.second.i``; ``what`` is the name after the layer's.

    Raises:
        WeightsError: a layer is out of the range on which exact decoding rests.
    """
    name, (kind, _, rest) = f"{prefix}.{what}", what.partition(".")
    i = int(rest or 0)
    m, w = spec.slice_channels, spec.width

    def layer(path: str, hidden: bool = True) -> IntegerLayer:
        at = f"net.{path}"
        low, high = FEATURE if hidden else (-_MAX_PARAMETER, _MAX_PARAMETER)
        return IntegerLayer(tensors(f"{at}.weight"), tensors(f"{at}.bias"), tensors(f"{at}.multiplier"), low, high)

    if kind == "hyper":
        inputs = (("z", spec.hyper, *CONTEXT), ("quality", 1, *CONTEXT))
        return IntegerNetwork(name, inputs, None, (layer("hyper1"), layer("hyper2")), 4, ("psi",))
    if kind == "base_features":
        return IntegerNetwork(name, (("context", spec.base, *CONTEXT),), None, (layer("base"),), 1, ("features",))
    both = (layer(f"{kind}.{i}.0"), layer(f"{kind}.{i}.1", hidden=False))
    if kind == "first":
        known = (("known", i * m, *CONTEXT),) if i else ()
        psi = ("psi", w + spec.base_width, *FEATURE)
        return IntegerNetwork(name, (psi, *known), layer(f"fuse.{i}"), both, 1, ("features", "parameters"))
    return IntegerNetwork(name, (("features", w, *FEATURE), ("context", m, *CONTEXT)), None, both, 1, ("parameters",))
