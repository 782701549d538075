"""Models by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vcm.api.arguments import Backend, Precision, backend_of, precision_of, whole_number
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
    precision: Precision = "float32",
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
        precision: what the picture's analysis and synthesis compute in. ``int8`` under onnxruntime takes a fifth less
            time to encode and to decode and costs a few hundredths of a decibel; its first picture comes half a
            second later. ``bfloat16`` under torch is for GPUs and processors that have it. Base layers and what heads
            find in them are the same, every file decodes to the same symbols, and only pixels differ.

    Raises:
        OptionError: there is no such device or backend, or no such pair; torch cannot use the device; the backend
            or the processor lacks the precision; or ``threads`` is below 1.
        ModelNotFoundError: no such model.
        WeightsError: the file is not a model of ours or is inconsistent. With ``onnx``, numbers that are not finite are
            found by the first call that needs their network, which raises this, so that no start waits for the rest.
        MissingDependencyError: the backend is not installed.
    """
    count = None if threads is None else whole_number("threads", threads, 1, None)
    chosen = backend_of(backend, device)
    return Codec(loaded_for(find_weights(name), chosen, count, precision_of(precision, chosen)), device)
