"""A codec goes to other processes and devices."""

from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_tools import noise
from tiny import GOLDEN_FILE, TINY_WEIGHTS, tiny_codec

import vcm
from vcm.api.arguments import Backend
from vcm.errors import FingerprintError, OptionError
from vcm.structures import Latents
from vcm.tasks.detection import DetectionHead
from vcm.weights.head_file import save_head

BACKENDS = pytest.mark.parametrize("backend", ["torch", "onnx"])


def mean(latents: Latents) -> float:
    """A head that pickles by its name."""
    return float(latents.y_hat.mean())


@BACKENDS
def test_a_codec_pickles(backend: Backend, tmp_path: Path) -> None:
    codec = vcm.load(TINY_WEIGHTS, backend=backend, threads=2).add_head("mean", mean)
    torch.manual_seed(0)
    head = tmp_path / "head.safetensors"
    save_head(head, DetectionHead(codec.spec, width=8, feature=8), fingerprint="0" * 16)
    codec.add_head("mine", head, allow_other_base=True)
    data = pickle.dumps(codec)
    assert len(data) < 2000
    for again in (pickle.loads(data), copy.deepcopy(codec)):
        assert (again.name, again.backend, again.device, again.heads) == ("tiny", backend, "cpu", codec.heads)
        assert again.fingerprint_enhancement == codec.fingerprint_enhancement
        assert again.run("mean", GOLDEN_FILE) == codec.run("mean", GOLDEN_FILE)
        assert again.run("mine", GOLDEN_FILE, score=0) == codec.run("mine", GOLDEN_FILE, score=0)
        assert again.encode(noise(64, 48)) == codec.encode(noise(64, 48))


@BACKENDS
def test_spawned_workers_take_a_codec(backend: Backend) -> None:
    codec = vcm.load(TINY_WEIGHTS, backend=backend, threads=1)
    pictures = [noise(64, 48, seed) for seed in range(2)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        files = list(pool.map(codec.encode, pictures, timeout=120))
        found = list(pool.map(codec.detect, files, timeout=120))
    assert files == [codec.encode(picture) for picture in pictures]
    assert found == [codec.detect(file) for file in files]


def test_a_codec_whose_file_was_exchanged_is_not_restored(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    shutil.copy(TINY_WEIGHTS, path)
    data = pickle.dumps(vcm.load(path, backend="onnx"))
    shutil.copy(vcm.list_models()[0].path, path)
    with pytest.raises(FingerprintError, match=r"a\.safetensors has other weights than the codec that was pickled"):
        pickle.loads(data)


def test_to_a_device_and_back() -> None:
    codec = tiny_codec()
    assert codec.device == "cpu"
    assert codec.to("cpu") is codec.to(torch.device("cpu")) is codec
    there = vcm.load(TINY_WEIGHTS, backend="torch").add_head("mean", mean).to("meta")
    assert (there.device, there.backend, there.heads) == ("meta", "torch", ("detect", "classify", "mean"))
    assert codec.encode(noise(32, 32)) == tiny_codec().encode(noise(32, 32))


def test_onnxruntimes_codec_goes_to_torch_for_another_device() -> None:
    codec = vcm.load(TINY_WEIGHTS, backend="onnx")
    assert codec.to("cpu") is codec
    there = codec.to("meta")
    assert (there.device, there.backend, there.fingerprint) == ("meta", "torch", codec.fingerprint)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    for call in (lambda: vcm.load(TINY_WEIGHTS, device="cuda"), lambda: tiny_codec().to("cuda:1")):
        with pytest.raises(OptionError, match=r"device cuda(:1)? cannot be used: found \w+Error: [^.]+$"):
            call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: not tried")
def test_a_gpu_reads_the_same() -> None:
    codec = tiny_codec().to("cuda")
    assert codec.device == "cuda"
    assert torch.equal(codec.latents(GOLDEN_FILE).y_hat.cpu(), tiny_codec().latents(GOLDEN_FILE).y_hat)
    assert pickle.loads(pickle.dumps(codec)).device == "cuda"
    assert codec.to("cpu").device == "cpu"
    with pytest.raises(OptionError, match="cannot be used"):
        codec.to("cuda:99")


def test_reprs_are_short() -> None:
    assert repr(vcm.load(TINY_WEIGHTS)) == "<Codec tiny, onnx on cpu>"
    file = tiny_codec().encode(np.zeros((32, 48, 3), np.uint8))
    assert repr(file) == f"<Bitstream 48x32, {file.total_bytes:,} bytes: base {len(file.base):,}, enhancement>"
    assert bytes(file) == file.to_bytes()
