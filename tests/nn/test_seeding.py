"""Seeded numbers of ours leave the caller's random state as it was."""

from __future__ import annotations

import pytest
import torch

from vcm.nn.seeding import own_randomness


def test_the_callers_numbers_go_on():
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    with own_randomness(7):
        inside = torch.rand(3)
        torch.manual_seed(1)
    assert torch.equal(torch.cat([first, torch.rand(1)]), wanted)
    with own_randomness(7):
        assert torch.equal(torch.rand(3), inside)


def _fails() -> None:
    torch.manual_seed(3)
    raise KeyError


def test_after_an_error_too():
    before = torch.random.get_rng_state()
    with pytest.raises(KeyError), own_randomness():
        _fails()
    assert torch.equal(torch.random.get_rng_state(), before)
