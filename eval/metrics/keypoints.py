"""Accuracy of keypoints: average precision over object keypoint similarity (OKS), by pycocotools, with intervals.

OKS of an object is the mean over its labelled keypoints of exp(-d² / (2 s² (2σ)²)): d is the distance, s² the area of
the object's box (data sets without segmentations take it so: AP-10K, Animal Pose), σ the keypoint's own spread. AP is
its mean over thresholds 0.50 … 0.95, in percent; all objects are of one class, as in AP-10K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError
from vcm.eval.metrics.bootstrap import ConfidenceInterval, accumulate, draw_resamples, percentile_interval
from vcm.eval.metrics.matching import MatchTable, match_table, run_coco
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.structures import Keypoints

__all__ = ["FeatureComparison", "FeatureRow", "KeypointAccuracy", "compare_features", "evaluate_keypoints"]

_CATEGORY = 1
_MAX_OBJECTS = 100


@dataclass(frozen=True, slots=True)
class KeypointAccuracy:
    """Accuracy of keypoints, percent.

    Attributes:
        pictures, objects: how many were evaluated.
        ap: mean over OKS thresholds 0.50 … 0.95.
        ap50, ap75: at 0.50 and 0.75.
        matches: what the bootstrap resamples.
    """

    pictures: int
    objects: int
    ap: float
    ap50: float
    ap75: float
    matches: MatchTable = field(repr=False, compare=False)


def evaluate_keypoints(
    truth: Mapping[int, Keypoints], found: Mapping[int, Keypoints], sigmas: Sequence[float]
) -> KeypointAccuracy:
    """Evaluate keypoints with pycocotools.

    Args:
        truth: annotated objects by picture id; a point counts where its score is above 0.
        found: keypoints by picture id, an entry (maybe empty) for each picture of ``truth``.
        sigmas: σ of each keypoint.

    Raises:
        OptionError: another set of pictures or keypoints, no labelled point at all, a number that is not finite.
        MissingDependencyError: pycocotools is not installed.

    Standard output is redirected for the whole process while pycocotools runs: call this from one thread at a time.
    """
    if truth.keys() != found.keys():
        raise OptionError(
            "keypoints of other pictures", expected=len(truth), found=sorted(truth.keys() ^ found.keys())[:5]
        )
    for keypoints in (*truth.values(), *found.values()):
        if len(keypoints.names) != len(sigmas):
            raise OptionError("sigmas are one a keypoint", expected=len(keypoints.names), found=len(sigmas))
        if not (np.isfinite(keypoints.points).all() and np.isfinite(keypoints.scores).all()):
            raise OptionError("a keypoint is not a finite number")
    if not all(np.isfinite(s) and s > 0 for s in sigmas):
        raise OptionError("a sigma is out of range", expected="above 0", found=list(sigmas))
    labelled = sum(int((t.points[:, :, 2] > 0).any(axis=1).sum()) for t in truth.values())
    if labelled == 0:
        raise OptionError("no keypoint is labelled", expected="at least one", found=f"{len(truth)} pictures")
    ground_truth = CocoGroundTruth.from_boxes(
        "keypoints",
        [CocoImage(i, f"{i}", t.width, t.height) for i, t in truth.items()],
        [Category(_CATEGORY, "object")],
        {i: (t.boxes, [_CATEGORY] * len(t)) for i, t in truth.items()},
    )
    evaluation = _run_coco(ground_truth, truth, found, sigmas)
    precision: npt.NDArray[np.float64] = 100.0 * evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
    return KeypointAccuracy(
        len(truth), labelled, float(precision.mean()), float(precision[0]), float(precision[5]),
        match_table(evaluation, ground_truth),
    )  # fmt: skip


def _run_coco(
    ground_truth: CocoGroundTruth,
    truth: Mapping[int, Keypoints],
    found: Mapping[int, Keypoints],
    sigmas: Sequence[float],
) -> Any:
    content = ground_truth.to_coco()
    # Annotations stand picture after picture in the order of `truth`, as they were given.
    points = [p for t in truth.values() for p in t.points]
    for row, p in zip(content["annotations"], points, strict=True):
        flags = np.where(p[:, 2:] > 0, 2.0, 0.0)
        row["keypoints"] = np.concatenate([p[:, :2], flags], axis=1).reshape(-1).tolist()
        row["num_keypoints"] = int((flags > 0).sum())
    rows = [row for i, f in found.items() for row in f.to_coco(i, _CATEGORY)]
    for k, row in enumerate(rows):
        row |= {"id": k + 1, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
    return run_coco(content, rows, "keypoints", _MAX_OBJECTS, sigmas)


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Accuracy on one kind of features, percent, with intervals over test pictures."""

    kind: str
    ap50: ConfidenceInterval
    ap: ConfidenceInterval
    ap75: float


@dataclass(frozen=True, slots=True)
class FeatureComparison:
    """The same head on several kinds of features.

    Attributes:
        pictures, objects: tested.
        rows: one for each kind.
        share: AP50 on ``base`` over that on ``twin``, percent; ``None`` where one is missing.
        over_random: AP50 on ``base`` minus that on ``random``, points; ``None`` where one is missing.
    """

    pictures: int
    objects: int
    rows: tuple[FeatureRow, ...]
    share: ConfidenceInterval | None
    over_random: ConfidenceInterval | None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, for a report."""
        return asdict(self)


def compare_features(
    accuracies: Mapping[str, KeypointAccuracy], *, resamples: int = 1000, seed: int = 0
) -> FeatureComparison:
    """Put accuracies on the same test pictures beside each other; all intervals are from the same draws.

    Args:
        accuracies: by kind of features.
        resamples: draws of pictures.
        seed: of the draws.

    Raises:
        OptionError: nothing to compare, other pictures, or twin features that find nothing in every draw.
    """
    if not accuracies:
        raise OptionError("nothing to compare", expected="at least one accuracy")
    first = next(iter(accuracies.values()))
    for kind, accuracy in accuracies.items():
        if accuracy.matches.image_ids != first.matches.image_ids or accuracy.objects != first.objects:
            raise OptionError(f"{kind} was tested on other pictures", expected=first.pictures, found=accuracy.pictures)
    counts = draw_resamples(first.pictures, resamples, seed=seed).counts
    draws = {kind: accumulate(a.matches, counts)[:, 0] for kind, a in accuracies.items()}
    rows = tuple(
        FeatureRow(
            kind, percentile_interval(draws[kind][:, 0], a.ap50), percentile_interval(draws[kind].mean(axis=1), a.ap),
            a.ap75,
        )
        for kind, a in accuracies.items()
    )  # fmt: skip
    share = over_random = None
    base, twin, random = (accuracies.get(kind) for kind in ("base", "twin", "random"))
    if base is not None and twin is not None and twin.ap50 > 0:
        low = draws["twin"][:, 0]
        ratio = 100.0 * draws["base"][:, 0] / np.where(low > 0, low, np.nan)
        share = percentile_interval(ratio, 100.0 * base.ap50 / twin.ap50)
    if base is not None and random is not None:
        over_random = percentile_interval(draws["base"][:, 0] - draws["random"][:, 0], base.ap50 - random.ap50)
    return FeatureComparison(first.pictures, first.objects, rows, share, over_random)
