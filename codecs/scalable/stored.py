"""What a weights file holds of a codec of the scalable family: names, types and shapes, without a tensor library."""

from __future__ import annotations

from vcm.codecs.scalable.config import Architecture, LayerSpec
from vcm.codecs.scalable.fixed_point import KNOTS
from vcm.runtime.onnx.layout import Parts, film, integer, real, residual, under
from vcm.weights.safetensors_file import Layout

__all__ = ["analysis_layout", "codec_layout"]


def codec_layout(a: Architecture) -> Layout:
    """All tensors of a codec, its heads apart. A test compares them with those of the torch modules."""
    return {
        **under("model.analysis", analysis_layout(a)),
        **under("model.base", _layer(a.base)),
        **under("model.picture_analysis", _picture_analysis(a)),
        **under("model.picture", _layer(a.picture)),
        **under("model.synthesis", _synthesis(a)),
        **under("model.preview", _preview(a)),
    }


def analysis_layout(a: Architecture) -> Parts:
    """The base's analysis."""
    yield from real("trunk.stem", a.stem, 3, 3, 3)
    tap = a.stem
    for i, b in enumerate(a.blocks):
        name, width = f"trunk.blocks.{i}", b.c_in * b.expand
        if b.expand != 1:
            yield from real(f"{name}.expand", width, b.c_in, 1, 1)
        yield from real(f"{name}.depthwise", width, 1, b.kernel, b.kernel)
        yield from real(f"{name}.project", b.c_out, width, 1, 1)
        tap = b.c_in if b.stride == 2 else tap
    up = a.merge * 3 // 5
    yield from real("up.conv", 4 * up, a.blocks[-1].c_out, 1, 1)
    yield from real("merge.conv", a.merge, tap + up, 1, 1)
    yield from real("mix.conv", a.merge, a.merge, 3, 3)
    yield from real("project", a.base.channels, a.merge, 1, 1)


def _layer(s: LayerSpec) -> Parts:
    m, w = s.slice_channels, s.width
    yield from integer("net.hyper1", s.hyper + 1, w, 3)
    yield from integer("net.hyper2", w, 16 * w, 1)
    if s.base:
        yield from integer("net.base", s.base, s.base_width, 3)
    for i in range(s.slices):
        yield from integer(f"net.fuse.{i}", w + s.base_width + i * m, w, 1)
        yield from integer(f"net.first.{i}.0", w, w, 3)
        yield from integer(f"net.first.{i}.1", w, 2 * m, 1)
        yield from integer(f"net.second.{i}.0", w + m, w, 3)
        yield from integer(f"net.second.{i}.1", w, 2 * m, 1)
    hidden = max(w, 2 * s.hyper)
    yield from real("h_a.conv1", hidden, s.channels, 3, 3)
    yield from real("h_a.conv2", s.hyper, hidden, 3, 3)
    yield "gain_y", ("I32", (KNOTS, s.channels))
    yield "gain_z", ("I32", (KNOTS, s.hyper))
    yield "prior_mean", ("I32", (s.hyper,))
    yield "prior_scale", ("I32", (s.hyper,))


def _picture_analysis(a: Architecture) -> Parts:
    (w2, w4, w8), channels = a.analysis, a.picture.channels
    yield from real("down2", w2, 12, 3, 3)
    yield from real("down4", w4, w2, 3, 3)
    yield from residual("res4", w4)
    yield from real("down8", w8, w4, 3, 3)
    yield from residual("res8", w8)
    yield from real("down16", channels, w8, 3, 3)
    yield "linear", ("F16", (channels, 3, 16, 16))


def _synthesis(a: Architecture) -> Parts:
    (w16, w8, w4, w2), channels = a.synthesis, a.picture.channels
    yield from real("mix", w16, channels + a.base.channels, 3, 3)
    yield from film("film", w16)
    yield from residual("res16", w16)
    yield from real("up8", 4 * w8, w16, 3, 3)
    yield from residual("res8", w8)
    yield from real("up4", 4 * w4, w8, 3, 3)
    yield from residual("res4", w4)
    yield from real("up2", 4 * w2, w4, 3, 3)
    yield from real("mix2", w2, w2, 3, 3)
    yield from real("out", 12, w2, 3, 3)
    yield "linear", ("F16", (channels, 3, 16, 16))


def _preview(a: Architecture) -> Parts:
    w = a.preview
    yield from real("inp", w, a.base.channels, 3, 3)
    yield from residual("res", w)
    yield from real("up", 2 * w, w, 3, 3)
    yield from residual("res8", w // 2)
    yield from real("out", 12, w // 2, 3, 3)
