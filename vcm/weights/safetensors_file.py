"""A safetensors file of anybody's: what it claims is compared before memory is taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from vcm.errors import WeightsError

__all__ = ["MAX_WEIGHTS_BYTES", "Layout", "SafetensorsFile"]

_T = TypeVar("_T")

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name to safetensors type (``F16``, ``I8``, ``I32`` …) and shape."""

MAX_WEIGHTS_BYTES = 1 << 30
"""Largest weights file of a codec."""


class SafetensorsFile:
    """An open file; a context manager. Nothing in it is executed.

    It stays open, and mapped, for as long as this object lives: replace it by renaming another over it, as installers
    and :func:`vcm.io.files.whole_file` do, not by writing into it.

    Args:
        path: the file.
        limit: bytes that it may have at most.

    Attributes:
        metadata: text that is stored beside the tensors.

    Raises:
        WeightsError: not there, too large, or no safetensors file.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        try:
            size = path.stat().st_size
        except OSError as error:
            raise WeightsError(f"cannot read {path}", found=error.strerror) from error
        if size > limit:
            raise WeightsError(f"{path} is too large", expected=f"at most {limit} bytes", found=size)
        self._file: Any = self._guard(lambda: safe_open(os.fspath(path), "np"))
        self.metadata: dict[str, str] = self._file.metadata() or {}

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def _guard(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except (SafetensorError, OSError) as error:
            what = f"{self._path} is not a readable safetensors file"
            raise WeightsError(what, found=str(error).partition("\n")[0]) from error

    def check(self, layout: Layout, *, only: str = "") -> None:
        """Compare the file with ``layout``, reading none of its tensors.

        Args:
            layout: the tensors that there must be.
            only: there may be others whose names do not begin with this.

        Raises:
            WeightsError: a tensor is missing, surplus, or of another type or shape.
        """
        names = {name for name in self._file.keys() if name.startswith(only)}  # noqa: SIM118
        for name in sorted(names | layout.keys()):
            if name not in names:
                raise WeightsError(f"{self._path} lacks a tensor", expected=name)
            if name not in layout:
                raise WeightsError(f"{self._path} has a tensor too many", found=repr(name))
            part: Any = self._guard(lambda name=name: self._file.get_slice(name))  # type: ignore[misc]
            dtype, shape = layout[name]
            if tuple(part.get_shape()) != shape:
                raise WeightsError(f"{name} has the wrong shape", expected=shape, found=tuple(part.get_shape()))
            if part.get_dtype() != dtype:
                raise WeightsError(f"{name} has the wrong type", expected=dtype, found=part.get_dtype())

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """One tensor as it is stored, in memory of its own.

        Raises:
            WeightsError: the file has none of that name, ends before it, or it holds a number that is not finite.
        """
        array: npt.NDArray[Any] = self._guard(lambda: self._file.get_tensor(name))
        # In half precision by the exponent of infinities and of what is no number, in a fifth of isfinite's time.
        half, real = array.dtype == np.float16, array.dtype.kind == "f"
        if real and bool((array.view(np.uint16) & 0x7C00 == 0x7C00 if half else ~np.isfinite(array)).any()):
            raise WeightsError(f"{name} is not a tensor of finite real numbers")
        return array
