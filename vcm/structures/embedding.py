"""A picture as one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.structures.arrays import check_shape, same_fields

__all__ = ["Embedding"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Embedding:
    """A descriptor of one picture: similar pictures have similar ones.

    Attributes:
        vector: float32 ``(D,)`` of length 1: the inner product of two is their similarity, -1 … 1.
        bytes_read: bytes of the file that were read to get it.
    """

    vector: npt.NDArray[np.float32]
    bytes_read: int = 0

    def __post_init__(self) -> None:
        check_shape("vector", self.vector, (None,))

    def __eq__(self, other: object) -> bool:
        """Whether all of it is the same."""
        return same_fields(self, other) if isinstance(other, Embedding) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any container that compares by value

    def __repr__(self) -> str:
        return f"<Embedding of {len(self.vector)}>"

    def similarity(self, other: Embedding) -> float:
        """-1 … 1, 1 for the same picture."""
        return float(self.vector @ other.vector)

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return {"vector": [round(float(v), 5) for v in self.vector]}
