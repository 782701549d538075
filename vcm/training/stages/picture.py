"""The picture path on a frozen base."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.codecs.scalable.build import base_modules, picture_modules
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.codecs.scalable.picture import (
    PictureAnalysis,
    PictureSynthesis,
    sample_base,
)
from vcm.codecs.scalable.sampling import base_positions, nearest_rows
from vcm.training.config import JointConfig, PictureConfig, TrainConfig
from vcm.training.data import PictureStore
from vcm.training.losses import mse_255
from vcm.training.losses_ssim import ms_ssim
from vcm.training.stages.base import DataStage, parameter_groups

__all__ = ["PictureStage", "picture_loss", "picture_quality", "random_base_scale"]


class PictureStage(DataStage):
    """Enhancement and preview on a frozen base, random qualities for both, the base from a random scale of the crop."""

    config: PictureConfig

    def __init__(self, config: PictureConfig, recipe: TrainConfig, store: PictureStore) -> None:
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
        return parameter_groups(self.modules, self.config.lr)

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
        quality = picture_quality(self.uniform(rng), c)
        return picture_loss(self.modules, c, x, y_base, side, quality)


def picture_quality(u: Tensor, config: PictureConfig | JointConfig) -> Tensor:
    """Enhancement qualities in the range that the stage trains, from as many uniform numbers ``u`` (N,)."""
    return config.quality_low + (config.quality_high - config.quality_low) * u


def random_base_scale(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
    """``x`` as the base sees it: at 3/8 … 8/8 of the size, padded to a multiple of 32; and the side before padding."""
    side = x.shape[2] * int(rng.integers(3, 9)) // 8
    small = x
    if side != x.shape[2]:
        small = F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
    pad = -side % 32
    return F.pad(small, (0, pad, 0, pad), mode="replicate"), side


def picture_loss(
    modules: nn.ModuleDict, c: PictureConfig | JointConfig, x: Tensor, y_base: Tensor, side: int, quality: Tensor
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
    rows = torch.from_numpy(nearest_rows(y.shape[2], 0, x.shape[2], side, y_base.shape[2])).to(x.device)
    coded = modules["picture"](y, quality, y_base, (rows, rows))
    at = torch.from_numpy(base_positions(y.shape[2], 0, x.shape[2], side)).to(x.device)
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
