"""Weights files: written, and read with care: names, types and shapes are compared with what they must be first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vcm.errors import WeightsError

__all__ = ["Layout", "TensorFile", "load_tensors", "save_tensors", "stored_type"]

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name to safetensors type (``F16``, ``I8``, ``I32`` …) and shape."""


def stored_type(tensor: Tensor) -> str:
    """How a weights file of ours stores a tensor: floating point in half precision, integers as they are."""
    return "F16" if tensor.is_floating_point() else {torch.int8: "I8", torch.int32: "I32"}[tensor.dtype]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; meant for the name that :func:`vcm.io.files.whole_file` gives.

    Args:
        path: the file.
        tensors: by name; each is moved to the CPU and need be neither contiguous nor unshared.
        metadata: text to store beside them.

    Raises:
        OSError: it cannot be written, as when the disk is full (the library has an error class of its own for that).
    """
    try:
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(plain, path, dict(metadata) if metadata else None)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file that this machine wrote, such as a checkpoint's shard; :class:`TensorFile` is for others.

    Raises:
        WeightsError: not there, or no safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read {path}", found=str(error).partition("\n")[0]) from error


class TensorFile:
    """An open safetensors file; a context manager. Nothing in the file is executed.

    Args:
        path: the file.
        limit: bytes that it may have at most.

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
        self._file: Any = self._guard(lambda: safe_open(os.fspath(path), "pt"))
        self.metadata: dict[str, str] = self._file.metadata() or {}

    def __enter__(self) -> TensorFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (SafetensorError, OSError) as error:
            what = f"{self._path} is not a readable safetensors file"
            raise WeightsError(what, found=str(error).partition("\n")[0]) from error

    def read(self, layout: Layout, *, only: str = "") -> dict[str, Tensor]:
        """The tensors of ``layout``; there must be no other whose name begins with ``only``.

        Raises:
            WeightsError: a tensor is missing, surplus, of another type or shape, or holds a number that is not finite.
        """
        names = {name for name in self._file.keys() if name.startswith(only)}  # noqa: SIM118
        for name in sorted(names | layout.keys()):
            if name not in names:
                raise WeightsError(f"{self._path} lacks a tensor", expected=name)
            if name not in layout:
                raise WeightsError(f"{self._path} has a tensor too many", found=repr(name))
            part = self._guard(lambda name=name: self._file.get_slice(name))  # type: ignore[misc]
            dtype, shape = layout[name]
            if tuple(part.get_shape()) != shape:
                raise WeightsError(f"{name} has the wrong shape", expected=shape, found=tuple(part.get_shape()))
            if part.get_dtype() != dtype:
                raise WeightsError(f"{name} has the wrong type", expected=dtype, found=part.get_dtype())
        tensors = {name: self._guard(lambda name=name: self._file.get_tensor(name)) for name in layout}  # type: ignore[misc]
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise WeightsError(f"{name} is not a tensor of finite real numbers")
        return tensors
