"""The Gaussian tables: exact rebuild, an independent check against scipy, and what they cost over the true Gaussian."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.stats import norm

from vcm import entropy
from vcm.entropy import tables
from vcm.errors import EntropyError

SIGMAS = 2.0 ** (np.arange(97) / 8 - 4)


def _masses(sigma: float, largest: int) -> np.ndarray:
    """P(s) for s = 0 … largest, from survival functions so that tails keep their digits."""
    s = np.arange(largest + 1)
    return norm.sf((s - 0.5) / sigma) - norm.sf((s + 0.5) / sigma)


def _cost(symbols: np.ndarray, index: int) -> np.ndarray:
    return np.array([entropy.cost_bits(np.array([s], np.int32), np.array([index], np.uint8)) for s in symbols])


def test_constants_and_scales():
    assert (entropy.NUM_SCALES, entropy.SCALE_STEPS_PER_OCTAVE, entropy.SCALE_MIN_LOG2) == (97, 8, -4)
    assert entropy.SKIP_INDEX == 8
    assert entropy.scales().dtype == np.float64
    np.testing.assert_allclose(entropy.scales(), SIGMAS, rtol=1e-15)


def test_the_committed_table_is_the_one_that_the_generator_makes():
    built = entropy.build_gaussian_table()
    assert np.array_equal(built, tables._flat())
    assert np.array_equal(built, entropy.build_gaussian_table(precision=32)), "rounding is ambiguous"


def test_the_users_decimal_context_does_not_change_the_table():
    import decimal

    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        built = entropy.build_gaussian_table()
    assert np.array_equal(built, tables._flat())


def test_digest_is_pinned():
    # Files carry this in their fingerprints: a new value orphans all of them.
    assert entropy.TABLE_DIGEST == "3a77e17e53f36574838b46b9f93bc6bf2f6b78eb764e88c9641c78c6ac1339f6"
    flat = tables._flat().astype("<u2").tobytes()
    assert hashlib.sha256(b"vcm.entropy 1, skip 8\n" + flat).hexdigest() == entropy.TABLE_DIGEST


@pytest.mark.parametrize("index", range(97))
def test_row_is_scipys_gaussian(index):
    table = tables.gaussian_table()
    row = table.entries[table.offsets[index] : table.offsets[index + 1]].astype(np.int64)
    frequency, start, support = row >> 16, row & 0xFFFF, int(table.support[index])
    assert row.size == 2 * support + 2
    assert frequency.min() >= 1
    assert frequency.sum() == 65536
    assert np.array_equal(start, np.cumsum(frequency) - frequency)
    assert np.array_equal(frequency[2::2], frequency[3::2]), "-s and +s differ"
    ideal = 65536 * _masses(float(SIGMAS[index]), support + 1)
    assert np.abs(frequency[2::2] - ideal[1:-1]).max() <= 1.0
    assert np.abs(frequency[1] - ideal[0]) <= 5.0
    assert abs(frequency[0] - 2 * 65536 * norm.sf((support + 0.5) / SIGMAS[index])) < 1.0 + 1e-9
    assert ideal[-1] < 0.5
    assert support == 1 or ideal[-2] >= 0.5


@pytest.mark.parametrize("index", [*range(8, 97, 8), 9, 11, 13, 95])
def test_expected_cost_is_that_of_the_gaussian(index):
    sigma = float(SIGMAS[index])
    p = _masses(sigma, int(9 * sigma) + 2)
    s = np.arange(p.size)
    true = -np.log2(p)
    weight = np.where(s == 0, 1.0, 2.0) * p
    cost = _cost(s, index)
    over, entropy_bits = float((weight * (cost - true)).sum()), float((weight * true).sum())
    assert over > -1e-9, "no code beats the entropy"
    assert over < (0.0001 if sigma < 0.2 else 0.0002 * entropy_bits)


@pytest.mark.parametrize("index", [8, 16, 32, 56, 96])
def test_sampled_gaussians_cost_what_they_should(index):
    sigma = float(SIGMAS[index])
    symbols = np.rint(np.random.default_rng(index).normal(0, sigma, 20_000)).astype(np.int32)
    true = -np.log2(_masses(sigma, int(np.abs(symbols).max())))[np.abs(symbols)].sum()
    cost = entropy.cost_bits(symbols, np.full(symbols.size, index, np.uint8))
    assert abs(cost - true) < (0.003 * true if sigma >= 0.2 else 0.0005 * symbols.size)


def test_skipping_costs_nothing_that_counts():
    p = _masses(float(SIGMAS[entropy.SKIP_INDEX - 1]), 2)
    assert 2 * p[1] < 1.3e-5
    assert -(p[0] * np.log2(p[0]) + 2 * p[1] * np.log2(p[1])) < 3e-4


def test_the_next_scale_index_is_close_enough():
    # Worst case: the true scale lies half a step from the index. KL divergence of two continuous Gaussians.
    ratio = 2.0 ** (1 / 16)
    bits = (np.log(ratio) + (1 / ratio**2 - 1) / 2) / np.log(2)
    assert 0 < bits < 0.003


@pytest.mark.parametrize("damage", ["frequency", "short", "long", "empty"])
def test_a_damaged_table_file_is_refused(damage, monkeypatch):
    flat = tables._flat().copy()
    if damage == "frequency":
        flat[-1] += 1
    flat = {"short": flat[:-1], "long": np.append(flat, np.uint16(1)), "empty": flat[:0]}.get(damage, flat)
    monkeypatch.setattr(tables, "_flat", lambda: flat)
    with pytest.raises(EntropyError, match=r"damaged|length"):
        tables.gaussian_table.__wrapped__()
