"""What heads read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcm.errors import FingerprintError, HeadError
from vcm.structures.arrays import same_fields

if TYPE_CHECKING:
    import torch

__all__ = ["LatentSpec", "Latents"]


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """What a head needs to know of the latents that it reads.

    Attributes:
        channels: channels of ``y_hat``.
        stride: pixels of the *coded* base picture per latent position, along each axis.
        fingerprint: of the base layer whose latents they are, 16 hexadecimal digits; empty: not known, or any.
    """

    channels: int
    stride: int
    fingerprint: str = ""

    def check(self, found: LatentSpec) -> None:
        """Refuses latents that a head which reads ``self`` was not made for.

        Args:
            found: what the latents are.

        Raises:
            HeadError: they have other channels or another stride.
            FingerprintError: they are of another base layer than the head was trained on.
        """
        if (self.channels, self.stride) != (found.channels, found.stride):
            expected, there = (f"{s.channels} channels at stride {s.stride}" for s in (self, found))
            raise HeadError("the latents are of another kind", expected=expected, found=there)
        if self.fingerprint and found.fingerprint and self.fingerprint != found.fingerprint:
            what = "the head was trained on another base layer (allow_other_base=True takes it all the same)"
            raise FingerprintError(what, expected=self.fingerprint, found=found.fingerprint)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Latents:
    """Decoded base latents of one picture.

    Attributes:
        y_hat: float32 tensor ``(1, C, h, w)``, dequantised; a numpy array where torch is not installed (``np.asarray``
            takes both).
        spec: channels and stride.
        coded_size: ``(width, height)`` of the picture that the base was coded from, before padding.
        source_size: ``(width, height)`` of the source picture, upright.
        quality: base quality, 0 … 100.
    """

    y_hat: torch.Tensor
    spec: LatentSpec
    coded_size: tuple[int, int]
    source_size: tuple[int, int]
    quality: float

    @property
    def scale(self) -> tuple[float, float]:
        """Source pixels per coded pixel, (x, y)."""
        return self.source_size[0] / self.coded_size[0], self.source_size[1] / self.coded_size[1]

    def __eq__(self, other: object) -> bool:
        """Whether all of it is the same, numbers to the bit."""
        return same_fields(self, other) if isinstance(other, Latents) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any container that compares by value

    def __repr__(self) -> str:
        size, source = (f"{w}x{h}" for w, h in (self.coded_size, self.source_size))
        shape = "x".join(str(n) for n in self.y_hat.shape)
        return f"<Latents {shape} of {size} from {source}, quality {self.quality:g}>"
