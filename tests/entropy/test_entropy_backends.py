"""The compiled loops against the reference, and which of them is chosen."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcm import entropy
from vcm.entropy import backend, coder, rans
from vcm.errors import EntropyError

compiled = pytest.mark.skipif(entropy.BACKEND != "c", reason="the compiled loops are not built or not chosen")
SCALES = st.integers(0, entropy.NUM_SCALES - 1)


def _both(indexes, data):
    """Status, symbols and end of both loops on one stream; ``None`` for symbols where the status is not OK."""
    found = []
    for loops in (rans, backend.loops):
        out = np.zeros(indexes.size, np.int32)
        position, state, status = loops.decode(data, *rans.split(data), indexes, out)
        found.append((status, position, state, out.tolist()) if status == rans.OK else (status,))
    return found


@compiled
@settings(deadline=None)
@given(st.lists(st.tuples(SCALES, st.integers(-32767, 32767), st.booleans()), max_size=150))
def test_both_write_the_same_bytes(mix):
    indexes = np.array([i for i, _, _ in mix], np.uint8)
    near = np.array([s % 5 - 2 if close else s for _, s, close in mix], np.int32)
    symbols = np.where(indexes < entropy.SKIP_INDEX, 0, near).astype(np.int32)
    entries = coder._entries(symbols, indexes)
    stream = rans.encode(entries)
    assert backend.loops.encode(entries) == stream
    assert backend.compiled.codable(symbols, indexes)
    assert backend.compiled.encode_symbols(symbols, indexes) == stream
    reference, fast = _both(indexes, stream)
    assert reference == fast == (rans.OK, len(stream), 0, symbols.tolist())


@compiled
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.lists(SCALES, max_size=80))
def test_both_read_any_bytes_alike(data, indexes):
    try:
        rans.split(data)
    except EntropyError:
        return
    reference, fast = _both(np.array(indexes, np.uint8), data)
    assert reference == fast


@compiled
def test_both_agree_on_a_large_stream():
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, entropy.NUM_SCALES, 50_000).astype(np.uint8)
    symbols = np.rint(rng.standard_t(2, indexes.size) * entropy.scales()[indexes]).clip(-32767, 32767).astype(np.int32)
    symbols[indexes < entropy.SKIP_INDEX] = 0
    entries = coder._entries(symbols, indexes)
    stream = rans.encode(entries)
    assert backend.loops.encode(entries) == backend.compiled.encode_symbols(symbols, indexes) == stream
    reference, fast = _both(indexes, stream)
    assert reference == fast
    assert fast[3] == symbols.tolist()


@compiled
def test_compiled_loops_refuse_what_would_read_out_of_bounds():
    loops = backend.loops
    out = np.zeros(1, np.int32)
    for index in (97, 255):
        assert loops.decode(b"", 0, 5, np.array([index], np.uint8), out)[2] == rans.STATUS_BAD_INDEX
    for data, position, size in [(b"abcd", 5, 1), (b"abcd", -1, 1), (b"", 0, 2)]:
        with pytest.raises(ValueError, match=r"outside|length"):
            loops.decode(data, position, 0, np.full(size, 20, np.uint8), out)
    for entry in (0x0000_0005, 0x0002_FFFF):
        with pytest.raises(ValueError, match="interval"):
            loops.encode(np.array([entry], np.uint32))
    with pytest.raises(ValueError, match="already loaded"):
        loops.load(b"", b"", b"", 0)
    bad = [(32768, 20), (-32768, 20), (1, entropy.SKIP_INDEX - 1), (0, entropy.NUM_SCALES), (-(2**31), 96)]
    for symbol, index in bad:
        pair = np.array([symbol], np.int32), np.array([index], np.uint8)
        assert not backend.compiled.codable(*pair)
        with pytest.raises(ValueError, match="cannot be coded"):
            backend.compiled.encode_symbols(*pair)
    with pytest.raises(ValueError, match="cannot be coded"):
        backend.compiled.encode_symbols(np.zeros(2, np.int32), np.zeros(1, np.uint8))
    # The worst cases for the buffer: the longest escapes, and every entry of frequency 1, at the top of the range.
    far = np.full(4097, -32767, np.int32), np.full(4097, entropy.SKIP_INDEX, np.uint8)
    assert backend.compiled.encode_symbols(*far) == rans.encode(coder._entries(*far))
    entries = np.full(4097, 1 << 16 | 0xFFFF, np.uint32)
    assert loops.encode(entries) == rans.encode(entries) == b"\xff" * (2 * 4097)


class _Wrong:
    """Stands for a compiled module of another version."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def load(self, *_tables):
        if self.broken == "load":
            raise RuntimeError("another version")

    def encode(self, entries):
        return rans.encode(entries) + (b"\0" if self.broken == "encode" else b"")

    def codable(self, symbols, indexes):
        return self.broken != "codable"

    def encode_symbols(self, symbols, indexes):
        return b"" if self.broken == "encode_symbols" else rans.encode(coder._entries(symbols, indexes))

    def decode(self, data, position, state, indexes, out):
        result = rans.decode(data, position, state, indexes, out)
        out[-1] += self.broken == "decode"
        return result


@pytest.mark.parametrize("broken", ["load", "encode", "decode", "codable", "encode_symbols"])
def test_loops_that_fail_the_self_test_are_refused_in_the_log(broken, caplog):
    with mock.patch.dict(sys.modules, {"vcm.entropy._rans": _Wrong(broken)}):
        assert backend.compiled_loops() is None
    assert "refused" in caplog.text


def test_loops_that_pass_the_self_test_are_taken(caplog):
    with mock.patch.dict(sys.modules, {"vcm.entropy._rans": _Wrong("nothing")}):
        assert backend.compiled_loops() is not None
    assert caplog.text == ""


def test_missing_loops_are_no_cause_for_a_warning(caplog):
    with mock.patch.dict(sys.modules, {"vcm.entropy._rans": None}):
        assert backend.compiled_loops() is None
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_the_environment_forces_python_and_no_torch_is_imported():
    code = "import sys, vcm.entropy as e; print(e.BACKEND, 'torch' in sys.modules, e.TABLE_DIGEST)"
    environment = {**os.environ, backend.ENVIRONMENT_VARIABLE: "python"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["python", "False", entropy.TABLE_DIGEST]


def test_the_reference_serves_the_public_classes():
    symbols, indexes = np.array([0, -3, 900, 1], np.int32), np.array([30, 30, 30, 90], np.uint8)
    encoder = entropy.Encoder()
    encoder.push(symbols, indexes)
    stream = encoder.finish()
    with mock.patch.object(coder, "loops", rans):
        assert encoder.finish() == stream
        decoder = entropy.Decoder(stream)
        assert np.array_equal(decoder.pull(indexes), symbols)
        decoder.finish()


@compiled
def test_the_stub_names_what_the_module_has():
    stub = ast.parse((Path(backend.__file__).parent / "_rans.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    module = importlib.import_module("vcm.entropy._rans")
    assert named == {name for name in dir(module) if not name.startswith("_")}
