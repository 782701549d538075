"""A layer's entropy coding: integer networks between symbols and CDF indexes, rANS streams per tile.

Everything from decoded symbols to CDF indexes and to ``y_hat`` in fixed point is int64 or exact float64 arithmetic, so
a stream decodes to the same symbols on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.entropy_net import EntropyNet, first_pass_mask, int_conv
from vcm.codecs.scalable.fixed_point import CONTEXT_STEPS, KNOTS, MEAN_UNIT, SCALE_ORIGIN, SCALE_UNIT, power_of_two
from vcm.codecs.scalable.latent_model import HyperAnalysis
from vcm.entropy import MAX_SYMBOL, NUM_SCALES, SCALE_MIN_LOG2, SCALE_STEPS_PER_OCTAVE, SKIP_INDEX, Decoder, Encoder
from vcm.errors import OptionError, WeightsError
from vcm.nn.integer import IntConv2d, round_shift

__all__ = ["FIXED_BITS", "MAX_QUALITY", "CodedTile", "LatentCoder", "SymbolCoder"]

_G = TypeVar("_G", bound=np.generic)

FIXED_BITS = 10
"""Fixed-point fraction of ``y_hat``: integers count 1/1024."""
MAX_QUALITY = 1023
"""Quality index of a layer in the file."""
INVERSE_BITS = 16
_GAIN_LIMIT = 32 * 12
_STEP_RATIO = SCALE_UNIT // SCALE_STEPS_PER_OCTAVE
_INDEX_OFFSET = (SCALE_ORIGIN + SCALE_MIN_LOG2) * SCALE_UNIT
_MEAN_SHIFT = FIXED_BITS - 8
_CONTEXT_SHIFT = FIXED_BITS - 3
if MEAN_UNIT != 1 << 8 or CONTEXT_STEPS != 1 << 3:
    raise ImportError("the fixed-point units of entropy_net changed; the shifts here follow from them")


@dataclass(frozen=True, slots=True)
class CodedTile:
    """One tile's stream, and what a decoder of it will have: ``y_fixed`` int64 (1, C, h, w) in 1/1024."""

    stream: bytes
    y_fixed: Tensor


class SymbolCoder(Protocol):
    """What :meth:`LatentCoder.walk` calls for each group of symbols, in the order in which they are coded."""

    def __call__(self, target: Tensor | None, mean: Tensor, index: Tensor, gain: Tensor, /) -> Tensor:
        """Code one group.

        Args:
            target: float (n,) latents, or ``None`` where :meth:`LatentCoder.walk` got none.
            mean: int64 (n,) predicted means in 1/1024.
            index: int64 (n,) rows of the scale table.
            gain: int64 (n,) gains in 1/32 octaves.

        Returns:
            int64 (n,) symbols; 0 where ``index < SKIP_INDEX``.
        """
        ...


class _Writer:
    """Chooses symbols from float latents and codes them."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def __call__(self, target: Tensor | None, mean: Tensor, index: Tensor, gain: Tensor) -> Tensor:
        if target is None:
            raise TypeError("an encoder needs latents")
        scaled = (target.double() - mean.double() / (1 << FIXED_BITS)) * torch.exp2(gain.double() / SCALE_UNIT)
        symbols = scaled.round().clamp(-MAX_SYMBOL, MAX_SYMBOL).long()
        symbols = torch.where(index < SKIP_INDEX, 0, symbols)
        self._encoder.push(_numpy(symbols, np.int32), _numpy(index, np.uint8))
        return symbols

    def finish(self) -> bytes:
        return self._encoder.finish()


class _Reader:
    """Decodes symbols."""

    def __init__(self, stream: bytes) -> None:
        self._decoder = Decoder(stream)

    def __call__(self, target: Tensor | None, mean: Tensor, index: Tensor, gain: Tensor) -> Tensor:
        symbols = self._decoder.pull(_numpy(index, np.uint8))
        return torch.from_numpy(symbols).to(index.device).long()

    def finish(self) -> bytes:
        self._decoder.finish()
        return b""


def _numpy(tensor: Tensor, dtype: type[_G]) -> npt.NDArray[_G]:
    return np.ascontiguousarray(tensor.cpu().numpy(), dtype=dtype)


class LatentCoder(nn.Module):
    """Entropy coder of one layer.

    Args:
        spec: the layer's shape. Its tensors are those of :meth:`LatentModel.frozen`.
    """

    gain_y: Tensor
    gain_z: Tensor
    prior_mean: Tensor
    prior_scale: Tensor

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.net = EntropyNet(spec, int_conv)
        self.h_a = HyperAnalysis(spec.channels, max(spec.width, 2 * spec.hyper), spec.hyper)
        self.register_buffer("gain_y", torch.zeros(KNOTS, spec.channels, dtype=torch.int32))
        self.register_buffer("gain_z", torch.zeros(KNOTS, spec.hyper, dtype=torch.int32))
        self.register_buffer("prior_mean", torch.zeros(spec.hyper, dtype=torch.int32))
        self.register_buffer("prior_scale", torch.zeros(spec.hyper, dtype=torch.int32))

    def check(self) -> None:
        """Verify ranges on which the fixed-point arithmetic rests.

        Raises:
            WeightsError: a gain or prior is out of range, or an integer layer fails its own check.
        """
        for name, tensor, limit in (
            ("gain_y", self.gain_y, _GAIN_LIMIT * 256), ("gain_z", self.gain_z, _GAIN_LIMIT * 256),
            ("prior_mean", self.prior_mean, 1 << 16), ("prior_scale", self.prior_scale, 32 * 14),
        ):  # fmt: skip
            found = int(tensor.long().abs().max())  # in int32 the magnitude of -2**31 is -2**31
            if found > limit:
                raise WeightsError(f"{name} is out of range", expected=f"magnitude at most {limit}", found=found)
        for module in self.net.modules():
            if isinstance(module, IntConv2d):
                module.check()

    @staticmethod
    def gain_steps(knots: Tensor, quality: int) -> Tensor:
        """Gain of each channel in 1/32 octaves at quality index 0 … 1023, by integer interpolation; int64 (C,)."""
        low, t = divmod(quality * (KNOTS - 1), MAX_QUALITY)
        if low == KNOTS - 1:
            low, t = KNOTS - 2, MAX_QUALITY
        wide = knots.long()
        total = wide[low] * (MAX_QUALITY - t) + wide[low + 1] * t
        return torch.div(total + 128 * MAX_QUALITY, 256 * MAX_QUALITY, rounding_mode="floor")

    @torch.inference_mode()
    def encode_tile(self, y: Tensor, quality: int, base: Tensor | None = None) -> CodedTile:
        """Code one tile.

        Args:
            y: float (1, C, h, w) latents of the tile.
            quality: index 0 … 1023.
            base: base features of the tile's positions, from :meth:`base_features`; for a conditional layer.
        """
        writer = _Writer()
        fixed = self.walk(writer, y, (y.shape[2], y.shape[3]), quality, base)
        return CodedTile(writer.finish(), fixed)

    @torch.inference_mode()
    def decode_tile(self, stream: bytes, size: tuple[int, int], quality: int, base: Tensor | None = None) -> Tensor:
        """Latents of one tile: int64 (1, C, h, w) in 1/1024.

        Raises:
            EntropyError: the stream does not end where its symbols do.
        """
        reader = _Reader(stream)
        fixed = self.walk(reader, None, size, quality, base)
        reader.finish()
        return fixed

    @torch.inference_mode()
    def base_features(self, base_fixed: Tensor) -> Tensor:
        """Integer features of the whole base layer on its own grid; ``base_fixed`` int64 (1, C_b, h, w) in 1/1024."""
        return self.net.base_features(_context(base_fixed))

    @torch.inference_mode()
    def walk(
        self, code: SymbolCoder, y: Tensor | None, size: tuple[int, int], quality: int, base: Tensor | None = None
    ) -> Tensor:
        """Visit every symbol of a tile; the same order for both directions, so that they cannot differ.

        Args:
            code: gives the symbols: writes, reads or records them.
            y: float (1, C, h, w) latents that ``code`` shall see, or ``None``.
            size: (h, w) of the tile.
            quality, base: as for :meth:`encode_tile`.

        Returns:
            int64 (1, C, h, w) in 1/1024.

        Raises:
            OptionError: ``quality`` is out of range.
        """
        if not 0 <= quality <= MAX_QUALITY:
            raise OptionError("quality index is out of range", expected=f"0 to {MAX_QUALITY}", found=quality)
        spec, net = self.spec, self.net
        device = self.gain_y.device
        (h, w), m = size, spec.slice_channels
        hz, wz = (h + 3) // 4, (w + 3) // 4
        gain_z = self.gain_steps(self.gain_z, quality)[:, None, None].expand(-1, hz, wz)
        mean_z = (self.prior_mean.long() << _MEAN_SHIFT)[:, None, None].expand(-1, hz, wz)
        index_z = _table_index(self.prior_scale.long()[:, None, None].expand(-1, hz, wz), gain_z)
        z = None if y is None else self.h_a(y.to(self.h_a.conv1.weight.dtype))[0]
        symbols = code(_flat(z), mean_z.reshape(-1), index_z.reshape(-1), gain_z.reshape(-1)).view(spec.hyper, hz, wz)
        z_fixed = _dequantise(symbols, mean_z, gain_z)[None]

        plane = torch.full(
            (1, 1, 1, 1), (quality * 255 + MAX_QUALITY // 2) // MAX_QUALITY - 128, dtype=torch.float64, device=device
        )
        psi = net.hyper(_context(z_fixed), plane, size)
        if base is not None:
            psi = torch.cat([psi, base], dim=1)
        first = first_pass_mask(h, w, device)
        gain = self.gain_steps(self.gain_y, quality)
        done = torch.zeros(1, spec.channels, h, w, dtype=torch.int64, device=device)
        for i in range(spec.slices):
            at = slice(i * m, (i + 1) * m)
            part = done[:, at]
            target = None if y is None else y[0, at]
            steps = gain[at, None, None].expand(-1, h, w)
            features, parameters = net.parameters_first(i, psi, _context(done[:, : i * m]))
            self._pass(code, target, part[0], parameters[0], steps, first)
            parameters = net.parameters_second(i, features, _context(part) * first)
            self._pass(code, target, part[0], parameters[0], steps, ~first)
        return done

    @staticmethod
    def _pass(
        code: SymbolCoder, target: Tensor | None, out: Tensor, parameters: Tensor, gain: Tensor, mask: Tensor
    ) -> None:
        """Code the positions of ``mask`` and write their fixed-point values into ``out`` (C, h, w)."""
        mean, scale = parameters.long().chunk(2, dim=0)
        steps = gain[:, mask]
        mean = mean[:, mask] << _MEAN_SHIFT
        index = _table_index(scale[:, mask], steps)
        wanted = None if target is None else target[:, mask].reshape(-1)
        symbols = code(wanted, mean.reshape(-1), index.reshape(-1), steps.reshape(-1)).view(mean.shape)
        out[:, mask] = _dequantise(symbols, mean, steps)


def _flat(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.reshape(-1)


def _context(fixed: Tensor) -> Tensor:
    """float64 integers -128 … 127 that networks read, from 1/1024 fixed point."""
    return round_shift(fixed, _CONTEXT_SHIFT).clamp(-128, 127).double()


def _table_index(scale: Tensor, gain: Tensor) -> Tensor:
    """Index into the scale table from a log-scale index and a gain, both in 1/32 octaves."""
    steps = scale + gain - _INDEX_OFFSET
    return torch.div(steps + _STEP_RATIO // 2, _STEP_RATIO, rounding_mode="floor").clamp(0, NUM_SCALES - 1)


_TABLE = torch.tensor([power_of_two(s, INVERSE_BITS) for s in range(-_GAIN_LIMIT, _GAIN_LIMIT + 1)], dtype=torch.int64)


def _dequantise(symbols: Tensor, mean: Tensor, gain: Tensor) -> Tensor:
    """Fixed-point latents: mean + symbol · 2**(-gain/32), int64 in 1/1024."""
    inverse = _TABLE.to(gain.device)[gain.clamp(-_GAIN_LIMIT, _GAIN_LIMIT) + _GAIN_LIMIT]
    return mean + round_shift(symbols * inverse, INVERSE_BITS - FIXED_BITS)
