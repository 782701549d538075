"""Which classes a picture holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from vcm.structures.arrays import Index, Rows, check_shape, positions
from vcm.structures.classes import COCO_NAMES, class_indexes

__all__ = ["ClassScore", "Classification"]


class ClassScore(NamedTuple):
    """A class and its probability.

    Attributes:
        name: of the class.
        score: 0 … 1.
    """

    name: str
    score: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Classification(Rows):
    """Multi-label class probabilities of one picture. A sequence of :class:`ClassScore`, one a class.

    Attributes:
        scores: float32 ``(K,)``, independent probabilities 0 … 1.
        names: class names by index.
        bytes_read: bytes of the file that were read.
    """

    _ROWS: ClassVar[tuple[str, ...]] = ("scores",)
    scores: npt.NDArray[np.float32]
    names: tuple[str, ...] = field(default=COCO_NAMES, repr=False)
    bytes_read: int = 0

    def __post_init__(self) -> None:
        check_shape("scores", self.scores, (len(self.names),))

    @overload
    def __getitem__(self, index: int) -> ClassScore: ...
    @overload
    def __getitem__(self, index: Index) -> Classification: ...
    def __getitem__(self, index: int | Index) -> ClassScore | Classification:
        """One class by its index; several, with their names, by a slice, a mask or indexes.

        Raises:
            IndexError: there is no such class, or a mask has another length.
        """
        if isinstance(index, int | np.integer):
            return ClassScore(self.names[index], float(self.scores[index]))
        at = positions(index, len(self))
        return replace(self, scores=self.scores[at], names=tuple(self.names[i] for i in at))

    def __iter__(self) -> Iterator[ClassScore]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        shown = [f"{name} {score:.2f}" for name, score in self.top(3)] + (["…"] if len(self) > 3 else [])
        return f"<Classification of {len(self)}: {', '.join(shown) or 'none'}>"

    def filter(
        self, *, score: float | None = None, classes: str | int | Iterable[str | int] | None = None
    ) -> Classification:
        """Classes with a probability of at least ``score`` that are among ``classes``.

        Args:
            score: least probability kept; ``None``: any.
            classes: names or indexes, one or several; ``None``: any.

        Raises:
            OptionError: there is no such class.
        """
        keep = np.ones(len(self), np.bool_) if score is None else self.scores >= score
        if classes is not None:
            keep &= np.isin(np.arange(len(self)), class_indexes(classes, self.names))
        return self[keep]

    def top(self, k: int = 5) -> list[ClassScore]:
        """The ``k`` most probable classes with their probabilities, best first."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [self[int(i)] for i in order]
