"""The reference rANS coder: plain Python, the meaning of every stream. ``_rans.c`` is the same thing, faster.

One 64-bit state, 32-bit words, 16-bit probabilities, one lane per stream. A vectorised design with many lanes was
considered; one lane was chosen because tiles already give the parallelism, and because each lane costs its own flush,
which would dominate a base layer of 600 bytes.

The state starts at 0, below the normalised interval ``[2**32, 2**64)``. The encoder emits no word before the state
has grown through it, and the decoder stops refilling when the words are spent, so both walk through the same small
states at that end of the stream and the decoder must end at 0. ``docs/entropy.md`` is the full specification.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from vcm.entropy.tables import MAX_SYMBOL, NUM_SCALES, PROB_BITS, SKIP_INDEX, gaussian_table
from vcm.errors import EntropyError

__all__ = ["OK", "STATUS_BAD_ESCAPE", "STATUS_BAD_INDEX", "decode", "encode", "split"]

OK: Final = 0
STATUS_BAD_INDEX: Final = 1
STATUS_BAD_ESCAPE: Final = 2

_MASK: Final = (1 << PROB_BITS) - 1
_WORD_BITS: Final = 32
_LOW: Final = 1 << _WORD_BITS
# One renormalisation takes 32 bits at most, so a state below freq << 48 stays below 2**64 after coding.
_EMIT_SHIFT: Final = 64 - PROB_BITS
# Longest Exp-Golomb suffix of a magnitude up to 2**15 - 1 (R + 1 is never below 2**order). A longer prefix is
# malformed, which also bounds the work on arbitrary bytes.
_MAX_SUFFIX_BITS: Final = 14


def encode(entries: npt.NDArray[np.uint32]) -> bytes:
    """Code a sequence of intervals into one stream.

    Args:
        entries: uint32 ``(n,)``, each ``frequency << 16 | start`` with ``1 <= frequency`` and ``start + frequency <=
            65536``, in the order in which the decoder shall meet them.

    Returns:
        The stream; empty for an empty sequence.
    """
    state = 0
    words: list[int] = []
    for entry in reversed(entries.tolist()):
        frequency = entry >> PROB_BITS
        if state >= frequency << _EMIT_SHIFT:
            words.append(state & (_LOW - 1))
            state >>= _WORD_BITS
        quotient, rest = divmod(state, frequency)
        state = (quotient << PROB_BITS) + (entry & _MASK) + rest
    head = state.to_bytes((state.bit_length() + 7) // 8, "little")
    return head + np.array(words[::-1], dtype="<u4").tobytes()


def split(data: bytes) -> tuple[int, int]:
    """Read the head of a stream.

    Returns:
        The offset of the first word, from which the bytes are a whole number of words, and the decoder's first state.

    Raises:
        EntropyError: the head has a leading zero byte, which no encoder writes.
    """
    size = len(data)
    # With words behind it the state is at least 2**32: five to eight bytes, and the length modulo 4 says how many.
    position = size if size <= 8 else 5 + (size - 1) % 4
    if position and data[position - 1] == 0:
        raise EntropyError("stream head is not in its shortest form", expected=f"byte {position - 1} not 0", found=0)
    return position, int.from_bytes(data[:position], "little")


@cache
def _starts() -> list[list[int]]:
    """Per scale: the starts of its intervals and a closing 65536."""
    table = gaussian_table()
    starts = (table.entries & _MASK).tolist()
    bounds = table.offsets.tolist()
    return [[*starts[a:b], 1 << PROB_BITS] for a, b in pairwise(bounds)]


class _Lane:
    """State of the decoder with its source, for the raw bits of an escape."""

    __slots__ = ("position", "state", "words")

    def __init__(self, words: list[int], position: int, state: int) -> None:
        self.words, self.position, self.state = words, position, state

    def bits(self, count: int) -> int:
        """Take ``count`` (1 … 14) bits of uniform probability."""
        shift = PROB_BITS - count
        slot = self.state & _MASK
        self.state = (self.state >> PROB_BITS << shift) + (slot & ((1 << shift) - 1))
        if self.state < _LOW and self.position < len(self.words):
            self.state = self.state << _WORD_BITS | self.words[self.position]
            self.position += 1
        return slot >> shift

    def escaped(self, support: int, order: int) -> int | None:
        """Read a sign and, in Exp-Golomb code, the excess over ``support + 1``; ``None`` if malformed."""
        negative = self.bits(1)
        length = order
        while self.bits(1) == 0:
            length += 1
            if length > _MAX_SUFFIX_BITS:
                return None
        suffix = self.bits(length) if length else 0
        magnitude = support + 1 + (1 << length) - (1 << order) + suffix
        if magnitude > MAX_SYMBOL:
            return None
        return -magnitude if negative else magnitude


def decode(
    data: bytes, position: int, state: int, indexes: npt.NDArray[np.uint8], out: npt.NDArray[np.int32]
) -> tuple[int, int, int]:
    """Decode ``len(indexes)`` symbols.

    Safe on any bytes, with a position and state that :func:`split` or this function returned.

    Args:
        data: the whole stream.
        position: byte offset of the next word; the bytes from there on are a whole number of words.
        state: the decoder's state, below 2**64.
        indexes: uint8 ``(n,)``, scale index of each symbol.
        out: int32 ``(n,)``, takes the symbols; its content is undefined if the status is not ``OK``.

    Returns:
        The new position, the new state and a status: ``OK``, ``STATUS_BAD_INDEX`` or ``STATUS_BAD_ESCAPE``.
    """
    words = np.frombuffer(data, dtype="<u4", offset=position).tolist() if position < len(data) else []
    lane = _Lane(words, 0, state)
    table, rows = gaussian_table(), _starts()
    supports, orders = table.support.tolist(), table.orders.tolist()
    end, at, status = len(words), 0, OK
    symbols: list[int] = []
    append, find = symbols.append, bisect_right
    for index in indexes.tolist():
        if index < SKIP_INDEX:
            append(0)
            continue
        if index >= NUM_SCALES:
            status = STATUS_BAD_INDEX
            break
        row = rows[index]
        slot = state & _MASK
        above = find(row, slot)
        start = row[above - 1]
        state = (row[above] - start) * (state >> PROB_BITS) + slot - start
        if state < _LOW and at < end:
            state = state << _WORD_BITS | words[at]
            at += 1
        if above > 1:
            # Rank r = above - 1 >= 1 holds the symbols 0, -1, 1, -2, 2 … in turn.
            append(-(above >> 1) if above & 1 else (above >> 1) - 1)
            continue
        lane.state, lane.position = state, at
        symbol = lane.escaped(supports[index], orders[index])
        if symbol is None:
            status = STATUS_BAD_ESCAPE
            break
        append(symbol)
        state, at = lane.state, lane.position
    if status == OK:
        out[:] = symbols
    return position + 4 * at, state, status
