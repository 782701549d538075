"""A detection head, and with it the base layer where asked, on true boxes alone: no teacher, classes of one's own."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.build import base_modules
from vcm.codecs.scalable.config import Architecture
from vcm.structures import COCO_NAMES, Classes
from vcm.tasks.detection import DetectionHead
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.training.data import PictureStore, ViewObjects, ViewSpec, plan_views, render_views, view_objects
from vcm.training.engine import Learner
from vcm.training.losses_detection import detection_loss
from vcm.training.stages.base import parameter_groups
from vcm.training.stages.networks import freeze_blocks
from vcm.training.stages.task import base_rate

__all__ = ["TruthStage"]

_VIEWS = ViewSpec(size=384, reference=0, scale=(0.6, 1.5), mosaic=0.25, mixup=0.0, colour=0.2)
_PRICES = 0.5, 400.0
"""Of a bit, at base quality 1 and 0, as in the recipes."""
_FROZEN_BLOCKS = 5
_TRUNK_LR = 0.1
_ECHO, _RESERVE, _NEW = 4, 48, 0.6
"""How often latents of views are used, batches of them that are kept, and how much of a step is new views."""


class TruthStage(Learner):
    """Thawed networks that learn from a store's true boxes.

    Args:
        architecture: of the codec.
        weights: its weights in training form (:func:`vcm.training.thaw.thaw`).
        store: pictures and boxes.
        classes: the head's. Those with a name of COCO's start from the shipped head's, others anew.
        base: train the base layer too; else it stays as it is, and files that were written with it stay readable.
        batch: views a step.
        lr: peak learning rate.
        seed: views follow from it.
    """

    modules: nn.ModuleDict

    def __init__(
        self,
        architecture: Architecture,
        weights: dict[str, Tensor],
        store: PictureStore,
        classes: Classes,
        *,
        base: bool,
        batch: int,
        lr: float,
        seed: int,
    ) -> None:
        self.store, self.batch, self.lr, self.base, self._seed = store, batch, lr, base, seed
        self._reserve: dict[int, tuple[Tensor, ViewObjects]] = {}
        layer = nn.ModuleDict(base_modules(architecture))
        layer.load_state_dict({k: v for k, v in weights.items() if k.split(".")[0] in layer})
        self.modules = nn.ModuleDict({"detect": _head(architecture, weights, classes)})
        if base:
            freeze_blocks(cast(BaseAnalysis, layer["analysis"]), _FROZEN_BLOCKS)
            self.modules.update(dict(layer.items()))
        else:
            layer.requires_grad_(False).eval()
        self.modules.to(memory_format=torch.channels_last).train()
        # Statistics of a few batches would be a worse guess than what was folded: thawed BatchNorms stay affine maps.
        for part in self.modules.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        self._layer = layer.to(memory_format=torch.channels_last)
        # bfloat16 is slower than single precision on a CPU that has no instructions for it.
        self._half = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._layer.to(device)

    @property
    def cost(self) -> float:
        """Of an average step, as a share of one whose views are new."""
        return 1.0 if self.base else (_NEW + (1 - _NEW) * _ECHO) / _ECHO

    def parameter_groups(self) -> list[dict[str, object]]:
        return parameter_groups(self.modules, self.lr, _TRUNK_LR)

    def _latents(self, x: Tensor) -> Tensor:
        """Unquantised base latents of views, picture by picture (see ``TaskStage``)."""
        half = torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda")
        with half, torch.set_grad_enabled(self.base and torch.is_grad_enabled()):
            parts = [x] if self.base or x.device.type != "cpu" else x.split(1)
            return torch.cat([self._layer["analysis"](part) for part in parts]).float()

    def _draw(self, number: int) -> tuple[Tensor, ViewObjects]:
        """Batch ``number``: views, or their latents where the base stays as it is; and the objects on them."""
        rng = np.random.default_rng([self._seed, number, 1])
        plans = plan_views(self.store, [int(i) for i in rng.integers(len(self.store), size=self.batch)], _VIEWS, rng)
        x = render_views(self.store, plans).to(self.device)
        return (x if self.base else self._latents(x)), view_objects(self.store, plans)

    def _fetch(self, step: int) -> tuple[Tensor, ViewObjects]:
        """The batch of ``step``; latents cost twice what learning from them does, so each is used a few times."""
        if self.base:
            return self._draw(step)
        cycle, place = divmod(step, _ECHO * _RESERVE)
        number = cycle * _RESERVE + place % _RESERVE
        if number not in self._reserve:
            self._reserve = {k: v for k, v in self._reserve.items() if k >= cycle * _RESERVE}
            self._reserve[number] = self._draw(number)
        return self._reserve[number]

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        drawn, objects = self._fetch(step)
        y = self._latents(drawn) if self.base else drawn
        quality = torch.from_numpy(rng.random(self.batch, dtype=np.float32)).to(self.device)
        with torch.set_grad_enabled(self.base and torch.is_grad_enabled()):
            coded = self._layer["base"](y, quality)
        with torch.autocast(y.device.type, torch.bfloat16, enabled=self._half or y.device.type == "cuda"):
            out = self.modules["detect"](coded.y_hat, quality)
        true = detection_loss(out, objects.boxes, objects.labels, objects.ignore)
        loss = true.scores + 2 * true.giou + 0.25 * true.bins
        pixels = _VIEWS.size**2
        numbers = {"bpp": float(((coded.bits_y + coded.bits_z) / pixels).detach().mean())}
        if self.base:
            rate, _ = base_rate(coded, quality, pixels, _PRICES, done=1.0)
            loss = loss + rate
        parts = {"scores": true.scores, "giou": true.giou, "bins": true.bins}
        return loss, numbers | {name: float(part.detach()) for name, part in parts.items()}


@torch.no_grad()
def _head(architecture: Architecture, weights: dict[str, Tensor], classes: Classes) -> DetectionHead:
    """The shipped head with rows for ``classes`` in place of COCO's."""
    shape = SHIPPED_HEADS[architecture.name].detect
    head = DetectionHead(architecture.latents, len(classes), shape.width, shape.feature, names=classes)
    rows = {i: COCO_NAMES.index(name) for i, name in enumerate(classes.names) if name in COCO_NAMES}
    state = head.state_dict()
    for key, shipped in weights.items():
        part, _, name = key.partition(".")
        if part != "detect":
            continue
        if ".predict." in name:  # class rows, then the bins, which know no classes
            own = state[name]
            own[len(classes) :] = shipped[shape.classes :]
            for mine, theirs in rows.items():
                own[mine] = shipped[theirs]
        else:
            state[name] = shipped
    head.load_state_dict(state)
    return head
