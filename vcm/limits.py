"""Limits of pictures and files, wherever they come from; those of the format are in :mod:`vcm.bitstream.limits`."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Final

from vcm.errors import LimitError, OptionError

__all__ = ["DEFAULT_BYTES", "DEFAULT_PIXELS", "MAX_PIXELS", "MAX_SIDE", "USUAL", "Limits"]

MAX_SIDE: Final = 65_535
"""Largest width or height, pixels (a u16 in a file)."""
MAX_PIXELS: Final = 1 << 28
"""Largest width × height, pixels."""
DEFAULT_PIXELS: Final = 1 << 26
"""Most pixels of a picture unless a caller says otherwise: more than a telephone takes."""
DEFAULT_BYTES: Final = 1 << 30
"""Most bytes of a file unless a caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller is ready to read and compute.

    Attributes:
        pixels: of a picture, at least 1; more than :data:`MAX_PIXELS` allows no more than that.
        bytes: of a file, at least 1.

    Raises:
        OptionError: a limit is no whole number from 1 on.
    """

    pixels: int = DEFAULT_PIXELS
    bytes: int = DEFAULT_BYTES

    def __post_init__(self) -> None:
        given: tuple[tuple[str, object], ...] = (("max_pixels", self.pixels), ("max_bytes", self.bytes))
        for name, value in given:
            if not isinstance(value, Integral) or int(value) < 1:
                raise OptionError(f"{name} is out of range", expected="a whole number from 1 on", found=value)

    def check_pixels(self, what: str, width: int, height: int) -> None:
        """Before anything of that size is computed.

        Args:
            what: the picture, as in "the picture".
            width, height: pixels.

        Raises:
            LimitError: it has too many pixels.
        """
        if width * height > self.pixels:
            expected = f"at most {self.pixels} (max_pixels)"
            raise LimitError(f"{what} has too many pixels", expected=expected, found=f"{width}x{height}")


USUAL: Final = Limits()
"""Those of a caller who does not say."""
