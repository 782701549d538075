"""Limits of pictures, wherever they come from; those of the file format are in :mod:`vcm.bitstream.limits`."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_PIXELS", "MAX_SIDE"]

MAX_SIDE: Final = 65_535
"""Largest width or height, pixels (a u16 in a file)."""
MAX_PIXELS: Final = 1 << 28
"""Largest width × height, pixels."""
