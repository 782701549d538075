"""The one training loop, of recipes and of heads: seeded steps, an average of the weights, checkpoints, a log.

A :class:`Learner` says what is learned and gives the loss of a batch; :class:`Settings` say how. A killed run resumes
to the same losses, because every step is seeded by itself and a checkpoint holds weights, average and optimiser.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vcm.errors import TrainingError
from vcm.io.files import whole_file
from vcm.training.checkpoint import load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint
from vcm.training.distributed import (
    agree,
    average,
    average_gradients,
    barrier,
    rank,
    synchronise_norms,
    whole_batch_noise,
)
from vcm.training.metrics_log import MetricsLog
from vcm.weights.tensors import save_tensors

__all__ = ["AVERAGE", "Learner", "Outcome", "Progress", "Settings", "run"]

AVERAGE = "ema.safetensors"
"""Name of the file of averaged weights in a run's folder."""
_CLIP = 5.0
"""Largest norm of a gradient."""
_FLOOR = 0.02
"""Share of the learning rate at which the cosine ends."""

Progress = Callable[[int, int, str], None]
"""Told after each step: how many are done, of how many, and a few numbers in words."""


class Learner(ABC):
    """What learns, and from what."""

    modules: nn.Module
    device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Move everything that learns, and what it learns from, to ``device``."""
        self.device = device
        self.modules.to(device)

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups for AdamW: ``params``, and ``lr`` and ``weight_decay`` where they are not the settings'."""

    @abstractmethod
    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, and the numbers that are logged."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long, how fast, and how safely.

    Attributes:
        steps: length of the run.
        lr: peak learning rate; the learner's groups may have their own.
        warmup: steps of linear warm-up; a cosine to 2 % follows.
        batch: pictures or objects a step, for the rate that is shown.
        weight_decay: of AdamW, for groups that do not say.
        betas: of AdamW.
        ema: decay of the average of the weights.
        seed: each step's random numbers follow from it and the step; ``None`` leaves them to the caller, and such a run
            cannot be resumed.
        checkpoint_minutes: how often a resumable checkpoint is written.
        shard_mib: its files are of at most this size.
        schedule: share of the learning rate by step, in place of warm-up and cosine.
    """

    steps: int
    lr: float
    warmup: int = 50
    batch: int = 1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.998
    seed: tuple[int, ...] | None = None
    checkpoint_minutes: float = 4.0
    shard_mib: int = 14
    schedule: Callable[[int], float] | None = None

    def rate(self, step: int) -> float:
        """Share of the learning rate at ``step``, counted from 0."""
        if self.schedule is not None:
            return self.schedule(step)
        if step < self.warmup:
            return (step + 1) / self.warmup
        t = (step - self.warmup) / max(1, self.steps - self.warmup)
        return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left.

    Attributes:
        averaged: the averaged weights, by the names that the learner's modules give them.
        step: steps done in all, those of the run that was resumed included.
        finished: false where time ran out first.
        losses: of the steps of this run.
    """

    averaged: dict[str, Tensor]
    step: int
    finished: bool
    losses: tuple[float, ...]


def run(
    learner: Learner,
    settings: Settings,
    *,
    folder: Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Train from the start or from the last checkpoint.

    Args:
        learner: what learns; its modules are changed.
        settings: how.
        folder: where checkpoints, ``metrics.jsonl`` and at the end the averaged weights (:data:`AVERAGE`) go; ``None``
            keeps nothing.
        resume: go on from the folder's checkpoint where there is one.
        minutes: stop cleanly with a checkpoint after this long.
        progress: told after each step.

    Raises:
        TrainingError: a loss or gradient is not finite.
        OutputError: something cannot be written.
        WeightsError: the checkpoint cannot be read.
    """
    trainer = _Trainer(learner, settings)
    start = trainer.restore(folder) if resume and folder is not None else 0
    clock = _Clock(minutes, settings.checkpoint_minutes)
    losses, step, stop = [], start, False
    with MetricsLog(folder, start) as log:
        while step < settings.steps and not stop:
            row = trainer.step(step)
            step += 1
            losses.append(row["loss"])
            log.write({"step": step, **row})
            if progress is not None:
                progress(step, settings.steps, _in_words(row))
            stop = clock.is_over(learner.device)
            if folder is not None and rank() == 0 and (stop or step == settings.steps or clock.is_due()):
                trainer.save(folder, step)
                clock.saved()
    if folder is not None and rank() == 0:
        with whole_file(folder / AVERAGE) as part:
            save_tensors(part, trainer.average.tensors)
    barrier()
    return Outcome(trainer.average.tensors, step, step >= settings.steps, tuple(losses))


class _Trainer:
    """A learner with its optimiser and its average."""

    def __init__(self, learner: Learner, settings: Settings) -> None:
        self.learner, self.settings = learner, settings
        synchronise_norms(learner.modules)
        self._named = {n: p for n, p in learner.modules.named_parameters() if p.requires_grad}
        self._names = {id(p): n for n, p in self._named.items()}
        self._optimizer = torch.optim.AdamW(
            learner.parameter_groups(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            betas=settings.betas,
            fused=True,
        )
        self._rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self.average = _Average(learner.modules, settings.ema)

    def restore(self, folder: Path) -> int:
        """Take the state of the folder's checkpoint, where there is one; its step."""
        checkpoint = load_checkpoint(folder)
        if checkpoint is None:
            return 0
        self.learner.modules.load_state_dict(_below("model.", checkpoint.tensors))
        self.average.tensors = {k: v.to(self.learner.device) for k, v in _below("ema.", checkpoint.tensors).items()}
        restore_optimizer(self._optimizer, self._names, checkpoint.tensors)
        return checkpoint.step

    def save(self, folder: Path, step: int) -> None:
        """Write everything that :meth:`restore` takes."""
        tensors = {f"model.{k}": v for k, v in self.learner.modules.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.average.tensors.items()}
        tensors |= optimizer_tensors(self._optimizer, self._names)
        save_checkpoint(folder, tensors, step, self.settings.shard_mib)

    def step(self, step: int) -> dict[str, float]:
        """Learn from one batch; what is logged of it."""
        began = time.monotonic()
        factor = self._set_rates(step)
        with whole_batch_noise():
            loss, numbers = self.learner.loss(step, self._random(step))
        numbers = average({"loss": float(loss.detach()), **numbers}, self.learner.device)
        _check_finite(step, "loss", numbers["loss"])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(list(self._named.values()))
        norm = float(nn.utils.clip_grad_norm_(self._named.values(), _CLIP))
        _check_finite(step, "gradient", norm)
        self._optimizer.step()
        self.average.update(step)
        rate = self.settings.batch / (time.monotonic() - began)
        return {**numbers, "grad": norm, "lr": self.settings.lr * factor, "images_per_s": rate}

    def _set_rates(self, step: int) -> float:
        factor = self.settings.rate(step)
        for group, lr in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = lr * factor
        return factor

    def _random(self, step: int) -> np.random.Generator:
        """The step's own random numbers, torch's included."""
        if self.settings.seed is None:
            return np.random.default_rng(step)
        rng = np.random.default_rng([*self.settings.seed, step])
        torch.manual_seed(int(rng.integers(2**62)))
        return rng


class _Average:
    """A running average of all floating-point state; what counts steps is copied."""

    def __init__(self, modules: nn.Module, decay: float) -> None:
        self._modules, self._decay = modules, decay
        self.tensors = {k: v.detach().clone() for k, v in modules.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step``; the first ones weigh more, so that the start is soon forgotten."""
        state = self._modules.state_dict()
        floats = [k for k, v in state.items() if v.is_floating_point()]
        decay = min(self._decay, (step + 1) / (step + 10))
        torch._foreach_lerp_([self.tensors[k] for k in floats], [state[k] for k in floats], 1 - decay)
        for k in state.keys() - floats:
            self.tensors[k].copy_(state[k])


class _Clock:
    """When to write a checkpoint, and when to stop."""

    def __init__(self, minutes: float | None, checkpoint_minutes: float) -> None:
        self._minutes, self._checkpoint_minutes = minutes, checkpoint_minutes
        self._began = self._saved = time.monotonic()

    def is_over(self, device: torch.device) -> bool:
        """Whether the time is up; all processes say the same."""
        return self._minutes is not None and agree(time.monotonic() - self._began > self._minutes * 60, device)

    def is_due(self) -> bool:
        """Whether the last checkpoint is too old."""
        return time.monotonic() - self._saved > self._checkpoint_minutes * 60

    def saved(self) -> None:
        """A checkpoint has been written."""
        self._saved = time.monotonic()


def _check_finite(step: int, what: str, value: float) -> None:
    if not math.isfinite(value):
        raise TrainingError(f"the {what} of step {step} is not finite; lower the learning rate", found=value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _in_words(row: dict[str, float]) -> str:
    shown = " ".join(f"{k} {v:.3g}" for k, v in row.items() if k not in ("loss", "grad", "lr", "images_per_s"))
    return f"{shown} {row['images_per_s']:.1f} img/s".strip()
