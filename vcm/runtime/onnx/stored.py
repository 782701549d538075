"""A weights file as numpy arrays: names, types and shapes are compared with what they must be before memory is taken,
and a tensor is read when a network needs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from vcm.errors import WeightsError

__all__ = ["Layout", "StoredTensors", "TensorSource", "scoped"]

_T = TypeVar("_T")

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name to safetensors type (``F16``, ``I8``, ``I32``) and shape."""


class TensorSource(Protocol):
    """Where networks get their weights from."""

    def __call__(self, name: str) -> npt.NDArray[Any]:
        """The tensor of that name: float32 where it is stored in half precision, else as stored."""
        ...


class StoredTensors:
    """The tensors of one file, read when asked for. Nothing in the file is executed; safe to share between threads.

    The file stays open, and mapped, for as long as this object lives: replace it by renaming another over it, as
    installers and :func:`vcm.io.files.whole_file` do, not by writing into it.

    Args:
        path: a safetensors file.
        limit: bytes that it may have at most.

    Attributes:
        metadata: text that is stored beside the tensors.

    Raises:
        WeightsError: not there, too large, or no safetensors file.
    """

    def __init__(self, path: Path, limit: int = 1 << 30) -> None:
        self._path = path
        try:
            size = path.stat().st_size
        except OSError as error:
            raise WeightsError(f"cannot read {path}", found=error.strerror) from error
        if size > limit:
            raise WeightsError(f"{path} is too large", expected=f"at most {limit} bytes", found=size)
        self._file: Any = self._guard(lambda: safe_open(os.fspath(path), "np"))
        self.metadata: dict[str, str] = self._file.metadata() or {}

    def _guard(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except (SafetensorError, OSError) as error:
            what = f"{self._path} is not a readable safetensors file"
            raise WeightsError(what, found=str(error).partition("\n")[0]) from error

    def check(self, layout: Layout) -> None:
        """Compare the file with ``layout``, reading none of its tensors.

        Raises:
            WeightsError: a tensor is missing, surplus, or of another type or shape.
        """
        names = set(self._file.keys())
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

    def __call__(self, name: str) -> npt.NDArray[Any]:
        """The tensor of that name: float32 where it is stored in half precision, else as stored.

        Raises:
            WeightsError: the file has none of that name, or it holds a number that is not finite.
        """
        array: npt.NDArray[Any] = self._guard(lambda: self._file.get_tensor(name))
        if array.dtype != np.float16:
            return array
        if (array.view(np.uint16) & 0x7C00 == 0x7C00).any():  # the exponent of infinities and of what is no number
            raise WeightsError(f"{name} is not a tensor of finite real numbers")
        return array.astype(np.float32)


def scoped(tensors: TensorSource, prefix: str) -> TensorSource:
    """Those tensors whose names begin with ``prefix``, called by the rest of it."""

    def read(name: str) -> npt.NDArray[Any]:
        return tensors(prefix + name)

    return read
