"""Both layers at once: the base keeps its task and learns what helps the picture, the picture path follows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vcm.codecs.scalable.build import picture_modules
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.training.config import JointConfig, TrainConfig
from vcm.training.data import PictureStore, render_views, view_objects
from vcm.training.stages.networks import freeze_blocks
from vcm.training.stages.picture import picture_loss, picture_quality, random_base_scale
from vcm.training.stages.task import HeadStage, base_quality, base_rate
from vcm.training.teacher import TeacherLike

__all__ = ["JointStage"]


class JointStage(HeadStage):
    """Everything but the trunk (with it where ``trunk_lr`` is above 0), random qualities for both layers.

    Loss: task on the base at a random scale of the crop, its rate, and ``picture`` times rate and distortion of the
    picture path on the crop, whose gradient reaches the base.
    """

    config: JointConfig

    def __init__(self, config: JointConfig, recipe: TrainConfig, store: PictureStore, teacher: TeacherLike) -> None:
        super().__init__(config, recipe, store, teacher)
        if config.trunk_lr == 0:
            freeze_blocks(self.analysis, len(self.analysis.trunk.blocks))
        self.modules["base"] = LatentModel(self.architecture.base, self.architecture.base_gain)
        self.modules.update(picture_modules(self.architecture))
        self.modules.to(memory_format=torch.channels_last).train()

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        plans = self.plan(rng)
        x = render_views(self.store, plans).to(self.device)
        padded, side = random_base_scale(x, rng)
        with torch.no_grad():
            teacher = self.teacher(padded)
        with self.autocast():
            with torch.set_grad_enabled(torch.is_grad_enabled() and c.trunk_lr > 0):
                s16, s32 = self.analysis.trunk(padded)
            y = self.analysis.merged(s16, s32).float()
        quality_base = base_quality(self.uniform(rng), c)
        coded = self.modules["base"](y, quality_base)
        objects = None
        if self.weight("ground_truth"):
            objects = view_objects(self.store, plans).scaled(side / x.shape[3])
        task, numbers = self.task_loss(coded.y_hat, quality_base, teacher, step, objects)
        pixels = padded.shape[2] * padded.shape[3]
        prices = c.base_lambda_low, c.base_lambda_high
        rate, _ = base_rate(coded, quality_base, pixels, prices, done=1.0)
        quality = picture_quality(self.uniform(rng), c)
        picture, more = picture_loss(self.modules, c, x, coded.y_hat, side, quality)
        base_bpp = float(((coded.bits_y + coded.bits_z) / pixels).detach().mean())
        return task + rate + c.weights.get("picture", 1.0) * picture, {"base_bpp": base_bpp, **numbers, **more}
