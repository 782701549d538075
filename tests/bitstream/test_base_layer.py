"""A base layer apart from what carries it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from vcm.bitstream import BaseLayer, Bitstream, ChunkKind, Metadata, SourceKind, parse
from vcm.errors import FormatError, LimitError, OptionError
from vcm.testing.strategies import bitstreams

LAYER = BaseLayer(1, 1500, 300, 4, 500, bytes(range(8)), 10, (b"stream",))


@given(bitstreams())
def test_any_file_gives_its_base_and_any_base_makes_a_file(file: Bitstream) -> None:
    base = file.coded_base
    assert base.as_layer() == file.base_layer
    assert base.coded_size == file.header.coded_size(ChunkKind.BASE)
    alone = Bitstream.of_base(base, source=file.header.source)
    assert alone.to_bytes() == file.base
    assert parse(alone.to_bytes()).coded_base == base


def test_what_a_base_does_not_hold_stays_with_the_file() -> None:
    file = Bitstream.of_base(LAYER, source=SourceKind(16, grey=True), metadata=Metadata(exif=b"exif"))
    assert (file.header.source.bit_depth, file.metadata.exif) == (16, b"exif")
    assert file.coded_base == LAYER


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("codec_id", 256, OptionError), ("width", 0, OptionError), ("height", 65_536, OptionError),
        ("scale", 17, OptionError), ("scale", 128, OptionError),
        ("quality_index", 1024, OptionError), ("fingerprint", bytes(7), OptionError),
        ("fingerprint", "00" * 8, OptionError), ("tile_log2", 13, OptionError), ("tiles", [b""], OptionError),
        ("tiles", (b"", b""), FormatError),
    ],
)  # fmt: skip
def test_fields_out_of_range_are_refused(field: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        replace(LAYER, **{field: value})


def test_more_pixels_than_a_picture_may_have_are_refused() -> None:
    with pytest.raises(LimitError, match="too many pixels"):
        replace(LAYER, width=65_535, height=65_535)


def test_quality_is_told_on_the_scale_that_encoders_take() -> None:
    assert LAYER.as_layer().quality == pytest.approx(500 * 100 / 1023)
