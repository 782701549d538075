"""The one search for a rate: whatever is coded, the rate rises with the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["nearest_rate"]

_Coded = TypeVar("_Coded")


def nearest_rate(
    code: Callable[[int], _Coded], rate: Callable[[_Coded], float], target: float, steps: int, *, close: float = 0.0
) -> _Coded:
    """What is coded at the step whose rate is nearest to ``target``, by bisection.

    Args:
        code: codes at a step 0 … ``steps``; asked once for each step that is tried.
        rate: of what was coded, in the unit of ``target``; it does not fall as the step rises.
        target: above 0.
        steps: the last step.
        close: stop at a rate within this share of the target.

    Returns:
        of all that was tried, that with the nearest rate; of two equally near ones the one tried first.
    """
    tried: dict[int, _Coded] = {}

    def at(step: int) -> float:
        if step not in tried:
            tried[step] = code(step)
        return rate(tried[step])

    low, high = 0, steps
    least, most = at(low), at(high)
    if least < target < most:
        while high - low > 1:
            middle = (low + high) // 2
            if at(middle) <= target:
                low = middle
            else:
                high = middle
            if abs(at(middle) - target) <= close * target:
                break
    return min(tried.values(), key=lambda coded: abs(rate(coded) - target))
