"""Other people's weights as tensors by name, without running code from the file."""

from __future__ import annotations

from pathlib import Path

import torch

from vcm.errors import WeightsError

__all__ = ["read_state"]


def read_state(path: Path, inside: str) -> dict[str, torch.Tensor]:
    """Tensors of a ``.safetensors`` file or of a torch checkpoint.

    Args:
        path: the file.
        inside: key under which a checkpoint may hold them, such as ``state_dict``; used where it is there.

    Raises:
        WeightsError: the file cannot be read, or holds no tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a bad file
        raise WeightsError(f"cannot read the weights {path}", found=str(error).partition("\n")[0]) from error
    state = state.get(inside, state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds no tensors by name", found=type(state).__name__)
    return state
