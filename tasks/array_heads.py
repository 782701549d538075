"""Our kinds of heads at work on arrays: networks of any runtime, everything else in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import HeadError, WeightsError
from vcm.runtime.networks import Array, Networks
from vcm.runtime.onnx.sessions import Network
from vcm.runtime.onnx.stored import TensorSource
from vcm.structures import DEFAULT_SCORE, Classes, Classification, Detections, Keypoints, Latents, LatentSpec
from vcm.structures.classes import class_indexes
from vcm.tasks.array_keypoints import estimate_keypoints, sampling_grid
from vcm.tasks.onnx_heads import (
    classification_layout,
    classification_network,
    detection_layout,
    detection_network,
    keypoint_layout,
    keypoint_network,
)
from vcm.tasks.postprocessing import MAX_DETECTIONS, NMS_IOU, check_options, detections_from_arrays
from vcm.tasks.protocol import Detect, Head, HeadSpec
from vcm.tasks.shapes import ClassificationShape, DetectionShape, KeypointShape, names_of
from vcm.weights.safetensors_file import Layout

__all__ = ["ARRAY_KINDS", "ArrayClassification", "ArrayDetection", "ArrayHead", "ArrayKeypoints", "ArrayKind"]


def _y_hat(latents: Latents) -> Array:
    """Latents in an array, or in a tensor that is on the CPU."""
    return np.ascontiguousarray(np.asarray(latents.y_hat), np.float32)


def _quality(latents: Latents) -> Array:
    return np.array([latents.quality / 100.0], np.float32)


class ArrayHead:
    """A head that reads arrays as well as tensors; each is a :class:`vcm.tasks.protocol.Head`.

    Args:
        networks: they have the network that it is called by.
        latents: what it reads.
        names: of its classes.
    """

    def __init__(self, networks: Networks, latents: LatentSpec, names: Classes) -> None:
        self._networks, self._latents, self._names = networks, latents, names


class ArrayDetection(ArrayHead):
    """``detect`` of some networks."""

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self._latents, Detections, self._names.names)

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
        """See :meth:`vcm.tasks.detection.DetectionHead.detect`."""
        self._latents.check(latents.spec)
        check_options(score, nms_iou, max_det)
        only = None if classes is None else class_indexes(classes, self._names.names)
        out = [grid[0] for grid in self._networks.run("detect", _y_hat(latents), _quality(latents))]
        levels = len(out) // 2
        return detections_from_arrays(
            out[:levels], out[levels:], latents, self._names, score, nms_iou, agnostic=agnostic, max_det=max_det,
            only=only,
        )  # fmt: skip


class ArrayClassification(ArrayHead):
    """``classify`` of some networks."""

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self._latents, Classification, self._names.names)

    def __call__(self, latents: Latents) -> Classification:
        """See :meth:`vcm.tasks.classification.ClassificationHead.classify`."""
        self._latents.check(latents.spec)
        (logits,) = self._networks.run("classify", _y_hat(latents), _quality(latents))
        with np.errstate(over="ignore"):  # an exponential of infinity gives 0, as it should
            return Classification(np.float32(1) / (np.float32(1) + np.exp(-logits[0])), self._names.names)


class ArrayKeypoints(ArrayHead):
    """``keypoints`` of some networks; see :class:`vcm.tasks.keypoints.KeypointTask`.

    Args:
        networks, latents, names: as of :class:`ArrayHead`.
        shape: of the head.
        detect: finds boxes.
    """

    def __init__(
        self, networks: Networks, latents: LatentSpec, names: Classes, shape: KeypointShape, detect: Detect
    ) -> None:
        super().__init__(networks, latents, names)
        self._shape, self._detect = shape, detect

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self._latents, Keypoints, self._names.names)

    def __call__(self, latents: Latents) -> Keypoints:
        """Keypoints of the detected objects of one picture."""
        found = self._detect(latents, DEFAULT_SCORE)
        return self.estimate(latents, found.boxes, found.scores)

    def estimate(
        self, latents: Latents, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32] | None = None
    ) -> Keypoints:
        """See :meth:`vcm.tasks.keypoints.KeypointHead.estimate`."""
        self._latents.check(latents.spec)
        y, grid = _y_hat(latents), self._shape.grid

        def run(regions: Array) -> tuple[Array, Array]:
            at = sampling_grid(regions, grid, (y.shape[3], y.shape[2]))
            heatmaps, visible = self._networks.run("keypoints", y, at.reshape(1, -1, at.shape[2], 2))
            return heatmaps, visible

        return estimate_keypoints(run, latents, boxes, scores, self._names.names, self._shape.margin)


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """A kind of head that runs without torch: what :class:`vcm.tasks.kinds.HeadKind` says, for onnxruntime.

    Attributes:
        shape: class of its shape.
        layout: its tensors, from latents, classes and shape.

            Raises HeadError for what it cannot be built for.
        networks: makers of its networks, from tensors, latents and shape.
        head: the head, from networks, latents, classes, shape and what finds boxes.
    """

    shape: type[Any]
    layout: Callable[[LatentSpec, Classes, Any], Layout]
    networks: Callable[[TensorSource, LatentSpec, Any], Mapping[str, Callable[[], Network]]]
    head: Callable[[Networks, LatentSpec, Classes, Any, Detect], Head]


def _detection(spec: LatentSpec, names: Classes, shape: DetectionShape) -> Layout:
    if spec.stride != 16:
        raise HeadError("this detection head reads latents of stride 16", expected=16, found=spec.stride)
    names_of(shape.classes, names)
    return dict(detection_layout(shape, spec.channels))


def _classification(spec: LatentSpec, names: Classes, shape: ClassificationShape) -> Layout:
    names_of(shape.classes, names)
    return dict(classification_layout(shape, spec.channels))


def _keypoints(spec: LatentSpec, names: Classes, shape: KeypointShape) -> Layout:
    if not names.names or len(set(names.names)) != len(names):
        raise HeadError("keypoints need names of their own", expected="different names", found=names.names)
    return dict(keypoint_layout(shape, spec.channels, len(names)))


def _keypoint_networks(
    tensors: TensorSource, spec: LatentSpec, shape: KeypointShape
) -> Mapping[str, Callable[[], Network]]:
    spread = tensors("spread")
    if not (spread > 0).all():
        raise WeightsError("spread is out of range", expected="above 0", found=float(spread.min()))
    return {"keypoints": partial(keypoint_network, tensors, spec.channels, shape)}


ARRAY_KINDS: dict[str, ArrayKind] = {
    "detection": ArrayKind(
        DetectionShape, _detection, lambda t, spec, _: {"detect": partial(detection_network, t, spec.channels)},
        lambda networks, spec, names, *_: ArrayDetection(networks, spec, names),
    ),
    "classification": ArrayKind(
        ClassificationShape, _classification,
        lambda t, spec, _: {"classify": partial(classification_network, t, spec.channels)},
        lambda networks, spec, names, *_: ArrayClassification(networks, spec, names),
    ),
    "keypoints": ArrayKind(KeypointShape, _keypoints, _keypoint_networks, ArrayKeypoints),
}  # fmt: skip
"""By the names of :func:`vcm.tasks.kinds.head_kinds`. Kinds of other packages run in torch."""
