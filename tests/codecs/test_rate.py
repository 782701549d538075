"""The search for a rate, against trying every step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcm.codecs.rate import nearest_rate


@given(st.lists(st.integers(1, 100), min_size=1, max_size=70).map(sorted), st.integers(1, 120))
def test_the_nearest_rate_is_found(rates: list[int], target: int) -> None:
    """Of any rates that do not fall, plateaus included."""
    tried: list[int] = []

    def code(step: int) -> int:
        tried.append(step)
        return rates[step]

    found = nearest_rate(code, float, target, len(rates) - 1)
    assert abs(found - target) == min(abs(rate - target) for rate in rates)
    assert len(set(tried)) == len(tried), "a step is coded once"
    assert len(tried) <= 2 + len(rates).bit_length()


def test_a_search_may_stop_early() -> None:
    tried: list[int] = []

    def code(step: int) -> float:
        tried.append(step)
        return 1.0 + step

    assert nearest_rate(code, float, 500.0, 1023, close=0.1) == pytest.approx(500, rel=0.1)
    assert len(tried) < 7


@pytest.mark.parametrize(("target", "end"), [(0.5, 1.0), (9.0, 5.0)])
def test_a_rate_out_of_reach_gives_the_end(target: float, end: float) -> None:
    tried: list[int] = []

    def code(step: int) -> float:
        tried.append(step)
        return 1.0 + step

    assert nearest_rate(code, float, target, 4) == end
    assert set(tried) == {0, 4}
