"""The models that ship, by name. Reads file headers only, and imports neither torch nor numpy."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vcm.errors import ModelNotFoundError

__all__ = [
    "FORMAT", "TWIN_FORMAT", "ModelInfo", "TwinInfo", "find_twin", "find_weights", "list_models", "list_twins",
    "model_of_layers", "read_metadata",
]  # fmt: skip

FORMAT = "vcm-weights-1"
"""The ``format`` entry of a codec's weights file."""
TWIN_FORMAT = "vcm-twin-1"
"""The ``format`` entry of a pixel twin's weights file."""
_WEIGHTS = Path(__file__).parent
_MAX_HEADER = 1 << 24


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A codec that can be loaded by name.

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


@dataclass(frozen=True, slots=True)
class TwinInfo:
    """A pixel twin that can be loaded by name. It reads pixels and codes nothing.

    Attributes:
        name: for :func:`vcm.load_twin`.
        path: its weights.
        bytes: size of the file.
        trunk: the codec whose trunk it takes, or ``own``.
        card_path: what it was trained on and how good it is.
        trained: one line on the training run.
    """

    name: str
    path: Path
    bytes: int
    trunk: str
    card_path: Path | None
    trained: str


def find_weights(name: str | Path) -> Path:
    """The weights file of a shipped codec's name, or the path itself.

    Raises:
        ModelNotFoundError: neither exists, or it is a pixel twin.
    """
    path = _find(name, FORMAT, "model")
    if read_metadata(path).get("format") == TWIN_FORMAT:
        what = f"{name} is a pixel twin, which reads pixels and codes nothing"
        raise ModelNotFoundError(what, expected="a codec (vcm.load_twin loads twins)", found=TWIN_FORMAT)
    return path


def find_twin(name: str | Path) -> Path:
    """The weights file of a shipped pixel twin's name, or the path itself.

    Raises:
        ModelNotFoundError: neither exists, or it is a codec.
    """
    path = _find(name, TWIN_FORMAT, "pixel twin")
    if read_metadata(path).get("format") == FORMAT:
        raise ModelNotFoundError(f"{name} is a codec", expected="a pixel twin (vcm.load loads codecs)", found=FORMAT)
    return path


def _find(name: str | Path, wanted: str, kind: str) -> Path:
    shipped = {p.stem: p for p in _WEIGHTS.glob("*.safetensors")}
    if isinstance(name, str) and name in shipped:
        return shipped[name]
    path = Path(name)
    with suppress(OSError):  # a name that no file system takes
        if path.is_file():
            return path
    names = [stem for stem, p in sorted(shipped.items()) if read_metadata(p).get("format") == wanted]
    known = ", ".join(names) or f"no shipped {kind}"
    raise ModelNotFoundError(f"no such {kind}", expected=f"{known}, or a path to a .safetensors file", found=name)


def read_metadata(path: Path) -> dict[str, str]:
    """The ``__metadata__`` of a safetensors file (8 bytes of length, then JSON); empty where there is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER:
                return {}
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return {}
    meta = header.get("__metadata__") if isinstance(header, dict) else None
    return {str(k): str(v) for k, v in meta.items()} if isinstance(meta, dict) else {}


def _shipped(wanted: str) -> list[tuple[Path, dict[str, str], Path | None]]:
    """Path, metadata and card of each shipped file of one format."""
    found = []
    for path in sorted(_WEIGHTS.glob("*.safetensors")):
        meta = read_metadata(path)
        card = path.with_suffix(".md")
        if meta.get("format") == wanted:
            found.append((path, meta, card if card.is_file() else None))
    return found


def list_models() -> tuple[ModelInfo, ...]:
    """The shipped codecs, by name."""
    found = []
    for path, meta, card in _shipped(FORMAT):
        prints = json.loads(meta.get("fingerprints", "{}"))
        name, base, enhancement = meta.get("name", path.stem), prints.get("base", ""), prints.get("enhancement", "")
        found.append(ModelInfo(name, path, path.stat().st_size, base, enhancement, card, meta.get("trained", "")))
    return tuple(found)


def model_of_layers(base: str, enhancement: str | None) -> ModelInfo | None:
    """The shipped codec that wrote a file's layers; of two with the same base, that of its enhancement.

    Args:
        base, enhancement: fingerprints of the layers, hexadecimal; ``None`` where there is no enhancement.
    """
    same_base = [model for model in list_models() if model.fingerprint == base]
    if enhancement is not None:
        same_base.sort(key=lambda model: model.fingerprint_enhancement != enhancement)
    return same_base[0] if same_base else None


def list_twins() -> tuple[TwinInfo, ...]:
    """The shipped pixel twins, by name."""
    return tuple(
        TwinInfo(
            meta.get("name", path.stem), path, path.stat().st_size, meta.get("trunk", ""), card, meta.get("trained", "")
        )
        for path, meta, card in _shipped(TWIN_FORMAT)
    )
