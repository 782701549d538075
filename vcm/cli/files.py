"""Names of inputs and outputs, all checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vcm.errors import OutputError, UsageError

__all__ = ["is_vcm", "plan_outputs"]


def is_vcm(path: Path) -> bool:
    """Whether a file is to be read as VCM: by its extension, or by its first bytes.

    A file that cannot be opened is not: whoever reads it next says why.
    """
    from vcm.bitstream import MAGIC

    if path.suffix.lower() == ".vcm":
        return True
    try:
        # Opening a pipe would wait for its writer.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def plan_outputs(
    inputs: Sequence[Path], output: str | None, suffix: str, *, also_read: Sequence[Path] = ()
) -> list[Path]:
    """Where the output of each input goes.

    Args:
        inputs: at least one.
        output: ``None``: beside each input. For one input a file, unless it is a folder or ends in a slash. For several
            inputs a folder, made if it is not there.
        suffix: of the outputs, where ``output`` does not name the file.
        also_read: further files that must not be overwritten.

    Raises:
        UsageError: several inputs but one output file, two inputs with the same output, or an output that is an input.
        OutputError: a folder cannot be made or written.
    """
    if not all(path.name for path in (*inputs, *also_read)):
        raise UsageError("an input has no name", expected="a file", found="an empty name or a root folder")
    if output is None:
        targets = [path.with_suffix(suffix) for path in inputs]
    elif len(inputs) > 1 or output.endswith(("/", os.sep)) or Path(output).is_dir():
        folder = Path(output)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--output with {len(inputs)} inputs", expected="a folder", found=f"the file {output}")
        targets = [folder / path.with_suffix(suffix).name for path in inputs]
    else:
        targets = [Path(output)]
    _check_targets(inputs, targets, also_read)
    for folder in {target.parent for target in targets}:
        _make_folder(folder, make=output is not None and folder == Path(output))
    return targets


def _check_targets(inputs: Sequence[Path], targets: Sequence[Path], also_read: Sequence[Path]) -> None:
    read = {path.resolve() for path in (*inputs, *also_read)}
    first: dict[Path, Path] = {}
    for source, target in zip(inputs, targets, strict=True):
        place = target.resolve()
        if place in read:
            raise UsageError(f"{target}: the output is one of the inputs", expected="another name with --output")
        if place in first:
            raise UsageError(
                f"two inputs would be written to {target}", expected="one each", found=f"{first[place]}, {source}"
            )
        first[place] = source


def _make_folder(folder: Path, *, make: bool) -> None:
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made", found=error.strerror) from error
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: the folder is not writable")
