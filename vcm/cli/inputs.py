"""Which files a command works on: names, quoted patterns, and with ``-r`` all that is in folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vcm.cli.files import OWN_STEMS, PICTURES, STREAM
from vcm.errors import InputError
from vcm.io.remote import address_of

__all__ = ["Inputs", "find_inputs"]

_VCM = frozenset({".vcm"})


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files to work on.

    Attributes:
        paths: in the order in which they were named, of a folder or pattern by name.
        below: where a file that was found in a folder is in it.
    """

    paths: list[Path]
    below: dict[Path, Path] = field(default_factory=dict)


def find_inputs(
    named: Sequence[Path], *, recursive: bool = False, pictures: bool = False, streams: bool = False
) -> Inputs:
    """Files that a command line names.

    A name with ``*``, ``?`` or ``[`` that is no file is a pattern, in which ``**`` stands for any folders; one that
    fits nothing stays as it is, so that whoever reads it says that there is no such file. So does a folder without
    ``recursive``.

    Args:
        named: files, folders, patterns, addresses, ``-``.
        recursive: take the files in folders, and in theirs.
        pictures, streams: of which kind, by extension: pictures, but not those that ``decode`` and ``detect --draw``
            wrote beside files; or VCM files. Hidden files and folders are left out.

    Raises:
        InputError: there is none in a folder.
    """
    found = Inputs([])
    wanted = (PICTURES if pictures else frozenset()) | (_VCM if streams else frozenset())
    for name in named:
        for path in _matches(name):
            if not (recursive and path != STREAM and address_of(path) is None and path.is_dir()):
                found.paths.append(path)
                continue
            inside = sorted(_inside(path, wanted))
            if not inside:
                kinds = " and ".join(["pictures"] * pictures + ["VCM files"] * streams)
                raise InputError(f"{path}: nothing to do in this folder", expected=kinds, found="none")
            found.paths.extend(inside)
            found.below.update((file, file.relative_to(path)) for file in inside)
    return found


def _matches(name: Path) -> list[Path]:
    text = str(name)
    if name == STREAM or address_of(name) or not glob.has_magic(text) or os.path.lexists(name):
        return [name]
    found = glob.glob(text, recursive=True)  # noqa: PTH207  # Path.glob refuses absolute patterns
    return [Path(one) for one in sorted(found)] or [name]


def _inside(folder: Path, wanted: frozenset[str]) -> Iterator[Path]:
    # Links to folders are not followed: they may lead back.
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for name in names:
            file = Path(place, name)
            own = name.startswith(".") or file.stem.endswith(OWN_STEMS)
            if file.suffix.lower() in wanted and not own:
                yield file
