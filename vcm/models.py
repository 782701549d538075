"""The models that ship, by name. Reads file headers only, and imports neither torch nor numpy."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vcm.errors import ModelNotFoundError

__all__ = ["FORMAT", "ModelInfo", "find_weights", "list_models", "read_metadata"]

FORMAT = "vcm-weights-1"
"""The ``format`` entry of our weights files."""
_WEIGHTS = Path(__file__).parent / "weights"
_MAX_HEADER = 1 << 24


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be loaded by name.

    Attributes:
        name: for :func:`vcm.load`.
        path: its weights.
        bytes: size of the file.
        fingerprint, fingerprint_enhancement: of the layers that it writes and reads, hexadecimal.
        card_path: what it was trained on and how good it is.
        trained: one line on the training run.
    """

    name: str
    path: Path
    bytes: int
    fingerprint: str
    fingerprint_enhancement: str
    card_path: Path | None
    trained: str


def find_weights(name: str | Path) -> Path:
    """The weights file of a shipped model's name, or the path itself.

    Raises:
        ModelNotFoundError: neither exists.
    """
    shipped = {p.stem: p for p in _WEIGHTS.glob("*.safetensors")}
    if isinstance(name, str) and name in shipped:
        return shipped[name]
    path = Path(name)
    with suppress(OSError):  # a name that no file system takes
        if path.is_file():
            return path
    known = ", ".join(sorted(shipped)) or "no shipped model"
    raise ModelNotFoundError("no such model", expected=f"{known}, or a path to a .safetensors file", found=name)


def read_metadata(path: Path) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file (8 bytes of length, then JSON); empty where there is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            return {}
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return {}
    meta = header.get("__metadata__") if isinstance(header, dict) else None
    return {str(k): str(v) for k, v in meta.items()} if isinstance(meta, dict) else {}


def list_models() -> tuple[ModelInfo, ...]:
    """The shipped models, by name."""
    found = []
    for path in sorted(_WEIGHTS.glob("*.safetensors")):
        meta = read_metadata(path)
        if meta.get("format") != FORMAT:
            continue  # a pixel twin or another helper of evaluation, not a codec
        card = path.with_suffix(".md")
        fingerprints = json.loads(meta.get("fingerprints", "{}"))
        found.append(
            ModelInfo(
                meta.get("name", path.stem), path, path.stat().st_size, fingerprints.get("base", ""),
                fingerprints.get("enhancement", ""), card if card.is_file() else None, meta.get("trained", ""),
            )
        )  # fmt: skip
    return tuple(found)
