"""Seeded random numbers that leave the caller's alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["own_randomness"]


@contextmanager
def own_randomness(seed: int | None = None) -> Iterator[None]:
    """Torch's random numbers, of the CPU and the current GPU, for a while; those from before go on afterwards.

    Args:
        seed: of the new ones; ``None``: whoever is called seeds them.
    """
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.random.fork_rng([torch.cuda.current_device()] if used else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield
