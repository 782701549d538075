"""Keypoints from a head's raw arrays, in numpy: where regions lie, and where their heatmaps peak."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError
from vcm.runtime.networks import Array
from vcm.structures import Keypoints, Latents

__all__ = ["SAMPLES", "estimate_keypoints", "read_heatmaps", "regions_of", "sampling_grid"]

SAMPLES = 2
"""Samples of the latents along each side of a grid cell."""
_PEAK = 2  # cells on each side of a heatmap's peak that its position is the mean of


def regions_of(boxes: Array, margin: float) -> Array:
    """Regions float32 (B, 4) that are cut out for ``boxes`` (B, 4): x1 y1 x2 y2, enlarged about the centre."""
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(1e-3)) * np.float32(margin / 2)
    centre = (boxes[:, :2] + boxes[:, 2:]) / np.float32(2)
    return np.concatenate([centre - half, centre + half], axis=1)


def sampling_grid(regions: Array, grid: int, size: tuple[int, int]) -> Array:
    """Where regions are sampled.

    Args:
        regions: float32 (B, 4) x1 y1 x2 y2 in latent positions.
        grid: cells along each side, of :data:`SAMPLES` samples each: n in all.
        size: (columns, rows) of the latents.

    Returns:
        float32 (B, n, n, 2), x and y in -1 … 1 over the latents, edges of the outermost positions.
    """
    n = grid * SAMPLES
    step = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(n)
    extent = np.array(size, np.float32)
    low, high = regions[:, :2] / extent * 2 - 1, regions[:, 2:] / extent * 2 - 1
    axes = low[:, :, None] + (high - low)[:, :, None] * step
    x = np.broadcast_to(axes[:, 0, None, :], (len(regions), n, n))
    y = np.broadcast_to(axes[:, 1, :, None], (len(regions), n, n))
    return np.stack([x, y], axis=3).astype(np.float32)


def estimate_keypoints(
    run: Callable[[Array], tuple[Array, Array]],
    latents: Latents,
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32] | None,
    names: tuple[str, ...],
    margin: float,
) -> Keypoints:
    """Keypoints of the objects in ``boxes``, by any runtime.

    Args:
        run: heatmaps (B, K, S, S) and visibility (B, K), logits, of regions (B, 4) in latent positions.
        latents: of the picture; ``run`` has them.
        boxes: (N, 4) x1 y1 x2 y2 in source pixels.
        scores: (N,) of the boxes, 0 … 1; all 1 by default.
        names: of the keypoints.
        margin: side of a region over that of its box.

    Raises:
        OptionError: boxes or scores are of the wrong shape, or not finite.
    """
    boxes = np.asarray(boxes, np.float32)
    scores = np.ones(len(boxes), np.float32) if scores is None else np.asarray(scores, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise OptionError("boxes and scores", expected="(N, 4) and (N,)", found=(boxes.shape, scores.shape))
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise OptionError("a box or score is not a finite number")
    width, height = latents.source_size
    if len(boxes) == 0:
        return Keypoints(np.zeros((0, len(names), 3), np.float32), boxes, scores, names, width, height)
    source = regions_of(boxes, margin)
    per_pixel = np.array([1 / (s * latents.spec.stride) for s in latents.scale] * 2, np.float32)
    points, objects = read_heatmaps(*run(source * per_pixel), source)
    return Keypoints(points, boxes, objects * scores, names, width, height)


def read_heatmaps(heatmaps: Array, visible: Array, regions: Array) -> tuple[Array, Array]:
    """Positions from heatmaps: the mean over the cells around the peak.

    Args:
        heatmaps: float32 (B, K, S, S) logits over the cells of the region.
        visible: float32 (B, K) logits: is the point labelled at all?
        regions: float32 (B, 4) x1 y1 x2 y2 that the heatmaps cover, in any unit.

    Returns:
        points float32 (B, K, 3): x, y in the unit of ``regions`` and a score 0 … 1: the share of the heatmap around its
        peak times the probability that the point shows; and float32 (B,) scores of whole objects, the mean share
        weighted by those probabilities.
    """
    b, k, s, _ = heatmaps.shape
    flat = heatmaps.reshape(b, k, s * s).astype(np.float32)
    share = np.exp(flat - flat.max(axis=2, keepdims=True))
    share /= share.sum(axis=2, keepdims=True)
    rows, columns = np.divmod(share.argmax(axis=2), s)
    cells = np.arange(s)
    near_row = np.abs(rows[:, :, None] - cells) <= _PEAK
    near_column = np.abs(columns[:, :, None] - cells) <= _PEAK
    around = share.reshape(b, k, s, s) * (near_row[:, :, :, None] & near_column[:, :, None, :])
    mass = around.sum((2, 3))
    position = ((cells + 0.5) / s).astype(np.float32)
    x = (around.sum(2) * position).sum(2) / mass
    y = (around.sum(3) * position).sum(2) / mass
    low, size = regions[:, None, :2], (regions[:, 2:] - regions[:, :2])[:, None]
    with np.errstate(over="ignore"):  # an exponential of infinity gives 0, as it should
        shown = np.float32(1) / (np.float32(1) + np.exp(-visible.astype(np.float32)))
    points = np.concatenate([low + np.stack([x, y], axis=2) * size, (mass * shown)[:, :, None]], axis=2)
    whole = (mass * shown).sum(1) / np.maximum(shown.sum(1), np.float32(1e-6))
    return points.astype(np.float32), whole.astype(np.float32)
