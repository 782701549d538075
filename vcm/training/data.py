"""Training pictures, read once and kept as uint8 in memory; random views are cut on the device."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vcm.errors import ConfigError
from vcm.structures import COCO_CATEGORY_IDS

__all__ = ["PictureStore", "ViewSpec", "class_weights", "cut_views"]

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


def _decode(path: Path, longest: int) -> Tensor:
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    if max(rgb.size) > longest:
        ratio = longest / max(rgb.size)
        rgb = rgb.resize(
            (max(1, round(rgb.width * ratio)), max(1, round(rgb.height * ratio))), Image.Resampling.LANCZOS
        )
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)  # CHW view of HWC memory: channels-last


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

    Raises:
        ConfigError: a folder is absent or holds no picture.
    """

    def __init__(
        self, folders: Sequence[str | Path], longest: int = 448, holdout: frozenset[str] = frozenset(), threads: int = 2
    ) -> None:
        paths: list[Path] = []
        self.pseudo: list[dict[int, float]] = []
        for folder in map(Path, folders):
            found = [p for p in sorted(_pictures(folder)) if f"{folder.name}/{p.name}" not in holdout]
            if not found:
                raise ConfigError("no pictures in the training folder", found=folder)
            paths += found
            seen = _pseudo_classes(folder)
            self.pseudo += [seen.get(p.name, {}) for p in found]
        self.names = [f"{(p.parent.parent if p.parent.name == 'images' else p.parent).name}/{p.name}" for p in paths]
        with ThreadPoolExecutor(threads) as pool:
            self.pictures: list[Tensor] = list(pool.map(lambda p: _decode(p, longest), paths))

    def __len__(self) -> int:
        return len(self.pictures)

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


def _pseudo_classes(folder: Path) -> dict[str, dict[int, float]]:
    """File name → class index → best teacher score, from ``pseudo.json`` where there is one."""
    path = folder / "pseudo.json"
    if not path.is_file():
        return {}
    names: dict[object, str] = {}
    if (folder / "instances.json").is_file():
        content = json.loads((folder / "instances.json").read_text())
        names = {i["id"]: i["file_name"] for i in content["images"]}
    index = {c: i for i, c in enumerate(COCO_CATEGORY_IDS)}
    out: dict[str, dict[int, float]] = {}
    for row in json.loads(path.read_text()):
        name = str(names.get(row.get("image_id"), row.get("file_name", row.get("image_id"))))
        classes = out.setdefault(Path(name).name, {})
        c = index[row["category_id"]]
        classes[c] = max(classes.get(c, 0.0), float(row["score"]))
    return out


def class_weights(store: PictureStore, pivot: float = 1500.0, low: float = 0.5, high: float = 6.0) -> Tensor:
    """Loss weight of each class: sqrt(pivot / pictures that show it), clipped. Shape (80,)."""
    counts = torch.zeros(80)
    for classes in store.pseudo:
        for c in classes:
            counts[c] += 1
    return (pivot / counts.clamp(min=1)).sqrt().clamp(low, high)


def _cut(picture: Tensor, size: int, reference: int, scale: float, rng: np.random.Generator) -> Tensor:
    """One crop of ``size``², uint8 CHW. The window is chosen in source pixels, so only what is seen is resampled."""
    _, h, w = picture.shape
    ratio = (reference / max(h, w) if reference else 1.0) * scale
    window = size / ratio
    bh, bw = min(h, math.ceil(window)), min(w, math.ceil(window))
    y0 = int(rng.integers(0, h - bh + 1))
    x0 = int(rng.integers(0, w - bw + 1))
    th, tw = min(size, max(1, round(bh * ratio))), min(size, max(1, round(bw * ratio)))
    part = picture[:, y0 : y0 + bh, x0 : x0 + bw]
    if (th, tw) != (bh, bw):
        part = F.interpolate(part[None], (th, tw), mode="bilinear", antialias=True, align_corners=False)[0]
    if rng.random() < 0.5:
        part = part.flip(2)
    if (th, tw) == (size, size):
        return part
    out = picture.new_full((3, size, size), 127)
    oy, ox = int(rng.integers(0, size - th + 1)), int(rng.integers(0, size - tw + 1))
    out[:, oy : oy + th, ox : ox + tw] = part
    return out


def cut_views(store: PictureStore, chosen: Sequence[int], spec: ViewSpec, rng: np.random.Generator) -> Tensor:
    """A batch of random views of the pictures ``chosen`` (mosaic and mixup draw further pictures at random).

    Returns:
        float32 (N, 3, size, size) in 0 … 255, channels-last.
    """

    def one(index: int, size: int, shrink: float = 1.0) -> Tensor:
        low, high = spec.scale
        scale = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * shrink
        return _cut(store.pictures[index], size, spec.reference, scale, rng)

    def other() -> int:
        return int(chosen[int(rng.integers(len(chosen)))])

    views = []
    for index in chosen:
        if rng.random() < spec.mosaic:
            half = spec.size // 2
            quarters = [one(i, half, 0.65) for i in (index, other(), other(), other())]
            view = torch.cat([torch.cat(quarters[:2], 2), torch.cat(quarters[2:], 2)], 1).float()
        else:
            view = one(index, spec.size).float()
        if rng.random() < spec.mixup:
            share = float(rng.uniform(0.35, 0.65))
            view = view * share + one(other(), spec.size).float() * (1 - share)
        if spec.colour:
            gain, shift = 1 + rng.uniform(-spec.colour, spec.colour), 128 * rng.uniform(-spec.colour, spec.colour)
            view = ((view - 127) * gain + 127 + shift).clamp(0, 255)
        views.append(view)
    return torch.stack(views).contiguous(memory_format=torch.channels_last)
