"""Keypoints of objects on base latents, top-down: a box is given or detected, its latents are cut out and read.

The latents under an enlarged box are resampled to a small square grid; convolutions and a pixel shuffle turn that into
one heatmap a keypoint, a distribution over the cells of the box (Sun et al. 2018, "Integral human pose regression",
but read around its peak, since left and right make two peaks that must not be averaged).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.errors import HeadError, OptionError, WeightsError
from vcm.nn.blocks import ConvNormAct
from vcm.structures import DEFAULT_SCORE, Keypoints, Latents, LatentSpec
from vcm.tasks.array_keypoints import SAMPLES, estimate_keypoints
from vcm.tasks.protocol import Detect, HeadSpec
from vcm.tasks.shapes import KeypointShape

__all__ = ["KeypointHead", "KeypointOutput", "KeypointTask"]


@dataclass(frozen=True, slots=True)
class KeypointOutput:
    """Raw predictions for B boxes.

    Attributes:
        heatmaps: (B, K, S, S) logits over the cells of the region, S = grid · up.
        visible: (B, K) logits: is the point labelled at all?
    """

    heatmaps: Tensor
    visible: Tensor


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(width, width)
        self.second = ConvNormAct(width, width, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class KeypointHead(nn.Module):
    """Heatmaps of K keypoints for each box.

    Args:
        spec: the latents' channels and stride.
        names: names of the keypoints.
        shape: size of the head.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, spec: LatentSpec, names: tuple[str, ...], shape: KeypointShape | None = None) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names):
            raise HeadError("keypoints need names of their own", expected="different names", found=names)
        self.spec, self.names = spec, tuple(names)
        self.shape = s = shape or KeypointShape()
        # Latents are brought to zero mean and unit spread before they are cut out, so that what lies beyond the
        # picture, zero, is the average latent.
        self.register_buffer("mean", torch.zeros(spec.channels))
        self.register_buffer("spread", torch.ones(spec.channels))
        self.inp = ConvNormAct(spec.channels, s.width)
        self.body = nn.Sequential(*(_Residual(s.width) for _ in range(s.depth)))
        self.drop = nn.Dropout2d(s.dropout)
        self.heat = nn.Conv2d(s.width, len(names) * s.up * s.up, 1)
        self.visible = nn.Linear(2 * s.width, len(names))

    def check(self) -> None:
        """Refuses weights that latents cannot be brought to unit spread with.

        Raises:
            WeightsError: a spread is not above 0.
        """
        if not bool((self.spread > 0).all()):
            raise WeightsError("spread is out of range", expected="above 0", found=float(self.spread.min()))

    def regions(self, boxes: Tensor) -> Tensor:
        """Regions (B, 4) that are cut out for ``boxes`` (B, 4): x1 y1 x2 y2, enlarged about the centre."""
        half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3) * (self.shape.margin / 2)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        return torch.cat([centre - half, centre + half], dim=1)

    def cut(self, y: Tensor, regions: Tensor) -> Tensor:
        """Latents of ``regions`` on a square grid.

        Args:
            y: (B, C, h, w), or (1, C, h, w) for all regions.
            regions: (B, 4) x1 y1 x2 y2 in latent positions (pixels of the coded picture over the stride).

        Returns:
            (B, C, grid, grid), normalised; zero beyond the picture.
        """
        n = self.shape.grid * SAMPLES
        y = (y - self.mean[:, None, None]) / self.spread[:, None, None]
        step = (torch.arange(n, dtype=y.dtype, device=y.device) + 0.5) / n
        size = y.new_tensor([y.shape[3], y.shape[2]])
        low, high = regions[:, :2] / size * 2 - 1, regions[:, 2:] / size * 2 - 1
        axes = low[:, :, None] + (high - low)[:, :, None] * step
        x = axes[:, 0, None, :].expand(-1, n, -1)
        rows = axes[:, 1, :, None].expand(-1, -1, n)
        y = y.expand(len(regions), -1, -1, -1)
        sampled = F.grid_sample(y, torch.stack([x, rows], dim=3), padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(sampled, SAMPLES)

    def forward(self, y: Tensor, regions: Tensor) -> KeypointOutput:
        """``y`` and ``regions`` as in :meth:`cut`."""
        h = self.drop(self.body(self.inp(self.cut(y, regions))))
        heatmaps = F.pixel_shuffle(self.heat(h), self.shape.up)
        return KeypointOutput(heatmaps, self.visible(torch.cat([h.mean((2, 3)), h.amax((2, 3))], dim=1)))

    @torch.inference_mode()
    def estimate(
        self, latents: Latents, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32] | None = None
    ) -> Keypoints:
        """Keypoints of the objects in ``boxes``.

        Args:
            latents: decoded base latents of one picture.
            boxes: (N, 4) x1 y1 x2 y2 in source pixels.
            scores: (N,) of the boxes, 0 … 1; all 1 by default. An object's score is its box's times the mean
                score of the points that it seems to show.

        Raises:
            HeadError, FingerprintError: the latents are not those that this head reads.
            OptionError: boxes or scores are of the wrong shape, or not finite.
        """
        self.spec.check(latents.spec)
        y = torch.as_tensor(latents.y_hat).float()

        def run(regions: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            out = self(y, torch.from_numpy(regions).to(y.device))
            return out.heatmaps.float().cpu().numpy(), out.visible.float().cpu().numpy()

        return estimate_keypoints(run, latents, boxes, scores, self.names, self.shape.margin)


class KeypointTask:
    """A keypoint head with where its boxes come from, as :class:`vcm.tasks.protocol.Head`.

    Args:
        head: the head.
        detect: boxes of a picture of at least a score, such as ``codec.head("detect")``.
        labels: class indices of the objects that have such keypoints; ``None`` takes all.
        score: least score of a box.

    Raises:
        OptionError: ``score`` is outside 0 … 1.
    """

    def __init__(
        self,
        head: KeypointHead,
        detect: Detect,
        *,
        labels: Collection[int] | None = None,
        score: float = DEFAULT_SCORE,
    ) -> None:
        if not 0 <= score <= 1:
            raise OptionError("score is out of range", expected="0 to 1", found=score)
        self.network, self.score = head, score
        self.labels = None if labels is None else frozenset(labels)
        self._detect = detect

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self.network.spec, Keypoints, self.network.names)

    def __call__(self, latents: Latents) -> Keypoints:
        """Keypoints of the detected objects of one picture."""
        found = self._detect(latents, self.score)
        keep = np.array([self.labels is None or int(c) in self.labels for c in found.labels], np.bool_)
        return self.network.estimate(latents, found.boxes[keep], found.scores[keep])
