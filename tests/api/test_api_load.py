"""Weights files: ours load, everything else is refused with one clear error, and nothing in a file is executed."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_tools import networks_of, noise
from safetensors.torch import load_file, save_file
from tiny import TINY_WEIGHTS, tiny_codec
from torch import Tensor

import vcm
from vcm.api.arguments import Backend
from vcm.errors import ModelNotFoundError, OptionError, VcmError, WeightsError
from vcm.weights.registry import FORMAT, read_metadata


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(TINY_WEIGHTS)


def load_with(tmp_path: Path, tensors: dict[str, Tensor], backend: Backend = "torch", **meta: str) -> vcm.Codec:
    """Load a file with these tensors and changed metadata."""
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {**read_metadata(TINY_WEIGHTS), **meta})
    return vcm.load(path, backend=backend)


def use(codec: vcm.Codec) -> None:
    """Runs every network: onnxruntime's are read and checked when they are first needed."""
    codec.detect(codec.encode(noise(64, 64)))


def test_a_copy_loads_and_codes_alike(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    codec = load_with(tmp_path, tensors)
    assert codec.name == "tiny"
    assert codec.fingerprint == tiny_codec().fingerprint
    stored = json.loads(read_metadata(TINY_WEIGHTS)["fingerprints"])
    assert stored == {"base": codec.fingerprint, "enhancement": codec.fingerprint_enhancement}
    assert codec.encode(noise(32, 32)).to_bytes() == tiny_codec().encode(noise(32, 32)).to_bytes()


@pytest.mark.parametrize("name", ["no-such-model", "", "..", "a/b", "x" * 5000, "nul\0"])
def test_no_such_model(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no such model"):
        vcm.load(name)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        vcm.load(tmp_path)


def test_names_that_cannot_be_printed_are_not_taken(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    assert load_with(tmp_path, tensors, name="\x1b[2J", trained="a\nb").name == "model"
    assert vcm.load(tmp_path / "model.safetensors", backend="onnx").name == "model"


def test_no_such_device() -> None:
    with pytest.raises(OptionError, match="no such device"):
        vcm.load(TINY_WEIGHTS, "toaster")


class Bomb:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    for i, write in enumerate((pickle.dump, torch.save)):
        path, mark = tmp_path / f"{i}.safetensors", tmp_path / f"ran{i}"
        with path.open("wb") as file:
            write({"model": Bomb(mark)}, file)
        with pytest.raises(WeightsError, match="is not a readable safetensors file"):
            vcm.load(path)
        assert not mark.exists()


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"text", b"\xff" * 64, TINY_WEIGHTS.read_bytes()[:-1]])
def test_files_that_are_no_safetensors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError):
        vcm.load(path)


def test_damage_in_the_header_is_no_crash(tmp_path: Path) -> None:
    data = TINY_WEIGHTS.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(0)
    path = tmp_path / "model.safetensors"
    refused = 0
    for at in [*range(8), *rng.integers(8, header, 40).tolist()]:
        path.write_bytes(data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :])
        try:
            vcm.load(path)
        except VcmError:
            refused += 1
    assert refused > 40  # the rest lies in free text


def test_a_safetensors_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=f"holds no VCM weights: expected {FORMAT}"):
        vcm.load(path)


def test_an_unknown_architecture(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """Its name is anybody's text, and does not reach a terminal as it is."""
    with pytest.raises(WeightsError, match=r"unknown architecture: expected small, tiny, found 'hu\\x1bge'"):
        load_with(tmp_path, tensors, architecture="hu\x1bge")


def changed(tensors: dict[str, Tensor], name: str, value: Tensor | None) -> dict[str, Tensor]:
    out = {k: v for k, v in tensors.items() if k != name}
    return out if value is None else {**out, name: value}


WEIGHT, GAIN, FLOAT = "model.base.net.hyper1.weight", "model.picture.gain_y", "detect.p16.conv.weight"


def test_tensors_missing_added_or_of_another_shape_or_type(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    own = tensors[WEIGHT]
    with pytest.raises(WeightsError, match=f"lacks a tensor: expected {WEIGHT}"):
        load_with(tmp_path, changed(tensors, WEIGHT, None))
    with pytest.raises(WeightsError, match="a tensor too many: found 'surplus'"):
        load_with(tmp_path, {**tensors, "surplus": torch.zeros(1)})
    with pytest.raises(
        WeightsError,
        match=re.escape(f"{WEIGHT} has the wrong shape: expected {tuple(own.shape)}"),
    ):
        load_with(tmp_path, changed(tensors, WEIGHT, own[:1].clone()))
    with pytest.raises(WeightsError, match=f"{WEIGHT} has the wrong type: expected I8, found I32"):
        load_with(tmp_path, changed(tensors, WEIGHT, own.int()))
    with pytest.raises(WeightsError, match=f"{FLOAT} has the wrong type: expected F16, found I32"):
        load_with(tmp_path, changed(tensors, FLOAT, tensors[FLOAT].to(torch.int32)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(tmp_path: Path, tensors: dict[str, Tensor], value: float) -> None:
    wrong = tensors[FLOAT].clone()
    wrong.view(-1)[3] = value
    with pytest.raises(WeightsError, match="not a tensor of finite real numbers"):
        load_with(tmp_path, changed(tensors, FLOAT, wrong))
    codec = load_with(tmp_path, changed(tensors, FLOAT, wrong), "onnx")
    with pytest.raises(WeightsError, match="not a tensor of finite real numbers"):
        use(codec)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (WEIGHT, 64), (WEIGHT, -128), ("model.picture.net.fuse.0.bias", 1 << 24),
        ("model.picture.net.first.0.1.multiplier", -1), (GAIN, 1 << 20), ("model.base.prior_scale", 1 << 12),
    ],
)  # fmt: skip
def test_integers_on_which_exactness_rests(tmp_path: Path, tensors: dict[str, Tensor], name: str, value: int) -> None:
    wrong = tensors[name].clone()
    wrong.view(-1)[0] = value
    with pytest.raises(WeightsError, match=r"out of range|may overflow"):
        load_with(tmp_path, changed(tensors, name, wrong))
    with pytest.raises(WeightsError, match=r"out of range|may overflow"):
        use(load_with(tmp_path, changed(tensors, name, wrong), "onnx"))


def test_fingerprints_cover_what_decoding_depends_on(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """Integer tensors and the names of the latents count; heads, encoders and synthesis do not."""
    own = tiny_codec()

    def prints(tensor: str, **meta: str) -> tuple[bool, bool]:
        wrong = {k: v.clone() for k, v in tensors.items()}
        if tensor:
            first = wrong[tensor].view(-1)
            first[0] += 1 if first[0] < 5 else -1
        codec = load_with(tmp_path, wrong, **meta)
        return codec.fingerprint == own.fingerprint, codec.fingerprint_enhancement == own.fingerprint_enhancement

    assert prints(WEIGHT) == (False, False), "the enhancement is conditioned on the base"
    assert prints(GAIN) == (True, False)
    for name in (FLOAT, "model.analysis.project.weight", "model.synthesis.out.weight", "model.base.h_a.conv1.weight"):
        assert prints(name) == (True, True)
    assert prints("", base_id="tiny/base/2") == (False, False)
    assert prints("", picture_id="tiny/enhancement/2") == (True, False)
    assert prints("", name="renamed") == (True, True)


def test_networks_are_frozen() -> None:
    assert not any(p.requires_grad for p in networks_of(tiny_codec()).parameters())
    assert not networks_of(tiny_codec()).training
