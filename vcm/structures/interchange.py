"""Results in the forms of other libraries, and back: COCO JSON, torchvision, supervision, Detectron2, FiftyOne,
YOLO's text.

What goes out and comes back is the same, as far as the other form can hold it: names, category ids and scores stay,
places are exact or, in YOLO's text, rounded to a millionth of the picture. A library is imported when its own classes
are to be made; reading them back needs no import. Sizes are those of the source picture, since most forms do not hold
them.

===============  ================  ===================  ================
form             Detections        InstanceMasks        Keypoints
===============  ================  ===================  ================
COCO results     both ways         both ways            both ways
torchvision      both ways         both ways            both ways
supervision      both ways         both ways            both ways
Detectron2       both ways         both ways            both ways
FiftyOne         both ways         both ways            both ways
YOLO text        both ways         –                    both ways
===============  ================  ===================  ================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from vcm.errors import AnnotationError, MissingDependencyError, OptionError
from vcm.structures.classes import COCO_CLASSES, Classes
from vcm.structures.detections import Detections
from vcm.structures.keypoints import Keypoints
from vcm.structures.masks import InstanceMasks
from vcm.structures.rle import decode_mask

__all__ = [
    "detections_from_coco", "detections_from_detectron2", "detections_from_fiftyone", "detections_from_supervision",
    "detections_from_torchvision", "detections_from_yolo", "keypoints_from_coco", "keypoints_from_detectron2",
    "keypoints_from_fiftyone", "keypoints_from_supervision", "keypoints_from_torchvision", "keypoints_from_yolo",
    "masks_from_coco", "masks_from_detectron2", "masks_from_fiftyone", "masks_from_full", "masks_from_supervision",
    "masks_from_torchvision", "to_detectron2", "to_fiftyone", "to_supervision", "to_torchvision", "to_yolo",
]  # fmt: skip

MASK_SIDE = 56
"""Cells along each side of a mask that was as large as its picture."""

Size = tuple[int, int]
"""Width and height of the source picture, pixels."""
Floats = npt.NDArray[np.float32]


# -- out --------------------------------------------------------------------------------------------------------------


def to_torchvision(found: Detections | InstanceMasks | Keypoints) -> dict[str, Any]:
    """``boxes``, ``scores`` and ``labels`` (category ids); ``masks`` bool (N, H, W), or ``keypoints`` float32 (N, K,
    3), whose third
    number is torchvision's visibility 1, and ``keypoints_scores``.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    torch = _library("torch", "pip install 'vcm[torch]'")
    if isinstance(found, Keypoints):
        points = found.points.copy()
        points[:, :, 2] = 1
        return {
            "boxes": torch.from_numpy(found.boxes.copy()), "scores": torch.from_numpy(found.scores.copy()),
            "labels": torch.ones(len(found), dtype=torch.int64), "keypoints": torch.from_numpy(points),
            "keypoints_scores": torch.from_numpy(found.points[:, :, 2].copy()),
        }  # fmt: skip
    if isinstance(found, InstanceMasks):
        return {**found.detections.to_torchvision(), "masks": torch.from_numpy(_full(found))}
    return found.to_torchvision()


def to_supervision(found: Detections | InstanceMasks | Keypoints) -> Any:
    """``supervision.Detections``, with ``mask`` for masks; ``supervision.KeyPoints`` for keypoints. Names go into
    ``data``.

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    library = _library("supervision", "pip install supervision")
    if isinstance(found, Keypoints):
        return library.KeyPoints(
            xy=found.points[:, :, :2].copy(), confidence=found.points[:, :, 2].copy(),
            data={"box": found.boxes.copy(), "score": found.scores.copy()},
        )  # fmt: skip
    if isinstance(found, Detections):
        return found.to_supervision()
    out = found.detections.to_supervision()
    out.mask = _full(found)
    return out


def to_detectron2(found: Detections | InstanceMasks | Keypoints) -> Any:
    """``Instances`` with ``pred_boxes``, ``scores``, ``pred_classes`` (class indexes), and ``pred_masks`` or
    ``pred_keypoints``.

    Raises:
        MissingDependencyError: Detectron2 is not installed.
    """
    torch = _library("torch", "pip install 'vcm[torch]'")
    library = _library("detectron2.structures", "see docs/detectron2.md")
    if isinstance(found, Detections):
        return found.to_detectron2()
    if isinstance(found, InstanceMasks):
        out = found.detections.to_detectron2()
        out.pred_masks = torch.from_numpy(_full(found))
        return out
    out = library.Instances((found.height, found.width))
    out.pred_boxes = library.Boxes(torch.from_numpy(found.boxes.copy()))
    out.scores = torch.from_numpy(found.scores.copy())
    out.pred_classes = torch.zeros(len(found), dtype=torch.int64)
    out.pred_keypoints = torch.from_numpy(found.points.copy())
    return out


def to_fiftyone(found: Detections | InstanceMasks | Keypoints) -> Any:
    """``fiftyone.Detections``, with a mask over each box for masks; ``fiftyone.Keypoints`` for keypoints. Places are
    shares of the
    picture, as FiftyOne has them.

    Raises:
        MissingDependencyError: FiftyOne is not installed.
    """
    library = _library("fiftyone", "pip install fiftyone")
    size = np.array([found.width, found.height], np.float64)
    if isinstance(found, Keypoints):
        return library.Keypoints(keypoints=[
            library.Keypoint(
                points=[tuple(xy) for xy in (points[:, :2] / size).tolist()], confidence=points[:, 2].tolist(),
                score=float(score), bounding_box=_shares(box, size),
            )
            for points, box, score in zip(found.points, found.boxes, found.scores, strict=True)
        ])  # fmt: skip
    rows = []
    for i, (box, score, label) in enumerate(zip(found.boxes, found.scores, found.labels, strict=True)):
        mask = {"mask": found.masks[i] > 0.5} if isinstance(found, InstanceMasks) else {}
        rows.append(
            library.Detection(
                label=found.names[int(label)], bounding_box=_shares(box, size), confidence=float(score), **mask
            )
        )
    return library.Detections(detections=rows)


def to_yolo(found: Detections | Keypoints) -> str:
    """YOLO's text: a line an object: class index, centre and size of its box as shares of the picture, then of
    keypoints x, y and
    score each; its own score last.

    Raises:
        OptionError: masks, which this text has as polygons: not supported.
    """
    if not isinstance(found, Detections | Keypoints):
        raise OptionError(
            "YOLO's text is of boxes or keypoints", expected="Detections or Keypoints", found=type(found).__name__
        )
    size = np.array([found.width, found.height], np.float64)
    labels = np.zeros(len(found), np.int64) if isinstance(found, Keypoints) else found.labels
    lines = []
    for i, (box, score, label) in enumerate(zip(found.boxes.astype(np.float64), found.scores, labels, strict=True)):
        numbers = [*((box[:2] + box[2:]) / 2 / size), *((box[2:] - box[:2]) / size)]
        if isinstance(found, Keypoints):
            for x, y, shown in found.points[i]:
                numbers += [x / size[0], y / size[1], shown]
        lines.append(" ".join([str(int(label)), *(f"{v:.6f}" for v in numbers), f"{score:.6f}"]))
    return "".join(f"{line}\n" for line in lines)


# -- detections in ----------------------------------------------------------------------------------------------------


def detections_from_coco(rows: Iterable[Mapping[str, Any]], size: Size, classes: Classes = COCO_CLASSES) -> Detections:
    """From COCO *results* rows of one picture: what :meth:`vcm.Detections.to_coco` gives.

    Args:
        rows: ``bbox``, ``score`` and ``category_id``; an annotation, without a score, has 1.
        size: of the picture.
        classes: whose category ids they are.

    Raises:
        AnnotationError: a row lacks a field, or is of a class that there is not.
    """
    kept = list(rows)
    index = {category: i for i, category in enumerate(classes.category_ids)}
    boxes, scores, labels = [], [], []
    for k, row in enumerate(kept):
        try:
            x, y, w, h = (float(v) for v in row["bbox"])
            labels.append(index[row["category_id"]])
            scores.append(float(row.get("score", 1.0)))
        except (KeyError, TypeError, ValueError) as error:
            expected = "bbox, score and a category_id of the classes"
            raise AnnotationError(f"row {k} is no COCO result", expected=expected, found=repr(error)) from error
        boxes.append([x, y, x + w, y + h])
    return _detections(boxes, scores, labels, size, classes)


def detections_from_torchvision(found: Mapping[str, Any], size: Size, classes: Classes = COCO_CLASSES) -> Detections:
    """From what torchvision's detectors give: labels are category ids.

    Raises:
        AnnotationError: a label is none of the classes' ids.
    """
    index = {category: i for i, category in enumerate(classes.category_ids)}
    labels = [_looked_up(index, int(label)) for label in _array(found["labels"])]
    return _detections(_array(found["boxes"]), _array(found["scores"]), labels, size, classes)


def detections_from_supervision(found: Any, size: Size, classes: Classes = COCO_CLASSES) -> Detections:
    """From ``supervision.Detections``: classes by ``data["class_name"]`` where it is there, else by ``class_id``.

    Raises:
        AnnotationError: a name or id is none of the classes.
    """
    boxes = np.asarray(found.xyxy, np.float32)
    scores = np.ones(len(boxes), np.float32) if found.confidence is None else found.confidence
    names = (found.data or {}).get("class_name")
    if names is not None:
        index = {name: i for i, name in enumerate(classes.names)}
        labels = [_looked_up(index, str(name)) for name in names]
    else:
        ids = found.class_id if found.class_id is not None else np.zeros(len(boxes), np.int64)
        labels = [_looked_up(dict(zip(range(len(classes)), range(len(classes)), strict=True)), int(i)) for i in ids]
    return _detections(boxes, scores, labels, size, classes)


def detections_from_detectron2(found: Any, classes: Classes = COCO_CLASSES) -> Detections:
    """From ``Instances`` with ``pred_boxes``, ``scores`` and ``pred_classes``, or the ground truth's ``gt_boxes`` and
    ``gt_classes``.

    Raises:
        AnnotationError: it has neither, or a class index that is none of the classes.
    """
    own = "pred" if found.has("pred_boxes") else "gt"
    if not found.has(f"{own}_boxes"):
        raise AnnotationError("no boxes in these Instances", expected="pred_boxes or gt_boxes")
    boxes = _array(getattr(found, f"{own}_boxes").tensor)
    scores = _array(found.scores) if found.has("scores") else np.ones(len(boxes), np.float32)
    known = {i: i for i in range(len(classes))}
    labels = [_looked_up(known, int(i)) for i in _array(getattr(found, f"{own}_classes"))]
    height, width = found.image_size
    return _detections(boxes, scores, labels, (int(width), int(height)), classes)


def detections_from_fiftyone(found: Any, size: Size, classes: Classes = COCO_CLASSES) -> Detections:
    """From ``fiftyone.Detections``; a detection without a confidence has 1.

    Raises:
        AnnotationError: a label is none of the classes.
    """
    index = {name: i for i, name in enumerate(classes.names)}
    rows = list(found.detections)
    boxes = [_pixels(one.bounding_box, size) for one in rows]
    scores = [1.0 if one.confidence is None else float(one.confidence) for one in rows]
    return _detections(boxes, scores, [_looked_up(index, one.label) for one in rows], size, classes)


def detections_from_yolo(text: str, size: Size, classes: Classes = COCO_CLASSES) -> Detections:
    """From YOLO's text; a line without a score has 1.

    Raises:
        AnnotationError: a line is none of its.
    """
    boxes, scores, labels = [], [], []
    for number, values in _lines(text):
        if len(values) not in (5, 6):
            raise AnnotationError(f"line {number} is no box", expected="5 or 6 numbers", found=len(values))
        boxes.append(_centred(values[1:5], size))
        labels.append(_looked_up({i: i for i in range(len(classes))}, int(values[0])))
        scores.append(values[5] if len(values) == 6 else 1.0)
    return _detections(boxes, scores, labels, size, classes)


# -- masks in ---------------------------------------------------------------------------------------------------------


def masks_from_full(found: Detections, masks: Iterable[npt.NDArray[Any]], side: int = MASK_SIDE) -> InstanceMasks:
    """Detections with masks as large as the picture: of each what lies in its box is kept, averaged over ``side`` ×
    ``side`` cells.

    Args:
        found: the boxes.
        masks: one a box, bool or 0 … 1, (H, W).
        side: cells.

    Raises:
        OptionError: a mask has another size than the picture, or there are not as many as boxes.
    """
    kept = [np.asarray(mask, np.float32) for mask in masks]
    if len(kept) != len(found) or any(m.shape != (found.height, found.width) for m in kept):
        expected = f"{len(found)} of {found.height} x {found.width}"
        raise OptionError("masks and boxes differ", expected=expected, found=[m.shape for m in kept][:3])
    cells = [_cells(mask, box, side) for mask, box in zip(kept, found.boxes, strict=True)]
    return InstanceMasks.of(found, np.stack(cells) if cells else np.zeros((0, side, side), np.float32))


def masks_from_coco(
    rows: Sequence[Mapping[str, Any]], size: Size, classes: Classes = COCO_CLASSES, side: int = MASK_SIDE
) -> InstanceMasks:
    """From COCO *results* rows with ``segmentation`` as run lengths, compressed or not.

    Raises:
        AnnotationError: a row is no result, or its run lengths are of another size.
    """
    width, height = size
    found = detections_from_coco(rows, size, classes)
    return masks_from_full(found, [decode_mask(_mapping(row), height, width) for row in rows], side)


def masks_from_torchvision(
    found: Mapping[str, Any], size: Size, classes: Classes = COCO_CLASSES, side: int = MASK_SIDE
) -> InstanceMasks:
    """From what Mask R-CNN gives: ``masks`` (N, 1, H, W) or (N, H, W)."""
    masks = _array(found["masks"])
    masks = masks[:, 0] if masks.ndim == 4 else masks
    return masks_from_full(detections_from_torchvision(found, size, classes), list(masks), side)


def masks_from_supervision(
    found: Any, size: Size, classes: Classes = COCO_CLASSES, side: int = MASK_SIDE
) -> InstanceMasks:
    """From ``supervision.Detections`` with ``mask``.

    Raises:
        AnnotationError: it has none.
    """
    if found.mask is None:
        raise AnnotationError("no masks in these detections", expected="mask")
    return masks_from_full(detections_from_supervision(found, size, classes), list(np.asarray(found.mask)), side)


def masks_from_detectron2(found: Any, classes: Classes = COCO_CLASSES, side: int = MASK_SIDE) -> InstanceMasks:
    """From ``Instances`` with ``pred_masks`` (N, H, W)."""
    return masks_from_full(detections_from_detectron2(found, classes), list(_array(found.pred_masks)), side)


def masks_from_fiftyone(
    found: Any, size: Size, classes: Classes = COCO_CLASSES, side: int = MASK_SIDE
) -> InstanceMasks:
    """From ``fiftyone.Detections`` whose ``mask`` lies over the box.

    Raises:
        AnnotationError: one has none.
    """
    boxes = detections_from_fiftyone(found, size, classes)
    if any(one.mask is None for one in found.detections):
        raise AnnotationError("no mask in a detection", expected="mask")
    parts = [np.asarray(one.mask, np.float32) for one in found.detections]
    cells = [_cells(p, np.array([0, 0, p.shape[1], p.shape[0]], np.float32), side) for p in parts]
    return InstanceMasks.of(boxes, np.stack(cells) if cells else np.zeros((0, side, side), np.float32))


# -- keypoints in -----------------------------------------------------------------------------------------------------


def keypoints_from_coco(rows: Iterable[Mapping[str, Any]], size: Size, names: tuple[str, ...]) -> Keypoints:
    """From COCO keypoint *results* rows: what :meth:`vcm.Keypoints.to_coco` gives.

    Raises:
        AnnotationError: a row lacks a field, or has another number of points.
    """
    boxes, scores, points = [], [], []
    for k, row in enumerate(rows):
        try:
            x, y, w, h = (float(v) for v in row["bbox"])
            points.append(np.asarray(row["keypoints"], np.float32).reshape(len(names), 3))
            scores.append(float(row.get("score", 1.0)))
        except (KeyError, TypeError, ValueError) as error:
            expected = f"bbox, score and {len(names)} keypoints"
            raise AnnotationError(f"row {k} is no COCO result", expected=expected, found=repr(error)) from error
        boxes.append([x, y, x + w, y + h])
    return _keypoints(points, boxes, scores, size, names)


def keypoints_from_torchvision(found: Mapping[str, Any], size: Size, names: tuple[str, ...]) -> Keypoints:
    """From what Keypoint R-CNN gives; a point's score is its ``keypoints_scores``, or its visibility without them."""
    points = _array(found["keypoints"]).astype(np.float32)
    if "keypoints_scores" in found:
        points[:, :, 2] = _array(found["keypoints_scores"])
    return _keypoints(points, _array(found["boxes"]), _array(found["scores"]), size, names)


def keypoints_from_supervision(found: Any, size: Size, names: tuple[str, ...]) -> Keypoints:
    """From ``supervision.KeyPoints``; objects without a box in ``data`` get the box around their points, without a
    score 1."""
    xy = np.asarray(found.xy, np.float32)
    seen = getattr(found, "keypoint_confidence", None)
    seen = found.confidence if seen is None else seen
    seen = np.ones(xy.shape[:2], np.float32) if seen is None else np.asarray(seen, np.float32)
    data = found.data or {}
    boxes = data.get("box", np.concatenate([xy.min(1), xy.max(1)], axis=1) if len(xy) else np.zeros((0, 4), np.float32))
    return _keypoints(
        np.concatenate([xy, seen[:, :, None]], axis=2), boxes, data.get("score", np.ones(len(xy))), size, names
    )


def keypoints_from_detectron2(found: Any, names: tuple[str, ...]) -> Keypoints:
    """From ``Instances`` with ``pred_keypoints`` (N, K, 3)."""
    height, width = found.image_size
    size = int(width), int(height)
    return _keypoints(_array(found.pred_keypoints), _array(found.pred_boxes.tensor), _array(found.scores), size, names)


def keypoints_from_fiftyone(found: Any, size: Size, names: tuple[str, ...]) -> Keypoints:
    """From ``fiftyone.Keypoints`` as :func:`to_fiftyone` writes them, with ``bounding_box`` and ``score``."""
    points, boxes, scores = [], [], []
    for one in found.keypoints:
        xy = np.asarray(one.points, np.float32) * np.array(size, np.float32)
        seen = np.ones(len(xy), np.float32) if one.confidence is None else np.asarray(one.confidence, np.float32)
        points.append(np.concatenate([xy, seen[:, None]], axis=1))
        boxes.append(_pixels(one["bounding_box"], size))
        scores.append(float(one["score"]))
    return _keypoints(points, boxes, scores, size, names)


def keypoints_from_yolo(text: str, size: Size, names: tuple[str, ...]) -> Keypoints:
    """From YOLO's pose text: x, y and score (or visibility) of each point; a line without a score of its own has 1.

    Raises:
        AnnotationError: a line is none of its.
    """
    points, boxes, scores = [], [], []
    wanted = 5 + 3 * len(names)
    for number, values in _lines(text):
        if len(values) not in (wanted, wanted + 1):
            expected = f"{wanted} or {wanted + 1} numbers"
            raise AnnotationError(f"line {number} is no pose", expected=expected, found=len(values))
        points.append(np.array(values[5:wanted], np.float32).reshape(-1, 3) * np.array([*size, 1], np.float32))
        boxes.append(_centred(values[1:5], size))
        scores.append(values[wanted] if len(values) > wanted else 1.0)
    return _keypoints(points, boxes, scores, size, names)


# -- parts ------------------------------------------------------------------------------------------------------------


def _library(name: str, how: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{name.partition('.')[0]} is not installed: {how}") from error


def _array(values: Any) -> npt.NDArray[Any]:
    """A tensor or array as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


@overload
def _looked_up(index: Mapping[int, int], key: int) -> int: ...
@overload
def _looked_up(index: Mapping[str, int], key: str) -> int: ...
def _looked_up(index: Mapping[Any, int], key: Any) -> int:
    if key not in index:
        shown = ", ".join(str(k) for k in list(index)[:10])
        raise AnnotationError("a class that is none", expected=f"one of {shown} …", found=key)
    return index[key]


def _detections(boxes: Any, scores: Any, labels: Sequence[int], size: Size, classes: Classes) -> Detections:
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32).reshape(-1),
        np.asarray(labels, np.int64).reshape(-1), *size, names=classes.names, category_ids=classes.category_ids,
    )  # fmt: skip


def _keypoints(points: Any, boxes: Any, scores: Any, size: Size, names: tuple[str, ...]) -> Keypoints:
    return Keypoints(
        np.asarray(points, np.float32).reshape(-1, len(names), 3), np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32).reshape(-1), names, *size,
    )  # fmt: skip


def _full(found: InstanceMasks) -> npt.NDArray[np.bool_]:
    """All masks as large as the picture, (N, H, W)."""
    return np.stack(list(found.each())) if len(found) else np.zeros((0, found.height, found.width), np.bool_)


def _mapping(row: Mapping[str, Any]) -> Mapping[str, Any]:
    value = row.get("segmentation")
    if not isinstance(value, Mapping):
        raise AnnotationError("no run lengths in a row", expected="segmentation", found=type(value).__name__)
    return value


def _shares(box: Floats, size: npt.NDArray[np.float64]) -> list[float]:
    """x, y, width and height as shares of the picture."""
    low, high = box[:2] / size, box[2:] / size
    return [*(float(v) for v in low), *(float(v) for v in high - low)]


def _pixels(shares: Sequence[float], size: Size) -> list[float]:
    x, y, w, h = (float(v) for v in shares)
    return [x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]]


def _centred(values: Sequence[float], size: Size) -> list[float]:
    x, y, w, h = values
    return _pixels([x - w / 2, y - h / 2, w, h], size)


def _lines(text: str) -> list[tuple[int, list[float]]]:
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(part) for part in line.split()]
        except ValueError as error:
            raise AnnotationError(f"line {number} is not of numbers", found=line[:50]) from error
        if not np.isfinite(values).all() or values[0] != int(values[0]):
            raise AnnotationError(f"line {number} begins with no class", expected="a whole number", found=line[:50])
        out.append((number, values))
    return out


def _cells(mask: Floats, box: Floats, side: int) -> Floats:
    """What lies in a box, (side, side): each cell the mean of the pixels under it, by their share."""
    rows = _overlap(mask.shape[0], float(box[1]), float(box[3]), side)
    columns = _overlap(mask.shape[1], float(box[0]), float(box[2]), side)
    out: Floats = (rows @ mask @ columns.T).astype(np.float32)
    return out


def _overlap(pixels: int, low: float, high: float, cells: int) -> Floats:
    """How much of each cell, of those between ``low`` and ``high``, is which pixel: (cells, pixels)."""
    edges = low + (max(high - low, 1e-6)) * np.arange(cells + 1) / cells
    at = np.arange(pixels)
    covered = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    out: Floats = (covered.clip(0) / (edges[1] - edges[0])).astype(np.float32)
    return out
