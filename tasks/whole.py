"""Heads that read a picture as a whole: one class for it, a class for each of its places, one vector for it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.nn.blocks import ConvNormAct, FiLM
from vcm.structures import Classes, Classification, Embedding, Latents, LatentSpec, Segmentation
from vcm.tasks.protocol import HeadSpec
from vcm.tasks.shapes import EmbeddingShape, SegmentationShape, SingleLabelShape

__all__ = ["EmbeddingHead", "SegmentationHead", "SingleLabelHead", "WholeTask"]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(width, width)
        self.second = ConvNormAct(width, width, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _WholeHead(nn.Module):
    """What the three share: layers at stride 16 that know the quality."""

    result: ClassVar[type]

    def __init__(self, spec: LatentSpec, names: Classes, width: int, depth: int) -> None:
        super().__init__()
        self.spec, self.names = spec, names
        self.inp = ConvNormAct(spec.channels, width)
        self.film = FiLM(width)
        self.body = nn.Sequential(*(_Residual(width) for _ in range(depth)))

    def features(self, y: Tensor, quality: Tensor) -> Tensor:
        """``y`` (N, C, h, w) and ``quality`` (N,) in 0 … 1 to (N, width, h, w)."""
        out: Tensor = self.body(self.film(self.inp(y), quality))
        return out

    @torch.inference_mode()
    def run(self, latents: Latents) -> Any:
        """The result for one picture.

        Raises:
            HeadError, FingerprintError: the latents are not those that this head reads.
        """
        self.spec.check(latents.spec)
        y = latents.y_hat.float()
        return self.read(self(y, y.new_tensor([latents.quality / 100.0])), latents)

    def read(self, out: Tensor, latents: Latents) -> Any:
        """What the network gave for one picture, as a result."""
        raise NotImplementedError


class SingleLabelHead(_WholeHead):
    """Which one of some classes a picture shows: convolutions, mean and maximum over positions, linear.

    Args:
        spec: the latents' channels and stride.
        names: of the classes.
        shape: size of the head.
    """

    result = Classification

    def __init__(self, spec: LatentSpec, names: Classes, shape: SingleLabelShape | None = None) -> None:
        self_shape = shape or SingleLabelShape()
        super().__init__(spec, names, self_shape.width, self_shape.depth)
        self.shape = self_shape
        self.down = ConvNormAct(self_shape.width, self_shape.width, 3, 2)
        self.drop = nn.Dropout(self_shape.dropout)
        self.fc = nn.Linear(2 * self_shape.width, len(names))

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        """``y`` (N, C, h, w); ``quality`` (N,) in 0 … 1. Returns logits (N, classes)."""
        h = self.down(self.features(y, quality))
        out: Tensor = self.fc(self.drop(torch.cat([h.mean((2, 3)), h.amax((2, 3))], dim=1)))
        return out

    def read(self, out: Tensor, latents: Latents) -> Classification:
        """Probabilities that sum to 1."""
        return Classification(out[0].softmax(0).cpu().numpy().astype(np.float32), self.names.names)


class SegmentationHead(_WholeHead):
    """A class for each place: convolutions at stride 16, a pixel shuffle, convolutions at the output's stride.

    Args:
        spec: the latents' channels and stride.
        names: of the classes; the first is usually the background.
        shape: size of the head.
    """

    result = Segmentation

    def __init__(self, spec: LatentSpec, names: Classes, shape: SegmentationShape | None = None) -> None:
        s = shape or SegmentationShape()
        super().__init__(spec, names, s.width, s.depth)
        self.shape = s
        self.context = ConvNormAct(s.width, s.width, 1)
        self.up = nn.Sequential(ConvNormAct(2 * s.width, s.feature * s.up * s.up, 1), nn.PixelShuffle(s.up))
        self.fine = ConvNormAct(s.feature, s.feature)
        self.predict = nn.Conv2d(s.feature, len(names), 1)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        """``y`` (N, C, h, w); ``quality`` (N,) in 0 … 1. Returns logits (N, classes, h · up, w · up)."""
        h = self.features(y, quality)
        # What the whole picture shows, at each of its places.
        whole = self.context(h).mean((2, 3), keepdim=True).expand_as(h)
        out: Tensor = self.predict(self.fine(self.up(torch.cat([h, whole], dim=1))))
        return out

    def read(self, out: Tensor, latents: Latents) -> Segmentation:
        """Cells that lie over the picture; those over its padding are cut off."""
        up, stride = self.shape.up, self.spec.stride
        width, height = (max(1, round(side * up / stride)) for side in latents.coded_size)
        labels = out[0, :, :height, :width].argmax(0).cpu().numpy().astype(np.uint16)
        return Segmentation(labels, self.names.names, *latents.source_size)


class EmbeddingHead(_WholeHead):
    """A descriptor of the picture: convolutions, generalised mean over positions (Radenović et al. 2018), linear,
    unit length.

    Args:
        spec: the latents' channels and stride.
        names: one, of what is described; head files keep names.
        shape: size of the head.
    """

    result = Embedding

    def __init__(self, spec: LatentSpec, names: Classes, shape: EmbeddingShape | None = None) -> None:
        s = shape or EmbeddingShape()
        super().__init__(spec, names, s.width, s.depth)
        self.shape = s
        self.power = nn.Parameter(torch.tensor([3.0]))
        self.fc = nn.Linear(2 * s.width, s.size)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        """``y`` (N, C, h, w); ``quality`` (N,) in 0 … 1. Returns unit vectors (N, size)."""
        h = self.features(y, quality)
        power = self.power.clamp(1, 10)
        pooled = h.clamp(min=1e-4).pow(power).mean((2, 3)).pow(1 / power)
        return F.normalize(self.fc(torch.cat([pooled, h.mean((2, 3))], dim=1)), dim=1)

    def read(self, out: Tensor, latents: Latents) -> Embedding:
        """The vector."""
        return Embedding(out[0].cpu().numpy().astype(np.float32))


class WholeTask:
    """A head of this module as :class:`vcm.tasks.protocol.Head`.

    Args:
        network: the head.
    """

    def __init__(self, network: _WholeHead) -> None:
        self.network = network

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self.network.spec, self.network.result, self.network.names.names)

    def __call__(self, latents: Latents) -> Any:
        """See :meth:`SingleLabelHead.run`."""
        return self.network.run(latents)
