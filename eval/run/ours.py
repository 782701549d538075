"""Our own codec behind the interface of the anchors: the whole file, and the base layer with its detection head."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vcm.api import Codec, load
from vcm.bitstream import read
from vcm.codecs.protocol import CodecInfo, Complexity, Image, QualityRange, check_image
from vcm.codecs.scalable.model import BASE_SIDE
from vcm.structures import Detections
from vcm.tasks.postprocessing import SUPPRESSION
from vcm.weights.registry import find_weights

__all__ = ["QUALITY", "SCORE", "Ours", "VcmBaseCodec", "VcmCodec"]

SCORE = 0.001
"""Least score of detections, low enough for average precision."""

QUALITY = QualityRange(0, 100, integer=False)
"""Of our own layers."""


@dataclass(frozen=True)
class Ours:
    """What both forms share: a model that is loaded when it is first used, in each process anew.

    Attributes:
        model: shipped name.
        weights: ``.safetensors`` file in place of the shipped weights.
    """

    model: str = "vcm-s"
    weights: str | None = None
    quality_range: QualityRange = QUALITY
    _loaded: list[Codec] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def _codec(self) -> Codec:
        if not self._loaded:
            # The reference backend: it counts costs too, and numbers of former evaluations stay comparable.
            model = Path(self.weights) if self.weights is not None else self.model
            self._loaded.append(load(model, backend="torch"))
        return self._loaded[0]

    def layer_bytes(self, data: bytes) -> dict[str, int]:
        """Bytes of each layer by name; the rest (header, metadata) under ``header``."""
        layers = {span.name: span.bytes for span in read(data).layout}
        return {"header": len(data) - sum(layers.values()), **layers}

    def _digest(self) -> tuple[str, str]:
        """Of the weights file: records also follow from encoders, heads and synthesis, which fingerprints leave out."""
        path = find_weights(self.model if self.weights is None else Path(self.weights))
        return "weights_sha256", sha256(path.read_bytes()).hexdigest()[:16]

    def _complexity(self, encode: str, decode: str) -> Complexity:
        costs = {cost.stage: cost.kmac_per_px for cost in self._codec.complexity()}
        return Complexity(costs[encode], costs[decode], self._codec.parameters)


@dataclass(frozen=True)
class VcmCodec(Ours):
    """The whole file, decoded to pixels. ``quality`` is that of the enhancement layer, 0 … 100.

    Attributes:
        base_quality: of the base layer, 0 … 100, the same at every point.
    """

    base_quality: float = 50

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        quality = self.quality_range.check(quality)
        return self._codec.encode(check_image(image), quality=quality, base_quality=self.base_quality).to_bytes()

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        return np.asarray(self._codec.decode(data).convert("RGB"))

    def describe(self) -> CodecInfo:
        """Fingerprints of both layers, the base quality, and the digest of the weights file."""
        codec = self._codec
        version = f"{codec.fingerprint}+{codec.fingerprint_enhancement}"
        complexity = self._complexity("full encode", "full decode")
        settings = (("base_quality", self.base_quality), ("base_side", BASE_SIDE), self._digest())
        return CodecInfo(self.name, version, settings, complexity)


@dataclass(frozen=True)
class VcmBaseCodec(Ours):
    """The base layer alone, read by its own detection head. ``quality`` is that of the base layer, 0 … 100."""

    @property
    def name(self) -> str:
        """The model's name and ``-base``."""
        return f"{self.model}-base"

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        quality = self.quality_range.check(quality)
        return self._codec.encode(check_image(image), base_quality=quality, base_only=True).to_bytes()

    def decompress(self, data: bytes) -> Image:
        """The rough preview that a base layer allows."""
        return np.asarray(self._codec.decode(data).convert("RGB"))

    def detect(self, data: bytes) -> Detections:
        """See :meth:`vcm.codecs.protocol.LatentTaskCodec.detect`."""
        return self._codec.detect(data, score=SCORE)

    def describe(self) -> CodecInfo:
        """Fingerprint of the base layer, and the digest of the weights file."""
        complexity = self._complexity("base-only encode", "base decode + detect")
        settings = (("base_side", BASE_SIDE), ("suppression", SUPPRESSION), ("score_threshold", SCORE), self._digest())
        return CodecInfo(self.name, self._codec.fingerprint, settings, complexity)
