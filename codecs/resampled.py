"""Any codec on a smaller picture: the honest rival of a base layer, and how MPEG VCM's anchors reach low rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image as PilImage

from vcm.codecs.protocol import CodecInfo, Image, ImageCodec, QualityRange, check_image, check_size
from vcm.errors import ImageError, OptionError

__all__ = ["ResampledCodec"]

_FILTER = PilImage.Resampling.LANCZOS


@dataclass(frozen=True)
class ResampledCodec:
    """Shrink by Lanczos-3, code with another codec, and enlarge by Lanczos-3 to the source's size.

    A side of n pixels becomes ⌈n·scale⌉. Several n give the same: one byte before the inner file says which (four bits
    a side), so that the file needs nothing beside it.

    Attributes:
        inner: the codec.
        percent: scale of each side in percent, 7 … 99.
    """

    inner: ImageCodec
    percent: int

    def __post_init__(self) -> None:
        if not 7 <= self.percent <= 99:  # one size byte holds 16 candidates a side
            raise OptionError("scale of a resampled codec", expected="7 to 99 percent", found=self.percent)

    @property
    def name(self) -> str:
        """The inner codec's name and the scale: ``vvc@50``."""
        return f"{self.inner.name}@{self.percent}"

    @property
    def quality_range(self) -> QualityRange:
        """The inner codec's."""
        return self.inner.quality_range

    @property
    def _scale(self) -> Fraction:
        return Fraction(self.percent, 100)

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        height, width = image.shape[:2]
        small = math.ceil(width * self._scale), math.ceil(height * self._scale)
        low, high = (self._largest(s) - n for s, n in zip(small, (width, height), strict=True))
        shrunk = np.asarray(PilImage.fromarray(image).resize(small, _FILTER))
        return bytes([low | high << 4]) + self.inner.compress(shrunk, quality)

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        if not data:
            raise ImageError(f"{self.name} cannot decode the file", found="no bytes")
        shrunk = self.inner.decompress(data[1:])
        width = self._largest(shrunk.shape[1]) - (data[0] & 15)
        height = self._largest(shrunk.shape[0]) - (data[0] >> 4)
        check_size(width, height)
        return np.asarray(PilImage.fromarray(shrunk).resize((width, height), _FILTER))

    def describe(self) -> CodecInfo:
        """The inner codec's, with the scale and the filter."""
        inner = self.inner.describe()
        settings = (*inner.settings, ("scale_percent", self.percent), ("scaling", "Lanczos-3 by Pillow, both ways"))
        return CodecInfo(self.name, inner.version, settings, inner.complexity)

    def _largest(self, small: int) -> int:
        """The longest side that shrinks to ``small``."""
        return math.floor(small / self._scale)
