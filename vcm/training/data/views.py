"""Random views of pictures: planned without looking at a pixel, then cut on the device that has the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vcm.training.data.store import PictureStore

__all__ = ["Crop", "ViewPlan", "ViewSpec", "plan_views", "render_views"]


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """How random views are cut.

    Attributes:
        size: side of the square crop, pixels.
        reference: the longest side to which a picture is brought at scale 1, pixels; 0 keeps the picture's own pixels.
        scale: least and greatest scale (log-uniform).
        mosaic: share of views made of four quarter-size views.
        mixup: share of views averaged with another view.
        colour: greatest relative change of brightness and contrast.
    """

    size: int = 320
    reference: int = 416
    scale: tuple[float, float] = (0.6, 1.6)
    mosaic: float = 0.25
    mixup: float = 0.25
    colour: float = 0.2


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of a picture on a square tile.

    Attributes:
        index: the picture.
        side: side of the tile, pixels.
        window: y, x, height and width of the window, pixels of the picture.
        shown: height and width to which it is brought.
        flip: whether it is mirrored, left for right.
        at: y and x of its corner on the tile; grey around it.
    """

    index: int
    side: int
    window: tuple[int, int, int, int]
    shown: tuple[int, int]
    flip: bool
    at: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """All random choices of one view.

    Attributes:
        crops: one, or four quarters in reading order.
        mixed: what is mixed in, and the share that stays of the rest.
        colour: gain and shift of all values.
    """

    crops: tuple[Crop, ...]
    mixed: tuple[float, Crop] | None
    colour: tuple[float, float] | None


def _plan_crop(
    index: int, height: int, width: int, side: int, reference: int, scale: float, rng: np.random.Generator
) -> Crop:
    """The window is chosen in source pixels, so only what is seen is resampled."""
    ratio = (reference / max(height, width) if reference else 1.0) * scale
    window = side / ratio
    bh, bw = min(height, math.ceil(window)), min(width, math.ceil(window))
    y0 = int(rng.integers(0, height - bh + 1))
    x0 = int(rng.integers(0, width - bw + 1))
    th, tw = min(side, max(1, round(bh * ratio))), min(side, max(1, round(bw * ratio)))
    flip = rng.random() < 0.5
    oy, ox = 0, 0
    if (th, tw) != (side, side):
        oy, ox = int(rng.integers(0, side - th + 1)), int(rng.integers(0, side - tw + 1))
    return Crop(index, side, (y0, x0, bh, bw), (th, tw), flip, (oy, ox))


def plan_views(
    store: PictureStore, chosen: Sequence[int], spec: ViewSpec, rng: np.random.Generator
) -> tuple[ViewPlan, ...]:
    """Random views of the pictures ``chosen`` (mosaic and mixup draw further ones of them); looks at no pixel."""

    def crop(index: int, side: int, shrink: float = 1.0) -> Crop:
        low, high = spec.scale
        scale = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * shrink
        _, h, w = store.pictures[index].shape
        return _plan_crop(index, h, w, side, spec.reference, scale, rng)

    def other() -> int:
        return int(chosen[int(rng.integers(len(chosen)))])

    plans = []
    for index in chosen:
        if rng.random() < spec.mosaic:
            crops = tuple(crop(i, spec.size // 2, 0.65) for i in (index, other(), other(), other()))
        else:
            crops = (crop(index, spec.size),)
        mixed, colour = None, None
        if rng.random() < spec.mixup:
            share = float(rng.uniform(0.35, 0.65))
            mixed = share, crop(other(), spec.size)
        if spec.colour:
            gain = 1 + rng.uniform(-spec.colour, spec.colour)
            colour = gain, 128 * rng.uniform(-spec.colour, spec.colour)
        plans.append(ViewPlan(crops, mixed, colour))
    return tuple(plans)


def _render_crop(picture: Tensor, crop: Crop) -> Tensor:
    """Float (3, side, side) of whole values 0 … 255."""
    y0, x0, bh, bw = crop.window
    th, tw = crop.shown
    part = picture[:, y0 : y0 + bh, x0 : x0 + bw]
    if (th, tw) != (bh, bw):
        # On a CPU bytes are resampled three times faster than floats; a GPU has no such kernel.
        source = part if part.device.type == "cpu" else part.float()
        part = F.interpolate(source[None], (th, tw), mode="bilinear", antialias=True, align_corners=False)[0]
        if part.is_floating_point():
            part = part.round().clamp(0, 255)
    if crop.flip:
        part = part.flip(2)
    if (th, tw) == (crop.side, crop.side):
        return part.float()
    out = part.new_full((3, crop.side, crop.side), 127)
    oy, ox = crop.at
    out[:, oy : oy + th, ox : ox + tw] = part
    return out.float()


def render_views(store: PictureStore, plans: Sequence[ViewPlan]) -> Tensor:
    """The planned views: float32 (N, 3, size, size) in 0 … 255, channels-last, where the store's pictures are."""
    views = []
    for plan in plans:
        tiles = [_render_crop(store.pictures[c.index], c) for c in plan.crops]
        view = tiles[0] if len(tiles) == 1 else torch.cat([torch.cat(tiles[:2], 2), torch.cat(tiles[2:], 2)], 1)
        if plan.mixed is not None:
            share, crop = plan.mixed
            view = view * share + _render_crop(store.pictures[crop.index], crop) * (1 - share)
        if plan.colour is not None:
            gain, shift = plan.colour
            view = ((view - 127) * gain + 127 + shift).clamp(0, 255)
        views.append(view)
    return torch.stack(views).contiguous(memory_format=torch.channels_last)
