"""Torchvision's detectors on base latents as heads: built from a shape, kept in a head's file, at work on latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from vcm.errors import HeadError
from vcm.structures import DEFAULT_SCORE, Classes, Detections, InstanceMasks, Keypoints, Latents, LatentSpec
from vcm.structures.classes import class_indexes
from vcm.tasks.postprocessing import MAX_DETECTIONS, check_options, suppress
from vcm.tasks.protocol import HeadSpec
from vcm.tasks.shapes import TorchvisionShape, names_of
from vcm.tasks.torchvision import LatentBackbone, LatentPicture, LatentTransform, Target, latent_backbone

__all__ = [
    "FasterRcnnHead", "FcosHead", "KeypointRcnnHead", "LatentDetector", "MaskRcnnHead", "RetinaNetHead",
    "TorchvisionHead",
]  # fmt: skip

_LEAST_SCORE, _LEAST_REGION_SCORE = 0.001, 0.01
"""What detectors are asked for, low enough for average precision: a region has a score for each class, so more
counts."""
_CANDIDATES = 300
"""Of each level, before suppression: more than a picture can have, and half of the time of torchvision's 1,000."""
_SIDE_OF_AN_ANCHOR = 4
"""Side of an anchor in strides of its level, as torchvision has it for RetinaNet: 32 at stride 8."""


class TorchvisionHead(nn.Module):
    """A detector of torchvision's on a :func:`~vcm.tasks.torchvision.latent_backbone`. Subclasses say which.

    Args:
        spec: the latents; stride 16.
        names: of the classes, background not counted; by default COCO's for 80, else numbers.
        shape: sizes.
        points: names of the keypoints (Keypoint R-CNN).

    Attributes:
        model: the detector, as torchvision's own class: train it as any other, with inputs of
            :class:`~vcm.tasks.torchvision.LatentPicture`.

    Raises:
        HeadError: another stride, or not as many names as classes.
    """

    first_label: ClassVar[int] = 1
    """The detector's label of class 0: R-CNNs keep 0 for the background."""
    result: ClassVar[type] = Detections

    def __init__(self, spec: LatentSpec, names: Classes | None = None, shape: TorchvisionShape | None = None) -> None:
        super().__init__()
        self.shape = s = shape or TorchvisionShape()
        self.spec, self.names = spec, names_of(s.classes, names)
        backbone = latent_backbone(spec, s.strides, width=s.width, out_channels=s.feature)
        self.model: nn.Module = self._build(backbone)
        self.model.transform = LatentTransform(paste=False)

    def _build(self, backbone: LatentBackbone) -> Any:
        raise NotImplementedError

    def _anchors(
        self, ratios: Sequence[float], scales: Sequence[float] = (1.0,), side: int = _SIDE_OF_AN_ANCHOR
    ) -> Any:
        """Anchors of every level; on the CPU also while weights are built without memory, since they are no weights."""
        sizes = tuple(tuple(int(stride * side * scale) for scale in scales) for stride in self.shape.strides)
        with torch.device("cpu"):
            return AnchorGenerator(sizes, (tuple(ratios),) * len(sizes))

    def forward(self, pictures: Sequence[LatentPicture], targets: Sequence[Target] | None = None) -> Any:
        """As of torchvision's detectors: losses by name while training, else boxes, scores and labels a picture.

        Args:
            pictures: latents.
            targets: ``boxes`` in source pixels and ``labels``, class indexes 0 … K - 1; maybe ``masks``, ``keypoints``.
        """
        if targets is None:
            return self.model(list(pictures))
        shifted = [{**target, "labels": target["labels"] + self.first_label} for target in targets]
        return self.model(list(pictures), shifted)


class FcosHead(TorchvisionHead):
    """FCOS (Tian et al. 2019): one box a position, no anchors."""

    first_label = 0

    def _build(self, backbone: LatentBackbone) -> Any:
        s = self.shape
        return FCOS(
            backbone, s.classes, anchor_generator=self._anchors((1.0,), side=1), head=FCOSHead(s.feature, 1,
            s.classes, s.convs), score_thresh=_LEAST_SCORE,
        )  # fmt: skip


class RetinaNetHead(TorchvisionHead):
    """RetinaNet (Lin et al. 2017): nine anchors a position, focal loss."""

    first_label = 0

    def _build(self, backbone: LatentBackbone) -> Any:
        anchors = self._anchors((0.5, 1.0, 2.0), (1.0, 2 ** (1 / 3), 2 ** (2 / 3)))
        return RetinaNet(
            backbone,
            self.shape.classes,
            anchor_generator=anchors,
            score_thresh=_LEAST_SCORE,
            detections_per_img=100,
            topk_candidates=_CANDIDATES,
        )


class FasterRcnnHead(TorchvisionHead):
    """Faster R-CNN (Ren et al. 2015)."""

    def _build(self, backbone: LatentBackbone) -> Any:
        return FasterRCNN(backbone, None, **self._regions(backbone))

    def _regions_of(self, side: int) -> MultiScaleRoIAlign:
        """Regions cut from every level, ``side`` cells a side."""
        return MultiScaleRoIAlign([str(number) for number in range(len(self.shape.strides))], side, 2)

    def _regions(self, backbone: LatentBackbone) -> dict[str, Any]:
        s, anchors = self.shape, self._anchors((0.5, 1.0, 2.0))
        return {
            "rpn_anchor_generator": anchors,
            "rpn_head": RPNHead(s.feature, anchors.num_anchors_per_location()[0], s.convs),
            "rpn_pre_nms_top_n_train": 1000, "rpn_post_nms_top_n_train": 500, "rpn_pre_nms_top_n_test": 500,
            "rpn_post_nms_top_n_test": 200, "box_batch_size_per_image": 128, "box_score_thresh": _LEAST_REGION_SCORE,
            "box_roi_pool": self._regions_of(7), "box_head": TwoMLPHead(s.feature * 49, s.hidden),
            "box_predictor": FastRCNNPredictor(s.hidden, s.classes + 1),
        }  # fmt: skip


class MaskRcnnHead(FasterRcnnHead):
    """Mask R-CNN (He et al. 2017)."""

    result = InstanceMasks

    def _build(self, backbone: LatentBackbone) -> Any:
        s = self.shape
        return MaskRCNN(
            backbone, None, **self._regions(backbone), mask_roi_pool=self._regions_of(14),
            mask_head=MaskRCNNHeads(s.feature, (s.feature,) * s.convs, 1),
            mask_predictor=MaskRCNNPredictor(s.feature, s.feature, s.classes + 1),
        )  # fmt: skip


class KeypointRcnnHead(FasterRcnnHead):
    """Keypoint R-CNN: Mask R-CNN with a heatmap for each point. Points are numbered."""

    result = Keypoints

    def _build(self, backbone: LatentBackbone) -> Any:
        s = self.shape
        if not s.points:
            raise HeadError("a keypoint head needs points", expected="at least 1", found=0)
        return KeypointRCNN(
            backbone, None, **self._regions(backbone), keypoint_predictor=KeypointRCNNPredictor(s.feature, s.points),
            keypoint_roi_pool=self._regions_of(14),
            keypoint_head=KeypointRCNNHeads(s.feature, (s.feature,) * s.convs),
        )  # fmt: skip


class LatentDetector:
    """A detector on latents as :class:`vcm.tasks.protocol.Head`: a head of this module, or a detector of your own.

    Args:
        network: a :class:`TorchvisionHead`; or a detector of torchvision's that was built on a
            :func:`~vcm.tasks.torchvision.latent_backbone`.
        names: of a detector's classes, background not counted; a head has its own.

    Raises:
        HeadError: it reads pixels, or has not as many classes as there are names.
    """

    def __init__(self, network: nn.Module, names: Classes | None = None) -> None:
        if isinstance(network, TorchvisionHead):
            self._head: Any = network
            self._model: nn.Module = network.model
            return
        backbone = getattr(network, "backbone", None)
        if not isinstance(backbone, LatentBackbone) or not isinstance(
            getattr(network, "transform", None), LatentTransform
        ):
            expected = "a detector on a latent_backbone, with a LatentTransform as its transform"
            raise HeadError("the detector reads pixels", expected=expected, found=type(network).__name__)
        self._model, self._head = network, _Own(backbone.spec, names, network)

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self._head.spec, self._head.result, self._head.names.names)

    @torch.inference_mode()
    def __call__(
        self,
        latents: Latents,
        score: float = DEFAULT_SCORE,
        nms_iou: float = 1.0,
        *,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        classes: str | int | Iterable[str | int] | None = None,
    ) -> Any:
        """What is in one picture, in source pixels, best first.

        Args:
            latents: decoded base latents.
            score: least score kept, 0 … 1.
            nms_iou: overlap above which the weaker of two boxes is dropped, beyond what the detector drops by itself.
            agnostic: of two boxes of different classes as well.
            max_det: most objects.
            classes: names or indexes of those that are wanted; ``None``: all.

        Raises:
            OptionError: an option is out of range, or there is no such class.
            HeadError, FingerprintError: the latents are not those that this head reads.
        """
        check_options(score, nms_iou, max_det)
        only = None if classes is None else class_indexes(classes, self._head.names.names)
        return _thinned(_found(self._model, self._head, latents, score), nms_iou, agnostic, max_det, only)


class _Own:
    """What a detector of somebody's needs beside its weights."""

    def __init__(self, spec: LatentSpec, names: Classes | None, model: nn.Module) -> None:
        regions = isinstance(model, GeneralizedRCNN) and hasattr(model, "rpn")
        regions = regions and not isinstance(model, FCOS | RetinaNet)
        self.first_label = 1 if regions else 0
        classes = _classes_of(model) - self.first_label
        self.spec, self.names, self.result = spec, names_of(classes, names), Detections


def _classes_of(model: nn.Module) -> int:
    """Classes that a detector tells apart, background included where it has one."""
    own: Any = model
    if isinstance(model, FCOS | RetinaNet):
        return int(own.head.classification_head.num_classes)
    try:
        return int(own.roi_heads.box_predictor.cls_score.out_features)
    except AttributeError as error:
        expected = "FCOS, RetinaNet, Faster, Mask or Keypoint R-CNN"
        raise HeadError("no detector of torchvision's", expected=expected, found=type(model).__name__) from error


def _found(model: nn.Module, head: Any, latents: Latents, score: float) -> Any:
    head.spec.check(latents.spec)
    run: Callable[..., Any] = model
    (found,) = run([LatentPicture.of(latents)])
    width, height = latents.source_size
    keep = (found["scores"] >= score) & (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)
    keep &= found["labels"] >= head.first_label
    rows = {name: value[keep].float().cpu().numpy() for name, value in found.items() if isinstance(value, Tensor)}
    boxes, scores = rows["boxes"].clip(0, np.array([width, height] * 2, np.float32)), rows["scores"]
    labels = rows["labels"].astype(np.int64) - head.first_label
    detections = Detections(
        boxes, scores, labels, width, height, names=head.names.names, category_ids=head.names.category_ids
    )
    if head.result is InstanceMasks:
        return InstanceMasks.of(detections, rows["masks"][:, 0])
    if head.result is Keypoints:
        points = rows["keypoints"].astype(np.float32)
        points[:, :, 2] = 1 / (1 + np.exp(-rows["keypoints_scores"]))
        names = tuple(str(number) for number in range(points.shape[1]))
        return Keypoints(points, boxes, scores, names, width, height)
    return detections


def _thinned(found: Any, iou: float, agnostic: bool, limit: int, only: Sequence[int] | None) -> Any:
    """What is left of the objects of a picture; keypoints have no classes."""
    labels = getattr(found, "labels", np.zeros(len(found), np.int64))
    wanted = np.ones(len(found), np.bool_) if only is None else np.isin(labels, only)
    rows = np.flatnonzero(wanted)
    if iou < 1:
        alike = np.zeros(len(rows), np.int64) if agnostic else labels[rows]
        rows = rows[suppress(found.boxes[rows], found.scores[rows], alike, iou, limit)]
    return found[rows[:limit]]
