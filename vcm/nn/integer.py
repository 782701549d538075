"""Integer networks: convolutions between entropy-decoded symbols and CDF indexes, exact on every machine.

Activations are integers of magnitude at most 255, weights at most 63, biases such that every accumulator stays below
2**24, so sums are exact in int32, float32 and float64 in any order. The reference evaluates them in float64 and
rounds, which is immune to Winograd, TF32, oneDNN and autocast. Requantisation is ``floor((acc * M + 2**23) / 2**24)``,
also exact in float64 (products below 2**53).

:class:`QuantConv2d` is the layer that learns (straight-through estimator; Bengio et al. 2013);
:meth:`QuantConv2d.freeze` gives the :class:`IntConv2d` that ships. Both read and write the same integer units, so one
network topology serves both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.errors import WeightsError
from vcm.weights.integers import MAX_ACCUMULATOR, MAX_ACTIVATION, MAX_WEIGHT, SHIFT, check_integers

__all__ = ["ACTIVATION_UNIT", "IntConv2d", "QuantConv2d", "round_ste"]

ACTIVATION_UNIT = 32
"""One real unit is this many integer units in activations."""


def round_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient passes as through the identity."""
    return x + (x.round() - x).detach()


class QuantConv2d(nn.Module):
    """A convolution that trains for integer arithmetic.

    Input and output are integers held in float tensors. The output is either *hidden* (ReLU, 0 … 255) or *parameters*
    in given units.

    Args:
        c_in, c_out, kernel: as in ``nn.Conv2d``; zero padding keeps the size.
        units: ``None`` for a hidden layer; else one number per output channel, integer units per real unit.
        limit: magnitude to which parameters are clamped, integer units.

    Raises:
        WeightsError: the fan-in is over 1,040.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, units: Tensor | None = None, limit: int = (1 << 16) - 1
    ) -> None:
        super().__init__()
        fan_in = c_in * kernel * kernel
        if fan_in > 1040:
            raise WeightsError("an integer convolution is too wide", expected="fan-in at most 1040", found=fan_in)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel) * (2 / fan_in) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("units", units, persistent=False)
        self.units: Tensor | None
        self.limit, self.padding = limit, kernel // 2

    def _scale(self) -> Tensor:
        return (self.weight.abs().amax((1, 2, 3)) / MAX_WEIGHT).clamp(min=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        scale = self._scale()[:, None, None, None]
        weight = round_ste(self.weight / scale) * scale
        real = F.conv2d(x, weight, padding=self.padding) / ACTIVATION_UNIT + self.bias[:, None, None]
        if self.units is None:
            return round_ste(real * ACTIVATION_UNIT).clamp(0, MAX_ACTIVATION)
        return round_ste(real * self.units[:, None, None]).clamp(-self.limit, self.limit)

    def freeze(self) -> IntConv2d:
        """The integer layer with these weights."""
        with torch.no_grad():
            scale = self._scale().double()
            weight = (self.weight.double() / scale[:, None, None, None]).round().to(torch.int8)
            # A bias that no input can outweigh is cut to what an accumulator holds; the output saturates either way.
            room = MAX_ACCUMULATOR - 1 - weight.double().abs().sum((1, 2, 3)) * MAX_ACTIVATION
            bias = (self.bias.double() * ACTIVATION_UNIT / scale).round().clamp(-room, room).to(torch.int32)
            units = torch.full_like(scale, ACTIVATION_UNIT) if self.units is None else self.units.double()
            multiplier = (scale * units / ACTIVATION_UNIT * (1 << SHIFT)).round().to(torch.int32)
        layer = IntConv2d(weight.shape[1], weight.shape[0], weight.shape[2], self.units is None, self.limit)
        layer.load_state_dict({"weight": weight, "bias": bias, "multiplier": multiplier})
        return layer


class IntConv2d(nn.Module):
    """The integer convolution that ships.

    Tensors: int8 ``weight``, int32 ``bias`` and ``multiplier`` per output channel.
    ``out = clamp(floor((acc · multiplier + 2**23) / 2**24))`` with ``acc = conv(x, weight) + bias``.
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor

    def __init__(self, c_in: int, c_out: int, kernel: int, hidden: bool, limit: int = (1 << 16) - 1) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(c_out, c_in, kernel, kernel, dtype=torch.int8))
        self.register_buffer("bias", torch.zeros(c_out, dtype=torch.int32))
        self.register_buffer("multiplier", torch.zeros(c_out, dtype=torch.int32))
        self.low, self.high = (0, MAX_ACTIVATION) if hidden else (-limit, limit)
        self.padding = kernel // 2
        self._wide: tuple[Tensor, Tensor, Tensor] | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Not `load_state_dict`: torch calls this one for every layer of a network whose tensors are loaded.
        self._wide = None
        super()._load_from_state_dict(*args, **kwargs)
        self.check()

    def check(self) -> None:
        """Verify the bounds on which exactness rests.

        Raises:
            WeightsError: a weight, accumulator or multiplier may leave its range.
        """
        check_integers(*(tensor.cpu().numpy() for tensor in (self.weight, self.bias, self.multiplier)))

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        # `.half()` and friends leave integers alone; a move of device must drop the cached copies.
        self._wide = None
        return super()._apply(fn, recurse)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` float64 (N, C, H, W) holding integers of magnitude at most 255; returns the same kind."""
        if self._wide is None:
            self._wide = self.weight.double(), self.bias.double(), self.multiplier.double()
        weight, bias, multiplier = self._wide
        acc = F.conv2d(x, weight, padding=self.padding).round_() + bias[:, None, None]
        out = acc.mul_(multiplier[:, None, None]).add_(float(1 << (SHIFT - 1))).mul_(2.0**-SHIFT).floor_()
        return out.clamp_(self.low, self.high)
