"""The heads that ship with a codec at work on arrays: networks of any runtime, everything else in numpy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vcm.runtime.networks import Array, Networks
from vcm.structures import DEFAULT_SCORE, Classes, Classification, Detections, Latents, LatentSpec
from vcm.structures.classes import class_indexes
from vcm.tasks.postprocessing import MAX_DETECTIONS, NMS_IOU, boxes_from_arrays, check_options
from vcm.tasks.protocol import HeadSpec

__all__ = ["ArrayClassification", "ArrayDetection"]


def _arrays(latents: Latents) -> tuple[Array, Array]:
    """What a head's network reads; latents in an array, or in a tensor that is on the CPU."""
    y = np.ascontiguousarray(np.asarray(latents.y_hat), np.float32)
    return y, np.array([latents.quality / 100.0], np.float32)


class ArrayDetection:
    """``detect`` of some networks as :class:`vcm.tasks.protocol.Head`.

    Args:
        networks: they have ``detect``.
        latents: what it reads.
        names: of its classes.
    """

    def __init__(self, networks: Networks, latents: LatentSpec, names: Classes) -> None:
        self._networks, self._latents, self._names = networks, latents, names

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
        out = [grid[0] for grid in self._networks.run("detect", *_arrays(latents))]
        levels = len(out) // 2
        boxes, scores, labels = boxes_from_arrays(
            out[:levels], out[levels:], coded_size=latents.coded_size, source_size=latents.source_size, score=score,
            nms_iou=nms_iou, agnostic=agnostic, max_det=max_det, only=only,
        )  # fmt: skip
        names = self._names
        return Detections(
            boxes, scores, labels, *latents.source_size, names=names.names, category_ids=names.category_ids
        )


class ArrayClassification:
    """``classify`` of some networks as :class:`vcm.tasks.protocol.Head`; arguments as of :class:`ArrayDetection`."""

    def __init__(self, networks: Networks, latents: LatentSpec, names: Classes) -> None:
        self._networks, self._latents, self._names = networks, latents, names

    @property
    def spec(self) -> HeadSpec:
        """See :class:`vcm.tasks.protocol.Head`."""
        return HeadSpec(self._latents, Classification, self._names.names)

    def __call__(self, latents: Latents) -> Classification:
        """See :meth:`vcm.tasks.classification.ClassificationHead.classify`."""
        self._latents.check(latents.spec)
        (logits,) = self._networks.run("classify", *_arrays(latents))
        with np.errstate(over="ignore"):  # an exponential of infinity gives 0, as it should
            return Classification(np.float32(1) / (np.float32(1) + np.exp(-logits[0])), self._names.names)
