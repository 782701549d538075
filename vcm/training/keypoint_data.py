"""Annotated keypoints of a folder of pictures (COCO's format), split into training and test pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vcm.errors import AnnotationError, ConfigError
from vcm.structures import Keypoints

__all__ = ["KeypointData", "KeypointPicture", "is_test", "mirror_order", "read_keypoint_data"]

_MAX_JSON_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class KeypointPicture:
    """One picture.

    Attributes:
        id: the data set's.
        path: of the picture.
        truth: its objects that have at least one labelled keypoint; the points' scores are 1 where labelled, else 0.
    """

    id: int
    path: Path
    truth: Keypoints


@dataclass(frozen=True, slots=True)
class KeypointData:
    """A data set.

    Attributes:
        names: of the keypoints.
        pictures: those with an object that has keypoints, by file name.
    """

    names: tuple[str, ...]
    pictures: tuple[KeypointPicture, ...]


def is_test(file_name: str, share: float) -> bool:
    """Whether a picture is tested on: its name's hash (BLAKE2b, 8 bytes, little-endian) lies in the lowest ``share``.

    A picture stays on its side whatever else is in the folder.
    """
    return int.from_bytes(blake2b(file_name.encode(), digest_size=8).digest(), "little") < share * 2**64


def mirror_order(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each keypoint, the one that takes its place in a mirror image: ``left`` and ``right`` change places."""

    def partner(name: str) -> str:
        swapped = name.replace("left", "\0").replace("right", "left").replace("\0", "right")
        return swapped if swapped in names else name

    return tuple(names.index(partner(name)) for name in names)


def read_keypoint_data(folder: Path) -> KeypointData:
    """Read ``folder/instances.json``.

    Names of keypoints come from its ``keypoint_names`` or, as in COCO, from the category that has ``keypoints``.
    Objects without a labelled keypoint, and crowds, are left out.

    Raises:
        ConfigError: there is no such file, or nothing in it has keypoints.
        AnnotationError: it is not such a file.
    """
    path = folder / "instances.json"
    if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
        raise ConfigError("no annotations of a usable size", expected=path)
    try:
        content = json.loads(path.read_bytes())
        names = _names(content)
        images = {int(i["id"]): i for i in content["images"]}
        objects: dict[int, list[tuple[list[float], list[list[float]]]]] = {}
        for row in content["annotations"]:
            if row.get("iscrowd") or not row.get("keypoints"):
                continue
            points = _points(row, len(names))
            if any(p[2] for p in points):
                objects.setdefault(int(row["image_id"]), []).append((_box(row), points))
        inner = folder / "images" if (folder / "images").is_dir() else folder
        pictures = sorted(_pictures(inner, images, objects, names), key=lambda p: p.path.name)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AnnotationError(f"{path} holds no COCO keypoints", found=repr(error)) from error
    if not pictures:
        raise ConfigError("no object has keypoints", found=path)
    return KeypointData(names, tuple(pictures))


def _names(content: Mapping[str, Any]) -> tuple[str, ...]:
    found = content.get("keypoint_names") or next(
        (c["keypoints"] for c in content["categories"] if "keypoints" in c), ()
    )
    names = tuple(str(name) for name in found)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"keypoints without names of their own: {names}")
    return names


def _box(row: Mapping[str, Any]) -> list[float]:
    x, y, width, height = (float(v) for v in row["bbox"])
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise ValueError(f"bbox {row['bbox']}")
    return [x, y, x + width, y + height]


def _points(row: Mapping[str, Any], count: int) -> list[list[float]]:
    values = [float(v) for v in row["keypoints"]]
    if len(values) != 3 * count or not all(map(math.isfinite, values)):
        raise ValueError(f"{len(values)} keypoint numbers, {3 * count} expected, all finite")
    return [[x, y, float(v > 0)] for x, y, v in zip(values[::3], values[1::3], values[2::3], strict=True)]


def _pictures(
    folder: Path,
    images: Mapping[int, Mapping[str, Any]],
    objects: Mapping[int, list[tuple[list[float], list[list[float]]]]],
    names: tuple[str, ...],
) -> Iterator[KeypointPicture]:
    for image_id, found in objects.items():
        image = images[image_id]
        name = PurePosixPath(str(image["file_name"]))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"file_name {image['file_name']!r} leaves its folder")
        truth = Keypoints(
            np.array([points for _, points in found], np.float32), np.array([box for box, _ in found], np.float32),
            np.ones(len(found), np.float32), names, int(image["width"]), int(image["height"]),
        )  # fmt: skip
        yield KeypointPicture(image_id, folder / name, truth)
