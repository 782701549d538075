"""Object detection on base latents: no pixels are read.

The head is anchor-free: each position of strides 8, 16, 32 and 64 gives class logits and, for each box side, a
distribution over distances (Li et al. 2020, "Generalized Focal Loss", eq. 4–6). Positions and bins are those of
NanoDet-Plus, so that it can be distilled densely.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.errors import HeadError
from vcm.nn.blocks import ConvNormAct, FiLM
from vcm.structures import DEFAULT_SCORE, Classes, Detections, Latents, LatentSpec
from vcm.structures.classes import class_indexes
from vcm.tasks.postprocessing import BINS, MAX_DETECTIONS, NMS_IOU, check_options, detections_from_arrays
from vcm.tasks.protocol import HeadSpec
from vcm.tasks.shapes import DetectionShape, names_of

__all__ = ["DetectionHead", "DetectionTask", "DetectorOutput", "decode_boxes"]


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """Raw predictions, one tensor per stride of :data:`vcm.tasks.postprocessing.STRIDES`.

    Attributes:
        logits: each (N, classes, h, w).
        bins: each (N, 4·BINS, h, w): left, top, right, bottom distance logits.
        features: each (N, 96, h, w), what the last convolution reads.
        stem: (N, C, h16, w16), the first features at stride 16, for other heads to share.
    """

    logits: tuple[Tensor, ...]
    bins: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    stem: Tensor


def decode_boxes(bins: Tensor, stride: int) -> Tensor:
    """Boxes from distributions over distances, with gradients, for training.

    Args:
        bins: (N, 4·BINS, h, w) logits.
        stride: pixels per position.

    Returns:
        (N, h·w, 4) x1 y1 x2 y2 in pixels of the coded picture; a position's point is (column, row) · stride.
    """
    n, _, h, w = bins.shape
    project = torch.arange(BINS, dtype=bins.dtype, device=bins.device)
    distance = (bins.view(n, 4, BINS, h * w).softmax(2) * project.view(1, 1, BINS, 1)).sum(2) * stride
    ys, xs = torch.meshgrid(
        torch.arange(h, dtype=bins.dtype, device=bins.device) * stride,
        torch.arange(w, dtype=bins.dtype, device=bins.device) * stride,
        indexing="ij",
    )
    x, y = xs.reshape(1, -1), ys.reshape(1, -1)
    return torch.stack([x - distance[:, 0], y - distance[:, 1], x + distance[:, 2], y + distance[:, 3]], dim=2)


class _Level(nn.Module):
    """Tower and predictor of one stride."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(*(ConvNormAct(width, width) for _ in range(depth)))
        self.predict = nn.Conv2d(width, classes + 4 * BINS, 1)
        nn.init.normal_(self.predict.weight, std=0.01)
        bias = nn.init.zeros_(cast(Tensor, self.predict.bias))
        nn.init.constant_(bias[:classes], -4.6)  # a prior of 1 %, Lin et al. 2017, section 3.3

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.tower(x)
        return features, self.predict(features)


class DetectionHead(nn.Module):
    """Pyramid and predictors on base latents.

    Args:
        spec: the latents' channels and stride (16).
        classes: number of classes.
        width: channels of the stride-16 stem.
        feature: channels of each pyramid level.
        names: names and category ids of the classes; by default COCO's for 80, else numbers.

    Raises:
        HeadError: the stride is not 16, or there are not as many names as classes.
    """

    def __init__(
        self, spec: LatentSpec, classes: int = 80, width: int = 192, feature: int = 96, *, names: Classes | None = None
    ) -> None:
        super().__init__()
        if spec.stride != 16:
            raise HeadError("this detection head reads latents of stride 16", expected=16, found=spec.stride)
        self.spec, self.classes, self.shape = spec, classes, DetectionShape(width, feature, classes)
        self.names = names_of(classes, names)
        self.inp = ConvNormAct(spec.channels, width)
        self.film = FiLM(width)
        self.stem = nn.Sequential(ConvNormAct(width, width), ConvNormAct(width, width))
        self.p8 = ConvNormAct(width, feature * 4, 1)
        self.p16 = ConvNormAct(width, feature, 1)
        self.p32 = ConvNormAct(width, feature, 3, 2)
        self.p64 = ConvNormAct(feature, feature, 3, 2)
        self.levels = nn.ModuleList(_Level(feature, depth, classes) for depth in (2, 2, 2, 1))

    def forward(self, y: Tensor, quality: Tensor) -> DetectorOutput:
        """``y`` (N, C, h, w) base latents; ``quality`` (N,) in 0 … 1."""
        h = self.film(self.inp(y), quality)
        stem = h + self.stem(h)
        p32 = self.p32(stem)
        pyramid = (F.pixel_shuffle(self.p8(stem), 2), self.p16(stem), p32, self.p64(p32))
        features, logits, bins = [], [], []
        for level, x in zip(self.levels, pyramid, strict=True):
            f, out = level(x)
            features.append(f)
            logits.append(out[:, : self.classes])
            bins.append(out[:, self.classes :])
        return DetectorOutput(tuple(logits), tuple(bins), tuple(features), stem)

    @torch.inference_mode()
    def detect(
        self,
        latents: Latents,
        score: float = DEFAULT_SCORE,
        nms_iou: float = NMS_IOU,
        *,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        classes: Iterable[str | int] | None = None,
    ) -> Detections:
        """Detections of one picture, boxes in source pixels.

        Args:
            latents: decoded base latents.
            score: least score kept, 0 … 1.
            nms_iou: overlap above which the weaker box of one class is dropped; less is enough between large boxes
                (:func:`vcm.tasks.postprocessing.boxes_from_arrays`).
            agnostic: drop the weaker box of two classes as well.
            max_det: most boxes, 1 … 1000.
            classes: names or indexes of those that are wanted; all by default.

        Raises:
            OptionError: an option is out of range, or there is no such class.
            HeadError, FingerprintError: the latents are not those that this head reads.
        """
        self.spec.check(latents.spec)
        check_options(score, nms_iou, max_det)
        only = None if classes is None else class_indexes(classes, self.names.names)
        quality = torch.tensor([latents.quality / 100.0], dtype=latents.y_hat.dtype, device=latents.y_hat.device)
        out = self(latents.y_hat, quality)
        return self.postprocess(out, latents, score, nms_iou, agnostic=agnostic, max_det=max_det, only=only)

    def postprocess(
        self,
        out: DetectorOutput,
        latents: Latents,
        score: float,
        nms_iou: float = NMS_IOU,
        *,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        only: Sequence[int] | None = None,
    ) -> Detections:
        """Boxes of the first picture of ``out``: see :func:`vcm.tasks.postprocessing.boxes_from_arrays`."""
        logits, bins = ([x[0].float().cpu().numpy() for x in part] for part in (out.logits, out.bins))
        return detections_from_arrays(
            logits, bins, latents, self.names, score, nms_iou, agnostic=agnostic, max_det=max_det, only=only
        )


class DetectionTask:
    """A detection head as :class:`vcm.tasks.protocol.Head`.

    Args:
        network: the head.
    """

    def __init__(self, network: DetectionHead) -> None:
        self.network = network

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self.network.spec, Detections, self.network.names.names)

    def __call__(
        self,
        latents: Latents,
        score: float = DEFAULT_SCORE,
        nms_iou: float = NMS_IOU,
        *,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        classes: Iterable[str | int] | None = None,
    ) -> Detections:
        """See :meth:`DetectionHead.detect`."""
        return self.network.detect(latents, score, nms_iou, agnostic=agnostic, max_det=max_det, classes=classes)
