"""A weights file as numpy arrays, each of which is read when a network needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vcm.weights.safetensors_file import MAX_WEIGHTS_BYTES, SafetensorsFile

__all__ = ["StoredTensors", "TensorSource", "scoped"]


class TensorSource(Protocol):
    """Where networks get their weights from."""

    def __call__(self, name: str) -> npt.NDArray[Any]:
        """The tensor of that name: float32 where it is stored in half precision, else as stored."""
        ...


class StoredTensors(SafetensorsFile):
    """The tensors of one file, read when asked for. Nothing in the file is executed; safe to share between threads.

    Args:
        path: a safetensors file.
        limit: bytes that it may have at most.

    Raises:
        WeightsError: not there, too large, or no safetensors file.
    """

    def __init__(self, path: Path, limit: int = MAX_WEIGHTS_BYTES) -> None:
        super().__init__(path, limit)

    def __call__(self, name: str) -> npt.NDArray[Any]:
        """The tensor of that name: float32 where it is stored in half precision, else as stored.

        Raises:
            WeightsError: the file has none of that name, or it holds a number that is not finite.
        """
        array = self.tensor(name)
        return array.astype(np.float32) if array.dtype == np.float16 else array


def scoped(tensors: TensorSource, prefix: str) -> TensorSource:
    """Those tensors whose names begin with ``prefix``, called by the rest of it."""

    def read(name: str) -> npt.NDArray[Any]:
        return tensors(prefix + name)

    return read
