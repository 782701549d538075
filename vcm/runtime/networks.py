"""The seam between a codec's logic, which is numpy, and its networks, which a runtime runs.

A runtime implements :class:`Networks`: one method, ``run(name, *arrays)``. The names of the scalable family, with what
goes in and comes out, are below; :func:`signatures` gives them as data. Imports numpy, neither torch nor onnxruntime.

**Arrays.** Every array is a C-contiguous float32 ``(1, channels, rows, columns)`` unless it says otherwise; a runtime
must not change an array that it is given, and the caller may change one that it gets. Letters: ``C``, ``B`` channels of
the picture's and of the base's latents, ``Z`` of a layer's hyper-latents, ``W`` width of its parameter networks, ``P``
channels of the base's features in the picture's networks, ``S`` channels of one slice, ``K`` classes; ``h, w`` latent
positions, and ``hz, wz`` those of the hyper-latents, ``ceil(h / 4), ceil(w / 4)``.

**Integers.** Arrays marked *integer* hold exactly integral float32 numbers: contexts −128 … 127, features 0 … 255,
parameters −65535 … 65535. Their networks are integer networks (:mod:`vcm.nn.integer`) and must be exact to the last bit
in every runtime, since what they give decides how a file is read: with weights of magnitude at most 63 and every
accumulator below 2**24, direct convolutions are exact in int32, float32 and float64 in any order (Winograd's are not);
the requantisation ``floor((acc · M + 2**23) / 2**24)`` needs float64 or int64. All others may differ by rounding.

============================  ==========================================================  ===========================
name                          in                                                          out
============================  ==========================================================  ===========================
``base.analysis``             x 0 … 255, (1, 3, 32a, 32b)                                 y (1, B, 2a, 2b)
``picture.analysis``          x 0 … 255, (1, 3, 16h, 16w)                                 y (1, C, h, w)
``LAYER.h_a``                 y (1, B or C, h, w)                                         z (1, Z, hz, wz)
``LAYER.hyper``               z context (1, Z, hz, wz); quality −128 … 127 (1, 1, 1, 1);  psi (1, W, 4hz, 4wz),
                              both integer                                                integer, not cropped
``picture.base_features``     context of y_base (1, B, hb, wb), integer                   features (1, P, hb, wb),
                                                                                          integer
``LAYER.first.0``             psi (1, W + P, h, w), integer (base: P = 0)                 features (1, W, h, w),
                                                                                          parameters (1, 2S, h, w),
                                                                                          both integer
``picture.first.i``, i ≥ 1    psi, as before; known (1, i·S, h, w): contexts of the       as before
                              slices before, integer
``LAYER.second.i``            features (1, W, h, w); context (1, S, h, w): the first      parameters (1, 2S, h, w),
                              pass's, 0 elsewhere; both integer                           integer
``picture.synthesis``         y_hat (1, C, h, w); base (1, B, h, w): y_base sampled at    x (1, 3, 16h, 16w), about
                              its positions; quality (1,) 0 … 1                           0 … 255, not clipped
``preview``                   y_base (1, B, h, w)                                         x (1, 3, 4h, 4w), likewise
``detect``                    y_base (1, B, h, w); quality (1,) 0 … 1                     logits (1, K, ·, ·) at strides
                                                                                          8, 16, 32, 64, then bins
                                                                                          (1, 32, ·, ·) at the same
``classify``                  y_base (1, B, h, w); quality (1,) 0 … 1                     logits (1, K)
============================  ==========================================================  ===========================

``LAYER`` is ``base`` or ``picture``. Parameters are means in 1/256 of a unit (first S channels), then log2 scales in
1/32 octaves. The grids of ``detect`` are (2h, 2w), (h, w), (h₂, w₂) and (h₄, w₄) with ``h₂ = ceil(h / 2)`` and ``h₄ =
ceil(h₂ / 2)``. ``detect`` and ``classify`` are there where a runtime runs heads by arrays; torch runs them as modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Networks", "Signature", "signatures"]

Array = npt.NDArray[np.float32]


class Networks(Protocol):
    """The networks of one model, on one device. Safe to share between threads."""

    def run(self, name: str, /, *arrays: Array) -> tuple[Array, ...]:
        """Run one network.

        Args:
            name: as in the table of :mod:`vcm.runtime.networks`.
            arrays: its inputs, in the table's order.

        Returns:
            its outputs, in the table's order.

        Raises:
            KeyError: these networks have none of that name: a mistake of the caller, not of a file.
        """
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """Names of a network's arrays, in order.

    Attributes:
        inputs, outputs: names, unique within the network.
        exact: an integer network: its outputs must be equal to the last bit in every runtime.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    exact: bool = False


def signatures(base_slices: int, picture_slices: int) -> dict[str, Signature]:
    """The networks of a model of the scalable family, by name, its two heads included.

    Args:
        base_slices, picture_slices: channel slices of the two layers.
    """
    strides = (8, 16, 32, 64)
    out = {
        "base.analysis": Signature(("x",), ("y",)),
        "picture.analysis": Signature(("x",), ("y",)),
        "picture.base_features": Signature(("context",), ("features",), exact=True),
        "picture.synthesis": Signature(("y_hat", "base", "quality"), ("x",)),
        "preview": Signature(("y_base",), ("x",)),
        "detect": Signature(("y_base", "quality"), (*(f"logits{s}" for s in strides), *(f"bins{s}" for s in strides))),
        "classify": Signature(("y_base", "quality"), ("logits",)),
    }
    for layer, slices in (("base", base_slices), ("picture", picture_slices)):
        out[f"{layer}.h_a"] = Signature(("y",), ("z",))
        out[f"{layer}.hyper"] = Signature(("z", "quality"), ("psi",), exact=True)
        for i in range(slices):
            known = ("known",) if i else ()
            out[f"{layer}.first.{i}"] = Signature(("psi", *known), ("features", "parameters"), exact=True)
            out[f"{layer}.second.{i}"] = Signature(("features", "context"), ("parameters",), exact=True)
    return out
