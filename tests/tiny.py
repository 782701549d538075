"""A tiny seeded codec for tests. Its weights are a committed file, because golden files depend on every bit of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import vcm
from vcm.api import Codec

TINY_WEIGHTS = Path(__file__).parent / "golden" / "tiny.safetensors"


@cache
def tiny_codec() -> Codec:
    """The tiny codec, loaded once."""
    return vcm.load(TINY_WEIGHTS)


def tiny_weights(folder: Path) -> Path:
    """A private copy of the tiny weights in ``folder``."""
    path = folder / "tiny.safetensors"
    path.write_bytes(TINY_WEIGHTS.read_bytes())
    return path


def make_tiny(path: Path = TINY_WEIGHTS, seed: int = 1) -> None:
    """Write the tiny weights anew; this changes every golden file.

    By hand, from ``tests/``: ``python -c 'from tiny import *; make_tiny(); make_golden()'``.
    """
    import torch

    from vcm.codecs.scalable.config import ARCHITECTURES
    from vcm.training.export import training_modules, write_weights

    torch.manual_seed(seed)
    architecture = ARCHITECTURES["tiny"]
    modules = training_modules(architecture).eval()
    for name, parameter in modules.named_parameters():
        if name.endswith("predict.bias"):
            parameter.data[:80].add_(2.5)  # so that a random head finds something
        elif name.endswith("predict.weight"):
            parameter.data.mul_(40)
        elif "project.weight" in name and "blocks" not in name:
            parameter.data.mul_(4)
    write_weights(path, modules, architecture, "tiny", "not trained: random numbers from a seed")
