"""Detection loss against ground-truth boxes on the dense grid of :mod:`vcm.tasks.detection`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from vcm.errors import OptionError
from vcm.tasks.detection import DetectorOutput, decode_boxes
from vcm.tasks.postprocessing import BINS, STRIDES
from vcm.training.distributed import normaliser

__all__ = ["Assignment", "DetectionLoss", "assign", "detection_loss"]

CENTRE_RADIUS = 2.5
"""Candidates lie within this many strides of a box's centre (Ge et al. 2021, "YOLOX", section 2.1)."""
MOST_POSITIVES = 10
SCORE_POWER, IOU_POWER = 1, 6
"""Exponents of the alignment score (Feng et al. 2021, "TOOD", eq. 1)."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Positions that answer for a box, P in all.

    Attributes:
        picture: (P,) int64, picture in the batch.
        position: (P,) int64, index into the positions of all strides, finest first.
        box: (P,) int64, index into all boxes of the batch, picture by picture.
        iou: (P,) overlap of the predicted and the true box, 0 … 1.
    """

    picture: Tensor
    position: Tensor
    box: Tensor
    iou: Tensor


@dataclass(frozen=True, slots=True)
class DetectionLoss:
    """Parts of the loss, scalars: quality focal loss of the scores, GIoU, and distribution focal loss of the bins."""

    scores: Tensor
    giou: Tensor
    bins: Tensor


def _points(out: DetectorOutput) -> tuple[Tensor, Tensor]:
    """Points (P, 2) in pixels and strides (P,) of all positions."""
    points, strides = [], []
    for bins, stride in zip(out.bins, STRIDES, strict=True):
        h, w = bins.shape[2:]
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        points.append(torch.stack([xs, ys], dim=2).reshape(-1, 2) * stride)
        strides.append(torch.full((h * w,), stride))
    device = out.bins[0].device
    return torch.cat(points).float().to(device), torch.cat(strides).float().to(device)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of matching boxes, broadcast over leading dimensions."""
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    both = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return inter / (both - inter).clamp(min=1e-6)


@torch.no_grad()
def assign(
    boxes: Tensor, labels: Tensor, picture: Tensor, logits: Tensor, predicted: Tensor, points: Tensor, strides: Tensor
) -> Assignment:
    """Positions that answer for each box, by task alignment with a dynamic number.

    Candidates are positions inside the box and near its centre whose distances the bins can tell; a box without any
    takes the position of the finest stride that can, nearest to its centre. Of them a box takes the best by
    ``score · IoU⁶`` (TOOD, eq. 1), as many as the sum of its ten best overlaps (Ge et al. 2021, "OTA", section 3.3; at
    least one). A position wanted by two boxes goes to the one that it aligns with better.

    Args:
        boxes: (K, 4) x1 y1 x2 y2, pixels, of all pictures.
        labels, picture: (K,) int64, class and picture of each box.
        logits: (N, P, classes).
        predicted: (N, P, 4).
        points, strides: (P, 2) and (P,).
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = (points - centre[:, None]).abs().amax(2)
    sides = torch.cat([points - boxes[:, None, :2], boxes[:, None, 2:] - points], dim=2)
    told = sides.amax(2) <= (BINS - 1) * strides
    candidate = (sides.amin(2) >= 0) & (away <= CENTRE_RADIUS * strides) & told
    near = 1 / (1 + away / strides)
    # Finest stride first, then nearest; where no stride can tell the distances, coarsest first.
    order = torch.where(told, strides.log2(), 100 - strides.log2()) - near
    lonely = ~candidate.any(1)
    candidate[lonely, order[lonely].argmin(1)] = True

    iou = _iou(predicted[picture], boxes[:, None]) * candidate
    score = logits[picture, :, labels].sigmoid()
    alignment = torch.where(candidate, score**SCORE_POWER * iou**IOU_POWER + 1e-12 * near, 0.0)
    k = min(MOST_POSITIVES, iou.shape[1])
    best = alignment.topk(k, dim=1)
    wanted = iou.topk(k, dim=1).values.sum(1).long().clamp(min=1)
    taken = (torch.arange(k, device=iou.device) < wanted[:, None]) & (best.values > 0)
    box, rank = taken.nonzero(as_tuple=True)
    position = best.indices[box, rank]

    # Each (picture, position) keeps its best claim; equal claims go to the earlier box.
    slot = picture[box] * len(points) + position
    claim = alignment[box, position]
    high = claim.new_zeros(len(logits) * len(points)).scatter_reduce_(0, slot, claim, "amax")
    mine = claim == high[slot]
    first = box.new_full((len(high),), len(boxes)).scatter_reduce_(0, slot[mine], box[mine], "amin")
    mine &= first[slot] == box
    box, position = box[mine], position[mine]
    return Assignment(picture[box], position, box, iou[box, position])


def detection_loss(
    out: DetectorOutput,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    ignore: Sequence[Tensor],
    weights: Tensor | None = None,
) -> DetectionLoss:
    """Generalised focal loss (Li et al. 2020) of a batch.

    Scores: |σ − t|²·BCE (eq. 3, β = 2) where t is the overlap of the predicted with the true box for the assigned class
    of an assigned position, else 0. Boxes: GIoU, and distribution focal loss (eq. 6) as the mean over the four sides,
    weighted by t. All are divided by Σ t (at least 1).

    Args:
        out: the head's raw predictions; N pictures.
        boxes: per picture (K, 4) x1 y1 x2 y2 in pixels of the picture, K ≥ 0.
        labels: per picture (K,) int64 class indexes.
        ignore: per picture (M, 4): positions inside are nobody's background (crowds, objects without annotation). A
            picture without ground truth is one such region.
        weights: (classes,) weight of each class in the score loss.

    Raises:
        OptionError: the lists are not one item per picture.
    """
    n = len(out.logits[0])
    if not len(boxes) == len(labels) == len(ignore) == n:
        raise OptionError(
            "ground truth is one item per picture", expected=n, found=(len(boxes), len(labels), len(ignore))
        )
    logits = torch.cat([x.flatten(2) for x in out.logits], dim=2).float().transpose(1, 2)
    bins = torch.cat([x.flatten(2) for x in out.bins], dim=2).float().transpose(1, 2)
    predicted = torch.cat([decode_boxes(b.float(), s) for b, s in zip(out.bins, STRIDES, strict=True)], dim=1)
    points, strides = _points(out)
    device = logits.device

    background = F.softplus(logits) * logits.sigmoid().square()
    if weights is not None:
        background = background * weights.to(device)
    negative = background.sum(2)
    # Few pictures have regions to ignore, and few regions each: one pass per picture.
    weight = torch.ones_like(negative)
    for i, regions in enumerate(ignore):
        if len(regions):
            r = regions.to(device)[:, None]
            weight[i, ((points >= r[..., :2]) & (points <= r[..., 2:])).all(2).any(0)] = 0
    scores = (negative * weight).sum()

    true, classes = torch.cat(list(boxes)).to(device), torch.cat(list(labels)).to(device)
    if not len(true):
        zero = scores.new_zeros(())
        return DetectionLoss(scores / normaliser(zero), zero, zero)
    counts = torch.tensor([len(b) for b in boxes], device=device)
    picture = torch.repeat_interleave(torch.arange(n, device=device), counts)
    hit = assign(true, classes, picture, logits, predicted, points, strides)
    mass = normaliser(hit.iou.sum())

    x = logits[hit.picture, hit.position, classes[hit.box]]
    quality = F.binary_cross_entropy_with_logits(x, hit.iou, reduction="none") * (x.sigmoid() - hit.iou).square()
    if weights is not None:
        quality = quality * weights.to(device)[classes[hit.box]]
    was = background[hit.picture, hit.position, classes[hit.box]] * weight[hit.picture, hit.position]
    scores = scores - was.sum() + quality.sum()

    wanted = true[hit.box]
    giou = (generalized_box_iou_loss(predicted[hit.picture, hit.position], wanted) * hit.iou).sum()
    at, stride = points[hit.position], strides[hit.position, None]
    distance = torch.cat([at - wanted[:, :2], wanted[:, 2:] - at], dim=1) / stride
    distance = distance.clamp(0, BINS - 1)
    low = distance.floor().clamp(max=BINS - 2)
    share = distance - low
    log_p = bins[hit.picture, hit.position].reshape(-1, 4, BINS).log_softmax(2)
    lower = log_p.gather(2, low.long()[..., None])[..., 0]
    upper = log_p.gather(2, low.long()[..., None] + 1)[..., 0]
    focal = -((1 - share) * lower + share * upper).mean(1)
    return DetectionLoss(scores / mass, giou / mass, (focal * hit.iou).sum() / mass)
