"""Damage is always found: every byte changed, every length cut."""

from __future__ import annotations

import io

import pytest

from vcm.bitstream import HEADER_BYTES, Bitstream, parse, read_base
from vcm.errors import ChecksumError, FormatError, TruncatedError, VcmError

MASKS = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x03, 0x0F, 0x55, 0xAA, 0xF0, 0xFF)


def test_every_changed_byte_is_found_by_parse(small_file: Bitstream) -> None:
    data = small_file.to_bytes()
    missed = []
    for position in range(len(data)):
        for mask in MASKS:
            damaged = bytearray(data)
            damaged[position] ^= mask
            try:
                parse(damaged)
            except VcmError:
                continue
            missed.append((position, mask))
    assert missed == []


def test_every_changed_byte_of_the_prefix_is_found_by_read_base(small_file: Bitstream) -> None:
    data = small_file.to_bytes()
    for position in range(small_file.header.base_bytes):
        for mask in MASKS:
            damaged = bytearray(data)
            damaged[position] ^= mask
            with pytest.raises(VcmError):
                read_base(io.BytesIO(damaged))


def test_damage_after_the_prefix_does_not_matter_to_read_base(small_file: Bitstream) -> None:
    data = bytearray(small_file.to_bytes())
    data[small_file.header.base_bytes :] = b"\xff" * (len(data) - small_file.header.base_bytes)
    assert read_base(bytes(data)).bitstream == parse(small_file.base)


def test_a_damaged_stream_names_its_tile(small_file: Bitstream) -> None:
    data = bytearray(small_file.to_bytes())
    span = small_file.layout[1]
    data[span.offset + span.bytes - 1] ^= 1
    with pytest.raises(ChecksumError, match=r"stream of tile 1 is damaged: expected CRC 0x.*, found 0x"):
        parse(data)


def test_every_cut_is_a_valid_file_at_a_chunk_boundary_and_truncated_elsewhere(small_file: Bitstream) -> None:
    data = small_file.to_bytes()
    ends = [HEADER_BYTES]
    for chunk in small_file.chunks:
        ends.append(ends[-1] + chunk.wire_bytes)
    assert ends[-1] == len(data)
    for length in range(len(data)):
        if length in ends[1:]:
            part = parse(data[:length])
            assert part == Bitstream(small_file.header, small_file.chunks[: ends.index(length)])
            assert part.to_bytes() == data[:length]
            continue
        whole = tuple(span.name for span in small_file.layout if span.offset + span.bytes <= length)
        with pytest.raises(TruncatedError) as caught:
            parse(data[:length])
        assert caught.value.whole_layers == whole
        assert caught.value.found is not None
        if whole:
            assert f"whole layers: {', '.join(whole)}" in str(caught.value)


def test_read_base_of_a_cut_prefix_is_truncated(small_file: Bitstream) -> None:
    for length in range(small_file.header.base_bytes):
        for source in (small_file.base[:length], io.BytesIO(small_file.base[:length])):
            with pytest.raises(TruncatedError):
                read_base(source)


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"V"])
def test_filler_after_the_end_is_refused(small_file: Bitstream, filler: bytes) -> None:
    # What a disk or a careless copy leaves behind. Zero bytes must not read as an empty chunk of kind 0.
    for count in (1, 6, 7, 8, 14, 512):
        with pytest.raises(FormatError):
            parse(small_file.to_bytes() + filler * count)
