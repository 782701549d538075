"""Families of codecs: what is taken is refused, and a package's own works like ours."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest

from vcm.codecs import families as families_module
from vcm.codecs.anchors import load_anchor
from vcm.codecs.families import CodecFamily, builders, families, family_name, register
from vcm.codecs.pillow import UncompressedCodec, jpeg
from vcm.errors import CodecFamilyError, OptionError


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch):
    """Entry points as an installed package would have them, beside ours."""
    module = ModuleType("zoo_package")
    monkeypatch.setitem(sys.modules, "zoo_package", module)
    entries: list[EntryPoint] = [EntryPoint("scalable", "vcm.codecs.scalable.family:FAMILY", families_module.GROUP)]
    monkeypatch.setattr(families_module, "entry_points", lambda group: entries)
    families.cache_clear()

    def install(family: object) -> None:
        module.FAMILY = family
        entries.append(EntryPoint("zoo", "zoo_package:FAMILY", families_module.GROUP))
        families.cache_clear()

    yield install
    families.cache_clear()


def test_our_own_are_there_once_installed_or_not(package) -> None:
    assert list(families()) == ["scalable", "conventional", "compressai"]
    assert families()["scalable"].codec_id == 1
    assert {"jpeg", "vvc", "mbt2018-mean"} <= builders().keys()


def test_codecs_of_a_package_are_loaded_by_name(package) -> None:
    package(CodecFamily("zoo", 200, {"plain": lambda options: UncompressedCodec(name=options.pop("called", "plain"))}))
    codec = load_anchor("plain:called=my codec")
    image = np.full((4, 5, 3), 7, np.uint8)
    assert np.array_equal(codec.decompress(codec.compress(image, 0)), image)
    assert load_anchor("plain@50").name == "plain@50"
    with pytest.raises(OptionError, match="plain has no such option: found colour"):
        load_anchor("plain:colour=red")
    with pytest.raises(OptionError, match=r"no such codec: expected uncompressed, .*plain, found gif"):
        load_anchor("gif")
    assert family_name(200) == "zoo (200)"
    assert family_name(1) == "scalable (1)"
    assert family_name(77) == "an unknown family (77)"


@pytest.mark.parametrize(
    ("family", "what"),
    [
        (CodecFamily("scalable", 9), "the same family scalable: expected one, found scalable and scalable"),
        (CodecFamily("zoo", 1), "the same codec id 1: expected one, found scalable and zoo"),
        (CodecFamily("zoo", None, {"jpeg": lambda options: jpeg()}), "the same codec jpeg: .*conventional and zoo"),
    ],
)
def test_what_is_taken_is_refused(package, family: CodecFamily, what: str) -> None:
    package(family)
    with pytest.raises(CodecFamilyError, match=f"two codec families claim {what}"):
        families()


def test_what_is_no_family_is_refused(package) -> None:
    package("a string")
    with pytest.raises(CodecFamilyError, match="zoo_package:FAMILY is no codec family"):
        families()


def test_a_package_that_does_not_import_is_named(package, monkeypatch: pytest.MonkeyPatch) -> None:
    package(CodecFamily("zoo"))
    monkeypatch.setitem(sys.modules, "zoo_package", None)
    families.cache_clear()
    with pytest.raises(CodecFamilyError, match="the codec family zoo cannot be loaded: expected zoo_package:FAMILY"):
        families()


def test_a_codec_id_that_no_header_holds_is_refused() -> None:
    for wrong in (0, 256, -1):
        with pytest.raises(CodecFamilyError, match="expected 1 to 255"):
            CodecFamily("zoo", wrong)


def test_families_are_registered_in_their_order() -> None:
    assert list(register([CodecFamily("b"), CodecFamily("a")])) == ["b", "a"]
