"""A tiny seeded codec for tests. Its weights are a committed file, because golden files depend on every bit of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

import vcm
from vcm.api import Codec

TINY_WEIGHTS = Path(__file__).parent / "golden" / "tiny.safetensors"
GOLDEN_PICTURE = Path(__file__).parent / "golden" / "tiny_picture_v1.vcm"
GOLDEN_FILE = Path(__file__).parent / "golden" / "tiny_v1.vcm"
GOLDEN_SCALES = {scale: GOLDEN_FILE.with_name(f"tiny_v1_scale_{scale}.vcm") for scale in (16, 192)}
"""Files whose bases are coded at twice and at 1/16 of the size."""


@cache
def tiny_codec() -> Codec:
    """The tiny codec, loaded once, on torch: the reference. ``tests/runtime`` compares the other backend with it."""
    return vcm.load(TINY_WEIGHTS, backend="torch")


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
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            if name.endswith("predict.bias"):
                parameter[:80].add_(2.5)  # so that a random head finds something
            elif name.endswith("predict.weight"):
                parameter.mul_(40)
            elif name.startswith("analysis.") and parameter.dim() == 4:
                torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")  # torch's default forgets the picture
            elif name == "picture_analysis.down16.weight":
                parameter.mul_(16)  # latents of several units
            elif ".net." in name and name.endswith(".1.weight"):
                parameter.mul_(10)  # means of several units, scales over octaves: symbols of all sizes, skipped ones
            elif ".net." in name and name.endswith("weight"):
                parameter.mul_(2)  # features over all of 0 … 255
            elif name.endswith("prior_log2"):
                parameter.copy_(torch.linspace(-3, 3, parameter.numel()))
            elif name.endswith("prior_mean"):
                parameter.normal_()
    write_weights(path, modules, architecture, "tiny", "not trained: random numbers from a seed")


def golden_picture() -> npt.NDArray[np.uint8]:
    """The golden file's source, 1056×72 (two tiles a layer), by integer arithmetic only."""
    y, x = np.mgrid[:72, :1056]
    blocks = (x // 16 + y // 16) % 2 * 200 + (x * 7 + y * 13) % 56
    return np.stack([(x * 3 + y * 5) % 256, x * y // 7 % 256, blocks], axis=-1).astype(np.uint8)


def make_golden(path: Path = GOLDEN_FILE) -> None:
    """Write the golden file anew. Not for a new format version, which gets a golden file of its own beside this one."""
    vcm.load(TINY_WEIGHTS).encode(golden_picture(), quality=70, base_quality=60, base_scale=8).save(path)


def make_golden_scales() -> None:
    """Write those of :data:`GOLDEN_SCALES` anew."""
    for path, eighths in zip(GOLDEN_SCALES.values(), (16, 0.5), strict=True):
        vcm.load(TINY_WEIGHTS).encode(golden_picture(), quality=20, base_quality=40, base_scale=eighths).save(path)


def make_golden_picture() -> None:
    """Write the one with a JPEG in it anew; libjpeg's version is in its bytes."""
    vcm.load(TINY_WEIGHTS).encode(golden_picture(), quality=30, base_quality=60, picture="jpeg").save(GOLDEN_PICTURE)


def tiny_twin(path: Path, *, name: str = "", seed: int = 2, own_trunk: bool = False) -> Path:
    """Write a pixel twin of random weights on the tiny codec's trunk; needs ``tiny.safetensors`` beside it."""
    import torch
    from safetensors.torch import load_file

    from vcm.codecs.scalable.config import ARCHITECTURES
    from vcm.training.export import training_modules
    from vcm.training.export_twin import write_twin

    architecture, prefix = ARCHITECTURES["tiny"], "model.analysis.trunk."
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        modules = training_modules(architecture).eval()
        trunk = {k.removeprefix(prefix): v.float() for k, v in load_file(TINY_WEIGHTS).items() if k.startswith(prefix)}
        for key, parameter in modules["analysis"].named_parameters():
            if parameter.dim() == 4 and not key.startswith("trunk"):
                torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")  # torch's default forgets the picture
        modules["analysis"].trunk.load_state_dict(trunk)
        with torch.no_grad():
            for level in modules["detect"].levels:
                level.predict.weight.mul_(40)
                level.predict.bias[:80].add_(2.5)
    trunk_of = None if own_trunk else TINY_WEIGHTS
    write_twin(path, modules, architecture, name or path.stem, "not trained: random numbers from a seed", trunk_of)
    return path
