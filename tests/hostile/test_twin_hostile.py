"""Hostile twin files, packed here by hand: each is refused with one clear error, before memory is taken."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_twin, tiny_weights

from vcm.errors import VcmError, WeightsError
from vcm.twin import load_twin

Document = dict[str, Any]
INT8, SCALE = "analysis.mix.conv.weight", "analysis.mix.conv.weight.scale"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    tiny_weights(folder)
    return tiny_twin(folder / "twin.safetensors")


def unpack(data: bytes) -> tuple[Document, bytearray]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def pack(header: Document, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def refused(good: Path, data: bytes, match: str) -> None:
    path = good.with_name("bad.safetensors")
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=match) as caught:
        load_twin(path)
    assert "\n" not in str(caught.value)


def test_the_packer_is_right(good: Path) -> None:
    header, body = unpack(good.read_bytes())
    path = good.with_name("again.safetensors")
    path.write_bytes(pack(header, bytes(body)))
    assert load_twin(path).fingerprint == load_twin(good).fingerprint


def _meta(**changes: str | None) -> Callable[[Document], None]:
    def change(header: Document) -> None:
        meta = {**header["__metadata__"], **changes}
        header["__metadata__"] = {k: v for k, v in meta.items() if v is not None}

    return change


def _rename(header: Document) -> None:
    header["sur\nplus"] = header.pop(INT8)


def _reshape(header: Document) -> None:
    header[INT8]["shape"] = [header[INT8]["shape"][0], int(np.prod(header[INT8]["shape"][1:])), 1, 1]


def _retype(header: Document) -> None:
    header[INT8]["dtype"] = "U8"


def _huge(header: Document) -> None:
    header[INT8]["shape"] = [1 << 40, 1 << 20]


def _beyond(header: Document) -> None:
    header[INT8]["data_offsets"][1] = 1 << 50


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_meta(format="vcm-weights-9"), "holds no pixel twin"),
        (_meta(format=None), "holds no pixel twin"),
        (_meta(architecture="a\nb"), "unknown architecture"),
        (_meta(name=None), "no name"),
        (_meta(name="\x1b[2J\n"), "no name"),
        (_meta(trunk=None), "names no trunk"),
        (_meta(trunk="../../etc/passwd"), "names no trunk"),
        (_meta(trunk="a/b"), "names no trunk"),
        (_meta(trunk="own"), "lacks a tensor"),
        (_meta(trunk_sha256=None), "another trunk"),
        (_meta(trunk_sha256="0\n"), "another trunk"),
        (_rename, "lacks a tensor|too many"),
        (_reshape, "wrong shape"),
        (_retype, "wrong type"),
        (_huge, "not a readable safetensors file"),
        (_beyond, "not a readable safetensors file"),
    ],
)
def test_headers_that_lie(good: Path, change: Callable[[Document], None], match: str) -> None:
    header, body = unpack(good.read_bytes())
    change(header)
    refused(good, pack(header, bytes(body)), match)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        (INT8, struct.pack("<b", -128), "out of range"),
        (SCALE, struct.pack("<e", -1.0), "scales of at least 0"),
        (SCALE, struct.pack("<e", float("inf")), "finite"),
        (SCALE, struct.pack("<e", float("nan")), "finite"),
        ("analysis.mix.conv.bias", struct.pack("<e", float("nan")), "finite"),
    ],
)
def test_values_that_are_none(good: Path, name: str, value: bytes, match: str) -> None:
    header, body = unpack(good.read_bytes())
    start = header[name]["data_offsets"][0]
    body[start : start + len(value)] = value
    refused(good, pack(header, bytes(body)), match)


def test_bytes_that_are_no_file(good: Path) -> None:
    data = good.read_bytes()
    nested = b"[" * 200_000
    for bad in (
        b"", b"\xff" * 64, data[:-1], data[:100], data + b"\0", pickle.dumps({"a": 1}),
        struct.pack("<Q", len(nested)) + nested, struct.pack("<Q", 1 << 62) + data[8:],
    ):  # fmt: skip
        refused(good, bad, "not a readable safetensors file")


def test_a_file_that_is_too_large_is_not_opened(good: Path) -> None:
    path = good.with_name("large.safetensors")
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)  # sparse: takes no room
    with pytest.raises(WeightsError, match="too large"):
        load_twin(path)


def test_a_trunk_file_is_checked_as_well(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    (tmp_path / "twin.safetensors").write_bytes(data)
    codec = tiny_weights(tmp_path)
    header, body = unpack(codec.read_bytes())
    name = "model.analysis.trunk.stem.bias"
    for change, match in (("dtype", "wrong type"), ("shape", "wrong shape"), ("gone", "lacks a tensor")):
        lie = json.loads(json.dumps(header))
        if change == "gone":
            lie["other"] = lie.pop(name)
        elif change == "dtype":
            lie[name]["dtype"] = "BF16"
        else:
            lie[name]["shape"] = [*lie[name]["shape"], 1]
        codec.write_bytes(pack(lie, bytes(body)))
        with pytest.raises(WeightsError, match=match):
            load_twin(tmp_path / "twin.safetensors")


def test_damage_in_the_header_is_no_crash(good: Path) -> None:
    data = good.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    rng = np.random.default_rng(0)
    path = good.with_name("damaged.safetensors")
    refusals = 0
    for at in [*range(8), *rng.integers(8, end, 40).tolist()]:
        path.write_bytes(data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :])
        try:
            load_twin(path)
        except VcmError:
            refusals += 1
    assert refusals > 40  # the rest lies in free text
