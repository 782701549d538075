"""Multi-label image classification on base latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vcm.errors import HeadError
from vcm.nn.blocks import ConvNormAct, FiLM
from vcm.structures import Classification, Latents, LatentSpec

__all__ = ["ClassificationHead"]


class ClassificationHead(nn.Module):
    """Which classes a picture holds: convolution, maximum over positions (an object may be small), linear.

    Args:
        spec: the latents' channels and stride.
        classes: number of classes, independent of each other.
        width: channels.
    """

    def __init__(self, spec: LatentSpec, classes: int = 80, width: int = 128) -> None:
        super().__init__()
        self.spec = spec
        self.inp = ConvNormAct(spec.channels, width)
        self.film = FiLM(width)
        self.body = nn.Sequential(ConvNormAct(width, width, 3, 2), ConvNormAct(width, width))
        self.fc = nn.Linear(2 * width, classes)
        nn.init.constant_(self.fc.bias, -3.0)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        """``y`` (N, C, h, w); ``quality`` (N,) in 0 … 1. Returns logits (N, classes)."""
        h = self.body(self.film(self.inp(y), quality))
        out: Tensor = self.fc(torch.cat([h.mean((2, 3)), h.amax((2, 3))], dim=1))
        return out

    @torch.inference_mode()
    def classify(self, latents: Latents) -> Classification:
        """Class probabilities of one picture.

        Raises:
            HeadError: the latents are not those that this head reads.
        """
        if latents.spec != self.spec:
            raise HeadError("the latents are of another kind", expected=self.spec, found=latents.spec)
        quality = torch.tensor([latents.quality / 100.0], dtype=latents.y_hat.dtype, device=latents.y_hat.device)
        probabilities = self(latents.y_hat, quality)[0].float().sigmoid()
        return Classification(probabilities.cpu().numpy().astype(np.float32))
