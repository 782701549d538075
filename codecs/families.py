"""Families of codecs: by the names that a person types, and by the codec id in the header of a file of ours.

A package adds a family as an entry point of group ``vcm.codec_families``::

    [project.entry-points."vcm.codec_families"]
    zoo = "my_package.zoo:FAMILY"      # a CodecFamily
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from vcm.codecs.protocol import ImageCodec
from vcm.errors import CodecFamilyError
from vcm.plugins import load_plugin

__all__ = ["GROUP", "Builder", "CodecFamily", "builders", "families", "family_name", "register"]

GROUP = "vcm.codec_families"
"""Entry points that are looked for."""

# Entry points of our own package too; named here as well, so that a checkout works that was never installed.
_OURS = (
    ("scalable", "vcm.codecs.scalable.family:FAMILY"),
    ("conventional", "vcm.codecs.anchors:FAMILY"),
    ("compressai", "vcm.codecs.compressai_models:FAMILY"),
)

Builder = Callable[[dict[str, str]], ImageCodec]
"""A codec from its options, text by name. It takes out (``pop``) those that it knows; what is left is refused."""


@dataclass(frozen=True, slots=True)
class CodecFamily:
    """A family of codecs.

    Attributes:
        name: of the family, unique.
        codec_id: 1 … 255, in the header of files of ours that this family writes; ``None`` for formats of their own.
        builders: how each codec of the family is built, by the name that a person types, unique among all families.

    Raises:
        CodecFamilyError: the codec id is out of range.
    """

    name: str
    codec_id: int | None = None
    builders: Mapping[str, Builder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codec_id is not None and not 1 <= self.codec_id <= 255:
            raise CodecFamilyError(f"codec id of {self.name}", expected="1 to 255", found=self.codec_id)


def register(found: Iterable[CodecFamily]) -> dict[str, CodecFamily]:
    """Families by name, each name, codec id and codec there once.

    Raises:
        CodecFamilyError: one is there twice.
    """
    out: dict[str, CodecFamily] = {}
    taken: dict[object, str] = {}
    for family in found:
        claims: list[object] = [("family", family.name), *(("codec", name) for name in family.builders)]
        if family.codec_id is not None:
            claims.append(("codec id", family.codec_id))
        for claim in claims:
            if claim in taken:
                what = "two codec families claim the same {} {}".format(*claim)  # type: ignore[misc]
                raise CodecFamilyError(what, expected="one", found=f"{taken[claim]} and {family.name}")
            taken[claim] = family.name
        out[family.name] = family
    return out


@cache
def families() -> dict[str, CodecFamily]:
    """All families by name: ours, and those of installed packages.

    Raises:
        CodecFamilyError: two of them clash, or one cannot be loaded.
    """
    named = dict.fromkeys([*_OURS, *((entry.name, entry.value) for entry in entry_points(group=GROUP))])
    entries = (EntryPoint(name, value, GROUP) for name, value in named)
    return register(load_plugin(entry, CodecFamily, CodecFamilyError, "codec family") for entry in entries)


def builders() -> dict[str, Builder]:
    """All codecs by the name that a person types.

    Raises:
        CodecFamilyError: as of :func:`families`.
    """
    return {name: build for family in families().values() for name, build in family.builders.items()}


def family_name(codec_id: int) -> str:
    """Who writes files with this codec id, for messages: a family's name and the id, or the id alone."""
    for family in families().values():
        if family.codec_id == codec_id:
            return f"{family.name} ({codec_id})"
    return f"an unknown family ({codec_id})"
