"""What every stage is: networks that learn, and the loss of a batch of random views."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vcm.training.config import StageConfig
from vcm.training.data import PictureStore, ViewPlan, ViewSpec, plan_views, render_views
from vcm.training.distributed import batch_part
from vcm.training.engine import Learner

__all__ = ["DataStage", "Stage", "parameter_groups"]


class Stage(Learner):
    """A stage of a recipe: modules by name, and its configuration."""

    modules: nn.ModuleDict
    config: StageConfig


class DataStage(Stage):
    """Random views from a store."""

    def __init__(self, config: StageConfig, store: PictureStore) -> None:
        self.config, self.store = config, store
        d = config.data
        self._views = ViewSpec(d.size, d.reference, (d.scale_low, d.scale_high), d.mosaic, d.mixup, d.colour)
        weights = store.sampling_weights(d.balance).double().numpy()
        self._sampling = weights / weights.sum()
        self.part = batch_part(config.batch)

    def plan(self, rng: np.random.Generator) -> tuple[ViewPlan, ...]:
        """This process's part of a batch of random views."""
        chosen = rng.choice(len(self.store), self.config.batch, p=self._sampling)
        return plan_views(self.store, [int(i) for i in chosen], self._views, rng)[self.part]

    def batch(self, rng: np.random.Generator) -> Tensor:
        """Views (N, 3, size, size), 0 … 255."""
        return render_views(self.store, self.plan(rng)).to(self.device)

    def uniform(self, rng: np.random.Generator) -> Tensor:
        """One number in 0 … 1 for each picture of this process, (N,)."""
        return torch.from_numpy(rng.random(self.config.batch, dtype=np.float32)[self.part]).to(self.device)


def parameter_groups(modules: nn.ModuleDict, lr: float, trunk_lr: float = 1.0) -> list[dict[str, object]]:
    """AdamW groups, each at its share of the stage's learning rate.

    Gains and priors are few numbers that must travel octaves; the block transforms start as a DCT and are only refined.

    Args:
        modules: what learns.
        lr: the stage's peak learning rate.
        trunk_lr: share of it for the trunk.
    """
    shares = {".trunk.": trunk_lr, ".gain_": 5.0, ".prior_": 5.0, ".linear": 0.05, "": 1.0}
    members: dict[str, list[nn.Parameter]] = {k: [] for k in shares}
    for name, parameter in modules.named_parameters():
        if parameter.requires_grad:
            members[next(k for k in shares if k in name)].append(parameter)
    return [{"params": p, "lr": lr * shares[k]} for k, p in members.items() if p]
