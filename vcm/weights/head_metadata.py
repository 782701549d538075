"""What a head's file says of itself, checked; imports no tensor library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from vcm.errors import HeadError, OptionError, WeightsError
from vcm.structures import Classes, LatentSpec
from vcm.weights.registry import MODEL_NAME

__all__ = ["HEAD_FINGERPRINT", "HEAD_FORMAT", "MAX_HEAD_BYTES", "described"]

_T = TypeVar("_T")

HEAD_FORMAT = "vcm-head-1"
"""The ``format`` entry of a head's file."""
HEAD_FINGERPRINT = re.compile("[0-9a-f]{16}|")
"""Of the base layer that a head was trained on; empty: any."""
MAX_HEAD_BYTES = 1 << 28
"""Largest file of a head."""
_MAX_CHANNELS, _MAX_STRIDE, _MAX_NAME = 4096, 256, 100


def described(
    path: Path,
    metadata: Mapping[str, str],
    kind: str,
    shape: type[Any],
    make: Callable[[LatentSpec, Classes, Any], _T],
) -> _T:
    """What ``make`` makes of the latents, classes and shape that the metadata of a head's file name.

    Args:
        path, metadata: of the file.
        kind: of the head, for the message of an error.
        shape: class of its shape: a dataclass of numbers.
        make: may raise :class:`HeadError`.

    Raises:
        WeightsError: the metadata are inconsistent, or ``make`` refuses them.
    """
    try:
        if not MODEL_NAME.fullmatch(metadata["name"]) or not HEAD_FINGERPRINT.fullmatch(metadata["fingerprint"]):
            raise ValueError("no name or fingerprint")
        return make(*_parts(metadata, shape))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, OptionError, HeadError) as error:
        found = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is not a consistent {kind} head", found=repr(found)) from error


def _parts(metadata: Mapping[str, str], kind: type[Any]) -> tuple[LatentSpec, Classes, Any]:
    latents, shape, names, ids = (json.loads(metadata[key]) for key in ("latents", "shape", "names", "category_ids"))
    channels, stride = (_whole(latents[key]) for key in ("channels", "stride"))
    if not (1 <= channels <= _MAX_CHANNELS and 1 <= stride <= _MAX_STRIDE):
        raise ValueError(f"latents of {channels} channels at stride {stride}")
    if not all(isinstance(name, str) and name.isprintable() and 0 < len(name) <= _MAX_NAME for name in names):
        raise ValueError("names that are none")
    classes = Classes(tuple(names), tuple(_whole(i) for i in ids))
    wanted = {field.name: field.type for field in fields(kind)}
    if shape.keys() != wanted.keys():
        raise ValueError(f"a shape of {', '.join(wanted)} is wanted")
    sizes = {key: float(value) if wanted[key] in (float, "float") else _whole(value) for key, value in shape.items()}
    return LatentSpec(channels, stride, metadata["fingerprint"]), classes, kind(**sizes)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a whole number is wanted, not {str(value)[:50]}")
    return value
