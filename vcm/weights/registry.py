"""Which weights there are, by name and by fingerprint. Reads file headers only; imports neither torch nor numpy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vcm.errors import FingerprintError, InputError, ModelNotFoundError

__all__ = [
    "FORMAT", "MODEL_NAME", "TWIN_FORMAT", "Folders", "ModelInfo", "TwinInfo", "find_model", "find_twin",
    "find_weights", "list_models", "list_twins", "printable_name", "printable_text", "read_metadata",
]  # fmt: skip

FORMAT = "vcm-weights-1"
"""The ``format`` entry of a codec's weights file."""
TWIN_FORMAT = "vcm-twin-1"
"""The ``format`` entry of a pixel twin's weights file."""
_WEIGHTS = Path(__file__).parent
_MAX_HEADER = 1 << 24
_MAX_TEXT = 500
MODEL_NAME = re.compile(r"[\w.+-]{1,100}")
"""What a model or twin may be called: it is printed, and names columns of results."""
_FINGERPRINT = re.compile("[0-9a-f]{16}")

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Where to look for weights: a folder or file, or several."""


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
    """The weights file of a codec's name (shipped, or in ``VCM_WEIGHTS``), or the path itself.

    Raises:
        ModelNotFoundError: neither exists, or it is a pixel twin.
    """
    path = _find(name, FORMAT, "model")
    if read_metadata(path).get("format") == TWIN_FORMAT:
        what = f"{name} is a pixel twin, which reads pixels and codes nothing"
        raise ModelNotFoundError(what, expected="a codec (vcm.load_twin loads twins)", found=TWIN_FORMAT)
    return path


def find_twin(name: str | Path) -> Path:
    """The weights file of a pixel twin's name (shipped, or in ``VCM_WEIGHTS``), or the path itself.

    Raises:
        ModelNotFoundError: neither exists, or it is a codec.
    """
    path = _find(name, TWIN_FORMAT, "pixel twin")
    if read_metadata(path).get("format") == FORMAT:
        raise ModelNotFoundError(f"{name} is a codec", expected="a pixel twin (vcm.load loads codecs)", found=FORMAT)
    return path


def _find(name: str | Path, wanted: str, kind: str) -> Path:
    by_name = {p.stem: p for folder in (*_environment(), _WEIGHTS) for p in folder.glob("*.safetensors")}
    if isinstance(name, str) and name in by_name:
        return by_name[name]
    path = Path(name)
    with suppress(OSError):  # a name that no file system takes
        if path.is_file():
            return path
    names = [stem for stem, p in sorted(by_name.items()) if read_metadata(p).get("format") == wanted]
    known = ", ".join(map(printable_text, names)) or f"no {kind} by name"
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


def list_models(folders: Folders = ()) -> tuple[ModelInfo, ...]:
    """The codecs at hand: those in ``folders``, in the folders of ``VCM_WEIGHTS``, and the shipped ones, by name.

    Args:
        folders: folders of weights files, or weights files. What is no codec's file in a folder is passed over.

    Raises:
        InputError: one of ``folders`` does not exist.
    """
    found = []
    for path, meta in _files(FORMAT, folders):
        base, enhancement = _fingerprints(meta)
        name = printable_name(meta.get("name", ""), path.stem)
        found.append(
            ModelInfo(
                name, path, path.stat().st_size, base, enhancement, _card(path), printable_text(meta.get("trained"))
            )
        )
    return tuple(found)


def list_twins() -> tuple[TwinInfo, ...]:
    """The pixel twins at hand: in the folders of ``VCM_WEIGHTS``, and the shipped ones, by name."""
    return tuple(
        TwinInfo(
            printable_name(meta.get("name", ""), path.stem), path, path.stat().st_size,
            printable_text(meta.get("trunk")), _card(path), printable_text(meta.get("trained")),
        )
        for path, meta in _files(TWIN_FORMAT, ())
    )  # fmt: skip


def find_model(base: str, enhancement: str | None = None, folders: Folders = ()) -> ModelInfo:
    """The codec that reads a file's layers, among :func:`list_models`.

    Args:
        base, enhancement: fingerprints of the layers, hexadecimal; ``None`` where the enhancement is not there or is
            not to be read.
        folders: as of :func:`list_models`.

    Raises:
        FingerprintError: none reads them; the text names the fingerprint that is wanted and those that there are.
        InputError: one of ``folders`` does not exist.
    """
    models = list_models(folders)
    for model in models:
        if model.fingerprint == base and enhancement in (None, model.fingerprint_enhancement):
            return model
    layer = "base" if enhancement is None or base not in {m.fingerprint for m in models} else "enhancement"
    known = ((m.fingerprint if layer == "base" else m.fingerprint_enhancement, m.name) for m in models)
    raise FingerprintError(
        f"no weights here read the {layer} layer (looked for beside the file, in VCM_WEIGHTS, and among the shipped)",
        expected=f"weights with fingerprint {base if layer == 'base' else enhancement}",
        found=", ".join(f"{fingerprint} ({name})" for fingerprint, name in known) or "none",
    )


def printable_name(name: str, otherwise: str) -> str:
    """``name`` if it is a model's name, letters, digits and ``_.+-``; it is printed, and names columns of results."""
    return name if MODEL_NAME.fullmatch(name) else printable_text(otherwise)


def _files(wanted: str, folders: Folders) -> Iterator[tuple[Path, dict[str, str]]]:
    """Path and metadata of each weights file of one format, the named ones first and each once."""
    seen: set[Path] = set()
    for place in (*_named(folders), *_environment(), _WEIGHTS):
        for path in sorted(place.glob("*.safetensors")) if place.is_dir() else [place]:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            meta = read_metadata(path)
            if meta.get("format") == wanted:
                yield path, meta


def _named(folders: Folders) -> Iterator[Path]:
    for name in [folders] if isinstance(folders, str | os.PathLike) else folders:
        path = Path(name)
        if not path.exists():
            raise InputError("no such folder of weights", expected="a folder, or a .safetensors file", found=name)
        yield path


def _environment() -> list[Path]:
    """The folders of ``VCM_WEIGHTS``, as in ``PATH``: those that are not there are passed over."""
    named = os.environ.get("VCM_WEIGHTS", "").split(os.pathsep)
    return [Path(part) for part in named if part and Path(part).is_dir()]


def _fingerprints(meta: dict[str, str]) -> tuple[str, str]:
    """Base and enhancement, hexadecimal; empty where the file says none."""
    try:
        found = json.loads(meta.get("fingerprints", "{}"))
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(found, dict):
        return "", ""
    base, enhancement = (str(found.get(layer, "")) for layer in ("base", "enhancement"))
    return base if _FINGERPRINT.fullmatch(base) else "", enhancement if _FINGERPRINT.fullmatch(enhancement) else ""


def printable_text(text: str | None) -> str:
    """Free text of a file that may be anybody's, as it can be printed: one line, of 500 characters at most."""
    return "".join(c for c in (text or "")[:_MAX_TEXT] if c.isprintable())


def _card(path: Path) -> Path | None:
    card = path.with_suffix(".md")
    return card if card.is_file() else None
