"""Models by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vcm.api.arguments import Backend, backend_of, whole_number
from vcm.api.codec import Codec
from vcm.api.engines import loaded_for
from vcm.weights.registry import find_weights

if TYPE_CHECKING:
    import torch

__all__ = ["load"]


def load(
    name: str | Path = "vcm-s",
    device: str | torch.device = "cpu",
    *,
    backend: Backend = "auto",
    threads: int | None = None,
) -> Codec:
    """Load a shipped model by name, or a weights file by path.

    Args:
        name: ``vcm-s`` or a path to a ``.safetensors`` file.
        device: where it runs; it must have float64 (Apple's ``mps`` has not). Files decode to the same symbols on
            every device.
        backend: what runs the networks: ``torch``; ``onnx``, which is onnxruntime on a CPU, starts sooner, and imports
            no torch; or ``auto``, which is ``onnx`` on a CPU and ``torch`` elsewhere. Files decode to the same symbols
            in both, and to pictures that differ by one level at most.
        threads: of each network under onnxruntime; by default one for each core that the process may use, and at most
            8. Torch's are those of ``torch.set_num_threads``.

    Raises:
        OptionError: there is no such device or backend, or no such pair; torch cannot use the device; or ``threads`` is
            below 1.
        ModelNotFoundError: no such model.
        WeightsError: the file is not a model of ours or is inconsistent. With ``onnx``, numbers that are not finite are
            found by the first call that needs their network, which raises this, so that no start waits for the rest.
        MissingDependencyError: the backend is not installed.
    """
    count = None if threads is None else whole_number("threads", threads, 1, None)
    return Codec(loaded_for(find_weights(name), backend_of(backend, device), count), device)
