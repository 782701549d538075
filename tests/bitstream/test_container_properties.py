"""Hypothesis: everything that can be built survives a round trip, and no bytes raise anything but a VcmError."""

from __future__ import annotations

import contextlib
import io

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vcm.bitstream import (
    MAX_PIXELS,
    Bitstream,
    Chunk,
    ChunkKind,
    Header,
    Layer,
    Metadata,
    SourceKind,
    append_layer,
    parse,
    read,
    read_base,
    tile_grid,
)
from vcm.errors import VcmError

# A busy machine is no failure.
BUSY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

sources = st.builds(SourceKind, st.sampled_from([8, 16]), st.booleans(), st.booleans())
# Chunk kinds that version 1 does not know, reserved ones included.
extras = st.builds(Chunk, st.sampled_from([3, 4, 5, 15, 19, 20, 21, 22, 112, 127]), st.binary(max_size=30))
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
metadatas = st.builds(
    Metadata,
    st.none() | st.binary(max_size=40),
    st.none() | st.binary(max_size=40),
    st.lists(st.tuples(keys, st.binary(max_size=20)), max_size=3, unique_by=lambda entry: entry[0]).map(tuple),
)


def layers(kind: ChunkKind, header: Header) -> st.SearchStrategy[Layer]:
    """Layers whose tiles fit the picture."""

    def of_size(log2: int) -> st.SearchStrategy[Layer]:
        columns, rows = tile_grid(*header.coded_size(kind), log2)
        streams = st.lists(st.binary(max_size=20), min_size=columns * rows, max_size=columns * rows).map(tuple)
        fingerprints = st.binary(min_size=8, max_size=8)
        return st.builds(Layer, st.just(kind), st.integers(0, 1023), fingerprints, st.just(log2), streams)

    return st.integers(10, 16).flatmap(of_size)


@st.composite
def bitstreams(draw: st.DrawFn) -> Bitstream:
    width = draw(st.integers(1, 3000) | st.sampled_from([1023, 1024, 1025, 5000]))
    height = draw(st.integers(1, min(2500, MAX_PIXELS // width)))
    scale = draw(st.integers(1, 8))
    header = Header(draw(st.integers(0, 255)), width, height, draw(sources), scale)
    base = draw(layers(ChunkKind.BASE, header))
    more = draw(st.lists(layers(ChunkKind.ENHANCEMENT, header), max_size=2))
    return Bitstream.build(
        width=width,
        height=height,
        codec_id=header.codec_id,
        source=header.source,
        base_scale=scale,
        layers=[base, *more],
        metadata=draw(metadatas),
        extra=draw(st.lists(extras, max_size=2)),
    )


@settings(max_examples=80, **BUSY)
@given(bitstreams(), st.randoms(use_true_random=False))
def test_round_trip(file: Bitstream, random) -> None:
    data = file.to_bytes()
    assert parse(data) == file
    assert parse(data).metadata == file.metadata
    assert len(data) == file.total_bytes
    assert read_base(io.BytesIO(data)).bitstream == parse(file.base)
    # Any order of the chunks after the base is a file too, and stays as it is.
    rest = list(file.chunks[1:])
    random.shuffle(rest)
    shuffled = Bitstream(file.header, (file.chunks[0], *rest))
    data = shuffled.to_bytes()
    assert parse(data) == shuffled
    assert [data[s.offset : s.offset + s.bytes] for s in shuffled.layout] == [layer.pack() for layer in shuffled.layers]


@settings(max_examples=30, **BUSY)
@given(st.data())
def test_layers_can_be_cut_and_appended_again(data: st.DataObject) -> None:
    file = data.draw(bitstreams())
    count = data.draw(st.integers(1, len(file.layers)))
    again = file.cut(count).to_bytes()
    assert file.to_bytes().startswith(again)
    for layer in file.layers[count:]:
        again = append_layer(again, layer)
    assert parse(again).layers == file.layers


def only_vcm_errors(data: bytes) -> None:
    for reader in (parse, read, read_base, lambda d: read_base(io.BytesIO(d))):
        with contextlib.suppress(VcmError):
            reader(data)


@settings(max_examples=300, **BUSY)
@given(st.binary(max_size=200))
@example(b"")
@example(b"VCM")
@example(b"VCM\x01")
def test_random_bytes_raise_only_vcm_errors(data: bytes) -> None:
    only_vcm_errors(data)
    only_vcm_errors(b"VCM\x01" + data)
    # With a true header, so that the chunks are reached.
    only_vcm_errors(Header(1, 2000, 20, base_bytes=100).pack() + data)


@settings(max_examples=80, **BUSY)
@given(st.data())
def test_mutated_files_raise_only_vcm_errors(data: st.DataObject) -> None:
    mutated = bytearray(data.draw(bitstreams()).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(mutated)))
        end = data.draw(st.integers(start, min(len(mutated), start + 12)))
        mutated[start:end] = data.draw(st.binary(max_size=12))
    only_vcm_errors(bytes(mutated))
