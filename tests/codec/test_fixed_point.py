"""The arithmetic between symbols and latents, against whole numbers and decimals of any length."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from math import floor

import numpy as np
import pytest
from codec_tools import copy_of, model_of, networks_of, noise
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_codec

from vcm.codecs.scalable.fixed_point import contexts, dequantise, power_of_two, table_index
from vcm.errors import LatentError


@pytest.mark.parametrize("bits", [0, 8, 16, 30])
def test_power_of_two_is_correctly_rounded(bits: int) -> None:
    with localcontext() as context:
        context.prec = 60
        for steps in range(-384, 385):
            exact = Decimal(2) ** (Decimal(bits) - Decimal(steps) / 32)
            assert power_of_two(steps, bits) == int(exact.quantize(Decimal(1), ROUND_HALF_UP)), steps


def test_power_of_two_far_out_is_zero() -> None:
    assert power_of_two(32 * 200, 16) == 0


@given(st.integers(-(2**40), 2**40))
def test_contexts_are_eighths_with_halves_up(fixed: int) -> None:
    found = contexts(np.array([fixed]))
    assert found.dtype == np.float32
    assert found[0] == min(127, max(-128, (2 * fixed + 128) // 256))


@given(st.integers(-(2**16), 2**16), st.integers(-400, 400))
def test_table_rows_are_the_nearest_with_halves_up(scale: int, gain: int) -> None:
    """Row 0 is 2**-4, rows are eighths of an octave; scales count 1/32 octaves from 2**-6."""
    found = table_index(np.array([scale], np.int32), np.array([gain], np.int32))
    assert found.dtype == np.uint8
    assert found[0] == min(96, max(0, floor(Decimal(scale + gain - 64) / 4 + Decimal("0.5"))))


@given(st.integers(-32767, 32767), st.integers(-(2**18), 2**18), st.integers(-384, 384))
def test_latents_are_mean_and_symbol_over_the_gain(symbol: int, mean: int, gain: int) -> None:
    found = dequantise(np.array([symbol], np.int32), np.array([mean], np.int32), np.array([gain], np.int32))
    assert found.dtype == np.int64
    assert found[0] == mean + (2 * symbol * power_of_two(gain, 16) + 64) // 128


@pytest.mark.parametrize("part", ["analysis.project", "base.h_a.conv2", "picture_analysis.down16", "picture.h_a.conv2"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_not_written(part: str, value: float) -> None:
    codec = copy_of(tiny_codec())
    networks_of(codec).get_submodule(part).weight.fill_(value)
    with pytest.raises(LatentError, match="latents are not finite"):
        codec.encode(noise(64, 48))


def test_finite_weights_that_overflow_are_seen_too() -> None:
    codec = copy_of(tiny_codec())
    networks_of(codec).analysis.project.weight.fill_(3e38)
    with pytest.raises(LatentError, match="the base layer's latents are not finite"):
        codec.encode(noise(64, 48), base_only=True)


def test_latents_far_beyond_the_largest_symbol_are_cut_and_decode() -> None:
    coder = model_of(tiny_codec()).base
    y = np.full((1, 8, 3, 5), 1e30, np.float32) * np.array([1, -1] * 4, np.float32)[:, None, None]
    tile = coder.encode_tile(y, 900)
    assert np.array_equal(coder.decode_tile(tile.stream, (3, 5), 900), tile.y_fixed)
