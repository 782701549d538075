"""Objects of pictures on the views that are cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcm.training.data.annotations import GroundTruth
from vcm.training.data.store import PictureStore
from vcm.training.data.views import Crop, ViewPlan

__all__ = ["LEAST_SHARE", "LEAST_SIDE", "ViewObjects", "view_objects"]

LEAST_SHARE = 0.25
LEAST_SIDE = 4.0
"""A box stays in a view with at least this share of its area, and sides of at least this many pixels."""
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ViewObjects:
    """Objects of a batch of views, one item per view, pixels of the view.

    Attributes:
        boxes: float32 (K, 4) x1 y1 x2 y2, clipped to what the view (or the quarter of a mosaic) shows.
        labels: int64 (K,) class indexes.
        ignore: float32 (M, 4): regions in which objects may be that ``boxes`` does not tell.
    """

    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    ignore: tuple[Tensor, ...]

    def scaled(self, factor: float) -> ViewObjects:
        """The same on views ``factor`` times the size."""
        return ViewObjects(tuple(b * factor for b in self.boxes), self.labels, tuple(b * factor for b in self.ignore))


def _place(boxes: Array, crop: Crop, corner: tuple[int, int]) -> tuple[Array, Array]:
    """Boxes of a picture on the view, clipped to the window; and the share of each one's area that is left."""
    y0, x0, bh, bw = crop.window
    th, tw = crop.shown
    scale = np.array([tw / bw, th / bh] * 2, np.float32)
    moved = (boxes - np.array([x0, y0] * 2, np.float32)) * scale
    clipped = moved.clip(0, np.array([tw, th] * 2, np.float32))
    share = (clipped[:, 2:] - clipped[:, :2]).prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1).clip(min=1e-6)
    if crop.flip:
        clipped[:, [0, 2]] = tw - clipped[:, [2, 0]]
    return clipped + np.array([crop.at[1] + corner[1], crop.at[0] + corner[0]] * 2, np.float32), share


def _crop_objects(
    truth: GroundTruth | None, crop: Crop, corner: tuple[int, int]
) -> tuple[Array, npt.NDArray[np.int64], Array]:
    """Boxes, labels and ignored regions of one crop whose tile lies at ``corner`` (y, x) of the view."""
    if truth is None:
        y, x = corner
        whole = np.array([[x, y, x + crop.side, y + crop.side]], np.float32)
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), whole
    boxes, share = _place(truth.boxes, crop, corner)
    ignore, _ = _place(truth.ignore, crop, corner)
    kept = (share >= LEAST_SHARE) & ((boxes[:, 2:] - boxes[:, :2]).min(1) >= LEAST_SIDE)
    # What is left of a box that is dropped is still a part of an object.
    ignore = np.concatenate([ignore, boxes[~kept]])
    return boxes[kept], truth.labels[kept], ignore[(ignore[:, 2:] > ignore[:, :2]).all(1)]


def view_objects(store: PictureStore, plans: Sequence[ViewPlan]) -> ViewObjects:
    """The objects of the planned views.

    A box is dropped when less than :data:`LEAST_SHARE` of its area or a side below :data:`LEAST_SIDE` pixels is left;
    what is left is then ignored. A picture without ground truth is ignored over its whole tile.
    """
    boxes, labels, ignore = [], [], []
    for plan in plans:
        crops = [(c, (c.side * (i // 2), c.side * (i % 2))) for i, c in enumerate(plan.crops)]
        if plan.mixed is not None:
            crops.append((plan.mixed[1], (0, 0)))
        parts = [_crop_objects(store.truth[c.index], c, corner) for c, corner in crops]
        boxes.append(torch.from_numpy(np.concatenate([p[0] for p in parts])))
        labels.append(torch.from_numpy(np.concatenate([p[1] for p in parts])))
        ignore.append(torch.from_numpy(np.concatenate([p[2] for p in parts])))
    return ViewObjects(tuple(boxes), tuple(labels), tuple(ignore))
