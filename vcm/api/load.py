"""Models by name or path."""

from __future__ import annotations

from pathlib import Path

import torch

from vcm.api.codec import Codec
from vcm.weights.codec_file import load_weights
from vcm.weights.registry import find_weights

__all__ = ["load"]


def load(name: str | Path = "vcm-s", device: str | torch.device = "cpu") -> Codec:
    """Load a shipped model by name, or a weights file by path.

    Args:
        name: ``vcm-s`` or a path to a ``.safetensors`` file.
        device: where it runs; it must have float64 (Apple's ``mps`` has not). Files decode to the same symbols on
            every device.

    Raises:
        OptionError: torch knows no such device.
        ModelNotFoundError: no such model.
        WeightsError: the file is not a model of ours or is inconsistent.
    """
    return Codec(load_weights(find_weights(name)), device)
