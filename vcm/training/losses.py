"""Losses, one function each; all return a scalar tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from vcm.tasks.detection import DetectorOutput, decode_boxes
from vcm.tasks.postprocessing import BINS, STRIDES
from vcm.training.distributed import normaliser
from vcm.training.teacher import TeacherOutput

__all__ = [
    "classification_loss",
    "distill_boxes",
    "distill_features",
    "distill_logits",
    "distill_scores",
    "mse_255",
    "teacher_labels",
]


def distill_scores(logits: Sequence[Tensor], scores: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """Dense quality focal loss: |σ − t|²·BCE over every position and class, over Σ max_c t.

    Li et al. 2020, eq. 3, β = 2.

    Args:
        logits: per level (N, classes, h, w).
        scores: the teacher's, same shapes, 0 … 1.
        weights: (classes,) loss weight per class.
    """
    total = logits[0].new_zeros(())
    mass = logits[0].new_zeros(())
    for x, t in zip(logits, scores, strict=True):
        loss = F.binary_cross_entropy_with_logits(x, t, reduction="none") * (x.sigmoid() - t).square()
        if weights is not None:
            loss = loss * weights.view(1, -1, 1, 1)
        total = total + loss.sum()
        mass = mass + t.amax(1).sum()
    return total / normaliser(mass)


def distill_logits(logits: Sequence[Tensor], scores: Sequence[Tensor], floor: float = 0.01) -> Tensor:
    """Squared distance of logits, clipped to ±9, averaged over classes; positions weigh max_c t + ``floor``.

    :func:`distill_scores` is silent wherever both sides say "no". The teacher's logits there still tell a near miss
    from nonsense, for every class at every position: the only frequent signal for rare classes.

    Args:
        logits: per level (N, classes, h, w).
        scores: the teacher's, same shapes, 0 … 1.
        floor: weight of a position where the teacher sees nothing.
    """
    total = logits[0].new_zeros(())
    mass = logits[0].new_zeros(())
    for x, t in zip(logits, scores, strict=True):
        weight = t.amax(1) + floor
        distance = (x.clamp(-9, 9) - torch.logit(t, eps=1.2e-4)).square().mean(1)
        total = total + (distance * weight).sum()
        mass = mass + weight.sum()
    return total / normaliser(mass, 1e-6)


def distill_boxes(out: DetectorOutput, teacher: TeacherOutput, least: float = 0.1) -> tuple[Tensor, Tensor]:
    """GIoU and Kullback–Leibler divergence of the bins, at positions where the teacher's best score exceeds ``least``.

    Both are weighted by that score. Returns (giou, kl).
    """
    giou = out.bins[0].new_zeros(())
    kl = out.bins[0].new_zeros(())
    mass = out.bins[0].new_zeros(())
    for bins, target, scores, stride in zip(out.bins, teacher.bins, teacher.scores, STRIDES, strict=True):
        best = scores.amax(1).flatten(1)
        n, p = (best > least).nonzero(as_tuple=True)
        if not len(n):
            continue
        weight = best[n, p]
        mass = mass + weight.sum()
        mine, theirs = decode_boxes(bins, stride)[n, p], decode_boxes(target, stride)[n, p]
        giou = giou + (generalized_box_iou_loss(mine, theirs) * weight).sum()
        shape = (-1, 4, BINS)
        log_q = bins.flatten(2).permute(0, 2, 1)[n, p].reshape(shape).log_softmax(2)
        log_p = target.flatten(2).permute(0, 2, 1)[n, p].reshape(shape).log_softmax(2)
        kl = kl + ((log_p.exp() * (log_p - log_q)).sum(2).mean(1) * weight).sum()
    mass = normaliser(mass)
    return giou / mass, kl / mass


def distill_features(features: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared error to the teacher's pyramid, each level over the teacher's own mean square (1: knows nothing)."""
    loss = features[0].new_zeros(())
    for f, t in zip(features, teacher, strict=True):
        loss = loss + F.mse_loss(f, t) / normaliser(t.square().mean(), 1e-6)
    return loss / len(features)


def teacher_labels(teacher: TeacherOutput) -> Tensor:
    """Soft multi-label targets (N, classes): the best score of each class over all positions."""
    return torch.stack([s.amax((2, 3)) for s in teacher.scores]).amax(0)


def classification_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy over classes, summed, averaged over pictures. Both (N, classes)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def mse_255(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error on the 0 … 255 scale."""
    return F.mse_loss(x_hat, x)
