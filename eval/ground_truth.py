"""What a detector is measured against: boxes of a COCO JSON, of arrays, or (see :mod:`vcm.eval.pseudo`) of a detector.

A COCO file is checked field by field when it is read, so that a nonsensical file is one clear line here and not a wrong
mAP later. Category ids may have gaps; crowd boxes are kept and marked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import AnnotationError, LimitError, OptionError

__all__ = ["MAX_JSON_BYTES", "MAX_SIDE", "Category", "CocoGroundTruth", "CocoImage"]

MAX_JSON_BYTES = 1 << 30
"""Largest annotation file that is read (COCO's largest, train2017 instances, has 0.45 GB)."""

MAX_SIDE = 65_535
"""Largest width or height of a picture."""

MAX_COORDINATE = 1e10
"""Largest box coordinate or area; COCO's own evaluation ignores larger areas without a word."""


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One picture of a data set.

    Attributes:
        id: the data set's id of it.
        file_name: path below the data set's picture folder, with ``/``; never absolute and never with ``..``.
        width: pixels.
        height: pixels.
    """

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Category:
    """One class of a data set, by the data set's own id (COCO's ids have gaps)."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class CocoGroundTruth:
    """Boxes of a set of pictures. Made by :meth:`from_json` or :meth:`from_boxes`, which check it.

    Attributes:
        name: what reports call it, such as ``"coco-dev"``.
        images: pictures by ascending id.
        categories: classes by ascending id.
        boxes: float64 ``(N, 4)``: x, y, width, height in pixels, COCO's ``bbox``.
        box_images: int64 ``(N,)``, picture id of each box.
        box_categories: int64 ``(N,)``, category id of each box.
        areas: float64 ``(N,)``, COCO's ``area`` (of the segmentation, where there is one) in square pixels.
        crowd: bool ``(N,)``: COCO's ``iscrowd``. Such a box counts neither as found nor as missed, and takes in any
            number of detections without penalty.
        pseudo: whether the boxes are a detector's own output rather than annotations.
    """

    name: str
    images: tuple[CocoImage, ...] = field(repr=False)
    categories: tuple[Category, ...] = field(repr=False)
    boxes: npt.NDArray[np.float64] = field(repr=False)
    box_images: npt.NDArray[np.int64] = field(repr=False)
    box_categories: npt.NDArray[np.int64] = field(repr=False)
    areas: npt.NDArray[np.float64] = field(repr=False)
    crowd: npt.NDArray[np.bool_] = field(repr=False)
    pseudo: bool = False

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the pictures, ascending."""
        return tuple(image.id for image in self.images)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Ids of the classes, ascending."""
        return tuple(category.id for category in self.categories)

    def boxes_per_category(self) -> tuple[int, ...]:
        """Number of boxes of each class, crowd boxes not counted, in the order of :attr:`categories`."""
        ids = self.box_categories[~self.crowd]
        return tuple(int(np.count_nonzero(ids == c)) for c in self.category_ids)

    def category_id(self, name: str) -> int | None:
        """Id of the class of that name, or ``None`` when there is no such class."""
        return next((c.id for c in self.categories if c.name == name), None)

    def select(self, image_ids: Collection[int]) -> CocoGroundTruth:
        """The same ground truth for some of the pictures.

        Raises:
            OptionError: when an id is not of a picture here.
        """
        wanted = {int(i) for i in image_ids}
        unknown = wanted - set(self.image_ids)
        if unknown:
            raise OptionError(
                f"no such picture in {self.name!r}", expected="ids of its pictures", found=sorted(unknown)[:5]
            )
        keep = np.isin(self.box_images, list(wanted))
        return CocoGroundTruth(
            name=self.name,
            images=tuple(image for image in self.images if image.id in wanted),
            categories=self.categories,
            boxes=self.boxes[keep],
            box_images=self.box_images[keep],
            box_categories=self.box_categories[keep],
            areas=self.areas[keep],
            crowd=self.crowd[keep],
            pseudo=self.pseudo,
        )

    def to_coco(self) -> dict[str, Any]:
        """The COCO JSON form: images, categories, and annotations numbered from 1."""
        # From 1: pycocotools takes annotation id 0 for "not matched".
        return {
            "images": [
                {"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height} for i in self.images
            ],
            "categories": [{"id": c.id, "name": c.name} for c in self.categories],
            "annotations": [
                {
                    "id": k + 1,
                    "image_id": int(self.box_images[k]),
                    "category_id": int(self.box_categories[k]),
                    "bbox": [float(v) for v in self.boxes[k]],
                    "area": float(self.areas[k]),
                    "iscrowd": int(self.crowd[k]),
                }
                for k in range(len(self.boxes))
            ],
        }

    @classmethod
    def from_json(
        cls, path: str | Path, image_ids: Collection[int] | None = None, *, name: str | None = None
    ) -> CocoGroundTruth:
        """Read and check a COCO *instances* file. Segmentations are not read.

        Args:
            path: the JSON file.
            image_ids: take only these pictures and their boxes; ``None`` takes all.
            name: what reports call it; by default the file's stem, or its folder's name for ``instances.json``.

        Raises:
            AnnotationError: the file is absent, is not JSON, or a field is missing, of a wrong type or out of its
                range.
            LimitError: the file is larger than :data:`MAX_JSON_BYTES`.
            OptionError: an id in ``image_ids`` is not in the file.
        """
        path = Path(path)
        try:
            size = path.stat().st_size
            if size > MAX_JSON_BYTES:
                raise LimitError(f"{path} is too large", expected=f"at most {MAX_JSON_BYTES} bytes", found=size)
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise AnnotationError(f"{path} cannot be read: {error.strerror}") from error
        # RecursionError: deeply nested lists. ValueError covers both bad JSON and bad UTF-8.
        except (ValueError, RecursionError) as error:
            raise AnnotationError(f"{path} is not JSON", expected="COCO instances", found=error) from error
        if name is None:
            name = path.resolve().parent.name if path.stem == "instances" else path.stem
        whole = _from_rows(name, data)
        return whole if image_ids is None else whole.select(image_ids)

    @classmethod
    def from_boxes(
        cls,
        name: str,
        images: Sequence[CocoImage],
        categories: Sequence[Category],
        boxes: Mapping[int, tuple[npt.ArrayLike, Sequence[int]]],
        *,
        crowd: Mapping[int, Sequence[bool]] | None = None,
        pseudo: bool = False,
    ) -> CocoGroundTruth:
        """Ground truth of arrays.

        Args:
            name: what reports call it.
            images: the pictures.
            categories: the classes.
            boxes: by picture id: ``(n, 4)`` boxes as x1, y1, x2, y2 in pixels, and their ``n`` category ids. A picture
                without an entry has no boxes.
            crowd: by picture id: which of its boxes are crowds; a picture without an entry has none.
            pseudo: whether the boxes are a detector's own output.

        Raises:
            AnnotationError: a box, id or size does not validate.
        """
        rows: list[dict[str, Any]] = []
        for image_id, (corners, ids) in boxes.items():
            xyxy = np.asarray(corners, dtype=np.float64).reshape(-1, 4)
            crowds = (crowd or {}).get(image_id, [False] * len(xyxy))
            if not len(xyxy) == len(ids) == len(crowds):
                raise AnnotationError(
                    f"picture {image_id} needs one category id and one crowd mark a box",
                    expected=len(xyxy),
                    found=(len(ids), len(crowds)),
                )
            for (x1, y1, x2, y2), category_id, is_crowd in zip(xyxy.tolist(), ids, crowds, strict=True):
                box = [x1, y1, x2 - x1, y2 - y1]
                rows.append(
                    {"image_id": image_id, "category_id": int(category_id), "bbox": box, "iscrowd": int(is_crowd)}
                )
        data = {
            "images": [{"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height} for i in images],
            "categories": [{"id": c.id, "name": c.name} for c in categories],
            "annotations": rows,
        }
        return _from_rows(name, data, pseudo=pseudo)


def _from_rows(name: str, data: object, *, pseudo: bool = False) -> CocoGroundTruth:
    """Check the parsed JSON and lay it out as arrays."""
    if not isinstance(data, dict):
        raise AnnotationError(f"{name}: not a COCO file", expected="an object", found=type(data).__name__)
    images = [_image(row, f"{name}: images[{k}]") for k, row in enumerate(_rows(data, "images", name))]
    categories = [_category(row, f"{name}: categories[{k}]") for k, row in enumerate(_rows(data, "categories", name))]
    image_ids, category_ids = _unique(images, f"{name}: images"), _unique(categories, f"{name}: categories")
    annotations = _rows(data, "annotations", name)
    boxes = np.zeros((len(annotations), 4), np.float64)
    box_images, box_categories = np.zeros((2, len(annotations)), np.int64)
    areas = np.zeros(len(annotations), np.float64)
    crowd = np.zeros(len(annotations), np.bool_)
    for k, row in enumerate(annotations):
        where = f"{name}: annotations[{k}]"
        box_images[k] = _known(row, "image_id", image_ids, where)
        box_categories[k] = _known(row, "category_id", category_ids, where)
        boxes[k] = _box(row, where)
        areas[k] = _number(row["area"], f"{where}.area") if "area" in row else boxes[k, 2] * boxes[k, 3]
        crowd[k] = _integer(row, "iscrowd", where, 0, 1) if "iscrowd" in row else 0
    return CocoGroundTruth(
        name=name,
        images=tuple(sorted(images, key=lambda i: i.id)),
        categories=tuple(sorted(categories, key=lambda c: c.id)),
        boxes=boxes,
        box_images=box_images,
        box_categories=box_categories,
        areas=areas,
        crowd=crowd,
        pseudo=pseudo,
    )


def _rows(data: dict[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    rows = data.get(key)
    if not isinstance(rows, list):
        raise AnnotationError(f"{name}: {key} is not a list", expected="a list", found=type(rows).__name__)
    for k, row in enumerate(rows):
        if not isinstance(row, dict):
            raise AnnotationError(f"{name}: {key}[{k}]", expected="an object", found=type(row).__name__)
    return rows


def _image(row: dict[str, Any], where: str) -> CocoImage:
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name or "\\" in file_name or "\0" in file_name:
        raise AnnotationError(f"{where}.file_name", expected="a relative path with /", found=file_name)
    path = PurePosixPath(file_name)
    # A data set must not make us read files outside its own folder.
    if path.is_absolute() or ".." in path.parts:
        raise AnnotationError(f"{where}.file_name leaves its folder", expected="a relative path", found=file_name)
    width, height = (_integer(row, side, where, 1, MAX_SIDE) for side in ("width", "height"))
    return CocoImage(_integer(row, "id", where, 0, 2**63 - 1), file_name, width, height)


def _category(row: dict[str, Any], where: str) -> Category:
    name = row.get("name")
    if not isinstance(name, str) or not name:
        raise AnnotationError(f"{where}.name", expected="a string", found=name)
    return Category(_integer(row, "id", where, 0, 2**63 - 1), name)


def _unique(items: Sequence[CocoImage | Category], where: str) -> set[int]:
    seen: set[int] = set()
    for item in items:
        if item.id in seen:
            raise AnnotationError(f"{where}: id there twice", expected="unique ids", found=item.id)
        seen.add(item.id)
    return seen


def _integer(row: dict[str, Any], key: str, where: str, low: int, high: int) -> int:
    value = row.get(key)
    # bool is an int in Python and is meant for iscrowd by some writers; nowhere else.
    wrong = not isinstance(value, int) or (isinstance(value, bool) and key != "iscrowd")
    if wrong or not low <= value <= high:  # type: ignore[operator]
        raise AnnotationError(f"{where}.{key}", expected=f"an integer {low} … {high}", found=value)
    return int(value)  # type: ignore[arg-type]


def _number(value: object, where: str) -> float:
    # The bound keeps out infinities, NaN, and integers that no float holds.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= MAX_COORDINATE:
        raise AnnotationError(where, expected=f"a number of at most {MAX_COORDINATE:g} in size", found=value)
    return float(value)


def _known(row: dict[str, Any], key: str, known: set[int], where: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value not in known:
        raise AnnotationError(f"{where}.{key}", expected="an id of this file", found=value)
    return value


def _box(row: dict[str, Any], where: str) -> list[float]:
    values = row.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise AnnotationError(f"{where}.bbox", expected="[x, y, width, height]", found=values)
    box = [_number(v, f"{where}.bbox") for v in values]
    # COCO itself has a few boxes of zero width; negative sides are corners taken for sizes.
    if box[2] < 0 or box[3] < 0:
        raise AnnotationError(f"{where}.bbox", expected="width and height >= 0", found=values)
    return box
