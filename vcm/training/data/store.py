"""Training pictures, read once and kept as bytes in memory, with what their folders say of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vcm.errors import ConfigError
from vcm.io.pictures import load_image
from vcm.structures import COCO_CLASSES, Classes
from vcm.training.data.annotations import GroundTruth, read_annotations

__all__ = ["PictureStore", "class_weights", "picture_folder", "picture_paths"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class PictureStore:
    """Pictures of one or more folders as uint8 CHW tensors, upright, transparency on white.

    Args:
        folders: folders with pictures, or with a subfolder ``images``; folders below them count.
        longest: pictures are shrunk to this longest side, pixels.
        holdout: pictures that are left out (validation), as they stand in :attr:`names`.
        threads: decoding threads.
        classes: of the annotations; others are left out.

    Attributes:
        pictures: uint8 (3, H, W), one per picture.
        names: ``folder/path`` of each picture, the path below the folder of pictures.
        pseudo: per picture the classes that the teacher saw (class index → best score).
        truth: per picture its objects in pixels of ``pictures``; ``None`` where the folder's ``instances.json`` does
            not list it, or there is none.

    Raises:
        ConfigError: a folder is absent or holds no picture.
        ImageError: a picture cannot be read.
        AnnotationError: an annotation file does not validate.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        longest: int = 448,
        holdout: Collection[str] = frozenset(),
        threads: int = 2,
        classes: Classes = COCO_CLASSES,
    ) -> None:
        self.names: list[str] = []
        self.pseudo: list[dict[int, float]] = []
        paths: list[Path] = []
        listed: list[tuple[GroundTruth, tuple[float, float]] | None] = []
        for folder in map(Path, folders):
            said = read_annotations(folder, classes)
            found = [p for p in picture_paths(folder) if f"{folder.name}/{p}" not in holdout]
            if not found:
                raise ConfigError("no pictures in the training folder", found=folder)
            self.names += [f"{folder.name}/{path}" for path in found]
            paths += [picture_folder(folder) / path for path in found]
            self.pseudo += [dict(said.seen.get(path, {})) for path in found]
            listed += [said.truth.get(path) for path in found]
        with ThreadPoolExecutor(threads) as pool:
            decoded = list(pool.map(lambda path: _decode(path, longest), paths))
        self.pictures: list[Tensor] = [picture for picture, _ in decoded]
        self.truth: list[GroundTruth | None] = []
        for entry, (picture, file_size) in zip(listed, decoded, strict=True):
            if entry is None:
                self.truth.append(None)
                continue
            # Boxes without a stated size are taken as of the file as it is.
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


def picture_folder(folder: Path) -> Path:
    """Where the pictures of a data folder lie: in ``images``, or in itself.

    Raises:
        ConfigError: it is not there.
    """
    inner = folder / "images" if (folder / "images").is_dir() else folder
    if not inner.is_dir():
        raise ConfigError("the training folder is not there", found=folder)
    return inner


def picture_paths(folder: Path) -> list[str]:
    """Paths of a data folder's pictures below :func:`picture_folder`, with ``/``, sorted.

    Raises:
        ConfigError: the folder is not there.
    """
    inner = picture_folder(folder)
    return sorted(p.relative_to(inner).as_posix() for p in inner.rglob("*") if p.suffix.lower() in _SUFFIXES)


def _decode(path: Path, longest: int) -> tuple[Tensor, tuple[int, int]]:
    """The picture, and its width and height as it stands upright in the file."""
    source = load_image(path, quiet=True)
    pixels, size = source.pixels, (source.width, source.height)
    if max(size) > longest:
        ratio = longest / max(size)
        small = max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
        pixels = np.array(Image.fromarray(pixels).resize(small, Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(2, 0, 1), size  # CHW view of HWC memory: channels-last


def class_weights(store: PictureStore, pivot: float = 1500.0, low: float = 0.5, high: float = 6.0) -> Tensor:
    """Loss weight of each class: sqrt(pivot / pictures that show it), clipped. Shape (80,)."""
    counts = torch.zeros(80)
    for classes in store.pseudo:
        for c in classes:
            counts[c] += 1
    return (pivot / counts.clamp(min=1)).sqrt().clamp(low, high)
