"""A layer's entropy coding: a walk over all symbols of a tile, between integer networks and a rANS stream.

Everything from decoded symbols to CDF indexes and to ``y_hat`` in fixed point is integer arithmetic, so a stream
decodes to the same symbols on every machine and in every runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vcm.bitstream.limits import MAX_QUALITY
from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.fixed_point import (
    contexts,
    dequantise,
    fixed_means,
    gain_steps,
    quality_plane,
    table_index,
)
from vcm.codecs.scalable.passes import positions, predict, quantise, settle
from vcm.codecs.scalable.tables import LayerTables
from vcm.entropy import Decoder, Encoder
from vcm.errors import LatentError, OptionError
from vcm.runtime.networks import Array, Networks

__all__ = ["CodedTile", "LatentCoder", "SymbolCoder", "check_finite"]

_Ints = npt.NDArray[np.int32]
_Fixed = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CodedTile:
    """One tile's stream, and what a decoder of it will have: ``y_fixed`` int64 (1, C, h, w) in 1/1024."""

    stream: bytes
    y_fixed: _Fixed


class SymbolCoder(Protocol):
    """What :meth:`LatentCoder.walk` calls for each group of symbols, in the order in which they are coded."""

    def __call__(self, target: Array | None, mean: _Ints, index: npt.NDArray[np.uint8], gain: _Ints, /) -> _Ints:
        """Code one group: n positions of c channels, in the order channel by channel.

        Args:
            target: float32 (c, n) latents, or ``None`` where :meth:`LatentCoder.walk` got none.
            mean: int32 (c, n) predicted means in 1/1024.
            index: uint8 (c, n) rows of the scale table.
            gain: int32 (c, 1) gains in 1/32 octaves.

        Returns:
            int32 (c, n) symbols; 0 where ``index < SKIP_INDEX``.
        """
        ...


class _Writer:
    """Chooses symbols from float latents and codes them."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def __call__(self, target: Array | None, mean: _Ints, index: npt.NDArray[np.uint8], gain: _Ints) -> _Ints:
        if target is None:
            raise TypeError("an encoder needs latents")
        symbols = quantise(target, mean, index, gain)
        self._encoder.push(symbols.reshape(-1), index.reshape(-1))
        return symbols

    def finish(self) -> bytes:
        return self._encoder.finish()


class _Reader:
    """Decodes symbols."""

    def __init__(self, stream: bytes) -> None:
        self._decoder = Decoder(stream)

    def __call__(self, target: Array | None, mean: _Ints, index: npt.NDArray[np.uint8], gain: _Ints) -> _Ints:
        return self._decoder.pull(index.reshape(-1)).reshape(index.shape)

    def finish(self) -> None:
        self._decoder.finish()


class LatentCoder:
    """Entropy coder of one layer.

    Args:
        layer: ``base`` or ``picture``, the first part of its networks' names.
        spec: the layer's shape.
        tables: the layer's integers.
        networks: those of :mod:`vcm.runtime.networks`, in any runtime.
    """

    def __init__(self, layer: str, spec: LayerSpec, tables: LayerTables, networks: Networks) -> None:
        self.layer, self.spec, self.tables, self._networks = layer, spec, tables, networks

    def encode_tile(self, y: Array, quality_index: int, base: Array | None = None) -> CodedTile:
        """Code one tile.

        Args:
            y: float32 (1, C, h, w) latents of the tile.
            quality_index: 0 … 1023.
            base: base features of the tile's positions, from :meth:`base_features`; for a conditional layer.

        Raises:
            LatentError: a latent or hyper-latent is not finite.
        """
        writer = _Writer()
        fixed = self.walk(writer, y, (y.shape[2], y.shape[3]), quality_index, base)
        return CodedTile(writer.finish(), fixed)

    def decode_tile(
        self, stream: bytes, size: tuple[int, int], quality_index: int, base: Array | None = None
    ) -> _Fixed:
        """Latents of one tile: int64 (1, C, h, w) in 1/1024.

        Raises:
            EntropyError: the stream does not end where its symbols do.
        """
        reader = _Reader(stream)
        fixed = self.walk(reader, None, size, quality_index, base)
        reader.finish()
        return fixed

    def base_features(self, base_fixed: _Fixed) -> Array:
        """Integer features of the whole base layer on its own grid; ``base_fixed`` int64 (1, C_b, h, w) in 1/1024."""
        return self._run("base_features", contexts(base_fixed))[0]

    def walk(
        self, code: SymbolCoder, y: Array | None, size: tuple[int, int], quality_index: int, base: Array | None = None
    ) -> _Fixed:
        """Visit every symbol of a tile; the same order for both directions, so that they cannot differ.

        Args:
            code: gives the symbols: writes, reads or records them.
            y: float32 (1, C, h, w) latents that ``code`` shall see, or ``None``.
            size: (h, w) of the tile.
            quality_index, base: as for :meth:`encode_tile`.

        Returns:
            int64 (1, C, h, w) in 1/1024.

        Raises:
            OptionError: ``quality_index`` is out of range.
            LatentError: a latent or hyper-latent is not finite.
        """
        if not 0 <= quality_index <= MAX_QUALITY:
            raise OptionError("quality index is out of range", expected=f"0 to {MAX_QUALITY}", found=quality_index)
        spec = self.spec
        (h, w), m = size, spec.slice_channels
        targets = None
        if y is not None:
            check_finite(f"the {self.layer} layer's latents", y)
            targets = y.reshape(spec.channels, h * w)
        psi = self._run(
            "hyper", contexts(self._hyper_latents(code, y, size, quality_index)), quality_plane(quality_index)
        )
        cropped = psi[0][:, :, :h, :w]
        seen = np.ascontiguousarray(cropped) if base is None else np.concatenate([cropped, base], axis=1)
        passes = [None if targets is None else positions(size, number) for number in (0, 1)]
        gain = gain_steps(self.tables.gain_y, quality_index)[:, None]
        done = np.zeros((spec.channels, h * w), dtype=np.int64)
        context = np.zeros((1, spec.channels, h, w), dtype=np.float32)
        for i in range(spec.slices):
            at = slice(i * m, (i + 1) * m)
            known = (context[:, : i * m],) if i else ()
            features, parameters = self._run(f"first.{i}", seen, *known)
            for number, seen_by in enumerate(passes):
                if number:
                    (parameters,) = self._run(f"second.{i}", features, context[:, at])
                means, index = predict(parameters, gain[at], number)
                wanted = None if targets is None or seen_by is None else targets[at].take(seen_by, axis=1)
                settle(code(wanted, means, index, gain[at]), means, gain[at], number, done[at], context[0, at])
        return done.reshape(1, spec.channels, h, w)

    def _hyper_latents(self, code: SymbolCoder, y: Array | None, size: tuple[int, int], quality_index: int) -> _Fixed:
        """Code the hyper-latents; int64 (1, Z, ceil(h / 4), ceil(w / 4)) in 1/1024."""
        tables, hyper = self.tables, self.spec.hyper
        shape = hyper, -(-size[0] // 4), -(-size[1] // 4)
        count = shape[1] * shape[2]
        gain = gain_steps(tables.gain_z, quality_index)[:, None]
        means = np.repeat(fixed_means(tables.prior_mean)[:, None], count, axis=1)
        index = table_index(np.repeat(tables.prior_scale[:, None], count, axis=1), gain)
        target = None
        if y is not None:
            (z,) = self._run("h_a", y)
            check_finite(f"the {self.layer} layer's hyper-latents", z)
            target = z.reshape(hyper, count)
        return dequantise(code(target, means, index, gain), means, gain).reshape(1, *shape)

    def _run(self, name: str, *arrays: Array) -> tuple[Array, ...]:
        return self._networks.run(f"{self.layer}.{name}", *arrays)


def check_finite(what: str, array: Array) -> None:
    """Refuse latents that no file can hold, as weights out of their range give.

    Raises:
        LatentError: a number is infinite or not a number.
    """
    if not np.isfinite(array).all():
        raise LatentError(f"{what} are not finite", expected="finite numbers", found=int((~np.isfinite(array)).sum()))
