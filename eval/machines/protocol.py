"""What a machine is: a detector that reads decoded pixels, and so turns an image codec into points of a curve.

Heads that read a codec's own base latents are not machines in this sense: see
:class:`vcm.codecs.protocol.LatentTaskCodec`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

from vcm.codecs.protocol import Image
from vcm.structures import Detections

__all__ = ["Machine", "MachineInfo"]


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """What identifies a machine's numbers: name, weights and settings.

    Attributes:
        name: name in reports.
        version: library and digest of the weights.
        settings: (key, value) pairs.
        group: machines of one group stand for one reader: at each point the better one is taken. Empty: of no group.
    """

    name: str
    version: str
    settings: tuple[tuple[str, str], ...] = ()
    group: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        group = {"group": self.group} if self.group else {}
        return {"name": self.name, "version": self.version, "settings": dict(self.settings), **group}

    @property
    def fingerprint(self) -> str:
        """12 hex digits over everything above."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]


@runtime_checkable
class Machine(Protocol):
    """A detector of the 80 COCO classes on pixels. Instances are picklable: each worker has its own."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def detect(self, image: Image) -> Detections:
        """Objects, best first, down to the low scores that average precision needs.

        Args:
            image: uint8 ``(H, W, 3)`` RGB.

        Raises:
            OptionError: not such an array.
        """
        ...

    def describe(self) -> MachineInfo:
        """Weights and settings."""
        ...
