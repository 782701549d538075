"""Hypothesis: everything that can be built survives a round trip, and no bytes raise anything but a VcmError."""

from __future__ import annotations

import contextlib
import io

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vcm.bitstream import Bitstream, Header, append_layer, parse, read, read_base
from vcm.errors import VcmError
from vcm.testing.strategies import bitstreams, damaged

# A busy machine is no failure.
BUSY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


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
    only_vcm_errors(data.draw(damaged(data.draw(bitstreams()).to_bytes())))
