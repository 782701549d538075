"""Names of classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vcm.errors import OptionError

__all__ = ["COCO_CATEGORY_IDS", "COCO_CLASSES", "COCO_NAMES", "DEFAULT_SCORE", "Classes", "class_indexes"]

COCO_NAMES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 COCO classes in the order of their official category ids."""

COCO_CATEGORY_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""Official COCO category id of class index 0 … 79 (91 ids with gaps)."""

DEFAULT_SCORE = 0.3
"""Least score of a detection where nothing is asked for, in Python and on the command line: what a person wants to see
drawn. Average precision is an integral over all scores, so that an evaluation asks for less (0.001)."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that a head knows.

    Attributes:
        names: by class index, each once.
        category_ids: the data set's id by class index; by default 1, 2, 3 …

    Raises:
        OptionError: no names, a name or id twice, or not as many ids as names.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.category_ids:
            object.__setattr__(self, "category_ids", tuple(range(1, len(self.names) + 1)))
        if not self.names or len(set(self.names)) != len(self.names):
            raise OptionError("classes need names of their own", expected="different names", found=self.names)
        if len(self.category_ids) != len(self.names) or len(set(self.category_ids)) != len(self.names):
            expected = f"{len(self.names)} different ids"
            raise OptionError("classes need category ids of their own", expected=expected, found=self.category_ids)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def numbered(cls, count: int) -> Classes:
        """COCO's where there are 80; else ``class 0``, ``class 1`` …"""
        return COCO_CLASSES if count == len(COCO_NAMES) else cls(tuple(f"class {i}" for i in range(count)))


COCO_CLASSES = Classes(COCO_NAMES, COCO_CATEGORY_IDS)
"""COCO's 80."""


def class_indexes(wanted: str | int | Iterable[str | int], names: tuple[str, ...]) -> list[int]:
    """Indexes of classes that are asked for by name or index; one, or several.

    Args:
        wanted: names, or indexes into ``names``.
        names: of all classes.

    Raises:
        OptionError: there is no such class.
    """
    found = []
    for one in [wanted] if isinstance(wanted, str | int) else wanted:
        known = one in names if isinstance(one, str) else 0 <= one < len(names)
        if not known:
            shown = ", ".join(names[:10]) + (f" … ({len(names)} in all)" if len(names) > 10 else "")
            raise OptionError("no such class", expected=shown, found=one)
        found.append(names.index(one) if isinstance(one, str) else int(one))
    return found
