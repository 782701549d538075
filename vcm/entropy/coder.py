"""Encoder and decoder of integer symbols, each under the Gaussian of its scale index: one stream a tile and layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.entropy import rans
from vcm.entropy.backend import compiled, loops
from vcm.entropy.tables import MAX_SYMBOL, NUM_SCALES, PROB_BITS, SKIP_INDEX, gaussian_table
from vcm.errors import EntropyError, OptionError

__all__ = ["Decoder", "Encoder", "cost_bits"]


def _check(name: str, array: npt.NDArray[Any], dtype: type[np.generic]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise OptionError(f"{name} is of the wrong kind", expected=f"{dtype.__name__} of shape (N,)", found=found)


def _check_indexes(indexes: npt.NDArray[np.uint8]) -> None:
    _check("indexes", indexes, np.uint8)
    largest = int(indexes.max(initial=0))
    if largest >= NUM_SCALES:
        raise EntropyError("scale index out of range", expected=f"at most {NUM_SCALES - 1}", found=largest)


def _bits(value: int, count: int) -> int:
    """The entry of ``count`` (1 … 15) bits of uniform probability."""
    shift = PROB_BITS - count
    return 1 << shift << PROB_BITS | value << shift


def _escape_tail(symbol: int, support: int, order: int) -> list[int]:
    """The entries that follow an escape: sign, then the excess over ``support + 1`` in Exp-Golomb code of ``order``."""
    value = abs(symbol) - support - 1 + (1 << order)
    length = value.bit_length() - 1
    prefix = [_bits(0, 1)] * (length - order) + [_bits(1, 1)]
    suffix = [_bits(value - (1 << length), length)] if length else []
    return [_bits(int(symbol < 0), 1), *prefix, *suffix]


def _entries(symbols: npt.NDArray[np.int32], indexes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Check the arguments and turn them into the intervals to code, in decode order, skipped symbols left out."""
    _check("symbols", symbols, np.int32)
    _check_indexes(indexes)
    if symbols.size != indexes.size:
        raise OptionError("symbols and indexes differ in length", expected=symbols.size, found=indexes.size)
    if symbols.size and max(int(symbols.max()), -int(symbols.min())) > MAX_SYMBOL:
        at = int(np.abs(symbols.astype(np.int64)).argmax())
        raise EntropyError(f"symbol {at} out of range", expected=f"magnitude at most {MAX_SYMBOL}", found=symbols[at])
    lost = (symbols != 0) & (indexes < SKIP_INDEX)
    if lost.any():
        at = int(lost.argmax())
        raise EntropyError(f"symbol {at} has a skipped scale", expected=0, found=symbols[at])
    coded = np.flatnonzero(indexes >= SKIP_INDEX)  # take() by position is six times as fast as a mask
    value, index = symbols.take(coded), indexes.take(coded)
    table = gaussian_table()
    # Rank 0 is the escape; 1, 2, 3, 4, 5 … are 0, -1, 1, -2, 2 …
    rank = 1 + (value << 1 ^ value >> 31)
    row, after = table.offsets[:-1].take(index), table.offsets[1:].take(index)
    at_entry = row + rank
    escaped = at_entry >= after
    at_entry[escaped] = row[escaped]
    entries = table.entries.take(at_entry)
    where = np.flatnonzero(escaped)
    if not where.size:
        return entries
    parts: list[npt.NDArray[np.uint32]] = []
    for begin, end in zip([0, *(where + 1).tolist()], [*(where + 1).tolist(), entries.size], strict=True):
        parts.append(entries[begin:end])
        if end <= where[-1] + 1 and end > begin:
            i = int(index[end - 1])
            tail = _escape_tail(int(value[end - 1]), int(table.support[i]), int(table.orders[i]))
            parts.append(np.array(tail, dtype=np.uint32))
    return np.concatenate(parts)


def cost_bits(symbols: npt.NDArray[np.int32], indexes: npt.NDArray[np.uint8]) -> float:
    """Exact information content of symbols under the integer tables, the bits of escapes included.

    A stream is at most two bytes longer than this, rounded up (``docs/entropy.md``).

    Args:
        symbols: int32 ``(N,)``, magnitudes at most 32767, 0 where the scale is skipped.
        indexes: uint8 ``(N,)``, scale indexes below ``NUM_SCALES``.

    Returns:
        Bits, ``-sum(log2(frequency / 65536))``; 0 for no symbols.

    Raises:
        OptionError: wrong dtype, shape or length.
        EntropyError: an index or symbol that cannot be coded.
    """
    frequencies = (_entries(symbols, indexes) >> PROB_BITS).astype(np.float64)
    return float(np.sum(PROB_BITS - np.log2(frequencies)))


class Encoder:
    """Writes one stream. Symbols are pushed in the order in which they will be decoded.

    Buffers the symbols (five bytes each): rANS codes from the last to the first. Not for use by two threads at once.
    """

    def __init__(self) -> None:
        self._symbols: list[npt.NDArray[np.int32]] = []
        self._indexes: list[npt.NDArray[np.uint8]] = []

    def push(self, symbols: npt.NDArray[np.int32], indexes: npt.NDArray[np.uint8]) -> None:
        """Append symbols to the stream. How they are divided over calls does not change the bytes.

        Args:
            symbols: int32 ``(N,)``, magnitudes at most 32767, 0 where the scale is skipped (``index < SKIP_INDEX``).
            indexes: uint8 ``(N,)``, scale indexes below ``NUM_SCALES``.

        Raises:
            OptionError: wrong dtype, shape or length.
            EntropyError: an index or symbol that cannot be coded. Nothing of the call was appended.
        """
        _check("symbols", symbols, np.int32)
        _check("indexes", indexes, np.uint8)
        symbols, indexes = symbols.copy(), indexes.copy()
        if compiled is None or not compiled.codable(symbols, indexes):
            _entries(symbols, indexes)  # says what is wrong
        self._symbols.append(symbols)
        self._indexes.append(indexes)

    def finish(self) -> bytes:
        """The stream of all symbols pushed so far; ``b""`` if none had to be coded."""
        symbols = np.concatenate([np.empty(0, dtype=np.int32), *self._symbols])
        indexes = np.concatenate([np.empty(0, dtype=np.uint8), *self._indexes])
        if compiled is not None:
            return compiled.encode_symbols(symbols, indexes)  # type: ignore[no-any-return]
        return loops.encode(_entries(symbols, indexes))


class Decoder:
    """Reads one stream.

    Safe on any bytes: a wrong stream gives wrong symbols or an error, and never more work than the symbols asked for.
    Not for use by two threads at once; two decoders may run at once (the compiled loops release the GIL).

    Args:
        data: the stream as :meth:`Encoder.finish` returned it.

    Raises:
        EntropyError: the first bytes are not the head of a stream.
    """

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._position, self._state = rans.split(self._data)

    def pull(self, indexes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """Decode the next symbols. How they are divided over calls does not change them.

        Args:
            indexes: uint8 ``(N,)``, the scale indexes that the encoder was given.

        Returns:
            int32 ``(N,)``, magnitudes at most 32767, 0 where the scale is skipped.

        Raises:
            OptionError: wrong dtype or shape.
            EntropyError: an index out of range, or a malformed escape. The decoder stands where it stood before.
        """
        _check_indexes(indexes)
        out = np.empty(indexes.size, dtype=np.int32)
        position, state, status = loops.decode(
            self._data, self._position, self._state, np.ascontiguousarray(indexes), out
        )
        if status == rans.STATUS_BAD_ESCAPE:
            raise EntropyError(
                "stream holds an escape that no encoder writes", expected=f"magnitude at most {MAX_SYMBOL}"
            )
        if status != rans.OK:
            raise EntropyError("scale index out of range", expected=f"at most {NUM_SCALES - 1}")
        self._position, self._state = position, state
        return out

    def finish(self) -> None:
        """Check that the stream ended with the last symbol pulled.

        Raises:
            EntropyError: bytes are left over, or the final state is not the encoder's first one (a damaged or
                truncated stream, other indexes, or too few symbols pulled).
        """
        if self._position != len(self._data):
            raise EntropyError("stream goes on after its last symbol", expected=self._position, found=len(self._data))
        if self._state:
            raise EntropyError("stream does not end in its first state", expected=0, found=self._state)
