"""COCO's run lengths of a mask, in numpy: column after column, zeros first (``maskApi.c`` of pycocotools)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import AnnotationError

__all__ = ["decode_mask", "encode_mask"]


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """``{"size": [height, width], "counts": [...]}``, uncompressed."""
    flat = np.concatenate([[False], mask.reshape(-1, order="F"), [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    if len(edges) and edges[-1] == mask.size:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": [int(n) for n in counts]}


def decode_mask(rle: Mapping[str, Any], height: int, width: int) -> npt.NDArray[np.bool_]:
    """bool ``(height, width)``; ``counts`` uncompressed, or the text that COCO compresses them to.

    Raises:
        AnnotationError: it is of another size, or not run lengths.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        raise AnnotationError("a mask has another size", expected=[height, width], found=size)
    runs: Any = _runs(counts) if isinstance(counts, str | bytes) else counts
    whole = isinstance(runs, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in runs)
    if not whole or sum(runs) != height * width:
        found = sum(runs) if whole else type(counts).__name__
        raise AnnotationError("no run lengths of a mask", expected=f"numbers that sum to {height * width}", found=found)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(height, width, order="F")


def _runs(text: str | bytes) -> list[int]:
    """COCO's text: five bits a character, the sixth says that more follow; from the third on, differences."""
    data = text.encode("latin1", "replace") if isinstance(text, str) else text
    out: list[int] = []
    at = 0
    while at < len(data):
        value = shift = 0
        more = True
        while more:
            if at == len(data) or shift > 60:
                raise AnnotationError("run lengths of a mask end too soon", found=f"{len(data)} characters")
            byte = data[at] - 48
            value |= (byte & 0x1F) << shift
            more, at, shift = bool(byte & 0x20), at + 1, shift + 5
            if not more and byte & 0x10:
                value |= -1 << shift
        out.append(value + out[-2] if len(out) > 2 else value)
    return out
