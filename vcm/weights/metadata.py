"""What the metadata of a weights file claim, checked: they are anybody's text, and shown as such in errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vcm.codecs.scalable.config import ARCHITECTURES, Architecture
from vcm.errors import WeightsError

__all__ = ["architecture_of", "check_format"]


def check_format(path: Path, metadata: Mapping[str, str], wanted: str, lack: str) -> None:
    """Refuse a file that is not of the wanted format.

    Args:
        path, metadata: of the file.
        wanted: its ``format`` entry.
        lack: what to say of it otherwise, after its path: ``holds no head``.

    Raises:
        WeightsError: it has another format, or none.
    """
    if metadata.get("format") != wanted:
        raise WeightsError(f"{path} {lack}", expected=wanted, found=repr(metadata.get("format")))


def architecture_of(metadata: Mapping[str, str]) -> Architecture:
    """The architecture that the metadata name.

    Raises:
        WeightsError: there is none of that name.
    """
    architecture = ARCHITECTURES.get(metadata.get("architecture", ""))
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise WeightsError("unknown architecture", expected=known, found=repr(metadata.get("architecture")))
    return architecture
