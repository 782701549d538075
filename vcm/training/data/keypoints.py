"""Annotated keypoints of a folder of pictures (COCO's format), split into training and test pictures."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from vcm.errors import ConfigError
from vcm.io.coco import CocoGroundTruth
from vcm.structures import Keypoints
from vcm.training.data.store import picture_folder

__all__ = ["KeypointData", "KeypointPicture", "is_test", "mirror_order", "read_keypoint_data"]


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
    Objects without a labelled keypoint or without an area, and crowds, are left out.

    Raises:
        ConfigError: there is no such file, or nothing in it has keypoints.
        AnnotationError: it is not such a file.
    """
    path = folder / "instances.json"
    if not path.is_file():
        raise ConfigError("no annotations", expected=path)
    marked = CocoGroundTruth.from_json(path, keypoints=True)
    usable = ~marked.crowd & (marked.boxes[:, 2:] > 0).all(1) & (marked.keypoints[:, :, 2] > 0).any(1)
    rows, inner = marked.rows(), picture_folder(folder)
    pictures = []
    for image in sorted(marked.images, key=lambda image: image.file_name):
        own = rows[image.file_name][usable[rows[image.file_name]]]
        if not len(own):
            continue
        points = marked.keypoints[own].astype(np.float32)
        points[:, :, 2] = points[:, :, 2] > 0
        truth = Keypoints(
            points, marked.corners[own].astype(np.float32), np.ones(len(own), np.float32), marked.keypoint_names,
            image.width, image.height,
        )  # fmt: skip
        pictures.append(KeypointPicture(image.id, inner / image.file_name, truth))
    if not pictures:
        raise ConfigError("no object has keypoints", found=path)
    return KeypointData(marked.keypoint_names, tuple(pictures))
