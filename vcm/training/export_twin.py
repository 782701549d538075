"""From a trained twin to the file that ships: BatchNorm folded, convolutions int8, the trunk left to its codec."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vcm.codecs.scalable.config import Architecture
from vcm.errors import TrunkError, WeightsError
from vcm.io.files import whole_file
from vcm.nn.blocks import fuse_batchnorm
from vcm.weights.registry import TWIN_FORMAT, read_metadata
from vcm.weights.tensors import save_tensors
from vcm.weights.twin_tensors import (
    OWN_TRUNK,
    SCALE,
    TRUNK,
    read_codec_trunk,
    read_tensors,
    stored_layout,
    trunk_digest,
    twin_layout,
)

__all__ = ["quantise_channels", "write_twin"]


def quantise_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 with one scale per output channel, the channel's largest magnitude / 127.

    Args:
        weight: (O, I, h, w).

    Returns:
        int8 values -127 … 127 of that shape, and half-precision scales (O,).
    """
    scale = (weight.abs().amax(dim=(1, 2, 3)) / 127).half()
    # By the rounded scale, so that its rounding is not a second error; a channel of zeros stays zero.
    step = scale.float()[:, None, None, None]
    values = torch.where(step > 0, weight / step, torch.zeros_like(weight))
    return values.round().clamp(-127, 127).to(torch.int8), scale


@torch.no_grad()
def write_twin(
    path: Path, modules: nn.ModuleDict, architecture: Architecture, name: str, trained: str, trunk_of: Path | None
) -> None:
    """Write a pixel twin's file, and load it once to verify it.

    Args:
        path: where to write; written whole or not at all.
        modules: ``analysis`` and ``detect`` in training form, others are left alone; changed, since their BatchNorms
            are folded.
        architecture: theirs.
        name: of the twin.
        trained: one line on the training run.
        trunk_of: weights file of the codec with the same trunk, which is then left out; ``None`` stores the trunk.

    Raises:
        TrunkError: the twin's trunk is not that of ``trunk_of``, bit for bit in half precision.
        WeightsError: ``trunk_of`` is no codec's weights file, or a weight is beyond half precision.
    """
    chosen = nn.ModuleDict({part: modules[part] for part in ("analysis", "detect")})
    fuse_batchnorm(chosen)
    state = {key: value.detach().float().cpu().contiguous() for key, value in chosen.state_dict().items()}
    trunk = {key.removeprefix(TRUNK): value.half().numpy() for key, value in state.items() if key.startswith(TRUNK)}
    meta = {"format": TWIN_FORMAT, "name": name, "architecture": architecture.name, "trained": trained}
    if trunk_of is None:
        meta["trunk"] = OWN_TRUNK
    else:
        expected, found = trunk_digest(read_codec_trunk(trunk_of, architecture)), trunk_digest(trunk)
        if expected != found:
            raise TrunkError(f"the twin's trunk is not that of {trunk_of}", expected=expected, found=found)
        model = read_metadata(trunk_of).get("name", trunk_of.stem)
        if model == OWN_TRUNK:
            raise WeightsError(f"a codec whose trunk is shared cannot be called {OWN_TRUNK}", found=trunk_of)
        meta |= {"trunk": model, "trunk_sha256": found}
    tensors: dict[str, Tensor] = {}
    for key, (kind, _) in stored_layout(twin_layout(architecture), own_trunk=trunk_of is None).items():
        if kind == "I8":
            tensors[key], tensors[key + SCALE] = quantise_channels(state[key])
        elif key not in tensors:
            tensors[key] = state[key].half()
    with whole_file(path) as part:
        save_tensors(part, tensors, meta)
        read_tensors(part, trunk_of)
