"""Transforms by window with a halo: the same result as in one piece, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vcm.runtime.networks import Array, Networks

__all__ = ["Window", "analyse", "padded", "spans", "windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """Output positions ``[r0, r1) × [c0, c1)`` and those that are computed to get them, ``[R0, R1) × [C0, C1)``."""

    r0: int
    r1: int
    c0: int
    c1: int
    R0: int
    R1: int
    C0: int
    C1: int


def spans(
    count: int, window: int, halo: int, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """Windows along one axis of ``count`` positions, cut to ``[first, last)``.

    Yields:
        ``(r0, r1, R0, R1)``: output positions ``[r0, r1)``, and with their halo, clipped to the axis, ``[R0, R1)``.
    """
    last = count if last is None else last
    for start in range(first // window * window, last, window):
        begin, stop = max(first, start), min(last, start + window)
        yield begin, stop, max(0, begin - halo), min(count, stop + halo)


def windows(rows: int, columns: int, window: int, halo: int) -> Iterator[Window]:
    """Windows that cover a grid of ``rows`` × ``columns``, each with its halo clipped to the grid.

    Args:
        rows, columns: positions.
        window: side of a window, positions.
        halo: positions around it; even where a stride-2 layer follows, so that phases agree.
    """
    for r0, r1, R0, R1 in spans(rows, window, halo):
        for c0, c1, C0, C1 in spans(columns, window, halo):
            yield Window(r0, r1, c0, c1, R0, R1, C0, C1)


def analyse(networks: Networks, name: str, x: Array, *, window: int, halo: int, stride: int = 16) -> Array:
    """A network on a picture, by window.

    Args:
        networks: those of :mod:`vcm.runtime.networks`.
        name: one that turns a picture (1, 3, H, W) into latents (1, C, H/stride, W/stride), whose receptive field
            reaches at most ``halo`` positions.
        x: float32 (1, 3, H, W); its last row and column are repeated up to a multiple of ``stride``, window by window.
        window, halo: in latent positions.
        stride: pixels per latent position.

    Returns:
        float32 (1, C, ceil(H/stride), ceil(W/stride)), as ``networks.run(name, x)`` gives it up to rounding.
    """
    rows, columns = -(-x.shape[2] // stride), -(-x.shape[3] // stride)
    if rows <= window and columns <= window:
        return networks.run(name, padded(x, stride))[0]
    out: Array | None = None
    for w in windows(rows, columns, window, halo):
        seen = x[:, :, w.R0 * stride : w.R1 * stride, w.C0 * stride : w.C1 * stride]
        (y,) = networks.run(name, np.ascontiguousarray(padded(seen, stride)))
        if out is None:
            out = np.empty((1, y.shape[1], rows, columns), dtype=y.dtype)
        out[:, :, w.r0 : w.r1, w.c0 : w.c1] = y[:, :, w.r0 - w.R0 : w.r1 - w.R0, w.c0 - w.C0 : w.c1 - w.C0]
    if out is None:
        raise ValueError("a picture without pixels has no latents")
    return out


def padded(x: Array, multiple: int) -> Array:
    """``x`` (1, C, H, W) with its last row and column repeated up to a multiple of ``multiple``."""
    down, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    return np.pad(x, ((0, 0), (0, 0), (0, down), (0, right)), mode="edge") if down or right else x
