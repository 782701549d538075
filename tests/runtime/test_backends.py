"""A codec behind either backend: the same symbols, boxes and pictures; without torch where onnxruntime runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image
from skimage import data
from tiny import GOLDEN_FILE, GOLDEN_SCALES, TINY_WEIGHTS, golden_picture

import vcm
from vcm.api import Codec
from vcm.errors import HeadError, MissingDependencyError, OptionError
from vcm.structures import LatentSpec
from vcm.tasks.detection import DetectionHead
from vcm.weights.head_file import save_head

BACKENDS = pytest.mark.parametrize("backend", ["torch", "onnx"])


@cache
def codec(backend: Any, name: str = os.fspath(TINY_WEIGHTS)) -> Codec:
    return vcm.load(name, backend=backend)


def apart(one: Image, other: Image) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other)).max())


@BACKENDS
def test_the_golden_file_reads_the_same(backend: str) -> None:
    one, other = codec(backend), codec("torch")
    assert one.backend == backend
    assert (one.fingerprint, one.fingerprint_enhancement) == (other.fingerprint, other.fingerprint_enhancement)
    assert one.parameters == other.parameters
    for path in (GOLDEN_FILE, *GOLDEN_SCALES.values()):
        assert torch.equal(one.latents(path).y_hat, other.latents(path).y_hat)
    for layers in (1, 2):
        assert apart(one.decode(GOLDEN_FILE, layers=layers), other.decode(GOLDEN_FILE, layers=layers)) <= 1
    found, expected = one.detect(GOLDEN_FILE, score=0.01), other.detect(GOLDEN_FILE, score=0.01)
    assert len(found) > 0
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.bytes_read == expected.bytes_read
    assert np.allclose(found.boxes, expected.boxes, atol=0.05)
    assert np.allclose(found.scores, expected.scores, atol=1e-4)
    assert np.allclose(one.classify(GOLDEN_FILE).scores, other.classify(GOLDEN_FILE).scores, atol=1e-4)


@BACKENDS
def test_files_written_by_one_are_read_by_the_other(backend: str) -> None:
    writer, reader = codec(backend), codec("onnx" if backend == "torch" else "torch")
    picture = golden_picture()
    file = writer.encode(picture, quality=70, base_quality=60, base_scale=8)
    assert torch.equal(writer.latents(file).y_hat, reader.latents(file).y_hat)
    assert apart(writer.decode(file), reader.decode(file)) <= 1
    small = writer.encode(picture, base_only=True)
    assert reader.enhance(small, picture).layer_names == file.layer_names


@BACKENDS
def test_the_shipped_model_finds_what_is_there(backend: str) -> None:
    one = codec(backend, "vcm-s")
    found = one.detect(one.encode(data.astronaut(), base_only=True), score=0.5)
    assert found.label_names()[0] == "person"
    other = codec("torch", "vcm-s")
    expected = other.detect(other.encode(data.astronaut(), base_only=True), score=0.5)
    assert found.labels.tolist() == expected.labels.tolist()
    assert np.allclose(found.boxes, expected.boxes, atol=1)  # the encoders may have chosen a few different symbols


@BACKENDS
def test_heads_of_ones_own_read_tensors(backend: str, tmp_path: Path) -> None:
    fresh = vcm.load(TINY_WEIGHTS, backend=backend)  # type: ignore[arg-type]
    seen = fresh.add_head("shape", lambda latents: latents.y_hat.shape).run("shape", GOLDEN_FILE)
    assert isinstance(seen, torch.Size)
    network = DetectionHead(LatentSpec(8, 16), classes=3, width=8, feature=8)
    save_head(tmp_path / "head.safetensors", network, fingerprint=fresh.fingerprint)
    fresh.add_head("three", tmp_path / "head.safetensors")
    assert fresh.run("three", GOLDEN_FILE, score=0.001).names == ("class 0", "class 1", "class 2")
    found, expected = fresh.run("detect", GOLDEN_FILE, score=0.01), fresh.detect(GOLDEN_FILE, score=0.01)
    assert np.array_equal(found.boxes, expected.boxes)
    assert fresh.head("detect")(fresh.latents(GOLDEN_FILE), score=0.01).labels.size > 0  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="score is out of range"):
        fresh.detect(GOLDEN_FILE, score=2)
    wide = vcm.Latents(torch.zeros(1, 9, 4, 4), LatentSpec(9, 16), (64, 64), (64, 64), 50.0)
    with pytest.raises(HeadError, match="another kind"):
        fresh.head("detect")(wide)


def test_open_takes_a_backend(tmp_path: Path) -> None:
    for backend in ("torch", "onnx"):
        opened = vcm.open(GOLDEN_FILE, weights=TINY_WEIGHTS, backend=backend)  # type: ignore[arg-type]
        assert opened.codec.backend == backend
        assert opened.decode().size == (1056, 72)


def test_auto_is_onnx_on_a_cpu_and_torch_elsewhere() -> None:
    assert vcm.load(TINY_WEIGHTS, backend="auto").backend == "onnx"
    assert vcm.load(TINY_WEIGHTS, torch.device("cpu"), backend="auto").backend == "onnx"
    assert vcm.load(TINY_WEIGHTS, "meta", backend="auto").backend == "torch"
    with pytest.raises(OptionError, match="onnxruntime runs on the CPU here"):
        vcm.load(TINY_WEIGHTS, "cuda", backend="onnx")
    with pytest.raises(OptionError, match="no such backend"):
        vcm.load(TINY_WEIGHTS, backend="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="threads is out of range"):
        vcm.load(TINY_WEIGHTS, threads=0)


def test_costs_are_those_that_torch_counts() -> None:
    assert codec("onnx").complexity(64, 64) == codec("torch").complexity(64, 64)


def test_a_codec_works_without_torch(tmp_path: Path) -> None:
    script = f"""
import sys
import warnings
sys.modules["torch"] = sys.modules["torchvision"] = None  # as where they are not installed
import numpy as np
import vcm
codec = vcm.load({os.fspath(TINY_WEIGHTS)!r}, backend="onnx")
picture = np.arange(64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
file = codec.encode(picture, base_only=True)
both = codec.enhance(file, picture)
both.save({os.fspath(tmp_path / "a.vcm")!r})
assert len(codec.detect(both, score=0.01)) > 0
assert codec.classify(both).scores.shape == (80,)
assert codec.decode(both).size == codec.decode(both, layers=1).size == (96, 64)
assert np.array_equal(codec.run("detect", both).boxes, codec.detect(both).boxes)
opened = vcm.open({os.fspath(tmp_path / "a.vcm")!r}, weights={os.fspath(TINY_WEIGHTS)!r}, backend="onnx")
assert opened.decode().size == (96, 64)
assert codec.latents(both).y_hat.dtype == np.float32
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_no_torch_is_a_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="a count of costs needs torch"):
        codec("onnx").complexity(64, 64)


@cache
def _threaded() -> Codec:
    return vcm.load(TINY_WEIGHTS, backend="onnx", threads=3)  # of which a child has none


def _encoded(_: int) -> bytes:
    return _threaded().encode(golden_picture(), quality=70, base_quality=60, base_scale=8).to_bytes()


def test_a_codec_that_was_loaded_and_used_before_a_fork_works_in_a_pool() -> None:
    expected = _encoded(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
        with get_context("fork").Pool(2) as pool:
            found = pool.map_async(_encoded, range(3))
            assert found.get(timeout=60) == [expected] * 3


@BACKENDS
def test_the_same_in_a_process_whose_libraries_have_threads(backend: str) -> None:
    script = f"""
import numpy as np
import torch
import vcm
from multiprocessing import get_context
torch.set_num_threads(2)
codec = vcm.load({os.fspath(TINY_WEIGHTS)!r}, backend={backend!r}, threads=2)
picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
def encoded(_):
    return codec.encode(picture, base_only=True).to_bytes()
expected = encoded(0)
with get_context("fork").Pool(1) as pool:
    print(pool.map_async(encoded, [0]).get(timeout=40) == [expected])
"""
    told = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=told)
    assert done.stdout == "True\n", done.stderr
