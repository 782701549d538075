"""What takes minutes is run by hand: ``pytest -m slow tests/archive``."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def by_hand(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slow") and "slow" not in request.config.option.markexpr:
        pytest.skip("takes minutes: pytest -m slow")
