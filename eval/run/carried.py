"""Standard codecs together with our base layer: as the picture of a file of ours, or as the picture that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from vcm.carriers import attach_base, find_base
from vcm.codecs.picture_layer import PictureName, picture_codec, picture_format_of
from vcm.codecs.protocol import CodecInfo, Image, ImageCodec, QualityRange, check_image
from vcm.codecs.scalable.model import BASE_SIDE
from vcm.errors import ImageError
from vcm.eval.run.ours import Ours

__all__ = ["CARRIED", "CarryingPicture", "PictureOnBase"]

_QUALITY = QualityRange(0, 100)

CARRIED: dict[str, PictureName] = {"avif": "avif", "webp": "webp", "jpegxl": "jxl", "jpeg": "jpeg"}
"""Anchors that go with a base, and what ``vcm encode --picture`` calls them."""


@dataclass(frozen=True)
class _WithBase(Ours):
    """What both forms share.

    Attributes:
        anchor: name of the standard codec.
        base_quality: of the base layer, 0 … 100, the same at every point.
    """

    anchor: str = "avif"
    base_quality: float = 50
    quality_range: QualityRange = _QUALITY
    suffix: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The anchor's name and what is done with it."""
        return f"{self.anchor}{self.suffix}"

    @cached_property
    def _picture(self) -> ImageCodec:
        return picture_codec(picture_format_of(CARRIED[self.anchor]))

    def describe(self) -> CodecInfo:
        """The standard codec's, with the base's fingerprint and quality and the digest of the weights file."""
        inner = self._picture.describe()
        ours = (("base_quality", self.base_quality), ("base_side", BASE_SIDE), self._digest())
        return CodecInfo(self.name, f"{inner.version}; base {self._codec.fingerprint}", (*inner.settings, *ours))


@dataclass(frozen=True)
class PictureOnBase(_WithBase):
    """A file of ours whose picture a standard codec codes: ``avif+base``. ``quality`` is the picture's, 0 … 100."""

    suffix: ClassVar[str] = "+base"

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        quality, name = self.quality_range.check(quality), CARRIED[self.anchor]
        encode = self._codec.encode
        return encode(check_image(image), quality=quality, base_quality=self.base_quality, picture=name).to_bytes()

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        return np.asarray(self._codec.decode(data).convert("RGB"))


@dataclass(frozen=True)
class CarryingPicture(_WithBase):
    """A standard picture that carries a base: ``avif-carrying``. ``quality`` is the picture's, 0 … 100.

    JPEG XL's anchor writes a bare codestream, which carries nothing.
    """

    suffix: ClassVar[str] = "-carrying"

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        quality = max(self._picture.quality_range.low, self.quality_range.check(quality))
        base = self._codec.encode(image, base_quality=self.base_quality, base_only=True)
        return attach_base(self._picture.compress(image, quality), base)

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        return self._picture.decompress(data)

    def layer_bytes(self, data: bytes) -> dict[str, int]:
        """The base with all that carries it, and the picture."""
        carried = find_base(data)
        if carried is None:
            raise ImageError(f"{self.name} cannot read the file", expected="a picture that carries a base")
        return {"base": carried.bytes, "picture": len(data) - carried.bytes}
