"""Training pictures, read once and kept as uint8 in memory; random views are cut on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vcm.errors import ConfigError
from vcm.training.annotations import GroundTruth, read_annotations

__all__ = [
    "PictureStore",
    "ViewObjects",
    "ViewPlan",
    "ViewSpec",
    "class_weights",
    "cut_labelled_views",
    "cut_views",
    "plan_views",
    "render_views",
    "view_objects",
]

LEAST_SHARE = 0.25
LEAST_SIDE = 4.0
"""A box stays in a view with at least this share of its area, and sides of at least this many pixels."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


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


def _decode(path: Path, longest: int) -> tuple[Tensor, tuple[int, int]]:
    """The picture, and its width and height in the file."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    size = rgb.size
    if max(rgb.size) > longest:
        ratio = longest / max(rgb.size)
        rgb = rgb.resize(
            (max(1, round(rgb.width * ratio)), max(1, round(rgb.height * ratio))), Image.Resampling.LANCZOS
        )
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1), size  # CHW view of HWC memory: channels-last


class PictureStore:
    """Pictures of one or more folders as uint8 CHW tensors.

    Args:
        folders: folders with pictures, or with a subfolder ``images``.
        longest: pictures are shrunk to this longest side, pixels.
        holdout: file names that are left out (validation pictures).
        threads: decoding threads.

    Attributes:
        pictures: uint8 (3, H, W), one per picture.
        names: ``folder/file`` of each picture.
        pseudo: per picture the classes that the teacher saw (class index → best score).
        truth: per picture its objects in pixels of ``pictures``; ``None`` where the folder's ``instances.json`` does
            not list it, or there is none.

    Raises:
        ConfigError: a folder is absent or holds no picture.
        AnnotationError: an annotation file does not validate.
    """

    def __init__(
        self, folders: Sequence[str | Path], longest: int = 448, holdout: frozenset[str] = frozenset(), threads: int = 2
    ) -> None:
        paths: list[Path] = []
        listed: list[tuple[GroundTruth, tuple[float, float]] | None] = []
        self.pseudo: list[dict[int, float]] = []
        for folder in map(Path, folders):
            found = [p for p in sorted(_pictures(folder)) if f"{folder.name}/{p.name}" not in holdout]
            if not found:
                raise ConfigError("no pictures in the training folder", found=folder)
            paths += found
            said = read_annotations(folder)
            self.pseudo += [dict(said.seen.get(p.name, {})) for p in found]
            listed += [said.truth.get(p.name) for p in found]
        self.names = [f"{(p.parent.parent if p.parent.name == 'images' else p.parent).name}/{p.name}" for p in paths]
        with ThreadPoolExecutor(threads) as pool:
            decoded = list(pool.map(lambda p: _decode(p, longest), paths))
        self.pictures: list[Tensor] = [picture for picture, _ in decoded]
        self.truth: list[GroundTruth | None] = []
        for entry, (picture, file_size) in zip(listed, decoded, strict=True):
            if entry is None:
                self.truth.append(None)
                continue
            width, height = (stated or real for stated, real in zip(entry[1], file_size, strict=True))
            self.truth.append(entry[0].scaled(picture.shape[2] / width, picture.shape[1] / height))

    def __len__(self) -> int:
        return len(self.pictures)

    def to(self, device: torch.device, most: float = 0.5) -> None:
        """Move the pictures to a GPU where they take at most this share of its free memory; else they stay."""
        if device.type == "cuda" and sum(p.numel() for p in self.pictures) <= most * torch.cuda.mem_get_info(device)[0]:
            self.pictures = [p.to(device) for p in self.pictures]

    def sampling_weights(self, balance: float) -> Tensor:
        """Weight of each picture: 1, plus ``balance`` × the rarity of its rarest class (0 samples uniformly)."""
        counts = torch.zeros(80)
        for classes in self.pseudo:
            for c in classes:
                counts[c] += 1
        rarity = (counts.max().clamp(min=1) / counts.clamp(min=1)).sqrt().clamp(max=6)
        weights = [
            1 + balance * max((float(rarity[c]) * s for c, s in classes.items()), default=0.0)
            for classes in self.pseudo
        ]
        return torch.tensor(weights)


def _pictures(folder: Path) -> Iterator[Path]:
    inner = folder / "images" if (folder / "images").is_dir() else folder
    if not inner.is_dir():
        raise ConfigError("the training folder is not there", found=folder)
    return (p for p in inner.iterdir() if p.suffix.lower() in _SUFFIXES)


def class_weights(store: PictureStore, pivot: float = 1500.0, low: float = 0.5, high: float = 6.0) -> Tensor:
    """Loss weight of each class: sqrt(pivot / pictures that show it), clipped. Shape (80,)."""
    counts = torch.zeros(80)
    for classes in store.pseudo:
        for c in classes:
            counts[c] += 1
    return (pivot / counts.clamp(min=1)).sqrt().clamp(low, high)


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


Array = npt.NDArray[np.float32]


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


def cut_views(store: PictureStore, chosen: Sequence[int], spec: ViewSpec, rng: np.random.Generator) -> Tensor:
    """A batch of random views of the pictures ``chosen`` (mosaic and mixup draw further ones of them at random).

    Returns:
        float32 (N, 3, size, size) in 0 … 255, channels-last.
    """
    return render_views(store, plan_views(store, chosen, spec, rng))


def cut_labelled_views(
    store: PictureStore, chosen: Sequence[int], spec: ViewSpec, rng: np.random.Generator
) -> tuple[Tensor, ViewObjects]:
    """The views of :func:`cut_views` for the same ``rng``, and their objects (:func:`view_objects`)."""
    plans = plan_views(store, chosen, spec, rng)
    return render_views(store, plans), view_objects(store, plans)
