"""Training of a head on a bank of frozen latents, base and twin, from a configuration to head files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vcm.api import load
from vcm.errors import ConfigError
from vcm.nn.seeding import own_randomness
from vcm.structures import Classes
from vcm.training.bank import Features, LatentBank, cached_bank
from vcm.training.heads import fit
from vcm.training.latent_heads.config import DETECTORS, LatentHeadConfig, load_latent_head_config
from vcm.training.latent_heads.lessons import Embeddings, Lesson, Segments, SingleLabels
from vcm.training.thaw import recentre_norms
from vcm.weights.head_file import save_head

__all__ = ["LatentHeadRun", "TrainedLatentHead", "train_latent_head"]

Progress = Callable[[str, int, int], None]
_NORM_BATCHES = 8
_TRIES = 3
"""Steps that are timed."""
_SHARE_OF_TIME = 0.9
"""Of the minutes that are planned: other programs may come."""


@dataclass(frozen=True, slots=True)
class TrainedLatentHead:
    """A head on one kind of features.

    Attributes:
        features: which.
        weights: the head's file.
        steps, finished: how long it was trained, and whether that was to the end.
        loss: mean over the last tenth of the steps.
        views: that were in the bank.
        bpp: bits per coded pixel of the bank's files; 0 for the twin.
        pictures_a_minute: views that it saw, over the time that training took.
    """

    features: Features
    weights: Path
    steps: int
    finished: bool
    loss: float
    views: int
    bpp: float
    pictures_a_minute: float


@dataclass(frozen=True, slots=True)
class LatentHeadRun:
    """What a configuration gave.

    Attributes:
        config: the configuration.
        names: of the head's classes.
        pictures: that were learned from.
        test: folders that are to be tested on.
        test_share: share of each that is, by its names' hashes; 0: all.
        heads: one for each kind of features.
    """

    config: LatentHeadConfig
    names: Classes
    pictures: int
    test: tuple[Path, ...]
    test_share: float
    heads: tuple[TrainedLatentHead, ...]


def train_latent_head(
    path: str | Path,
    *,
    overrides: tuple[str, ...] = (),
    features: Sequence[str] = (),
    minutes: float | None = None,
    progress: Progress | None = None,
) -> LatentHeadRun:
    """Train the head of the configuration at ``path``, one for each kind of features.

    Weights go to ``out/<name>-<features>.safetensors``, the bank beside them.

    Args:
        path: YAML configuration.
        overrides: ``a.b=c`` changes.
        features: these only; by default the configuration's.
        minutes: stop training after this long in all, shared evenly between the heads; the bank is not counted.
        progress: called along the way.

    Raises:
        ConfigError: the configuration is wrong, or data is not there.
        AnnotationError, ImageError: the data do not validate.
        TrainingError: a loss is not finite.
        ModelNotFoundError, WeightsError: as of :func:`vcm.load`.
    """
    config = load_latent_head_config(path, overrides)
    wanted = [kind for kind in ("base", "twin") if kind in (features or config.features)]
    unknown = [kind for kind in features if kind not in ("base", "twin")]
    if unknown or ("twin" in wanted and config.twin is None):
        raise ConfigError(
            "no such features for this head", expected="base, or twin with a twin", found=unknown or "twin"
        )
    folders = tuple(config.root / folder for folder in config.data)
    share = config.test_share if config.test is None else 0.0
    lesson = _lesson(config, folders, share)
    if len(lesson.paths) < 2:
        raise ConfigError("no pictures to learn from", expected="at least 2", found=len(lesson.paths))
    chosen = _spread(len(lesson.paths), config.limit)
    paths = [lesson.paths[i] for i in chosen]
    config.out.mkdir(parents=True, exist_ok=True)
    heads = []
    for kind in wanted:
        which: Features = "base" if kind == "base" else "twin"
        bank = cached_bank(
            config.out, which, config.weights, paths, config.views.variety, twin=config.twin, seed=config.seed,
            progress=_named(progress, f"{kind} latents"),
        )  # fmt: skip
        bank = replace(bank, pictures=torch.tensor(chosen, dtype=torch.int32)[bank.pictures.long()])
        share_of_time = None if minutes is None else minutes / len(wanted)
        with own_randomness(config.seed):
            heads.append(_train(config, which, lesson, bank, share_of_time, progress))
    test = folders if config.test is None else (config.root / config.test,)
    return LatentHeadRun(config, lesson.names, len(paths), test, share, tuple(heads))


def _spread(count: int, limit: int | None) -> list[int]:
    """Positions of at most ``limit`` of ``count``, evenly: what is sorted by class keeps all of its classes."""
    kept = min(count, limit or count)
    return [int((i + 0.5) * count / kept) for i in range(kept)]


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


def _lesson(config: LatentHeadConfig, folders: Sequence[Path], share: float) -> Lesson:
    if config.kind in DETECTORS:
        from vcm.training.latent_heads.detectors import Boxes

        return Boxes(config, folders, share)
    lessons: dict[str, Callable[[Sequence[Path], float, Any], Lesson]] = {
        "single-label": SingleLabels, "segmentation": Segments, "embedding": Embeddings,
    }  # fmt: skip
    return lessons[config.kind](folders, share, config.shape_of())


def _train(
    config: LatentHeadConfig,
    features: Features,
    lesson: Lesson,
    bank: LatentBank,
    minutes: float | None,
    progress: Progress | None,
) -> TrainedLatentHead:
    fingerprint = load(config.weights).fingerprint if features == "base" else ""
    network = lesson.network(replace(bank.spec, fingerprint=fingerprint))
    if config.kind in DETECTORS and config.start:
        _settle(network, bank, config.batch)
    groups = lesson.groups(bank)
    per_epoch = math.ceil(len(groups) / config.batch)
    order = np.zeros(0, np.int64)

    def loss(step: int) -> Tensor:
        nonlocal order
        at = step % per_epoch
        if at == 0:
            order = torch.randperm(len(groups)).numpy()
        # The last batch of an epoch is filled up from its beginning: BatchNorm takes no batch of one.
        rows = order[np.arange(at * config.batch, (at + 1) * config.batch) % len(groups)]
        return lesson.loss(network, bank, [row for group in rows for row in groups[group]])

    steps = per_epoch * config.epochs
    if minutes is not None:
        steps = max(1, min(steps, int(_SHARE_OF_TIME * minutes * 60 / _seconds_a_step(network, loss))))
    began = time.monotonic()
    average, losses = fit(
        network, loss, steps, lr=config.lr, warmup=min(config.warmup, steps // 5), weight_decay=config.weight_decay,
        ema=config.ema, minutes=minutes, progress=_named(progress, f"{features} head"),
    )  # fmt: skip
    took = time.monotonic() - began
    target = config.out / f"{config.name}-{features}.safetensors"
    trained = f"{config.kind} on {features} latents of {config.weights}, {len(losses)} steps of {config.batch} on "
    save_head(target, average, fingerprint=fingerprint, name=target.stem, trained=trained + ", ".join(config.data))
    last = losses[-max(1, len(losses) // 10) :]
    pixels = float(bank.sizes.double().prod(1).sum())
    return TrainedLatentHead(
        features, target, len(losses), len(losses) == steps, sum(last) / len(last), len(bank),
        8 * float(bank.file_bytes.sum()) / pixels, 60 * len(losses) * config.batch * len(groups[0]) / took,
    )  # fmt: skip


def _seconds_a_step(network: nn.Module, loss: Callable[[int], Tensor]) -> float:
    """Of a few steps after one that warms up; nothing is learned, but BatchNorms see a few batches more."""
    network.train()
    began = 0.0
    for step in range(_TRIES + 1):
        if step == 1:
            began = time.monotonic()
        loss(step).backward()
        network.zero_grad(set_to_none=True)
    return (time.monotonic() - began) / _TRIES


def _settle(network: Any, bank: LatentBank, batch: int) -> None:
    """Statistics for the BatchNorms of a pyramid that came without any, so that it computes what it did."""
    from vcm.tasks.torchvision import pack

    backbone = network.model.backbone
    rows = torch.randperm(len(bank))[: batch * _NORM_BATCHES].tolist()

    def run() -> None:
        for at in range(0, len(rows), batch):
            y, quality, _ = bank.batch(rows[at : at + batch], 4)
            backbone(pack(y, quality, bank.spec.stride))

    recentre_norms(backbone, run)
    network.train()
