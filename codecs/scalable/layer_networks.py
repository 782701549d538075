"""The networks and integers of one layer's entropy model in the form in which they ship, as a torch module."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.entropy_net import EntropyNet, int_conv
from vcm.codecs.scalable.fixed_point import KNOTS
from vcm.codecs.scalable.latent_model import HyperAnalysis
from vcm.codecs.scalable.tables import base_tables
from vcm.nn.integer import IntConv2d

__all__ = ["LayerNetworks"]


class LayerNetworks(nn.Module):
    """Tensors of one layer's entropy model, which :meth:`LatentModel.frozen` gives. They hold no logic.

    Args:
        spec: the layer's shape.
    """

    gain_y: Tensor
    gain_z: Tensor
    prior_mean: Tensor
    prior_scale: Tensor

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.net = EntropyNet(spec, int_conv)
        self.h_a = HyperAnalysis(spec.channels, max(spec.width, 2 * spec.hyper), spec.hyper)
        self.register_buffer("gain_y", torch.zeros(KNOTS, spec.channels, dtype=torch.int32))
        self.register_buffer("gain_z", torch.zeros(KNOTS, spec.hyper, dtype=torch.int32))
        self.register_buffer("prior_mean", torch.zeros(spec.hyper, dtype=torch.int32))
        self.register_buffer("prior_scale", torch.zeros(spec.hyper, dtype=torch.int32))

    def integers(self) -> dict[str, npt.NDArray[Any]]:
        """Its integer tensors by name, as :func:`vcm.codecs.scalable.tables.base_tables` takes them."""
        return {k: v.cpu().numpy() for k, v in self.state_dict().items() if not v.is_floating_point()}

    def check(self) -> None:
        """Verify the ranges on which exact decoding rests.

        Raises:
            WeightsError: a gain or prior is out of range, or an integer layer fails its own check.
        """
        base_tables(self.integers(), "")
        for module in self.net.modules():
            if isinstance(module, IntConv2d):
                module.check()
