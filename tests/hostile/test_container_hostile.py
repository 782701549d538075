"""Each hostile file gives its own error, in one line with what was expected or found, and takes no memory."""

from __future__ import annotations

import importlib.util
import io
import tracemalloc
from pathlib import Path

import pytest

from vcm import errors
from vcm.bitstream import append_layer, parse, read, read_base

_spec = importlib.util.spec_from_file_location("hostile_generators", Path(__file__).with_name("generators.py"))
generators = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generators)


def test_the_generators_tell_the_truth_when_they_do_not_lie() -> None:
    honest = generators.file(generators.BASE, generators.ENHANCEMENT, generators.entry(b"key", b"value"))
    assert parse(honest).layer_names == ("base", "enhancement")
    assert parse(honest).metadata.entries == (("key", b"value"),)
    tiled = generators.file(generators.layer(b"a", b"b", b"c"), width=3000)
    assert parse(tiled).base_layer.tiles == (b"a", b"b", b"c")


@pytest.mark.parametrize("name", generators.HOSTILE)
def test_hostile_file(name: str) -> None:
    make, expected, base_fails = generators.HOSTILE[name]
    data = make()
    for reader in (parse, read, lambda d: read(io.BytesIO(d)), lambda d: append_layer(d, None)):
        with pytest.raises(errors.VcmError) as caught:
            reader(data)
        assert type(caught.value).__name__ == expected
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200
        assert (caught.value.expected, caught.value.found) != (None, None)
        assert caught.value.exit_status == 1
    for source in (data, io.BytesIO(data)):
        if base_fails:
            with pytest.raises(errors.VcmError) as caught:
                read_base(source)
            assert caught.value.exit_status == 1
        else:
            assert read_base(source).bytes_read == len(generators.BASE) + 17


@pytest.mark.parametrize("name", generators.HOSTILE)
def test_a_hostile_file_takes_no_memory(name: str) -> None:
    data = generators.HOSTILE[name][0]()
    tracemalloc.start()
    with pytest.raises(errors.VcmError):
        parse(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Below its own length for the long ones: refused before the payload is copied.
    assert peak < 1 << 20 or (peak < len(data) and "in_pieces" in name)
