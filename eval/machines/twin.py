"""Pixel twins as machines: the codec's own detector on decoded pixels, the fair reader of every other codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vcm.codecs.protocol import Image, check_image
from vcm.codecs.scalable.model import BASE_SIDE
from vcm.errors import OptionError
from vcm.eval.machines.protocol import MachineInfo
from vcm.structures import Detections
from vcm.tasks.postprocessing import SUPPRESSION
from vcm.twin import load_twin

__all__ = ["GROUP", "SCORE", "TWINS", "TwinMachine", "load_twins"]

GROUP = "twin"
"""Group of all twins: at each point the better one is taken. The first is the ceiling."""
TWINS = ("vcm-s-twin", "vcm-s-twin-degraded")
"""The shipped twins: trained on clean pictures, and on degraded ones."""
SCORE = 0.001
"""Least score of detections, that of the base layer's own head."""


class TwinMachine:
    """A pixel twin behind :class:`vcm.eval.machines.protocol.Machine`.

    Args:
        name: shipped name or path, as of :func:`vcm.load_twin`.

    Raises:
        ModelNotFoundError, TrunkError, WeightsError: as of :func:`vcm.load_twin`.
    """

    def __init__(self, name: str | Path) -> None:
        self._source = name
        self._twin = load_twin(name, backend="torch")  # results stay those of before, to the last digit

    def __reduce__(self) -> tuple[Any, ...]:
        # Each worker reads the file, which is quicker than sending the weights.
        return TwinMachine, (self._source,)

    @property
    def name(self) -> str:
        """The twin's name."""
        return self._twin.name

    def detect(self, image: Image) -> Detections:
        """See :meth:`vcm.eval.machines.protocol.Machine.detect`."""
        return self._twin.detect(check_image(image), score=SCORE)

    def describe(self) -> MachineInfo:
        """Fingerprint of all its weights, the trunk's included."""
        settings = (
            ("base_side", str(BASE_SIDE)),
            ("suppression", SUPPRESSION),
            ("score_threshold", str(SCORE)),
            ("trunk", self._twin.trunk),
            ("trained", self._twin.trained),
        )
        return MachineInfo(self.name, f"twin {self._twin.fingerprint}", settings, GROUP)


def load_twins(spec: str) -> tuple[TwinMachine, ...]:
    """The twins that ``twin`` (those that are shipped) or ``twin:PATH[,PATH]`` names, the clean one first.

    Raises:
        OptionError: a path is empty.
        ModelNotFoundError, TrunkError, WeightsError: as of :func:`vcm.load_twin`.
    """
    _, colon, rest = spec.partition(":")
    names = rest.split(",") if colon else list(TWINS)
    if not all(names):
        raise OptionError("a twin's path is missing", expected="twin:PATH[,PATH]", found=spec)
    return tuple(TwinMachine(name) for name in names)
