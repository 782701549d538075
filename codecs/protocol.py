"""The interface that every image codec of an evaluation shares: ours, JPEG to VVC, and learned baselines.

A codec turns one uint8 RGB picture into the bytes of one complete file and back, without side information: what
:meth:`ImageCodec.decompress` needs is in the bytes, so that ``len(data)`` is the rate. No EXIF, no ICC profile.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vcm.errors import LimitError, OptionError
from vcm.limits import MAX_PIXELS
from vcm.structures import Detections

__all__ = [
    "CodecInfo", "Complexity", "Image", "ImageCodec", "LatentTaskCodec", "LayeredCodec", "QualityRange",
    "check_image", "check_size",
]  # fmt: skip

Image = npt.NDArray[np.uint8]
"""uint8 ``(H, W, 3)``, sRGB, upright."""


@dataclass(frozen=True, slots=True)
class QualityRange:
    """The values that ``quality`` may take for one codec.

    Attributes:
        low, high: both included.
        unit: what the number is: ``quality``, ``QP``, ``dB``, ``distance``, ``index``.
        ascending: whether a larger number means a larger file and a better picture (false for QP and distance).
        integer: whether only whole numbers are allowed.
    """

    low: float
    high: float
    unit: str = "quality"
    ascending: bool = True
    integer: bool = True

    def check(self, quality: float) -> float:
        """``quality`` itself, if it is allowed.

        Raises:
            OptionError: it is not finite, out of range, or not whole where whole numbers are needed.
        """
        if not math.isfinite(quality) or not self.low <= quality <= self.high:
            raise OptionError(f"{self.unit} is out of range", expected=f"{self.low:g} to {self.high:g}", found=quality)
        if self.integer and quality != int(quality):
            raise OptionError(f"{self.unit} must be a whole number", expected="an integer", found=quality)
        return quality

    def at(self, fraction: float) -> float:
        """The quality at ``fraction`` (0: smallest file, 1: largest), rounded where whole numbers are needed."""
        value = (
            self.low + fraction * (self.high - self.low)
            if self.ascending
            else self.high - fraction * (self.high - self.low)
        )
        return float(round(value)) if self.integer else value


@dataclass(frozen=True, slots=True)
class Complexity:
    """Cost of a network codec. Conventional codecs have none.

    Attributes:
        encode_kmac_per_px, decode_kmac_per_px: thousand multiply–accumulates per source pixel of a 768×512
            picture, padding included.
        parameters: learned numbers in the whole model, or ``None`` where they were not counted.
    """

    encode_kmac_per_px: float
    decode_kmac_per_px: float
    parameters: int | None


@dataclass(frozen=True, slots=True)
class CodecInfo:
    """What must be written beside a number for another person to obtain it again.

    Attributes:
        name: name in reports, unique within one evaluation.
        version: of the implementation that made the bytes, e.g. ``libjpeg-turbo 3.1`` or a weights fingerprint.
        settings: everything else that changes the bytes, as (key, value) pairs.
        complexity: for networks; measured when asked for, so ``None`` also means "not measured".
    """

    name: str
    version: str
    settings: tuple[tuple[str, str | int | float | bool], ...] = ()
    complexity: Complexity | None = None

    def to_json(self) -> dict[str, Any]:
        """Name, version and settings as plain JSON values."""
        return {"name": self.name, "version": self.version, "settings": dict(self.settings)}

    @property
    def fingerprint(self) -> str:
        """12 hex digits over name, version and settings: two codecs with the same one give the same bytes."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]


@runtime_checkable
class ImageCodec(Protocol):
    """A still-picture codec. Instances are picklable, so that worker processes can have one each."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    @property
    def quality_range(self) -> QualityRange:
        """Values that ``quality`` may take."""
        ...

    def compress(self, image: Image, quality: float) -> bytes:
        """The bytes of a complete file.

        Args:
            image: uint8 ``(H, W, 3)`` RGB.
            quality: within :attr:`quality_range`.

        Raises:
            OptionError: wrong shape, type or quality.
            vcm.errors.ImageError: this codec cannot code such a picture (too small, too large), or its encoder failed.
        """
        ...

    def decompress(self, data: bytes) -> Image:
        """uint8 ``(H, W, 3)`` RGB, of the size of the picture that was compressed.

        Raises:
            vcm.errors.ImageError: the bytes are not a file of this codec.
            LimitError: the header claims more than :data:`vcm.limits.MAX_PIXELS`.
        """
        ...

    def describe(self) -> CodecInfo:
        """Version and settings. May be slow for networks (it measures their cost once)."""
        ...


@runtime_checkable
class LayeredCodec(Protocol):
    """A codec whose files have layers."""

    def layer_bytes(self, data: bytes) -> dict[str, int]:
        """Bytes of each layer by name, headers under ``header``; they add up to ``len(data)``."""
        ...


@runtime_checkable
class LatentTaskCodec(Protocol):
    """A codec that runs tasks on its base layer, without pixels."""

    def detect(self, data: bytes) -> Detections:
        """Objects found in the base layer, boxes in source pixels, all scores that accuracy metrics need."""
        ...


def check_image(image: Image) -> Image:
    """``image`` as a C-contiguous array.

    Raises:
        OptionError: not uint8 ``(H, W, 3)`` with both sides at least 1.
    """
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or 0 in image.shape
    ):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise OptionError("not an RGB picture", expected="uint8 (H, W, 3)", found=found)
    return np.ascontiguousarray(image)


def check_size(width: int, height: int) -> None:
    """Refuse a size that a file's header claims.

    Raises:
        LimitError: a side below 1, or more than :data:`vcm.limits.MAX_PIXELS` pixels.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise LimitError("picture size", expected=f"1 to {MAX_PIXELS} pixels", found=f"{width} × {height}")
