"""What a head is: a task on base latents that says what it reads and what it gives. Imports no tensor library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from vcm.structures import Detections, Latents, LatentSpec

__all__ = ["Detect", "Head", "HeadSpec", "OtherBase"]

Detect = Callable[[Latents, float], Detections]
"""Boxes of a picture with at least a score, for heads that are built on them."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a head reads and gives.

    Attributes:
        latents: channels and stride, and the fingerprint of the base layer that it was trained on.
        result: type of what it gives, such as :class:`vcm.Detections`.
        names: of its classes or keypoints, by index; empty where it has none.
    """

    latents: LatentSpec
    result: type
    names: tuple[str, ...] = ()


@runtime_checkable
class Head(Protocol):
    """A task on base latents, as :meth:`vcm.Codec.add_head` takes it. Safe to share between threads.

    A plain function of latents is a head as well: one that does not say what it reads.
    """

    @property
    def spec(self) -> HeadSpec:
        """What it reads and gives."""
        ...

    def __call__(self, latents: Latents, /, *arguments: Any, **options: Any) -> Any:
        """The task on one picture. Options are the head's own, such as ``score`` of one that detects.

        Raises:
            HeadError, FingerprintError: the latents are not those that it reads (:meth:`vcm.LatentSpec.check`).
        """
        ...


class OtherBase:
    """A head that is shown latents of another base layer than its own as if they were its own.

    Args:
        head: the head.

    Attributes:
        head: the same.
    """

    def __init__(self, head: Head) -> None:
        self.head = head

    @property
    def spec(self) -> HeadSpec:
        """See :class:`Head`; of no base layer in particular."""
        spec = self.head.spec
        return replace(spec, latents=replace(spec.latents, fingerprint=""))

    def __call__(self, latents: Latents, /, *arguments: Any, **options: Any) -> Any:
        """See :class:`Head`."""
        as_if = replace(latents.spec, fingerprint=self.head.spec.latents.fingerprint)
        return self.head(replace(latents, spec=as_if), *arguments, **options)
