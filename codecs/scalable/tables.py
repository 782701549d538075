"""What a layer's coder reads beside its networks: gains, priors and the layer's fingerprint, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.codecs.scalable.fixed_point import GAIN_LIMIT
from vcm.entropy import TABLE_DIGEST
from vcm.errors import WeightsError

__all__ = ["LayerTables", "base_tables", "picture_tables"]

_Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class LayerTables:
    """Integers of one layer.

    Attributes:
        gain_y: int32 (KNOTS, C), knots of each latent channel's gain, in 1/256 of 1/32 octave.
        gain_z: int32 (KNOTS, Z), likewise of the hyper-latents.
        prior_mean: int32 (Z,), means of the hyper-latents in 1/256 of a unit.
        prior_scale: int32 (Z,), their log2 scales in 1/32 octaves from 2**-6.
        fingerprint: 8 bytes, of all that reading the layer depends on.

    Raises:
        WeightsError: a number is out of the range on which the fixed-point arithmetic rests.
    """

    gain_y: _Integers
    gain_z: _Integers
    prior_mean: _Integers
    prior_scale: _Integers
    fingerprint: bytes

    def __post_init__(self) -> None:
        for name, limit in (
            ("gain_y", GAIN_LIMIT * 256), ("gain_z", GAIN_LIMIT * 256), ("prior_mean", 1 << 16),
            ("prior_scale", 32 * 14),
        ):  # fmt: skip
            found = int(
                np.abs(getattr(self, name).astype(np.int64)).max()
            )  # in int32 the magnitude of -2**31 is -2**31
            if found > limit:
                raise WeightsError(f"{name} is out of range", expected=f"magnitude at most {limit}", found=found)


def base_tables(tensors: Mapping[str, npt.NDArray[Any]], identity: str) -> LayerTables:
    """The base's, from its part of a weights file.

    Args:
        tensors: names without the layer's prefix (``gain_y``, ``net.hyper1.weight`` …) to arrays. All those of integers
            count for the fingerprint; others are passed over.
        identity: name for the meaning of its latents (``base_id`` of the file).

    Raises:
        WeightsError: a number is out of range.
    """
    return _tables(tensors, identity)


def picture_tables(tensors: Mapping[str, npt.NDArray[Any]], identity: str, base: LayerTables) -> LayerTables:
    """The enhancement's, which is conditioned on the base; arguments as of :func:`base_tables`."""
    return _tables(tensors, f"{identity}\0{base.fingerprint.hex()}")


def _tables(tensors: Mapping[str, npt.NDArray[Any]], identity: str) -> LayerTables:
    digest = blake2b(f"{identity}\0{TABLE_DIGEST}".encode(), digest_size=8)
    for name, array in sorted(tensors.items()):
        if array.dtype.kind == "i":
            # "torch." because the first fingerprints were taken of torch's tensors; files hold them.
            digest.update(f"{name}\0torch.{array.dtype.name}\0{array.shape}\0".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return LayerTables(
        tensors["gain_y"], tensors["gain_z"], tensors["prior_mean"], tensors["prior_scale"], digest.digest()
    )
