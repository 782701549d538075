"""Multi-label image classification on base latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vcm.nn.blocks import ConvNormAct, FiLM
from vcm.structures import Classes, Classification, Latents, LatentSpec
from vcm.tasks.protocol import HeadSpec
from vcm.tasks.shapes import ClassificationShape, names_of

__all__ = ["ClassificationHead", "ClassificationTask"]


class ClassificationHead(nn.Module):
    """Which classes a picture holds: convolution, maximum over positions (an object may be small), linear.

    Args:
        spec: the latents' channels and stride.
        classes: number of classes, independent of each other.
        width: channels.
        names: names and category ids of the classes; by default COCO's for 80, else numbers.

    Raises:
        HeadError: there are not as many names as classes.
    """

    def __init__(self, spec: LatentSpec, classes: int = 80, width: int = 128, *, names: Classes | None = None) -> None:
        super().__init__()
        self.spec, self.shape = spec, ClassificationShape(width, classes)
        self.names = names_of(classes, names)
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
            HeadError, FingerprintError: the latents are not those that this head reads.
        """
        self.spec.check(latents.spec)
        quality = torch.tensor([latents.quality / 100.0], dtype=latents.y_hat.dtype, device=latents.y_hat.device)
        probabilities = self(latents.y_hat, quality)[0].float().sigmoid()
        return Classification(probabilities.cpu().numpy().astype(np.float32), self.names.names)


class ClassificationTask:
    """A classification head as :class:`vcm.tasks.protocol.Head`.

    Args:
        network: the head.
    """

    def __init__(self, network: ClassificationHead) -> None:
        self.network = network

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self.network.spec, Classification, self.network.names.names)

    def __call__(self, latents: Latents) -> Classification:
        """See :meth:`ClassificationHead.classify`."""
        return self.network.classify(latents)
