"""What is done for all symbols of one checkerboard pass: table indexes, symbols, and the latents that follow from them.

Each function is written twice: here in numpy, which says what it means, and in ``vcm/entropy/_rans.c``, where one loop
reads and writes each number once. The compiled ones are used where they are there and agree at import.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcm.codecs.scalable.fixed_point import (
    FIXED_BITS,
    GAIN_LIMIT,
    INDEX_OFFSET,
    SCALE_UNIT,
    contexts,
    dequantise,
    fixed_means,
    inverse_gains,
    table_index,
)
from vcm.entropy import MAX_SYMBOL, NUM_SCALES, SKIP_INDEX
from vcm.entropy.backend import compiled
from vcm.runtime.networks import Array

__all__ = ["COMPILED", "Reference", "passes", "positions", "predict", "quantise", "settle"]

_Ints = npt.NDArray[np.int32]
_Indexes = npt.NDArray[np.uint8]
_Fixed = npt.NDArray[np.int64]


def positions(size: tuple[int, int], number: int) -> npt.NDArray[np.int64]:
    """Flat positions of pass ``number`` on a grid of ``size`` (rows, columns): where row + column is even, or odd."""
    rows, columns = np.divmod(np.arange(size[0] * size[1]), size[1])
    return np.flatnonzero((rows + columns) % 2 == number)


class Reference:
    """The functions of this module in numpy."""

    @staticmethod
    def predict(parameters: Array, gain: _Ints, number: int) -> tuple[_Ints, _Indexes]:
        """See :func:`predict`."""
        _, channels, h, w = parameters.shape
        at = positions((h, w), number)
        chosen = parameters.reshape(channels, h * w).take(at, axis=1).astype(np.int32)
        m = channels // 2
        return fixed_means(chosen[:m]), table_index(chosen[m:], gain)

    @staticmethod
    def quantise(targets: Array, means: _Ints, indexes: _Indexes, gain: _Ints) -> _Ints:
        """See :func:`quantise`."""
        scaled = targets - means * 2.0**-FIXED_BITS  # in float64, as all steps to the symbol
        scaled *= np.exp2(gain / SCALE_UNIT)
        np.rint(scaled, out=scaled)
        symbols = np.clip(scaled, -MAX_SYMBOL, MAX_SYMBOL, out=scaled).astype(np.int32)
        symbols[indexes < SKIP_INDEX] = 0
        return symbols

    @staticmethod
    def settle(symbols: _Ints, means: _Ints, gain: _Ints, number: int, fixed: _Fixed, context: Array) -> None:
        """See :func:`settle`."""
        at = positions(context.shape[1:], number)
        values = dequantise(symbols, means, gain)
        fixed[:, at] = values
        context.reshape(len(context), -1)[:, at] = contexts(values)


class _Compiled:
    """The same in C."""

    def __init__(self, loops: Any) -> None:
        self._loops = loops

    def predict(self, parameters: Array, gain: _Ints, number: int) -> tuple[_Ints, _Indexes]:
        _, channels, h, w = parameters.shape
        count = (h * w + 1 - number) // 2
        means = np.empty((channels // 2, count), dtype=np.int32)
        indexes = np.empty((channels // 2, count), dtype=np.uint8)
        parameters, gain = np.ascontiguousarray(parameters, np.float32), np.ascontiguousarray(gain, np.int32)
        self._loops.predict(parameters, gain, h, w, number, INDEX_OFFSET, means, indexes)
        return means, indexes

    def quantise(self, targets: Array, means: _Ints, indexes: _Indexes, gain: _Ints) -> _Ints:
        symbols = np.empty(means.shape, dtype=np.int32)
        factors = np.exp2(gain / SCALE_UNIT)  # by numpy in both, so that both have the same
        targets = np.ascontiguousarray(targets, np.float32)
        self._loops.quantise(targets, means, indexes, factors, symbols)
        return symbols

    def settle(self, symbols: _Ints, means: _Ints, gain: _Ints, number: int, fixed: _Fixed, context: Array) -> None:
        h, w = context.shape[1:]
        symbols = np.ascontiguousarray(symbols, np.int32)
        self._loops.settle(symbols, means, inverse_gains(gain), h, w, number, fixed, context)


def _agree(one: Any, other: Any) -> bool:
    """Whether both give the same at numbers from end to end of their ranges."""
    rng = np.random.default_rng(0)
    m, h, w = 3, 5, 7
    gain = np.array([[-GAIN_LIMIT], [11], [GAIN_LIMIT]], dtype=np.int32)
    parameters = rng.integers(-65535, 65536, (1, 2 * m, h, w)).astype(np.float32)
    parameters[:, m:, :3] = rng.integers(-300, 600, (1, m, 3, w))
    results = []
    for functions in (one, other):
        fixed, context = np.zeros((m, h * w), dtype=np.int64), np.zeros((m, h, w), dtype=np.float32)
        made: list[npt.NDArray[Any]] = [fixed, context]
        for number in (0, 1):
            means, indexes = functions.predict(parameters, gain, number)
            # Halves, whose rounding is the delicate part, and what is out of range.
            steps = np.resize([0, 0.5, -1.5, 2.5, 70000, -70000, 0.49], means.shape)
            targets = (means * 2.0**-FIXED_BITS + steps * np.exp2(-gain / SCALE_UNIT)).astype(np.float32)
            symbols = functions.quantise(targets, means, indexes, gain)
            functions.settle(symbols, means, gain, number, fixed, context)
            made += [means, indexes, symbols]
        results.append(made)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(*results, strict=True))


def passes(loops: Any) -> Any:
    """The functions by ``loops``, the compiled ones of :mod:`vcm.entropy`, or in numpy if there are none that agree."""
    if loops is None or NUM_SCALES > 256:
        return Reference
    fast = _Compiled(loops)
    return fast if _agree(fast, Reference) else Reference


_functions: Final = passes(compiled)
COMPILED: Final = _functions is not Reference
"""Whether the compiled functions run."""


def predict(parameters: Array, gain: _Ints, number: int) -> tuple[_Ints, _Indexes]:
    """Means and table rows of a pass.

    Args:
        parameters: float32 (1, 2 m, h, w), integers: means in 1/256, then log2 scales in 1/32 octaves.
        gain: int32 (m, 1) in 1/32 octaves.
        number: 0 or 1: the pass over positions where row + column is even, or odd.

    Returns:
        int32 (m, n) in 1/1024, and uint8 (m, n).
    """
    return _functions.predict(parameters, gain, number)  # type: ignore[no-any-return]


def quantise(targets: Array, means: _Ints, indexes: _Indexes, gain: _Ints) -> _Ints:
    """Symbols nearest to latents; 0 where the scale is skipped.

    Args:
        targets: float32 (m, n), finite.
        means, indexes: from :func:`predict`.
        gain: int32 (m, 1) in 1/32 octaves.

    Returns:
        int32 (m, n), magnitudes at most 32767.
    """
    return _functions.quantise(targets, means, indexes, gain)  # type: ignore[no-any-return]


def settle(symbols: _Ints, means: _Ints, gain: _Ints, number: int, fixed: _Fixed, context: Array) -> None:
    """Write the latents of a pass, and what networks read of them, to where they belong.

    Args:
        symbols, means: int32 (m, n).
        gain: int32 (m, 1) in 1/32 octaves.
        number: of the pass.
        fixed: int64 (m, h · w), contiguous: latents in 1/1024.
        context: float32 (m, h, w), contiguous: integers −128 … 127.
    """
    _functions.settle(symbols, means, gain, number, fixed, context)
