"""Pictures to evaluate on: a folder in one of the usual layouts becomes a :class:`Dataset`.

=============  ======================================================================================
layout         what lies in the folder
=============  ======================================================================================
``coco``       ``instances.json`` or ``annotations/instances_*.json``; pictures in ``images/``, in a folder
               named after the JSON file (``instances_val2017.json``: ``val2017/``), or beside it
``openimages`` a CSV of boxes (see :mod:`vcm.eval.data.openimages`); pictures named after its ImageID
``kodak``      ``kodim01`` … ``kodim24``; distortion only
``clic``       pictures in subfolders such as ``professional/valid`` and ``mobile/valid``; distortion only
``plain``      any pictures, subfolders included; distortion only
=============  ======================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from PIL import ExifTags
from PIL import Image as PilImage

from vcm.codecs.protocol import Image
from vcm.errors import ImageError, OptionError
from vcm.eval.data.openimages import find_boxes_csv, load_openimages
from vcm.io.coco import CocoGroundTruth
from vcm.io.pictures import load_image

__all__ = ["SUFFIXES", "Dataset", "Layout", "Picture", "load_dataset", "read_picture"]

Layout = Literal["auto", "coco", "openimages", "kodak", "clic", "plain"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif"})
"""File name endings that count as pictures, lower case."""

_KODIM = re.compile(r"kodim\d\d$")
_CLIC = re.compile(r"(^|[/_])(professional|mobile|valid|test|val)")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a data set.

    Attributes:
        id: the data set's id, or the position in the list where it has none.
        name: path below the data set's folder, with ``/``.
        path: the file.
        size: ``(width, height)`` that the annotations claim, or ``None`` where there are none.
    """

    id: int
    name: str
    path: Path
    size: tuple[int, int] | None = None

    def digest(self) -> str:
        """SHA-256 of the file, 64 hex digits; empty where it cannot be read."""
        try:
            return sha256(self.path.read_bytes()).hexdigest()
        except OSError:
            return ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures, and their boxes where they have any.

    Attributes:
        name: name in reports.
        root: folder.
        layout: which of the layouts it has.
        pictures: sorted by name (by id where there are annotations).
        ground_truth: boxes of exactly these pictures, or ``None``: distortion only.
        notes: what a reader of the report must know of the data.
        missing: pictures that the annotations name and the folder lacks: (name, reason).
    """

    name: str
    root: Path
    layout: str
    pictures: tuple[Picture, ...]
    ground_truth: CocoGroundTruth | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    def spread(self, count: int) -> tuple[Picture, ...]:
        """At most ``count`` pictures, evenly over the list."""
        count = min(count, len(self.pictures))
        return tuple(self.pictures[(2 * i + 1) * len(self.pictures) // (2 * count)] for i in range(count))

    def first(self, limit: int | None) -> Dataset:
        """The first ``limit`` pictures (``None``: all), with their boxes.

        Raises:
            OptionError: ``limit`` is below 1.
        """
        if limit is None or limit >= len(self.pictures):
            return self
        if limit < 1:
            raise OptionError("limit is out of range", expected="at least 1", found=limit)
        kept = self.pictures[:limit]
        truth = self.ground_truth.select([p.id for p in kept]) if self.ground_truth else None
        note = f"the first {limit} of {len(self.pictures)} pictures"
        return replace(self, pictures=kept, ground_truth=truth, notes=(*self.notes, note))


def load_dataset(root: str | Path, layout: Layout = "auto") -> Dataset:
    """List a folder's pictures and read its annotations. No picture is opened.

    Args:
        root: the folder (or, for COCO, the JSON file).
        layout: ``auto`` takes the first of coco, openimages, kodak, clic, plain that fits.

    Raises:
        OptionError: no such folder, an unknown layout, or no picture in it.
        AnnotationError: the annotations do not validate.
    """
    root = Path(root)
    if layout not in get_args(Layout):
        raise OptionError("no such layout", expected=", ".join(get_args(Layout)), found=layout)
    if not root.exists():
        raise OptionError("no such data folder", found=root)
    if layout == "auto":
        layout = _detect_layout(root)
    dataset = _coco(root) if layout == "coco" else _openimages(root) if layout == "openimages" else _plain(root, layout)
    if not dataset.pictures:
        raise OptionError(f"no pictures in {root}", expected="files ending in " + " ".join(sorted(SUFFIXES)))
    return dataset


def read_picture(picture: Picture) -> tuple[Image, str]:
    """Pixels, upright, and the SHA-256 of the file.

    Raises:
        ImageError: the file cannot be read as a picture, or has another size than the annotations claim.
    """
    try:
        digest = sha256(picture.path.read_bytes()).hexdigest()
    except OSError as error:
        raise ImageError(f"{picture.name}: cannot be read", found=error.strerror) from error
    pixels = load_image(picture.path, quiet=True).pixels  # an evaluation looks at what is coded
    size = (pixels.shape[1], pixels.shape[0])
    if picture.size not in (None, size):
        raise ImageError(f"{picture.name}: size differs from the annotations", expected=picture.size, found=size)
    return pixels, digest


def _detect_layout(root: Path) -> Layout:
    if _coco_json(root) is not None:
        return "coco"
    if find_boxes_csv(root) is not None:
        return "openimages"
    files = _pictures_in(root)
    if files and all(_KODIM.match(path.stem) for path in files):
        return "kodak"
    if files and all(_CLIC.search(str(path.relative_to(root))) for path in files):
        return "clic"
    return "plain"


def _pictures_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _plain(root: Path, layout: str) -> Dataset:
    if not root.is_dir():
        raise OptionError("not a folder of pictures", found=root)
    files = _pictures_in(root)
    if layout == "kodak":
        files = [path for path in files if _KODIM.match(path.stem)]
    pictures = tuple(Picture(i, path.relative_to(root).as_posix(), path) for i, path in enumerate(files))
    notes: tuple[str, ...] = ()
    if layout == "kodak" and len(pictures) != 24:
        notes = (f"Kodak has 24 pictures; this folder has {len(pictures)}",)
    return Dataset(root.resolve().name, root, layout, pictures, notes=notes)


def _coco_json(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix == ".json" else None
    found = [root / "instances.json", *sorted((root / "annotations").glob("instances_*.json"))]
    return next((path for path in found if path.is_file()), None)


def _coco(root: Path) -> Dataset:
    path = _coco_json(root)
    if path is None:
        raise OptionError("not a COCO folder", expected="instances.json or annotations/instances_*.json", found=root)
    truth = CocoGroundTruth.from_json(path)
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    places = [folder / "images", folder / path.stem.removeprefix("instances_"), folder]
    # One folder holds them all: the first that has the first picture.
    place = next((p for p in places if truth.images and (p / truth.images[0].file_name).is_file()), places[0])
    pictures, missing = [], []
    for image in truth.images:
        file = place / image.file_name
        if file.is_file():
            pictures.append(Picture(image.id, image.file_name, file, (image.width, image.height)))
        else:
            missing.append((image.file_name, f"not in {place}"))
    kept = truth.select([p.id for p in pictures]) if missing else truth
    return Dataset(truth.name, folder, "coco", tuple(pictures), kept, missing=tuple(missing))


def _openimages(root: Path) -> Dataset:
    files = {path.stem: path for path in _pictures_in(root)}
    truth, dropped = load_openimages(root, {stem: _header_size(path) for stem, path in files.items()})
    pictures = tuple(
        Picture(i.id, i.file_name, files[i.file_name], (i.width, i.height))
        for i in truth.images
        if i.file_name in files
    )
    missing = tuple((name, "named by the CSV and not in the folder, or unreadable") for name in dropped)
    notes = ("OpenImages boxes under COCO's class names; boxes of groups count as crowds",)
    return Dataset(truth.name, root, "openimages", pictures, truth, notes, missing)


def _header_size(path: Path) -> tuple[int, int] | None:
    """Upright size from the file's header, for boxes that are given as fractions; ``None`` where it is unreadable."""
    try:
        with PilImage.open(path) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return picture.size[::-1] if turned else picture.size
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError):
        return None
