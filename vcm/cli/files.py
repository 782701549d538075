"""Names of inputs and outputs, all checked before any work is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vcm.cli.output import state, take_stdout, write_bytes
from vcm.errors import InputError, OutputError, UsageError, reason
from vcm.io.remote import address_of, exists, open_remote, place
from vcm.limits import DEFAULT_BYTES

if TYPE_CHECKING:
    from PIL import Image

    from vcm.api import PictureRows

__all__ = [
    "OWN_STEMS", "PICTURES", "STREAM", "check_target", "data_of", "is_vcm", "plan_outputs", "shown", "write_picture",
    "write_rows",
]  # fmt: skip

STREAM = Path("-")
"""Names stdin among the inputs and stdout as an output; a file of that name is ``./-``."""

PICTURES = frozenset(
    {
        ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jp2", ".jpeg", ".jpg", ".jxl", ".png", ".ppm", ".tif",
        ".tiff", ".webp",
    }
)  # fmt: skip
"""What nobody expects a VCM file under, and everybody a picture.

Not Pillow's list, which takes longer to import than the rest of a command.
"""
OWN_STEMS = (".decoded", ".boxes")
"""What ends the names of pictures that are written beside files, before the extension."""


def shown(target: Path) -> str:
    """An output's name for a person."""
    return "stdout" if target == STREAM else address_of(target) or str(target)


def write_picture(
    picture: Image.Image,
    target: Path,
    exif: bytes | None = None,
    icc: bytes | None = None,
    *,
    quality: int | None = None,
    form: str = "png",
) -> None:
    """To a file, or to stdout.

    Args:
        picture: what is written.
        target: where to.
        exif, icc: its metadata.
        quality: as for :func:`vcm.io.save.save_picture`.
        form: extension of what stdout takes.

    Raises:
        OutputError: it cannot be written.
    """
    from vcm.io.save import picture_bytes, picture_format, save_picture

    if target == STREAM:
        write_bytes(picture_bytes(picture, picture_format(f"stdout.{form}"), exif, icc, quality=quality))
    else:
        save_picture(picture, target, exif, icc, quality=quality)


def write_rows(rows: PictureRows, target: Path, *, form: str = "png") -> bool:
    """A picture to a file or stdout by bands, where the format can be written so.

    Args:
        rows: what is written.
        target, form: as for :func:`write_picture`.

    Returns:
        Whether it can; otherwise nothing was done.

    Raises:
        OutputError: it cannot be written.
    """
    from vcm.io.rows import ROW_FORMATS, picture_pieces, save_rows
    from vcm.io.save import picture_format

    kind = picture_format(f"stdout.{form}" if target == STREAM else target)
    if kind not in ROW_FORMATS:
        return False
    size = rows.width, rows.height
    if target == STREAM:
        for piece in picture_pieces(kind, size, rows.mode, rows, rows.exif, rows.icc):
            write_bytes(piece)
    else:
        save_rows(target, kind, size, rows.mode, rows, rows.exif, rows.icc)
    return True


def data_of(path: Path) -> Path | bytes:
    """What is read for an input: the file, or all of stdin, if that is no longer than a file may be.

    Raises:
        InputError: stdin cannot be read.
    """
    if path != STREAM:
        return path
    if sys.stdin is None:
        raise InputError("cannot read the standard input", found="it is closed")
    try:
        # One byte more says to whoever reads it next that it is too long.
        return sys.stdin.buffer.read(state.limits.get("max_bytes", DEFAULT_BYTES) + 1)
    except OSError as error:
        raise InputError("cannot read the standard input", found=reason(error)) from error


def is_vcm(source: Path | bytes) -> bool:
    """Whether an input is to be read as VCM: by a file's extension, or by the first bytes.

    A file that cannot be opened is not: whoever reads it next says why.
    """
    from vcm.bitstream import MAGIC

    if isinstance(source, bytes):
        return source.startswith(MAGIC)
    return source.suffix.lower() == ".vcm" or _starts_with(source, MAGIC)


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        if (address := address_of(path)) is not None:
            with open_remote(address) as remote:
                return remote.read(len(magic)) == magic
        # Opening a pipe would wait for its writer.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except (OSError, InputError):
        return False


def plan_outputs(
    inputs: Sequence[Path],
    output: str | None,
    suffix: str | None,
    *,
    below: Mapping[Path, Path] | None = None,
    also_read: Sequence[Path] = (),
    force: bool = False,
    json: bool = False,
) -> dict[Path, Path]:
    """Where the output of each input goes. If that is stdout, text goes to stderr from here on.

    Args:
        inputs: at least one.
        output: ``None``: beside each input, on stdout for stdin. For one input a file, unless it is a folder or ends in
            a slash, or ``-`` for stdout. For several inputs a folder, made if it is not there.
        suffix: of the outputs, where ``output`` does not name the file; ``None``: that of each input, where ``output``
            is given. All but ``.vcm`` are pictures.
        below: where an input is in a folder that was named: its output is there in the folder of ``output``.
        also_read: further files that must not be overwritten.
        force: write over a file that ``output`` names, whatever it is.
        json: a JSON document is to be printed.

    Returns:
        The output of each input. Folders beside inputs are not checked: see :func:`check_target`.

    Raises:
        UsageError: several inputs but one output file, two inputs with the same output, an output that is an input, or
            one that is there and may be somebody's original; stdout is a terminal or wanted by ``json`` as well.
        OutputError: the folder of ``output`` cannot be made or written, or no picture format has its extension.
    """
    if not all(path.name for path in (*inputs, *also_read)):
        raise UsageError("an input has no name", expected="a file", found="an empty name or a root folder")
    if output is None:
        targets = [path if path == STREAM else _renamed(path, suffix) for path in inputs]
        _check_targets(inputs, targets, also_read)
    elif below or len(inputs) > 1 or output.endswith(("/", os.sep)) or Path(output).is_dir():
        folder = place(output)
        if output == str(STREAM) or (folder.exists() and not folder.is_dir()):
            found = "stdout" if output == str(STREAM) else f"the file {output}"
            raise UsageError(f"--output with {len(inputs)} inputs", expected="a folder", found=found)
        names = [Path(f"stdin{suffix or ''}") if p == STREAM else (below or {}).get(p, Path(p.name)) for p in inputs]
        targets = [folder / _renamed(name, suffix) for name in names]
        _check_targets(inputs, targets, also_read)
        for parent in sorted({folder, *(target.parent for target in targets)}):
            _make_folder(parent)
    else:
        targets = [place(output)]
        _check_targets(inputs, targets, also_read)
        check_target(targets[0])
        if targets[0] != STREAM and not force:
            _check_replaced(targets[0], vcm=suffix == ".vcm")
    if suffix not in (".vcm", None):
        _check_formats(targets)
    if STREAM in targets:
        take_stdout(json=json)
    return dict(zip(inputs, targets, strict=True))


def _renamed(path: Path, suffix: str | None) -> Path:
    return path if suffix is None else path.with_suffix(suffix)


def _check_targets(inputs: Sequence[Path], targets: Sequence[Path], also_read: Sequence[Path]) -> None:
    read = {os.path.realpath(path) for path in (*inputs, *also_read) if path != STREAM}
    first: dict[str, Path] = {}
    for source, target in zip(inputs, targets, strict=True):
        place = str(STREAM) if target == STREAM else os.path.realpath(target)
        if place in read:
            raise UsageError(f"{target}: the output is one of the inputs", expected="another name with --output")
        if place in first:
            expected, found = "one each", f"{first[place]}, {source}"
            raise UsageError(f"two inputs would be written to {shown(target)}", expected=expected, found=found)
        first[place] = source


def _check_formats(targets: Sequence[Path]) -> None:
    from vcm.io.save import picture_format

    for target in targets:
        if target != STREAM:
            picture_format(target)


def _check_replaced(target: Path, *, vcm: bool) -> None:
    """Refuses to write over what is no earlier output of the command, and a VCM file under a picture's name."""
    from vcm.bitstream import MAGIC

    if vcm and target.suffix.lower() in PICTURES:
        raise UsageError(f"{target}: the name of a picture", expected="a name ending in .vcm, or --force")
    there = target.is_file() if (address := address_of(target)) is None else exists(address)
    if there and not (vcm and _starts_with(target, MAGIC)):
        found = "a file that is no VCM file" if vcm else "a file"
        raise UsageError(f"{target} is there", expected="another name, or --force to write over it", found=found)


def _make_folder(folder: Path) -> None:
    if address_of(folder) is not None:  # an object store has no folders
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made", found=error.strerror) from error
    _check_folder(folder)


def check_target(target: Path) -> None:
    """Before the work on one output.

    Raises:
        OutputError: nothing can be written there.
    """
    if target != STREAM and address_of(target) is None:
        _check_folder(target.parent)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: the folder is not writable")
