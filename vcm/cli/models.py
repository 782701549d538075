"""Which weights a command uses: those that were asked for, or those that wrote the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vcm.cli.options import MODEL
from vcm.cli.output import working

if TYPE_CHECKING:
    from vcm.api import Codec
    from vcm.bitstream import Bitstream

__all__ = ["Models", "model_of"]


class Models:
    """Loads each model once for one run of a command.

    Attributes:
        asked: the value of ``--model``, or ``None``.
    """

    def __init__(self, asked: str | None) -> None:
        self.asked = asked
        self._loaded: dict[str, Codec] = {}

    def default(self) -> Codec:
        """The codec for a picture, which no model has written."""
        return self._load(self.asked or MODEL)

    def of_file(self, path: Path, *, base_only: bool) -> Codec:
        """The codec for a VCM file: by its layers' fingerprints, unless a model was asked for.

        Where no shipped model has written the file the default is given, and its refusal names the fingerprints.

        Raises:
            VcmError: the file cannot be read as far as is needed.
        """
        if self.asked is not None:
            return self._load(self.asked)
        from vcm.bitstream import read, read_base

        stream = read_base(path).bitstream if base_only else read(path)
        return self._load(model_of(stream) or MODEL)

    def _load(self, name: str) -> Codec:
        import vcm

        if name not in self._loaded:
            with working(f"loading {name}"):
                self._loaded[name] = vcm.load(name)
        return self._loaded[name]


def model_of(stream: Bitstream) -> str | None:
    """Name of the shipped model that wrote a file, or ``None``."""
    from vcm.weights.registry import model_of_layers

    enhancement = stream.enhancement
    found = model_of_layers(
        stream.base_layer.fingerprint.hex(), None if enhancement is None else enhancement.fingerprint.hex()
    )
    return None if found is None else found.name
