"""The interface that anchors share, and anchors by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vcm.codecs.anchors import load_anchor, parse_spec
from vcm.codecs.families import builders
from vcm.codecs.protocol import CodecInfo, ImageCodec, QualityRange, check_image, check_size
from vcm.errors import LimitError, MissingDependencyError, OptionError
from vcm.limits import MAX_PIXELS


def test_quality_range_accepts_its_ends_and_nothing_beyond() -> None:
    span = QualityRange(0, 63, unit="QP", ascending=False)
    assert span.check(0) == 0
    assert span.check(63) == 63
    for bad in (-1, 64, 22.5, math.nan, math.inf):
        with pytest.raises(OptionError):
            span.check(bad)
    assert QualityRange(0.1, 25, integer=False).check(1.5) == 1.5


def test_fraction_zero_is_the_smallest_file_whatever_the_direction() -> None:
    assert QualityRange(0, 100).at(0) == 0
    assert QualityRange(0, 63, ascending=False).at(0) == 63
    assert QualityRange(1, 8).at(1) == 8
    assert QualityRange(1, 8).at(0.5) == round(4.5)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_only_uint8_rgb_is_a_picture(bad: object) -> None:
    with pytest.raises(OptionError, match="not an RGB picture"):
        check_image(bad)  # type: ignore[arg-type]


def test_a_strided_picture_becomes_contiguous() -> None:
    assert check_image(np.zeros((8, 8, 3), np.uint8)[:, ::2]).flags.c_contiguous


def test_sizes_are_limited_before_memory_is_taken() -> None:
    check_size(1, 1)
    for width, height in ((0, 5), (1 << 15, (MAX_PIXELS >> 15) + 1)):
        with pytest.raises(LimitError):
            check_size(width, height)


def test_fingerprint_changes_with_every_setting() -> None:
    one = CodecInfo("a", "1", (("q", 1),))
    assert one.fingerprint == CodecInfo("a", "1", (("q", 1),)).fingerprint
    others = [CodecInfo("b", "1", (("q", 1),)), CodecInfo("a", "2", (("q", 1),)), CodecInfo("a", "1", (("q", 2),))]
    assert len({one.fingerprint, *(o.fingerprint for o in others)}) == 4


def test_specification_has_name_scale_and_options() -> None:
    assert parse_spec("jpeg") == ("jpeg", None, {})
    assert parse_spec("vvc@50:preset=medium;bits=8") == ("vvc", 50, {"preset": "medium", "bits": "8"})
    assert parse_spec("mbt2018-mean:weights=w/{quality}.pth") == ("mbt2018-mean", None, {"weights": "w/{quality}.pth"})


@pytest.mark.parametrize("bad", ["", "jpeg@", "jpeg@half", "jpeg:quality", "avif:speed=1;speed=2", "a b"])
def test_malformed_specifications_are_refused(bad: str) -> None:
    with pytest.raises(OptionError):
        parse_spec(bad)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(OptionError, match="no such codec"):
        load_anchor("gif")
    with pytest.raises(OptionError, match="no such option"):
        load_anchor("jpeg:speed=3")
    with pytest.raises(OptionError, match="whole number"):
        load_anchor("avif:speed=fast")


def test_scale_of_100_is_the_codec_itself() -> None:
    assert load_anchor("jpeg@100").name == "jpeg"
    assert load_anchor("jpeg@50").name == "jpeg@50"
    for bad in ("jpeg@0", "jpeg@6", "jpeg@101"):
        with pytest.raises(OptionError):
            load_anchor(bad)


@pytest.mark.parametrize("name", list(builders()))
def test_every_anchor_has_the_interface(name: str) -> None:
    try:
        codec = load_anchor(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert isinstance(codec, ImageCodec)
    assert codec.name == name
