"""Heads and what they read, distilled from the teacher: without a bottleneck, and through the base layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.build import base_analysis
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.latent_model import LatentModel, LatentOutput
from vcm.errors import ConfigError
from vcm.tasks.build import head_modules
from vcm.tasks.detection import DetectorOutput
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.training.config import BottleneckConfig, HeadsConfig, JointConfig, TaskLoss, TrainConfig, TwinConfig
from vcm.training.data import PictureStore, ViewObjects, class_weights, render_views, view_objects
from vcm.training.data.degrade import degrade, plan_degradations
from vcm.training.losses import (
    classification_loss,
    distill_boxes,
    distill_features,
    distill_logits,
    distill_scores,
    teacher_labels,
)
from vcm.training.losses_detection import detection_loss
from vcm.training.stages.base import DataStage, parameter_groups
from vcm.training.stages.networks import freeze_blocks, imagenet_trunk
from vcm.training.teacher import TeacherLike, TeacherOutput

__all__ = ["BottleneckStage", "FrozenBaseStage", "HeadStage", "TaskStage", "TwinStage", "base_quality", "base_rate"]

_WEIGHTS: dict[TaskLoss, float] = {
    "scores": 1.0, "giou": 2.0, "kl": 0.25, "features": 1.0, "classify": 0.05, "logits": 0.0, "ground_truth": 0.0,
}  # fmt: skip
"""Loss weights where the recipe says nothing."""


class HeadStage(DataStage):
    """Heads and the base's analysis, distilled densely from the teacher."""

    config: TwinConfig | BottleneckConfig | HeadsConfig | JointConfig

    def __init__(
        self,
        config: TwinConfig | BottleneckConfig | HeadsConfig | JointConfig,
        recipe: TrainConfig,
        store: PictureStore,
        teacher: TeacherLike,
    ) -> None:
        super().__init__(config, store)
        self.teacher = teacher
        self.class_weights = class_weights(store)
        self.architecture = ARCHITECTURES[recipe.architecture]
        analysis = base_analysis(self.architecture)
        if recipe.imagenet and recipe.architecture == "small":
            analysis.trunk.load_state_dict(imagenet_trunk())
        blocks = len(analysis.trunk.blocks)
        self._frozen = blocks if config.kind == "heads" else min(config.frozen_blocks, blocks)
        if analysis.trunk.tap < self._frozen < blocks:
            raise ConfigError(
                "frozen_blocks ends inside the last stride",
                expected=f"at most {analysis.trunk.tap}, or {blocks}",
                found=self._frozen,
            )
        freeze_blocks(analysis, self._frozen)
        heads = head_modules(SHIPPED_HEADS[self.architecture.name], self.architecture.latents)
        self.modules = nn.ModuleDict({"analysis": analysis, **heads})
        self.modules.to(memory_format=torch.channels_last).train()

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.class_weights = self.class_weights.to(device)

    @property
    def analysis(self) -> BaseAnalysis:
        """The base's ``g_a``."""
        return cast(BaseAnalysis, self.modules["analysis"])

    def autocast(self, on_cpu: bool = False) -> torch.autocast:
        """bfloat16 on a GPU; on a CPU where it is asked for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on_cpu or self.device.type == "cuda")

    def parameter_groups(self) -> list[dict[str, object]]:
        """The trunk at its own learning rate, gains faster, everything else at the stage's."""
        trunk_lr = 0.0 if self.config.kind == "heads" else self.config.trunk_lr
        return parameter_groups(self.modules, self.config.lr, trunk_lr)

    def weight(self, name: TaskLoss) -> float:
        """A loss weight of the configuration."""
        return self.config.weights.get(name, _WEIGHTS[name])

    def task_loss(
        self, y: Tensor, quality: Tensor, teacher: TeacherOutput, step: int, objects: ViewObjects | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """Distillation of detection and classification on latents ``y``; late in the stage ``objects``, too."""
        with self.autocast(on_cpu=self.config.half):
            out = self.modules["detect"](y, quality)
            classes = self.modules["classify"](y.detach(), quality)
        logits, bins, mimics = (tuple(t.float() for t in part) for part in (out.logits, out.bins, out.features))
        out = DetectorOutput(logits, bins, mimics, out.stem)
        scores = distill_scores(out.logits, teacher.scores, self.class_weights)
        giou, kl = distill_boxes(out, teacher)
        features = distill_features(out.features, teacher.features)
        labels = classification_loss(classes.float(), teacher_labels(teacher))
        decay = 1 - 0.7 * step / self.config.steps
        loss = (
            self.weight("scores") * scores + self.weight("giou") * giou + self.weight("kl") * kl
            + self.weight("features") * decay * features + self.weight("classify") * labels
        )  # fmt: skip
        numbers = {"scores": scores, "giou": giou, "kl": kl, "features": features, "classify": labels}
        if self.weight("logits"):
            numbers["logits"] = distill_logits(out.logits, teacher.scores)
            loss = loss + self.weight("logits") * numbers["logits"]
        if objects is not None and step >= self.config.ground_truth_from * self.config.steps:
            true = detection_loss(out, objects.boxes, objects.labels, objects.ignore, self.class_weights)
            numbers["ground_truth"] = true.scores + 2 * true.giou + 0.25 * true.bins
            loss = loss + self.weight("ground_truth") * numbers["ground_truth"]
        return loss, {k: float(v.detach()) for k, v in numbers.items()}


@dataclass(frozen=True, slots=True)
class _Batch:
    """What of a batch does not depend on the weights that are trained: ``frozen`` trunk features, teacher's answers."""

    frozen: tuple[Tensor, ...]
    teacher: TeacherOutput
    pixels: int
    objects: ViewObjects | None


class TaskStage(HeadStage):
    """A stage that trains only heads and what they read: its batches are echoed."""

    config: TwinConfig | BottleneckConfig | HeadsConfig

    def __init__(
        self,
        config: TwinConfig | BottleneckConfig | HeadsConfig,
        recipe: TrainConfig,
        store: PictureStore,
        teacher: TeacherLike,
    ) -> None:
        super().__init__(config, recipe, store, teacher)
        self._seed = (recipe.seed, recipe.stages.index(config))
        self._reserve: dict[int, _Batch] = {}

    @torch.no_grad()
    def _draw(self, number: int) -> _Batch:
        """Batch ``number``: views, what the frozen blocks make of them, and the teacher's answers."""
        c = self.config
        rng = np.random.default_rng([*self._seed, number, 1])
        plans = self.plan(rng)
        x = render_views(self.store, plans).to(self.device)
        objects = view_objects(self.store, plans) if self.weight("ground_truth") else None
        teacher = self.teacher(x)
        seen = x
        if c.data.degrade:
            seen = degrade(x, plan_degradations(c.batch, c.data.degrade, rng)[self.part])
        trunk = self.analysis.trunk
        # Picture by picture: the first blocks' tensors then stay below the 32 MB above which glibc maps every
        # allocation anew, and page faults cost several times the arithmetic (measured: 0.48 s against 0.08 s).
        parts = seen.split(1) if self.device.type == "cpu" else (seen,)
        frozen: tuple[Tensor, ...] = (seen,)
        with self.autocast():
            if self._frozen == len(trunk.blocks):
                s16, s32 = zip(*(trunk(part) for part in parts), strict=True)
                frozen = torch.cat(s16), torch.cat(s32)
            elif self._frozen:
                frozen = (torch.cat([trunk.start(part, self._frozen) for part in parts]),)
        return _Batch(frozen, teacher, x.shape[2] * x.shape[3], objects)

    def _fetch(self, step: int) -> _Batch:
        """The batch of ``step``: fresh ones fill the reserve, then each is used ``echo - 1`` times more, in order."""
        c = self.config
        cycle, place = divmod(step, c.echo * c.reserve)
        number = cycle * c.reserve + place % c.reserve
        if number not in self._reserve:
            if place < c.reserve:
                self._reserve = {k: v for k, v in self._reserve.items() if k >= cycle * c.reserve}
            self._reserve[number] = self._draw(number)
        last = place >= (c.echo - 1) * c.reserve
        return self._reserve.pop(number) if last else self._reserve[number]

    def latents(self, batch: _Batch, step: int) -> Tensor:
        """Unquantised base latents of ``batch``, float32."""
        analysis = self.analysis
        with self.autocast():
            if self._frozen == len(analysis.trunk.blocks):
                s16, s32 = batch.frozen
            else:
                every = 1 if self.config.kind == "heads" else self.config.trunk_every
                with torch.set_grad_enabled(torch.is_grad_enabled() and step % every == 0):
                    if self._frozen:
                        s16, s32 = analysis.trunk.finish(batch.frozen[0], self._frozen)
                    else:
                        s16, s32 = analysis.trunk(batch.frozen[0])
            return analysis.merged(s16, s32).float()


class TwinStage(TaskStage):
    """Heads on unquantised latents: the pixel twin, and the start of the base layer."""

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = self._fetch(step)
        y = self.latents(batch, step)
        return self.task_loss(y, torch.ones(len(y), device=self.device), batch.teacher, step, batch.objects)


class BottleneckStage(TaskStage):
    """The twin's latents through quantiser and integer entropy model, at a random quality for each picture."""

    config: BottleneckConfig

    def __init__(
        self, config: BottleneckConfig, recipe: TrainConfig, store: PictureStore, teacher: TeacherLike
    ) -> None:
        super().__init__(config, recipe, store, teacher)
        self.modules["base"] = LatentModel(self.architecture.base, self.architecture.base_gain)

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        batch = self._fetch(step)
        y = self.latents(batch, step)
        quality = base_quality(self.uniform(rng), c)
        coded = self.modules["base"](y, quality)
        loss, numbers = self.task_loss(coded.y_hat, quality, batch.teacher, step, batch.objects)
        rate, hyper = base_rate(coded, quality, batch.pixels, (c.lambda_low, c.lambda_high), step / c.steps)
        bpp = float(((coded.bits_y + coded.bits_z) / batch.pixels).detach().mean())
        return loss + rate, {"bpp": bpp, "hyper_share": hyper, **numbers}


class FrozenBaseStage(TaskStage):
    """Heads on the quantised latents of a base that stays as it is, at a random quality for each picture."""

    config: HeadsConfig

    def __init__(self, config: HeadsConfig, recipe: TrainConfig, store: PictureStore, teacher: TeacherLike) -> None:
        super().__init__(config, recipe, store, teacher)
        self.modules["base"] = LatentModel(self.architecture.base, self.architecture.base_gain)
        for part in (self.analysis, self.modules["base"]):
            part.requires_grad_(False).eval()  # its BatchNorms keep their statistics too

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = self._fetch(step)
        quality = base_quality(self.uniform(rng), self.config)
        with torch.no_grad():
            coded = self.modules["base"](self.latents(batch, step), quality)
        loss, numbers = self.task_loss(coded.y_hat, quality, batch.teacher, step, batch.objects)
        return loss, {"bpp": float(((coded.bits_y + coded.bits_z) / batch.pixels).mean()), **numbers}


def base_quality(u: Tensor, config: BottleneckConfig | HeadsConfig | JointConfig) -> Tensor:
    """Base qualities, in 0 … 1, from as many uniform numbers ``u`` (N,)."""
    return u**config.quality_power


def base_rate(
    coded: LatentOutput, quality: Tensor, pixels: int, prices: tuple[float, float], done: float
) -> tuple[Tensor, float]:
    """Priced bits per pixel of the base, and the share of the hyper-latents.

    The price of a bit falls with quality; it is ramped up over the first fifth, so that the latents first settle.

    Args:
        coded: what the entropy model made of the latents.
        quality: (N,) in 0 … 1.
        pixels: of one coded picture.
        prices: at quality 1 and 0.
        done: share of the stage's steps that are done.
    """
    low, high = prices
    price = high * (low / high) ** quality
    bits = coded.bits_y + coded.bits_z
    ramp = min(1.0, 0.1 + done / 0.2)
    hyper = float(coded.bits_z.detach().sum() / bits.detach().sum())
    return ramp * (price * (bits / pixels)).mean(), hyper
