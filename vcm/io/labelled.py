"""Folders whose pictures have a class each (ImageFolder), or a class for every pixel (VOC's layout, or masks beside
pictures)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vcm.errors import AnnotationError, ConfigError
from vcm.limits import MAX_PIXELS

__all__ = ["PICTURE_SUFFIXES", "UNLABELLED", "VOC_NAMES", "ImageFolder", "MaskFolder", "read_mask"]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""Of files that are taken for pictures."""

UNLABELLED = 255
"""Value of pixels that count neither as right nor as wrong (VOC's borders)."""

VOC_NAMES: tuple[str, ...] = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Pascal VOC's classes by the value of a pixel of ``SegmentationClass``."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Pictures in one folder a class, as torchvision's ``ImageFolder`` has them.

    Attributes:
        names: of the classes: names of the folders, sorted.
        paths: pictures, sorted within each class.
        labels: class index of each picture.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...] = field(repr=False)
    labels: tuple[int, ...] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> ImageFolder:
        """Find the pictures of a folder.

        Raises:
            ConfigError: it has not two folders with pictures.
        """
        if not folder.is_dir():
            raise ConfigError("the folder is not there", found=folder)
        found = {
            part.name: sorted(p for p in part.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
            for part in sorted(folder.iterdir())
            if part.is_dir()
        }
        found = {name: paths for name, paths in found.items() if paths}
        if len(found) < 2:
            expected = "at least two folders with pictures, one a class"
            raise ConfigError(f"{folder} is no ImageFolder", expected=expected, found=len(found))
        pairs = [(path, label) for label, paths in enumerate(found.values()) for path in paths]
        return cls(tuple(found), tuple(p for p, _ in pairs), tuple(label for _, label in pairs))


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Pictures with a PNG each whose pixels are class indexes, :data:`UNLABELLED` for none.

    Attributes:
        names: of the classes, by pixel value.
        paths: pictures, sorted.
        masks: the PNG of each.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...] = field(repr=False)
    masks: tuple[Path, ...] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> MaskFolder:
        """Find pictures and masks: ``JPEGImages`` and ``SegmentationClass`` (VOC), or ``images`` and ``masks``.

        Names are the lines of ``classes.txt``, or VOC's in VOC's layout. Pictures without a mask are left out.

        Raises:
            ConfigError: there are no such folders, no picture with a mask, or no names.
        """
        for pictures, masks in (("JPEGImages", "SegmentationClass"), ("images", "masks")):
            if (folder / pictures).is_dir() and (folder / masks).is_dir():
                break
        else:
            expected = "JPEGImages and SegmentationClass, or images and masks"
            raise ConfigError(f"{folder} has no pictures with masks", expected=expected)
        listed = folder / "classes.txt"
        if listed.is_file():
            names = tuple(line.strip() for line in listed.read_text().splitlines() if line.strip())
        elif masks == "SegmentationClass":
            names = VOC_NAMES
        else:
            raise ConfigError("classes need names", expected=listed)
        by_stem = {p.stem: p for p in sorted((folder / masks).glob("*.png"))}
        paths = [
            p
            for p in sorted((folder / pictures).iterdir())
            if p.suffix.lower() in PICTURE_SUFFIXES and p.stem in by_stem
        ]
        if not paths or not 2 <= len(names) <= UNLABELLED:
            found = f"{len(paths)} pictures with a mask, {len(names)} names"
            raise ConfigError(
                f"{folder} has nothing to segment", expected="pictures with masks, 2 to 255 names", found=found
            )
        return cls(names, tuple(paths), tuple(by_stem[p.stem] for p in paths))


def read_mask(path: Path, classes: int) -> npt.NDArray[np.uint8]:
    """The class index of each pixel: uint8 (H, W). Palettes are not looked up: the index is the class.

    Args:
        path: PNG of one channel.
        classes: how many there are.

    Raises:
        AnnotationError: it cannot be read, is of several channels or too large, or has an index that is none.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L") or picture.width * picture.height > MAX_PIXELS:
                expected = f"one channel of 8 bits, at most {MAX_PIXELS} pixels"
                raise AnnotationError(f"{path} is no mask", expected=expected, found=f"{picture.mode} {picture.size}")
            mask = np.array(picture, np.uint8)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read", found=str(error)) from error
    worst = int(mask[mask != UNLABELLED].max(initial=0))
    if worst >= classes:
        raise AnnotationError(f"{path} has a class that is none", expected=f"0 to {classes - 1}, or 255", found=worst)
    return mask
