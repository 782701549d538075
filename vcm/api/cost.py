"""What a call costs, in multiply–accumulates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vcm.api.codec import Codec

__all__ = ["Cost", "count_costs"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply–accumulates of one call.

    Attributes:
        stage: what was called.
        kmac_per_px: thousand multiply–accumulates per source pixel, padding and integer networks included.
        budget: what it may cost at most.
    """

    stage: str
    kmac_per_px: float
    budget: float


def count_costs(codec: Codec, width: int, height: int) -> tuple[Cost, ...]:
    """Costs of whole calls on a noise picture of that size, counted by torch's FlopCounterMode.

    Args:
        codec: torch must run it.
        width, height: of the picture, pixels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = codec.encode(noise)
    calls: tuple[tuple[str, float, Callable[[], object]], ...] = (
        ("base-only encode", 8.0, lambda: codec.encode(noise, base_only=True)),
        ("full encode", 25.0, lambda: codec.encode(noise)),
        ("base decode + detect", 8.0, lambda: codec.detect(file)),
        ("full decode", 25.0, lambda: codec.decode(file)),
    )
    costs = []
    for stage, budget, call in calls:
        with FlopCounterMode(display=False) as counter:
            call()
        costs.append(Cost(stage, counter.get_total_flops() / 2 / (width * height) / 1000, budget))
    return tuple(costs)
