"""The coder through its public classes: round trips, bounds, golden bytes, hostile bytes, errors, threads."""

from __future__ import annotations

import math
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcm import entropy
from vcm.entropy.tables import _flat
from vcm.errors import EntropyError, OptionError
from vcm.testing import strategies

MAX = entropy.MAX_SYMBOL
SKIP = entropy.SKIP_INDEX
COUNT = entropy.NUM_SCALES


def encode(symbols, indexes):
    encoder = entropy.Encoder()
    encoder.push(np.asarray(symbols, np.int32), np.asarray(indexes, np.uint8))
    return encoder.finish()


def decode(data, indexes):
    decoder = entropy.Decoder(data)
    symbols = decoder.pull(np.asarray(indexes, np.uint8))
    decoder.finish()
    return symbols.tolist()


def gaussians(seed, count, mean_log2=-1.0, spread=1.5):
    """Symbols drawn from their own scales, as latents are; some are skipped."""
    rng = np.random.default_rng(seed)
    indexes = np.clip(np.rint((rng.normal(mean_log2, spread, count) + 4) * 8), 0, COUNT - 1).astype(np.uint8)
    symbols = np.rint(rng.normal(0, 1, count) * entropy.scales()[indexes]).astype(np.int32)
    symbols[indexes < SKIP] = 0
    return symbols, indexes


@settings(deadline=None)
@given(strategies.symbols())
def test_round_trip_of_any_mix(mix):
    symbols, indexes = mix
    assert decode(encode(symbols, indexes), indexes) == symbols.tolist()


@settings(deadline=None)
@given(strategies.symbols(), st.lists(st.integers(0, 200), max_size=5), st.lists(st.integers(0, 200), max_size=5))
def test_how_calls_divide_the_symbols_does_not_matter(mix, pushes, pulls):
    symbols, indexes = mix
    encoder = entropy.Encoder()
    for some, at in zip(np.split(symbols, sorted(pushes)), np.split(indexes, sorted(pushes)), strict=True):
        encoder.push(some, at)
    stream = encoder.finish()
    assert stream == encode(symbols, indexes)
    decoder = entropy.Decoder(stream)
    parts = [decoder.pull(part) for part in np.split(indexes, sorted(pulls))]
    decoder.finish()
    assert np.array_equal(np.concatenate(parts), symbols)
    assert all(part.dtype == np.int32 for part in parts)


@settings(deadline=None)
@given(strategies.symbols())
def test_length_is_cost_plus_two_bytes_at_most(mix):
    symbols, indexes = mix
    # 16 bits, and for each symbol coded at the smallest normalised state at most 2**-16 * log2(e) bits.
    bits = entropy.cost_bits(symbols, indexes) + 16 + 20 * len(symbols) * 2.3e-5
    assert len(encode(symbols, indexes)) <= math.ceil(bits / 8)


@pytest.mark.parametrize(("count", "mean"), [(20, 0.0), (400, -1.5), (4800, -2.3), (4800, -5.0), (60_000, 1.0)])
def test_length_of_tiles_like_real_ones(count, mean):
    over = []
    for seed in range(20 if count < 10_000 else 2):
        symbols, indexes = gaussians(seed, count, mean)
        over.append(len(encode(symbols, indexes)) - entropy.cost_bits(symbols, indexes) / 8)
    assert max(over) < 3
    assert -0.5 < float(np.mean(over)) < 2.3


def test_cost_of_one_symbol_is_its_frequency():
    flat = _flat()
    at = 0
    for index in range(COUNT):  # walk the committed array as a stranger would
        support, zero, first = int(flat[at]), int(flat[at + 2]), int(flat[at + 3])
        if index >= SKIP:
            cost = entropy.cost_bits(np.array([0, 1, -1], np.int32), np.full(3, index, np.uint8))
            assert cost == pytest.approx(48 - math.log2(zero) - 2 * math.log2(first), rel=1e-12)
        at += 3 + support
    assert entropy.cost_bits(np.zeros(9, np.int32), np.full(9, SKIP - 1, np.uint8)) == 0.0


def test_escape_costs_its_bits():
    # Index 8: R = 1, escape of frequency 1, order 0. 2 = R + 1 + 0: escape 16, sign 1, "1" 1 bit. 5: excess 3, "00100".
    assert entropy.cost_bits(np.array([2], np.int32), np.array([8], np.uint8)) == 18.0
    assert entropy.cost_bits(np.array([-5], np.int32), np.array([8], np.uint8)) == 22.0


def test_streams_with_nothing_to_code_are_empty():
    assert encode([], []) == b""
    assert encode([0] * 50, list(range(SKIP)) * 6 + [0, 1]) == b""
    assert decode(b"", [0, SKIP - 1]) == [0, 0]
    assert decode(b"", []) == []


GOLDEN = [
    ([0], [8], "01"),
    ([0, 0, 0], [32, 32, 32], "03"),
    ([1, -1, 2, -2], [8, 16, 24, 32], "feffc7fb7e37"),
    ([0, 5, 0], [7, 40, 3], "1cfc"),
    ([32767], [8], "0000f87f00c0"),
    ([-32767, 32767], [96, 8], "3500ab57a85001f0740300"),
    (
        [2, -3, 0, 40, -700, 900, 1, 0, -1, 0, 0, -12],
        [20, 33, 8, 70, 96, 96, 24, 24, 40, 12, 48, 60],
        "ffff3bfc4bc55a019afe2000",
    ),
    ([k * 7919 % 23 - 11 for k in range(24)], [56] * 24, "1cd36f48ad2dd05fa7ab333c63d7c858"),
]


@pytest.mark.parametrize(("symbols", "indexes", "stream"), GOLDEN)
def test_golden_bytes(symbols, indexes, stream):
    """Pinned for ever: archives hold such bytes."""
    assert encode(symbols, indexes).hex() == stream
    assert decode(bytes.fromhex(stream), indexes) == symbols


def test_spec_is_enough_to_write_a_decoder():
    """The decoder printed in docs/entropy.md, run as it stands there, reads our streams."""
    text = (Path(__file__).parents[2] / "docs" / "entropy.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(def decode_stream.*?)```", text, re.DOTALL)
    namespace: dict = {}
    exec(block, namespace)
    for seed, count in [(1, 0), (2, 1), (3, 3), (4, 5), (5, 40), (6, 3000)]:
        symbols, indexes = gaussians(seed, count)
        if count > 20:
            symbols[indexes >= SKIP] += np.where(np.arange((indexes >= SKIP).sum()) % 17 == 0, 4000, 0).astype(np.int32)
        stream = encode(symbols, indexes)
        assert namespace["decode_stream"](stream, indexes.tolist(), _flat().tolist()) == symbols.tolist()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.lists(st.integers(SKIP, COUNT - 1), max_size=60))
def test_any_bytes_decode_or_raise_and_only_our_own_are_accepted(data, indexes):
    try:
        symbols = decode(data, indexes)
    except EntropyError:
        return
    assert max(map(abs, symbols), default=0) <= MAX
    assert encode(symbols, indexes) == data


@settings(deadline=None)
@given(st.binary(max_size=16), st.integers(SKIP, COUNT - 1))
def test_a_stream_that_runs_dry_does_not_go_on_for_ever(data, index):
    # A dry decoder counts down to state 0, which is an escape without an end.
    with pytest.raises(EntropyError):
        decode(data, [index] * 70_000)


def test_damage_never_passes_with_the_same_symbols():
    symbols, indexes = gaussians(11, 600)
    stream = encode(symbols, indexes)
    assert len(stream) > 60
    for cut in range(len(stream)):
        with pytest.raises(EntropyError):
            decode(stream[:cut], indexes)
    for more in (b"\0", b"\1", b"\xff" * 4, b"\0" * 4):
        with pytest.raises(EntropyError):
            decode(stream + more, indexes)
    accepted = 0
    for bit in range(8 * len(stream)):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert decode(bytes(flipped), indexes) != symbols.tolist()
            accepted += 1
        except EntropyError:
            pass
    assert accepted == 0  # deterministic; expected once in some 65536 flips


def test_finish_wants_every_symbol_pulled():
    symbols, indexes = gaussians(3, 500)
    decoder = entropy.Decoder(encode(symbols, indexes))
    with pytest.raises(EntropyError, match="goes on"):
        decoder.finish()
    decoder.pull(indexes[:499])
    with pytest.raises(EntropyError, match=r"first state|goes on"):
        decoder.finish()
    decoder.pull(indexes[499:])
    decoder.finish()


def test_head_must_be_in_shortest_form():
    for data in (b"\0", b"\5\0", b"\1" * 7 + b"\0", b"\1\1\1\1\0" + b"\7" * 4):
        with pytest.raises(EntropyError, match="shortest"):
            entropy.Decoder(data)


def test_a_failed_pull_leaves_the_decoder_where_it_was():
    symbols, indexes = gaussians(5, 300)
    decoder = entropy.Decoder(encode(symbols, indexes))
    first = decoder.pull(indexes[:100])
    with pytest.raises(EntropyError, match="escape"):
        decoder.pull(np.full(70_000, 40, np.uint8))
    assert np.array_equal(np.concatenate([first, decoder.pull(indexes[100:])]), symbols)
    decoder.finish()


def test_what_cannot_be_coded_is_refused():
    def one(symbol, index):
        return np.array([symbol], np.int32), np.array([index], np.uint8)

    with pytest.raises(EntropyError, match="skipped") as caught:
        encode(*one(1, SKIP - 1))
    assert (caught.value.expected, caught.value.found) == (0, 1)
    for symbol in (MAX + 1, -MAX - 1, 2**31 - 1, -(2**31)):
        for function in (encode, entropy.cost_bits):
            with pytest.raises(EntropyError, match="at most 32767"):
                function(*one(symbol, 40))
    for index in (COUNT, 255):
        with pytest.raises(EntropyError, match="at most 96"):
            encode(*one(0, index))
        with pytest.raises(EntropyError, match="at most 96"):
            entropy.Decoder(b"").pull(np.array([index], np.uint8))


def test_a_wrong_call_is_a_usage_error():
    good_symbols, good_indexes = np.zeros(3, np.int32), np.zeros(3, np.uint8)
    for symbols, indexes in [
        (good_symbols.astype(np.int64), good_indexes),
        (good_symbols, good_indexes.astype(np.int32)),
        (good_symbols.reshape(1, 3), good_indexes),
        (good_symbols, good_indexes[:2]),
        ([0, 0, 0], good_indexes),
    ]:
        with pytest.raises(OptionError):
            entropy.Encoder().push(symbols, indexes)
    with pytest.raises(OptionError):
        entropy.Decoder(b"").pull(np.zeros((2, 2), np.uint8))


def test_a_refused_push_appends_nothing():
    encoder = entropy.Encoder()
    encoder.push(np.array([3], np.int32), np.array([40], np.uint8))
    with pytest.raises(EntropyError):
        encoder.push(np.array([3, MAX + 1], np.int32), np.array([40, 40], np.uint8))
    assert encoder.finish() == encode([3], [40])


def test_strided_arrays_are_read_as_they_are():
    symbols, indexes = gaussians(8, 400)
    wide_symbols, wide_indexes = np.repeat(symbols, 2)[::2], np.repeat(indexes, 2)[::2]
    stream = encode(symbols, indexes)
    encoder = entropy.Encoder()
    encoder.push(wide_symbols, wide_indexes)
    assert encoder.finish() == stream
    assert np.array_equal(entropy.Decoder(stream).pull(wide_indexes), symbols)


def test_two_threads_at_once():
    jobs = [gaussians(seed, 20_000) for seed in (21, 22)]
    results: list[list[bool]] = [[], []]
    gate = threading.Barrier(2)

    def work(which):
        symbols, indexes = jobs[which]
        gate.wait()
        for _ in range(3):
            stream = encode(symbols, indexes)
            results[which].append(decode(stream, indexes) == symbols.tolist())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[True] * 3] * 2
