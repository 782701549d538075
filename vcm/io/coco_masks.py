"""Masks of COCO's annotations: polygons and run lengths, read and drawn one at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vcm.errors import AnnotationError
from vcm.io.coco import CocoGroundTruth
from vcm.structures import Classes
from vcm.structures.rle import decode_mask

__all__ = ["Shape", "draw_shape", "read_shapes"]

Shape = tuple[tuple[float, ...], ...] | Mapping[str, Any]
"""COCO's ``segmentation``: polygons x1, y1, x2, y2 …, or run lengths."""


def read_shapes(path: Path, classes: Classes) -> dict[str, tuple[Shape, ...]]:
    """By ``file_name``: the shapes of a picture's objects of some classes, crowds left out, in the order of the file.

    Args:
        path: COCO *instances*.
        classes: by category id.

    Raises:
        AnnotationError: the file does not validate, or such an object has no shape.
    """
    marked = CocoGroundTruth.from_json(path, partial=True)
    rows = json.loads(path.read_bytes())["annotations"]
    wanted = set(classes.category_ids)
    out = {}
    for name, own in marked.rows().items():
        kept = [int(k) for k in own if not marked.crowd[k] and int(marked.box_categories[k]) in wanted]
        out[name] = tuple(_shape(rows[k].get("segmentation"), f"{path.name}: annotations[{k}]") for k in kept)
    return out


def _shape(value: object, where: str) -> Shape:
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(_is_polygon(part) for part in value):
        return tuple(tuple(float(v) for v in part) for part in value)
    raise AnnotationError(f"{where}.segmentation", expected="polygons or run lengths", found=str(value)[:50])


def _is_polygon(part: object) -> bool:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return False
    return all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e6 for v in part)


def draw_shape(shape: Shape, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The mask of a shape: bool (height, width).

    Raises:
        AnnotationError: run lengths of another size.
    """
    if isinstance(shape, Mapping):
        return decode_mask(shape, height, width)
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for polygon in shape:
        pen.polygon(
            [v - 0.5 for v in polygon], fill=1
        )  # Pillow's coordinates are of pixels' centres, COCO's of corners
    return np.asarray(canvas)
