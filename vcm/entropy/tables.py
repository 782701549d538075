"""The integer Gaussian tables: how they are made, how they are kept, what the coder reads of them.

One row per scale ``sigma_i = 2 ** (i / 8 - 4)``. A row gives integer frequencies, summing to 65536, to the symbols
``-R_i … R_i`` and to one escape. Every frequency is at least 1. The committed file ``gaussian.npy`` is the truth that
files depend on; :func:`build_gaussian_table` makes it again in decimal arithmetic, without a float, so any machine
gets the same integers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from vcm.errors import EntropyError

__all__ = [
    "MAX_SYMBOL", "NUM_SCALES", "PROB_BITS", "SCALE_MIN_LOG2", "SCALE_STEPS_PER_OCTAVE", "SKIP_INDEX", "GaussianTable",
    "build_gaussian_table", "gaussian_table", "scales", "table_digest",
]  # fmt: skip

NUM_SCALES: Final = 97
"""Number of scale indexes; the last one is ``sigma = 2 ** 8``."""
SCALE_STEPS_PER_OCTAVE: Final = 8
"""Indexes per doubling of ``sigma``. The nearest index costs at most 0.003 bit a symbol against the exact scale."""
SCALE_MIN_LOG2: Final = -4
"""``log2`` of the scale at index 0."""
SKIP_INDEX: Final = 8
"""Symbols of a smaller index (``sigma < 1/8``) are not coded: they are 0. A Gaussian of the largest such scale is
non-zero once in 78,000 symbols and costs 0.0003 bit."""
PROB_BITS: Final = 16
"""Every row sums to ``2 ** PROB_BITS``."""
MAX_SYMBOL: Final = 2**15 - 1
"""Largest magnitude that can be coded (by escape)."""

_TOTAL: Final = 1 << PROB_BITS
_TABLE_FILE: Final = "gaussian.npy"
_PI: Final = "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"


@dataclass(frozen=True, slots=True, eq=False)
class GaussianTable:
    """What the coder reads, one row per scale, all rows in one array.

    Within a row the intervals follow one another from 0 to 65536 in the order *escape, 0, -1, +1, -2, +2, …, -R, +R*,
    so that ranks are 0 for the escape and ``1 + zigzag(symbol)`` for a symbol.

    Attributes:
        entries: uint32 ``(sum of row lengths,)``; one interval each, ``frequency << 16 | start``.
        offsets: int64 ``(NUM_SCALES + 1,)``; row ``i`` is ``entries[offsets[i] : offsets[i + 1]]``.
        support: int64 ``(NUM_SCALES,)``; ``R_i``, the largest magnitude coded without an escape, at least 1.
        orders: int64 ``(NUM_SCALES,)``; order of the Exp-Golomb code of an escape, 0 … 7.
    """

    entries: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64]
    orders: npt.NDArray[np.int64]


def scales() -> npt.NDArray[np.float64]:
    """Standard deviation of each scale index, in steps of the quantiser.

    Returns:
        float64 ``(NUM_SCALES,)``, ascending from 1/16 to 256.
    """
    return np.asarray(2.0 ** (np.arange(NUM_SCALES) / SCALE_STEPS_PER_OCTAVE + SCALE_MIN_LOG2), dtype=np.float64)


def _upper_tails(sigma: Decimal, precision: int) -> list[Decimal]:
    """``P(X > s + 1/2)`` for s = 0, 1, … R of a zero-mean Gaussian.

    R, at least 1, is the largest symbol with a mass of 1/2 or more in 65536. A wider support would give its tails
    frequencies of 1 that they do not earn: measured at sigma 256, 0.012 % over the entropy so, 0.16 % with R = 5 sigma.

    ``erf(x) = 2 / sqrt(pi) * exp(-x²) * sum of 2^n x^(2n+1) / (2n+1)!!``: all terms positive, so nothing cancels
    inside the sum.
    """
    half, tiny = Decimal("0.5"), Decimal(1).scaleb(-precision)
    norm, root2 = 2 / Decimal(_PI).sqrt(), Decimal(2).sqrt()
    tails: list[Decimal] = []
    while True:
        x = (len(tails) + half) / (sigma * root2)
        square = x * x
        term = total = x
        n = 0
        while term > tiny * total:
            n += 1
            term = term * 2 * square / (2 * n + 1)
            total += term
        tail = (1 - norm * (-square).exp() * total) / 2
        if len(tails) >= 2 and (tails[-1] - tail) * _TOTAL < half:
            return tails
        tails.append(tail)


def _row(index: int, precision: int) -> list[int]:
    """Frequencies ``[escape, f(0), f(1), …, f(R)]`` of one scale, by largest remainder."""
    exponent = Decimal(index) / SCALE_STEPS_PER_OCTAVE + SCALE_MIN_LOG2
    tails = _upper_tails(Decimal(2) ** exponent, precision)
    ideal = [_TOTAL * (a - b) for a, b in pairwise(tails)]  # of +1, +2, … +R
    freqs = [max(1, int(t)) for t in ideal]
    escape = max(1, int(2 * _TOTAL * tails[-1]))
    # What the floors left over goes to the pairs (-s, +s) with the largest remainders, and the rest, or a debt, to
    # the zero.
    spare = _TOTAL - escape - int(_TOTAL * (1 - 2 * tails[0])) - 2 * sum(freqs)
    remainders = sorted(((t % 1, s) for s, t in enumerate(ideal) if t >= 1), reverse=True)
    for _, s in remainders[: max(0, spare // 2)]:
        freqs[s] += 1
    return [escape, _TOTAL - escape - 2 * sum(freqs), *freqs]


def build_gaussian_table(*, precision: int = 50) -> npt.NDArray[np.uint16]:
    """Make the committed table again (about a second).

    Args:
        precision: decimal digits of the arithmetic. The integers are the same from 30 digits on.

    Returns:
        uint16, flat: for each scale index its ``R``, then the frequency of the escape, of 0, and of each of 1 … R
        (that of ``-s`` is that of ``s``).
    """
    with localcontext(Context(prec=precision, rounding=ROUND_HALF_EVEN)):
        rows = [_row(index, precision) for index in range(NUM_SCALES)]
    return np.array([value for row in rows for value in (len(row) - 2, *row)], dtype=np.uint16)


@cache
def _flat() -> npt.NDArray[np.uint16]:
    raw = files("vcm.entropy").joinpath(_TABLE_FILE).read_bytes()
    return np.asarray(np.load(BytesIO(raw), allow_pickle=False), dtype=np.uint16)


@cache
def table_digest() -> str:
    """SHA-256 (64 hexadecimal digits) of all that decoding depends on here: coder version, skip index and table."""
    head = f"vcm.entropy 1, skip {SKIP_INDEX}\n".encode("ascii")
    return hashlib.sha256(head + _flat().astype("<u2").tobytes()).hexdigest()


@cache
def gaussian_table() -> GaussianTable:
    """The committed table, unpacked and checked. The arrays are read-only and shared.

    Raises:
        EntropyError: the installed table file is damaged.
    """
    flat = _flat().astype(np.int64)
    rows: list[npt.NDArray[np.int64]] = []
    supports: list[int] = []
    at = 0
    for index in range(NUM_SCALES):
        support = int(flat[at]) if at < flat.size else 0
        half = flat[at + 1 : at + 3 + support]
        row = np.concatenate([half[:2], np.repeat(half[2:], 2)])
        if support < 1 or half.size != support + 2 or row.min() < 1 or row.sum() != _TOTAL:
            raise EntropyError(f"{_TABLE_FILE} is damaged at scale {index}", expected=f"a row that sums to {_TOTAL}")
        rows.append(row << PROB_BITS | (np.cumsum(row) - row))
        supports.append(support)
        at += 3 + support
    if at != flat.size:
        raise EntropyError(f"{_TABLE_FILE} has the wrong length", expected=at, found=flat.size)
    # An excess beyond R has a mean of about sigma / 3, so floor(log2 sigma) - 1 bits are nearly uniform.
    octave = np.arange(NUM_SCALES) // SCALE_STEPS_PER_OCTAVE + SCALE_MIN_LOG2
    table = GaussianTable(
        entries=np.concatenate(rows).astype(np.uint32),
        offsets=np.cumsum([0, *(row.size for row in rows)]),
        support=np.array(supports),
        orders=np.maximum(0, octave - 1),
    )
    for array in (table.entries, table.offsets, table.support, table.orders):
        array.flags.writeable = False
    return table
