"""Training of a new head on frozen features: minutes on a CPU, since the trunk never runs in the loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.api import load
from vcm.errors import ConfigError
from vcm.nn.seeding import own_randomness
from vcm.structures import Keypoints
from vcm.tasks.keypoints import (
    KeypointHead,
    KeypointOutput,
)
from vcm.tasks.shapes import KeypointShape
from vcm.training import engine
from vcm.training.data.keypoints import KeypointData, is_test, mirror_order, read_keypoint_data
from vcm.training.features import FeatureKind, FrozenFeatures, cached_features
from vcm.training.head_config import HeadConfig, load_head_config
from vcm.weights.head_file import load_head, save_head

__all__ = ["HeadRun", "TrainedHead", "fit", "keypoint_loss", "train_heads"]

_M = TypeVar("_M", bound=nn.Module)
Progress = Callable[[str, int, int], None]
"""What is being done, how many of it are done, and of how many."""


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head that was trained on one kind of features, and what it finds in the test pictures.

    Attributes:
        kind: of the features.
        weights: the head's file.
        found: by picture id: keypoints of each annotated box, in the order of the annotations.
        steps, finished: how long it was trained, and whether that was to the end.
        loss: mean over the last tenth of the steps.
        bpp: bits per source pixel that the features took, 0 where nothing was coded.
    """

    kind: FeatureKind
    weights: Path
    found: dict[int, Keypoints]
    steps: int
    finished: bool
    loss: float
    bpp: float


@dataclass(frozen=True, slots=True)
class HeadRun:
    """Result of a configuration.

    Attributes:
        config: the configuration.
        names: of the keypoints.
        sigmas: OKS standard deviation of each.
        truth: by id of each test picture: its annotated objects.
        train_pictures, train_objects: how much there was to learn from.
        heads: one for each kind of features.
    """

    config: HeadConfig
    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    truth: dict[int, Keypoints]
    train_pictures: int
    train_objects: int
    heads: tuple[TrainedHead, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """All training objects, one row each: picture (O,), boxes (O, 4), points (O, K, 3) in source pixels."""

    picture: Tensor
    boxes: Tensor
    points: Tensor


def train_heads(
    path: str | Path,
    *,
    overrides: tuple[str, ...] = (),
    features: Sequence[FeatureKind] | None = None,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> HeadRun:
    """Train one head for each kind of features of the configuration at ``path`` and run it on the test pictures.

    Weights go to ``out/<name>-<features>.safetensors``. The head that is tested is the file, read again.

    Args:
        path: YAML configuration.
        overrides: ``a.b=c`` changes.
        features: these kinds only.
        minutes: stop training after this long in all, shared evenly between the heads; features are not counted.
        progress: called along the way.

    Raises:
        ConfigError: the configuration is wrong, or data is not there.
        TrainingError: the loss is not finite.
        AnnotationError: the annotations are not COCO keypoints.
        ModelNotFoundError, WeightsError: as of :func:`vcm.load`.
    """
    config = load_head_config(path, overrides)
    kinds = tuple(dict.fromkeys(features or config.features))
    data = read_keypoint_data(config.data)
    missing = sorted(set(data.names) ^ set(config.sigmas))
    if missing:
        raise ConfigError("sigmas are one a keypoint", expected=", ".join(data.names), found=", ".join(missing))
    test = [is_test(p.path.name, config.test_share) for p in data.pictures]
    learn = [i for i, held_out in enumerate(test) if not held_out]
    held = [i for i, held_out in enumerate(test) if held_out]
    if not learn or not held:
        raise ConfigError("no pictures on one side of the split", expected="test_share nearer to 0.5", found=len(test))
    objects = _objects(data, learn)
    config.out.mkdir(parents=True, exist_ok=True)
    heads = []
    for kind in kinds:
        frozen = cached_features(
            config.out, kind, config.weights, [p.path for p in data.pictures], twin=config.twin, quality=config.quality,
            seed=config.seed, progress=_named(progress, f"{kind} features"),
        )  # fmt: skip
        share = None if minutes is None else minutes / len(kinds)
        with own_randomness(config.seed):
            heads.append(_train(config, kind, data, frozen, learn, held, objects, share, progress))
    return HeadRun(
        config, data.names, tuple(config.sigmas[n] for n in data.names),
        {data.pictures[i].id: data.pictures[i].truth for i in held}, len(learn), len(objects.picture), tuple(heads),
    )  # fmt: skip


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _objects(data: KeypointData, pictures: Sequence[int]) -> _Objects:
    truths = [data.pictures[i].truth for i in pictures]
    return _Objects(
        torch.tensor([i for i, t in zip(pictures, truths, strict=True) for _ in range(len(t))]),
        torch.cat([torch.from_numpy(t.boxes) for t in truths]),
        torch.cat([torch.from_numpy(t.points) for t in truths]),
    )


def _train(
    config: HeadConfig,
    kind: FeatureKind,
    data: KeypointData,
    frozen: FrozenFeatures,
    learn: Sequence[int],
    held: Sequence[int],
    objects: _Objects,
    minutes: float | None,
    progress: Progress | None,
) -> TrainedHead:
    head = KeypointHead(frozen.spec, data.names, KeypointShape(**config.shape.model_dump()))
    mean, spread = frozen.statistics(learn)
    head.mean.copy_(mean)
    head.spread.copy_(spread)
    frozen = frozen.padded_with(mean)
    mirror = torch.tensor(mirror_order(data.names))
    count = len(objects.picture)
    per_epoch = math.ceil(count / config.batch)
    total = per_epoch * config.epochs
    order = torch.zeros(0, dtype=torch.long)

    def loss(step: int) -> Tensor:
        nonlocal order
        if step % per_epoch == 0:
            order = torch.randperm(count)
        # The last batch of an epoch is filled up from its beginning: BatchNorm takes no batch of one.
        rows = order[torch.arange(step % per_epoch * config.batch, (step % per_epoch + 1) * config.batch) % count]
        picture, boxes, points = objects.picture[rows], objects.boxes[rows], objects.points[rows]
        flip = torch.rand(len(rows)) < 0.5
        y = torch.where(flip[:, None, None, None], frozen.mirrored[picture], frozen.plain[picture]).float()
        width = frozen.source_sizes[picture, 0].float()
        boxes, points = _mirrored(boxes, points, width, flip, mirror)
        regions = head.regions(_moved(boxes, config.views.scale, config.views.shift))
        y = y + torch.randn_like(y) * (config.views.noise * spread[:, None, None])
        out = head(y, regions * frozen.scales[picture].repeat(1, 2))
        return keypoint_loss(out, regions, points, config.smooth, config.visibility)

    shown = _named(progress, f"{kind} head")
    average, losses = fit(
        head, loss, total, lr=config.lr, warmup=config.warmup, weight_decay=config.weight_decay, ema=config.ema,
        minutes=minutes, progress=shown,
    )  # fmt: skip
    target = config.out / f"{config.name}-{kind}.safetensors"
    save_head(target, average, fingerprint=load(config.weights).fingerprint if kind == "base" else "")
    shipped = load_head(target).network
    found = {data.pictures[i].id: shipped.estimate(frozen.latents(i), data.pictures[i].truth.boxes) for i in held}
    last = losses[-max(1, len(losses) // 10) :]
    return TrainedHead(kind, target, found, len(losses), len(losses) == total, sum(last) / len(last), frozen.bpp)


def fit(
    module: _M,
    loss: Callable[[int], Tensor],
    steps: int,
    *,
    lr: float,
    warmup: int = 50,
    weight_decay: float = 0.01,
    ema: float = 0.995,
    minutes: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[_M, list[float]]:
    """Minimise ``loss`` with AdamW, linear warm-up, a cosine to 0 and a running average of the weights.

    Args:
        module: what is trained, in place.
        loss: scalar loss of a step, counted from 0.
        steps: how many.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        weight_decay: of AdamW, on weights of two dimensions and more.
        ema: decay of the average.
        minutes: stop after this long.
        progress: called with the steps done, and of how many.

    Returns:
        a copy of ``module`` with the averaged weights, in evaluation mode, and the loss of each step.

    Raises:
        TrainingError: a loss or gradient is not finite.
    """

    def schedule(step: int) -> float:
        return min(1.0, (step + 1) / max(1, warmup)) * (1 + math.cos(math.pi * step / steps)) / 2

    module.train()
    average = copy.deepcopy(module)
    settings = engine.Settings(steps, lr, weight_decay=weight_decay, betas=(0.9, 0.999), ema=ema, schedule=schedule)
    tell = None if progress is None else lambda done, total, _: progress(done, total)
    left = engine.run(_Fit(module, loss, weight_decay), settings, minutes=minutes, progress=tell)
    average.load_state_dict(left.averaged)
    return average.eval(), list(left.losses)


class _Fit(engine.Learner):
    """A module and a function that gives its loss."""

    def __init__(self, module: nn.Module, loss: Callable[[int], Tensor], weight_decay: float) -> None:
        self.modules, self._loss, self._weight_decay = module, loss, weight_decay

    def parameter_groups(self) -> list[dict[str, object]]:
        parameters = [p for p in self.modules.parameters() if p.requires_grad]
        return [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self._weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        return self._loss(step), {}


def _mirrored(boxes: Tensor, points: Tensor, width: Tensor, flip: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (B, 4) and points (B, K, 3), mirrored in pictures of ``width`` (B,) where ``flip`` (B,) says so."""
    swapped = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
    turned = points[:, mirror].clone()
    turned[:, :, 0] = width[:, None] - turned[:, :, 0]
    return torch.where(flip[:, None], swapped, boxes), torch.where(flip[:, None, None], turned, points)


def _moved(boxes: Tensor, scale: float, shift: float) -> Tensor:
    """Boxes of a little different place and size."""
    count = len(boxes)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2 + size * shift * (2 * torch.rand(count, 2) - 1)
    factor = scale * (2 * torch.rand(count, 1) - 1) + scale / 4 * (2 * torch.rand(count, 2) - 1)
    half = size * 2**factor / 2
    return torch.cat([centre - half, centre + half], dim=1)


def keypoint_loss(
    out: KeypointOutput, regions: Tensor, points: Tensor, smooth: float = 1.0, visibility: float = 0.1
) -> Tensor:
    """Cross-entropy between each heatmap and a Gaussian around its keypoint, and of which keypoints are labelled.

    Args:
        out: predictions for B boxes.
        regions: (B, 4) that the heatmaps cover.
        points: (B, K, 3) x, y in the unit of ``regions``, and whether labelled. Points outside of their region are
            left out of the first term.
        smooth: standard deviation of the Gaussian, cells.
        visibility: weight of the second term.
    """
    cells = out.heatmaps.shape[-1]
    low, size = regions[:, None, :2], (regions[:, 2:] - regions[:, :2])[:, None]
    position = (points[:, :, :2] - low) / size * cells  # a cell's centre lies at its number and a half
    labelled = points[:, :, 2] > 0
    inside = labelled & ((position > 0) & (position < cells)).all(2)
    centres = torch.arange(cells, dtype=position.dtype) + 0.5
    bell = (-((centres - position[:, :, :, None]) ** 2) / (2 * smooth**2)).softmax(3)  # (B, K, 2, S)
    log_share = out.heatmaps.flatten(2).log_softmax(2).view_as(out.heatmaps)
    # The target is a product of one distribution over columns and one over rows.
    entropy = -torch.einsum("bkrc,bkr,bkc->bk", log_share, bell[:, :, 1], bell[:, :, 0])
    heat = (entropy * inside).sum() / inside.sum().clamp(min=1)
    return heat + visibility * F.binary_cross_entropy_with_logits(out.visible, labelled.float())
