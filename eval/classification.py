"""Accuracy of multi-label image classification. Percent, 0 … 100, throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vcm.errors import OptionError

__all__ = [
    "ClassificationAccuracy",
    "LabelAccuracy",
    "average_precision",
    "evaluate_classification",
    "mean_average_precision",
    "top1",
]


@dataclass(frozen=True, slots=True)
class LabelAccuracy:
    """Average precision of one class.

    Attributes:
        name: the class.
        pictures: pictures that show it.
        ap: average precision in percent, ``None`` where no picture shows it.
    """

    name: str
    pictures: int
    ap: float | None


@dataclass(frozen=True, slots=True)
class ClassificationAccuracy:
    """Accuracy of multi-label classification, percent.

    Attributes:
        pictures: pictures evaluated.
        unlabelled: those of them that show no class; they count in the mAP (as negatives) and not in ``top1``.
        map: mean of the average precisions of the classes that some picture shows.
        top1: share of labelled pictures whose best-scored class is one that they show.
        per_class: every class.
    """

    pictures: int
    unlabelled: int
    map: float
    top1: float
    per_class: tuple[LabelAccuracy, ...] = field(repr=False)


def average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Area under the precision–recall steps, without interpolation, in percent.

    Equal scores are one step, so that the order of the pictures does not matter.

    Args:
        scores: ``(N,)``, higher is more certain.
        targets: bool ``(N,)``, whether the picture shows the class.

    Raises:
        OptionError: shapes differ, a score is not finite, or no target is true.
    """
    s, t = np.asarray(scores, np.float64), np.asarray(targets, np.bool_)
    if s.ndim != 1 or s.shape != t.shape:
        raise OptionError("needs one score and one target a picture", expected=s.shape, found=t.shape)
    if not np.isfinite(s).all():
        raise OptionError("a score is not a number", expected="finite scores")
    if not t.any():
        raise OptionError("average precision is undefined without positives", expected="at least one", found=0)
    order = np.argsort(-s, kind="stable")
    s, t = s[order], t[order]
    last_of_run = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
    true = np.cumsum(t)[last_of_run]
    precision = true / (last_of_run + 1)
    return float(100.0 * (np.diff(true, prepend=0) * precision).sum() / true[-1])


def mean_average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Mean of :func:`average_precision` over the classes that some picture shows, in percent.

    Args:
        scores: ``(N, K)``.
        targets: bool ``(N, K)``.

    Raises:
        OptionError: shapes differ, a score is not finite, or no target is true.
    """
    s, t = _matrices(scores, targets)
    shown = np.flatnonzero(t.any(axis=0))
    if len(shown) == 0:
        raise OptionError("mean average precision is undefined without positives", expected="at least one", found=0)
    return float(np.mean([average_precision(s[:, k], t[:, k]) for k in shown]))


def top1(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Share of labelled pictures whose best-scored class is right, in percent. The first of equal scores is best.

    Args:
        scores: ``(N, K)``.
        targets: bool ``(N, K)`` (multi-label; a picture without a label is left out) or integer ``(N,)``, class
            indices.

    Raises:
        OptionError: shapes differ, a score is not finite, a class index is out of range, or no picture has a label.
    """
    labels = np.asarray(targets)
    if labels.ndim == 1:
        classes = np.asarray(scores).shape[-1]
        if not np.issubdtype(labels.dtype, np.integer) or not ((labels >= 0) & (labels < classes)).all():
            raise OptionError(
                "targets are not class indices", expected=f"integers 0 … {classes - 1}", found=labels.dtype
            )
        targets = labels[:, None] == np.arange(classes)
    s, t = _matrices(scores, targets)
    labelled = t.any(axis=1)
    if not labelled.any():
        raise OptionError("top-1 is undefined without labels", expected="at least one labelled picture", found=0)
    best = s.argmax(axis=1)
    return float(100.0 * t[np.arange(len(t)), best][labelled].mean())


def evaluate_classification(
    scores: npt.ArrayLike, targets: npt.ArrayLike, names: Sequence[str]
) -> ClassificationAccuracy:
    """All of the above as one typed result.

    Args:
        scores: ``(N, K)``.
        targets: bool ``(N, K)``.
        names: the ``K`` classes.

    Raises:
        OptionError: shapes differ, a score is not finite, or no target is true.
    """
    s, t = _matrices(scores, targets)
    if s.shape[1] != len(names):
        raise OptionError("needs one name a class", expected=s.shape[1], found=len(names))
    per_class = tuple(
        LabelAccuracy(name, int(t[:, k].sum()), average_precision(s[:, k], t[:, k]) if t[:, k].any() else None)
        for k, name in enumerate(names)
    )
    unlabelled = int((~t.any(axis=1)).sum())
    return ClassificationAccuracy(
        pictures=len(s),
        unlabelled=unlabelled,
        map=mean_average_precision(s, t),
        top1=top1(s, t),
        per_class=per_class,
    )


def _matrices(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    s, t = np.asarray(scores, np.float64), np.asarray(targets)
    if t.dtype != np.bool_:
        raise OptionError("targets must be boolean", expected="bool", found=t.dtype)
    if s.ndim != 2 or s.shape != t.shape:
        raise OptionError("needs one score and one target a picture and class", expected=s.shape, found=t.shape)
    if not np.isfinite(s).all():
        raise OptionError("a score is not a number", expected="finite scores")
    return s, t
