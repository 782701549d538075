"""What quantities are called in reports."""

from __future__ import annotations

from vcm.eval.metrics.distortion import metrics

__all__ = ["higher_is_better", "title_of"]

_TITLES = {
    "ap": "mAP@[.50:.95]",
    "ap50": "AP50",
    "ap75": "AP75",
    "person_ap": "person AP",
    "person_ap50": "person AP50",
    "ap50_frequent": "AP50 of frequent classes",
    "bpp": "rate",
}


def title_of(quantity: str) -> str:
    """The title of a quantity, or its name where it has none."""
    known = metrics().get(quantity)
    return known.title if known is not None else _TITLES.get(quantity, quantity)


def higher_is_better(quantity: str) -> bool:
    """Whether more of a quantity is better; true of every accuracy."""
    known = metrics().get(quantity)
    return known is None or known.higher_is_better
