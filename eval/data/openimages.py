"""OpenImages boxes (CSV) as ground truth of COCO's classes: the set on which MPEG VCM measures detection.

MPEG's own CSV (``detection_validation_5k_bbox.csv``) already has COCO's class names, with ``_`` for spaces. The
official CSVs have machine ids (``/m/01g317``); they need ``class-descriptions-boxable.csv`` beside them, and
:data:`COCO_NAME` then maps OpenImages names to COCO's. Boxes of classes that COCO lacks are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from vcm.errors import AnnotationError
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.structures import COCO_CATEGORY_IDS, COCO_NAMES

__all__ = ["COCO_NAME", "find_boxes_csv", "load_openimages"]

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_MAX_ROWS = 20_000_000

COCO_NAME: Mapping[str, str] = {
    **{name: name for name in COCO_NAMES},
    "man": "person", "woman": "person", "boy": "person", "girl": "person", "cattle": "cow", "bull": "cow",
    "flying disc": "frisbee", "ski": "skis", "ball": "sports ball", "football": "sports ball",
    "tennis ball": "sports ball", "rugby ball": "sports ball", "volleyball (ball)": "sports ball",
    "cricket ball": "sports ball", "golf ball": "sports ball", "coffee cup": "cup", "mug": "cup",
    "kitchen knife": "knife", "submarine sandwich": "sandwich", "doughnut": "donut", "sofa bed": "couch",
    "loveseat": "couch", "studio couch": "couch", "houseplant": "potted plant",
    "kitchen & dining room table": "dining table",
    "television": "tv", "computer mouse": "mouse", "remote control": "remote", "computer keyboard": "keyboard",
    "mobile phone": "cell phone", "microwave oven": "microwave", "hair dryer": "hair drier", "digital clock": "clock",
    "alarm clock": "clock", "wall clock": "clock",
}  # fmt: skip
"""OpenImages class name, lower case, to COCO class name. Names not here are classes that COCO lacks."""


def find_boxes_csv(root: Path) -> Path | None:
    """The CSV of boxes in a folder or its ``annotations``: the first whose header has the columns of one."""
    if not root.is_dir():
        return None
    for path in sorted([*root.glob("*.csv"), *(root / "annotations").glob("*.csv")]):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            header = file.readline(4096).strip().split(",")
        if set(_COLUMNS) <= set(header):
            return path
    return None


def load_openimages(root: Path, sizes: Mapping[str, tuple[int, int] | None]) -> tuple[CocoGroundTruth, tuple[str, ...]]:
    """Read the boxes of a folder.

    Args:
        root: folder with the CSV, and ``class-descriptions*.csv`` where labels are machine ids.
        sizes: width and height of each picture at hand by ImageID; boxes are fractions of them. ``None``: unreadable.

    Returns:
        Ground truth of the pictures that are at hand, ids by ascending ImageID from 1; ImageIDs that are not.

    Raises:
        AnnotationError: no CSV, a missing column, a fraction outside 0 … 1, or machine ids without descriptions.
    """
    path = find_boxes_csv(root)
    if path is None:
        raise AnnotationError("no CSV of boxes", expected="columns " + ", ".join(_COLUMNS), found=root)
    descriptions = _descriptions(path.parent)
    ids = dict(zip(COCO_NAMES, COCO_CATEGORY_IDS, strict=True))
    found: dict[str, list[tuple[list[float], int, bool]]] = {}
    for line, row in _rows(path):
        boxes = found.setdefault(row["ImageID"], [])
        name = _class_name(row["LabelName"], descriptions, path, line)
        if name is not None:
            boxes.append((_fractions(row, path, line), ids[name], row.get("IsGroupOf") == "1"))
    present = sorted(name for name in found if sizes.get(name) is not None)
    images, corners, crowds = [], {}, {}
    for number, name in enumerate(present, start=1):
        width, height = sizes[name] or (0, 0)
        images.append(CocoImage(number, name, width, height))
        scale = (width, height, width, height)
        boxes = found[name]
        scaled = [[v * s for v, s in zip(box, scale, strict=True)] for box, _, _ in boxes]
        corners[number] = (scaled, [category for _, category, _ in boxes])
        crowds[number] = [crowd for _, _, crowd in boxes]
    categories = [Category(category, name) for name, category in ids.items()]
    truth = CocoGroundTruth.from_boxes(path.stem, images, categories, corners, crowd=crowds)
    return truth, tuple(sorted(set(found) - set(present)))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            if line > _MAX_ROWS or any(not row.get(column) for column in _COLUMNS):
                raise AnnotationError(f"{path}, line {line}", expected="a value in " + ", ".join(_COLUMNS))
            yield line, row


def _descriptions(folder: Path) -> dict[str, str]:
    """OpenImages name by machine id."""
    names: dict[str, str] = {}
    for path in sorted(folder.glob("class-descriptions*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            names.update({row[0]: row[1] for row in csv.reader(file) if len(row) == 2})
    return names


def _class_name(label: str, descriptions: Mapping[str, str], path: Path, line: int) -> str | None:
    if label.startswith("/"):
        if label not in descriptions:
            expected = "class-descriptions-boxable.csv beside it that has the label"
            raise AnnotationError(f"{path}, line {line}: machine id", expected=expected, found=label)
        label = descriptions[label]
    return COCO_NAME.get(label.replace("_", " ").lower())


def _fractions(row: Mapping[str, str], path: Path, line: int) -> list[float]:
    try:
        x1, x2, y1, y2 = (float(row[column]) for column in _COLUMNS[2:])
    except ValueError as error:
        raise AnnotationError(f"{path}, line {line}: box", expected="four numbers", found=str(error)) from error
    if not (0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1):
        raise AnnotationError(f"{path}, line {line}: box", expected="0 ≤ min ≤ max ≤ 1", found=(x1, x2, y1, y2))
    return [x1, y1, x2, y2]
