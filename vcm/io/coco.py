"""COCO's JSON files: annotations (*instances*, keypoints) and results of detectors. The only reader of them.

A file is checked field by field when it is read, so that a nonsensical file is one clear line here and not a wrong mAP
or a wrong lesson later. Category ids may have gaps; crowd boxes are kept and marked. Pictures are known by their path
below the data set's picture folder, never by their base name: ``a/1.jpg`` and ``b/1.jpg`` are two pictures.

Formats: https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
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
from vcm.limits import MAX_SIDE
from vcm.structures import COCO_CATEGORY_IDS, COCO_NAMES

__all__ = [
    "COCO_CATEGORIES", "MAX_JSON_BYTES", "Category", "CocoGroundTruth", "CocoImage", "CocoResults",
    "read_results",
]  # fmt: skip

MAX_JSON_BYTES = 1 << 30
"""Largest annotation file that is read (COCO's largest, train2017 instances, has 0.45 GB)."""

MAX_COORDINATE = 1e10
"""Largest box coordinate or area; COCO's own evaluation ignores larger areas without a word."""


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One picture of a data set.

    Attributes:
        id: the data set's id of it.
        file_name: path below the data set's picture folder, with ``/`` and without ``.`` parts; never absolute and
            never with ``..``.
        width: pixels; 0 where a partial file does not tell.
        height: likewise.
    """

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Category:
    """One class of a data set.

    Attributes:
        id: the data set's own (COCO's ids have gaps).
        name: what it is called.
    """

    id: int
    name: str


COCO_CATEGORIES: tuple[Category, ...] = tuple(map(Category, COCO_CATEGORY_IDS, COCO_NAMES))
"""COCO's 80 classes."""


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
        keypoint_names: in the order of the file; empty where no keypoints were asked for.
        keypoints: float64 ``(N, K, 3)``: x, y in pixels, and COCO's visibility: 0 not labelled, 1 hidden, 2 visible.
            Boxes without keypoints have only zeros.
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
    keypoint_names: tuple[str, ...] = ()
    keypoints: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0, 3)), repr=False)
    pseudo: bool = False

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the pictures, ascending."""
        return tuple(image.id for image in self.images)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Ids of the classes, ascending."""
        return tuple(category.id for category in self.categories)

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """:attr:`boxes` as x1, y1, x2, y2: float64 ``(N, 4)``."""
        return _corners(self.boxes)

    def rows(self) -> dict[str, npt.NDArray[np.int64]]:
        """Which boxes are a picture's, by its ``file_name``: int64 indexes, ascending, maybe none; every picture."""
        parts = _split(self.box_images, self.image_ids)
        return {image.file_name: part for image, part in zip(self.images, parts, strict=True)}

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
            keypoint_names=self.keypoint_names,
            keypoints=self.keypoints[keep] if self.keypoint_names else self.keypoints,
            pseudo=self.pseudo,
        )

    def to_coco(self) -> dict[str, Any]:
        """The COCO JSON form: images, categories, and annotations numbered from 1; without keypoints."""
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
        cls,
        path: str | Path,
        image_ids: Collection[int] | None = None,
        *,
        name: str | None = None,
        keypoints: bool = False,
        partial: bool = False,
    ) -> CocoGroundTruth:
        """Read and check a COCO *instances* file. Segmentations are not read.

        Args:
            path: the JSON file.
            image_ids: take only these pictures and their boxes; ``None`` takes all.
            name: what reports call it; by default the file's stem, or its folder's name for ``instances.json``.
            keypoints: read keypoints too. Their names are the file's ``keypoint_names``, or those of its categories.
            partial: a file may lack what training can do without: ``annotations`` (there are none), ``categories``
                (they are COCO's 80), and sizes of pictures (0).

        Raises:
            AnnotationError: the file is absent, is not JSON, or a field is missing, of a wrong type or out of its
                range.
            LimitError: the file is larger than :data:`MAX_JSON_BYTES`.
            OptionError: an id in ``image_ids`` is not in the file.
        """
        path = Path(path)
        data = _load(path, "COCO instances")
        if name is None:
            name = path.resolve().parent.name if path.stem == "instances" else path.stem
        if partial and isinstance(data, dict):
            data.setdefault("annotations", [])
            data.setdefault("categories", [{"id": c.id, "name": c.name} for c in COCO_CATEGORIES])
        whole = _from_rows(name, data, keypoints=keypoints, least_side=0 if partial else 1)
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


@dataclass(frozen=True, eq=False)
class CocoResults:
    """What a detector found, as COCO's results format has it.

    Attributes:
        file_names: pictures with an entry, as :attr:`CocoImage.file_name`.
        corners: float64 ``(N, 4)``: x1, y1, x2, y2 in pixels.
        pictures: int64 ``(N,)``, index into ``file_names``.
        box_categories: int64 ``(N,)``, category ids.
        scores: float64 ``(N,)``.
    """

    file_names: tuple[str, ...]
    corners: npt.NDArray[np.float64] = field(repr=False)
    pictures: npt.NDArray[np.int64] = field(repr=False)
    box_categories: npt.NDArray[np.int64] = field(repr=False)
    scores: npt.NDArray[np.float64] = field(repr=False)

    def rows(self) -> dict[str, npt.NDArray[np.int64]]:
        """Which boxes are a picture's, by ``file_name``: int64 indexes, ascending."""
        return dict(zip(self.file_names, _split(self.pictures, range(len(self.file_names))), strict=True))


def read_results(
    path: str | Path, images: Collection[CocoImage] = (), categories: Collection[Category] = COCO_CATEGORIES
) -> CocoResults:
    """Read and check a file in COCO's results format: a list of ``{image_id, category_id, bbox, score}``.

    Args:
        path: the JSON file.
        images: pictures whose ids the file uses. A row whose ``image_id`` is a string, or that has a ``file_name`` in
            its place, names its picture itself; this is how data without ids is marked.
        categories: the classes.

    Raises:
        AnnotationError: the file is absent, is not JSON, or a field is missing, of a wrong type or out of its range.
        LimitError: the file is larger than :data:`MAX_JSON_BYTES`.
    """
    path = Path(path)
    data = _load(path, "COCO results")
    if not isinstance(data, list):
        raise AnnotationError(f"{path.name} holds no results", expected="a list", found=type(data).__name__)
    names, known = {image.id: image.file_name for image in images}, {category.id for category in categories}
    order: dict[str, int] = {}
    boxes, scores = np.zeros((len(data), 4), np.float64), np.zeros(len(data), np.float64)
    pictures, box_categories = np.zeros((2, len(data)), np.int64)
    for k, row in enumerate(data):
        where = f"{path.name}: [{k}]"
        if not isinstance(row, dict):
            raise AnnotationError(where, expected="an object", found=type(row).__name__)
        key = row.get("image_id", row.get("file_name"))
        if isinstance(key, str):
            name = _file_name(key, where)
        elif isinstance(key, int) and not isinstance(key, bool) and key in names:
            name = names[key]
        else:
            raise AnnotationError(f"{where}.image_id", expected="an id of a picture, or a path", found=key)
        pictures[k] = order.setdefault(name, len(order))
        box_categories[k] = _known(row, "category_id", known, where)
        boxes[k] = _box(row, where)
        scores[k] = _number(row.get("score"), f"{where}.score")
    return CocoResults(tuple(order), _corners(boxes), pictures, box_categories, scores)


def _load(path: Path, expected: str) -> object:
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise LimitError(f"{path} is too large", expected=f"at most {MAX_JSON_BYTES} bytes", found=size)
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror}") from error
    # RecursionError: deeply nested lists. ValueError covers both bad JSON and bad UTF-8.
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path} is not JSON", expected=expected, found=error) from error


def _corners(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _split(keys: npt.NDArray[np.int64], wanted: Sequence[int]) -> list[npt.NDArray[np.int64]]:
    """For each of ``wanted``, which is ascending, where it stands among ``keys``."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.searchsorted(keys[order], np.asarray(wanted, np.int64)))[1:]


def _from_rows(
    name: str, data: object, *, keypoints: bool = False, least_side: int = 1, pseudo: bool = False
) -> CocoGroundTruth:
    """Check the parsed JSON and lay it out as arrays."""
    if not isinstance(data, dict):
        raise AnnotationError(f"{name}: not a COCO file", expected="an object", found=type(data).__name__)
    images = [_image(row, f"{name}: images[{k}]", least_side) for k, row in enumerate(_rows(data, "images", name))]
    categories = [_category(row, f"{name}: categories[{k}]") for k, row in enumerate(_rows(data, "categories", name))]
    image_ids, category_ids = _unique(images, f"{name}: images"), _unique(categories, f"{name}: categories")
    _unique_names(images, f"{name}: images")
    annotations = _rows(data, "annotations", name)
    keypoint_names = _keypoint_names(data, name) if keypoints else ()
    points = np.zeros((len(annotations) if keypoints else 0, len(keypoint_names), 3), np.float64)
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
        if keypoints and row.get("keypoints"):
            points[k] = _keypoints(row, len(keypoint_names), where)
    return CocoGroundTruth(
        name=name,
        images=tuple(sorted(images, key=lambda i: i.id)),
        categories=tuple(sorted(categories, key=lambda c: c.id)),
        boxes=boxes,
        box_images=box_images,
        box_categories=box_categories,
        areas=areas,
        crowd=crowd,
        keypoint_names=keypoint_names,
        keypoints=points,
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


def _image(row: dict[str, Any], where: str, least_side: int) -> CocoImage:
    name = _file_name(row.get("file_name"), f"{where}.file_name")
    width, height = (
        0 if least_side == 0 and side not in row else _integer(row, side, where, least_side, MAX_SIDE)
        for side in ("width", "height")
    )
    return CocoImage(_integer(row, "id", where, 0, 2**63 - 1), name, width, height)


def _file_name(value: object, where: str) -> str:
    """The path in the one form that :class:`CocoImage` has."""
    if not isinstance(value, str) or not value or "\\" in value or "\0" in value:
        raise AnnotationError(where, expected="a relative path with /", found=value)
    path = PurePosixPath(value)
    # A data set must not make us read files outside its own folder.
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise AnnotationError(f"{where} leaves its folder", expected="a relative path", found=value)
    return path.as_posix()


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


def _unique_names(images: Sequence[CocoImage], where: str) -> None:
    seen: set[str] = set()
    for image in images:
        if image.file_name in seen:
            raise AnnotationError(f"{where}: file_name there twice", expected="unique paths", found=image.file_name)
        seen.add(image.file_name)


def _keypoint_names(data: dict[str, Any], name: str) -> tuple[str, ...]:
    owners = [row for row in data["categories"] if "keypoints" in row]
    found = data.get("keypoint_names") or (owners[0]["keypoints"] if owners else None)
    where = f"{name}: names of keypoints"
    if not isinstance(found, list) or not found or not all(isinstance(v, str) and v for v in found):
        raise AnnotationError(where, expected="a list of strings, in keypoint_names or a category", found=found)
    if len(set(found)) != len(found):
        raise AnnotationError(f"{where}: one is there twice", expected="unique names", found=", ".join(found))
    return tuple(found)


def _keypoints(row: dict[str, Any], count: int, where: str) -> npt.NDArray[np.float64]:
    values = row["keypoints"]
    if not isinstance(values, list) or len(values) != 3 * count:
        found = len(values) if isinstance(values, list) else type(values).__name__
        raise AnnotationError(f"{where}.keypoints", expected=f"{3 * count} numbers", found=found)
    points = np.array([_number(v, f"{where}.keypoints") for v in values], np.float64).reshape(count, 3)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise AnnotationError(f"{where}.keypoints", expected="visibilities 0, 1 or 2", found=points[:, 2].tolist())
    return points


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
