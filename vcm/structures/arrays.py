"""What the results share: shapes that are checked, equality by value, and rows that are picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError

__all__ = ["Index", "Rows", "check_shape", "positions", "same_fields"]

Index = slice | Sequence[int] | Sequence[bool] | npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]
"""Which of several: a slice, a mask with one entry each, or positions."""
_Rows = TypeVar("_Rows", bound="Rows")


def check_shape(name: str, array: npt.NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Refuses an array of another shape; ``None`` is any length.

    Raises:
        OptionError: it has another shape.
    """
    if array.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = "(" + ", ".join("N" if s is None else str(s) for s in shape) + ")"
        raise OptionError(f"{name} has the wrong shape", expected=wanted, found=array.shape)


def same_fields(one: Any, other: Any) -> bool:
    """Whether all fields of two objects of one dataclass are equal; arrays and tensors in type, shape and values."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if hasattr(a, "dtype") and hasattr(b, "dtype"):
            if a.dtype != b.dtype or a.shape != b.shape or not bool((a == b).all()):
                return False
        elif a != b:
            return False
    return True


def positions(index: Index, count: int) -> npt.NDArray[np.int64]:
    """The positions 0 … count − 1 that an index picks, in its order.

    Raises:
        IndexError: one of them is not there, or a mask has another length than ``count``.
    """
    at: Any = index if isinstance(index, slice) else np.asarray(index)
    if isinstance(at, np.ndarray) and at.size == 0:
        at = at.astype(np.int64)  # an empty list is an array of floats
    picked: npt.NDArray[np.int64] = np.arange(count)[at]
    return picked


class Rows:
    """A result with one row an object. Two are equal if all their fields are."""

    __slots__ = ()
    _ROWS: ClassVar[tuple[str, ...]]
    """Fields whose first axis is the objects."""

    def __len__(self) -> int:
        return len(getattr(self, self._ROWS[0]))

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other) if type(other) is type(self) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any container that compares by value

    def _pick(self: _Rows, index: Index) -> _Rows:
        """Those of an index.

        Raises:
            IndexError: a position is not there, or a mask has another length.
        """
        at = positions(index, len(self))
        return replace(self, **{name: getattr(self, name)[at] for name in self._ROWS})  # type: ignore[type-var]
