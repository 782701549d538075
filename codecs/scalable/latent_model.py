"""A layer's entropy model while it learns: quantisation with noise or straight-through rounding, and the rate as a
differentiable number.

The networks are the integer ones (fake-quantised), so the model that ships is the model that trained. Mixed
quantisation follows Tsubota & Aizawa 2021: noise for the rate, straight-through rounding for what reads the latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.entropy_net import EntropyNet, first_pass_mask, quant_conv
from vcm.codecs.scalable.fixed_point import CONTEXT_STEPS, KNOTS, MEAN_UNIT, SCALE_ORIGIN, SCALE_UNIT
from vcm.nn.integer import round_ste

__all__ = ["HyperAnalysis", "LatentModel", "LatentOutput", "gaussian_bits"]

MIN_SIGMA = 2.0**-4
SKIP_SIGMA = 2.0**-3 * 2.0 ** (-0.5 / 8)
"""Below this scale a symbol is not coded: table index 8 is 2**-3, and indexes are rounded."""


@dataclass(frozen=True, slots=True)
class LatentOutput:
    """``y_hat`` (N, C, h, w) dequantised; ``bits_y`` and ``bits_z`` (N,) estimated from likelihoods."""

    y_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor


class HyperAnalysis(nn.Module):
    """``h_a``: latents at stride 16 to hyper-latents at stride 64 (float: only the encoder runs it)."""

    def __init__(self, channels: int, width: int, hyper: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 2, 1)
        self.conv2 = nn.Conv2d(width, hyper, 3, 2, 1)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu(self.conv1(y)))
        return out


def gaussian_bits(v: Tensor, sigma: Tensor) -> Tensor:
    """``-log2`` of the mass that N(0, sigma) gives to [v - 1/2, v + 1/2], elementwise.

    Both tails are computed on the small side.
    """
    v = v.abs()
    upper, lower = torch.special.ndtr((0.5 - v) / sigma), torch.special.ndtr((-0.5 - v) / sigma)
    return -torch.log2((upper - lower).clamp(min=1e-9))


def context(v: Tensor) -> Tensor:
    """What integer networks see of a latent: eighths of a unit, clamped to -128 … 127."""
    return round_ste(v * CONTEXT_STEPS).clamp(-128, 127)


class LatentModel(nn.Module):
    """Entropy model of one layer (learning).

    Args:
        spec: the layer's shape.
        log2_gain: initial gain (1 / quantisation step) in octaves at quality 0 and 1.
    """

    def __init__(self, spec: LayerSpec, log2_gain: tuple[float, float]) -> None:
        super().__init__()
        self.spec = spec
        self.net = EntropyNet(spec, quant_conv)
        self.h_a = HyperAnalysis(spec.channels, max(spec.width, 2 * spec.hyper), spec.hyper)
        ramp = torch.linspace(log2_gain[0], log2_gain[1], KNOTS)
        self.gain_y = nn.Parameter(ramp[:, None].repeat(1, spec.channels))
        self.gain_z = nn.Parameter((ramp - ramp[-1])[:, None].repeat(1, spec.hyper) * 0.5 + 1.0)
        self.prior_mean = nn.Parameter(torch.zeros(spec.hyper))
        self.prior_log2 = nn.Parameter(torch.zeros(spec.hyper))

    @staticmethod
    def gains(knots: Tensor, quality: Tensor) -> Tensor:
        """``2**`` the gain curve at ``quality`` (N,) in 0 … 1; returns (N, C, 1, 1)."""
        at = quality.clamp(0, 1) * (KNOTS - 1)
        low = at.floor().clamp(max=KNOTS - 2).long()
        t = (at - low)[:, None]
        return torch.exp2(knots[low] * (1 - t) + knots[low + 1] * t)[:, :, None, None]

    def forward(
        self, y: Tensor, quality: Tensor, y_base: Tensor | None = None, index: tuple[Tensor, Tensor] | None = None
    ) -> LatentOutput:
        """Quantise and price ``y``.

        Args:
            y: (N, C, h, w) latents.
            quality: (N,) in 0 … 1.
            y_base: base latents (N, C_b, hb, wb), for a conditional layer.
            index: rows (h,) and columns (w,) of the base grid nearest to this layer's positions.
        """
        spec, net = self.spec, self.net
        gain, gain_z = self.gains(self.gain_y, quality), self.gains(self.gain_z, quality)
        z = self.h_a(y)
        mean_z = self.prior_mean[:, None, None]
        v = (z - mean_z) * gain_z
        bits_z = gaussian_bits(
            v + torch.rand_like(v) - 0.5, (torch.exp2(self.prior_log2)[:, None, None] * gain_z).clamp(min=MIN_SIGMA)
        )
        z_hat = round_ste(v) / gain_z + mean_z
        plane = (quality * 255).round()[:, None, None, None] - 128
        size = (y.shape[2], y.shape[3])
        psi = net.hyper(context(z_hat), plane, size)
        if y_base is not None and index is not None:
            features = net.base_features(context(y_base))
            psi = torch.cat([psi, features[:, :, index[0]][:, :, :, index[1]]], dim=1)
        first = first_pass_mask(*size, device=y.device)
        m = spec.slice_channels
        done: list[Tensor] = []
        bits_y = y.new_zeros(len(y))
        known = y.new_zeros(len(y), 0, *size)
        for i in range(spec.slices):
            part, g = y[:, i * m : (i + 1) * m], gain[:, i * m : (i + 1) * m]
            features, parameters = net.parameters_first(i, psi, known)
            hat_first, bits_first = self._quantise(part, parameters, g)
            seen = context(hat_first) * first
            hat_second, bits_second = self._quantise(part, net.parameters_second(i, features, seen), g)
            hat = torch.where(first, hat_first, hat_second)
            bits_y = bits_y + torch.where(first, bits_first, bits_second).sum((1, 2, 3))
            done.append(hat)
            known = torch.cat([known, context(hat)], dim=1)
        return LatentOutput(torch.cat(done, dim=1), bits_y, bits_z.sum((1, 2, 3)))

    @staticmethod
    def _quantise(y: Tensor, parameters: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = parameters.chunk(2, dim=1)
        mean = mean / MEAN_UNIT
        sigma = torch.exp2(scale / SCALE_UNIT - SCALE_ORIGIN) * gain
        v = (y - mean) * gain
        symbol = torch.where(sigma < SKIP_SIGMA, (v - v.detach()), round_ste(v))
        noisy = v + torch.rand_like(v) - 0.5
        return mean + symbol / gain, gaussian_bits(noisy, sigma.clamp(min=MIN_SIGMA))

    @torch.no_grad()
    def frozen(self) -> dict[str, Tensor]:
        """Tensors of the ``LatentCoder`` with these weights (``h_a`` stays float)."""
        from vcm.codecs.scalable.entropy_net import int_conv
        from vcm.nn.integer import QuantConv2d

        ints = EntropyNet(self.spec, int_conv)
        for name, module in self.net.named_modules():
            if isinstance(module, QuantConv2d):
                ints.get_submodule(name).load_state_dict(module.freeze().state_dict())
        steps = 256 * SCALE_UNIT  # knots in 1/256 of a gain step, so that interpolation is integer too
        out = {f"net.{k}": v for k, v in ints.state_dict().items()}
        out |= {f"h_a.{k}": v.detach() for k, v in self.h_a.state_dict().items()}
        limit = 12 * steps  # octaves; what LatentCoder.check accepts
        out["gain_y"] = (self.gain_y * steps).round().clamp(-limit, limit).to(torch.int32)
        out["gain_z"] = (self.gain_z * steps).round().clamp(-limit, limit).to(torch.int32)
        out["prior_mean"] = (self.prior_mean * MEAN_UNIT).round().clamp(-65535, 65535).to(torch.int32)
        out["prior_scale"] = ((self.prior_log2 + SCALE_ORIGIN) * SCALE_UNIT).round().clamp(0, 32 * 14).to(torch.int32)
        return out
