"""Weights files for torch: written, and read into tensors once what they claim was compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vcm.errors import WeightsError
from vcm.weights.safetensors_file import Layout, SafetensorsFile

__all__ = ["TensorFile", "load_tensors", "save_tensors", "stored_type"]


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


class TensorFile(SafetensorsFile):
    """A file opened for torch; a context manager. Nothing in the file is executed.

    Args:
        path: the file.
        limit: bytes that it may have at most.

    Raises:
        WeightsError: not there, too large, or no safetensors file.
    """

    def read(self, layout: Layout, *, only: str = "") -> dict[str, Tensor]:
        """The tensors of ``layout``; there must be no other whose name begins with ``only``.

        Raises:
            WeightsError: a tensor is missing, surplus, of another type or shape, or holds a number that is not finite.
        """
        self.check(layout, only=only)
        return {name: torch.from_numpy(self.tensor(name)) for name in layout}
