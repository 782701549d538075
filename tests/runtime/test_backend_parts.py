"""Heads of files and pixel twins behind either backend: the same results, and no torch where onnxruntime runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_tools import noise
from random_heads import THREE, network
from tiny import GOLDEN_FILE, TINY_WEIGHTS, tiny_codec, tiny_twin, tiny_weights

import vcm
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.errors import FingerprintError, HeadError, WeightsError
from vcm.nn.blocks import fuse_batchnorm
from vcm.structures import Keypoints, LatentSpec
from vcm.tasks.array_heads import ARRAY_KINDS, ArrayKeypoints
from vcm.tasks.kinds import head_kinds
from vcm.weights.head_file import save_head
from vcm.weights.tensors import stored_type
from vcm.weights.twin_file import twin_modules
from vcm.weights.twin_tensors import twin_layout

BACKENDS = pytest.mark.parametrize("backend", ["torch", "onnx"])


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    for kind in ARRAY_KINDS:
        save_head(folder / f"{kind}.safetensors", network(kind, tiny_codec().spec))
    return folder


@pytest.fixture(scope="module")
def twin_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    tiny_weights(folder)
    return tiny_twin(folder / "tiny-twin.safetensors")


def run(backend: Any, file: Path, **options: Any) -> Any:
    codec = vcm.load(TINY_WEIGHTS, backend=backend)
    return codec.add_head("own", file).run("own", GOLDEN_FILE, **options)


# -- heads of files ----------------------------------------------------------------------------------------------------


def test_every_kind_of_ours_runs_without_torch() -> None:
    assert ARRAY_KINDS.keys() == {kind for kind in head_kinds() if kind in ("detection", "classification", "keypoints")}
    for name, kind in ARRAY_KINDS.items():
        assert kind.shape is head_kinds()[name].shape


@pytest.mark.parametrize("kind", list(ARRAY_KINDS))
def test_layouts_are_those_of_the_torch_modules(kind: str) -> None:
    head: Any = fuse_batchnorm(network(kind, LatentSpec(8, 16)))
    expected = {key: (stored_type(t), tuple(t.shape)) for key, t in head.state_dict().items()}
    assert ARRAY_KINDS[kind].layout(head.spec, THREE, head.shape) == expected


@BACKENDS
def test_detection(backend: str, heads: Path) -> None:
    found = run(backend, heads / "detection.safetensors", score=0.3)
    expected = run("torch", heads / "detection.safetensors", score=0.3)
    assert len(found) > 3
    assert (found.labels.tolist(), found.names, found.bytes_read) == (
        expected.labels.tolist(), THREE.names, expected.bytes_read
    )  # fmt: skip
    assert np.allclose(found.boxes, expected.boxes, atol=0.05)
    assert np.allclose(found.scores, expected.scores, atol=1e-4)


@BACKENDS
def test_classification(backend: str, heads: Path) -> None:
    found, expected = (run(b, heads / "classification.safetensors") for b in (backend, "torch"))
    assert found.names == THREE.names
    assert np.allclose(found.scores, expected.scores, atol=1e-4)


@BACKENDS
def test_keypoints(backend: Any, heads: Path) -> None:
    codec = vcm.load(TINY_WEIGHTS, backend=backend).add_head("pose", heads / "keypoints.safetensors")
    head: Any = codec.head("pose")
    assert isinstance(head, ArrayKeypoints) == (backend == "onnx")
    # Boxes inside the picture, at its edge, beyond it, of no area, and as large as it.
    boxes = np.array(
        [[100, 10, 180, 60], [-20, -9, 40, 40], [2000, 0, 2100, 50], [5, 5, 5, 5], [0, 0, 1056, 72]], np.float32
    )
    latents, scores = codec.latents(GOLDEN_FILE), np.linspace(0.2, 1, 5, dtype=np.float32)
    network = head if backend == "onnx" else head.network
    found = network.estimate(latents, boxes, scores)
    expected = vcm.load(TINY_WEIGHTS, backend="torch").add_head("pose", heads / "keypoints.safetensors")
    expected = expected.head("pose").network.estimate(latents, boxes, scores)
    assert isinstance(found, Keypoints)
    assert np.allclose(found.points[:, :, :2], expected.points[:, :, :2], atol=0.05)
    assert np.allclose(found.points[:, :, 2], expected.points[:, :, 2], atol=1e-4)
    assert np.allclose(found.scores, expected.scores, atol=1e-4)
    assert len(network.estimate(latents, boxes[:0])) == 0
    assert isinstance(codec.run("pose", GOLDEN_FILE), Keypoints)


@BACKENDS
def test_what_does_not_fit_is_refused(backend: str, heads: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_head(other, network("detection", LatentSpec(8, 16)), fingerprint="0123456789abcdef")
    with pytest.raises(FingerprintError, match="another base layer"):
        run(backend, other)
    codec = vcm.load(TINY_WEIGHTS, backend=backend)  # type: ignore[arg-type]
    codec.add_head("own", other, allow_other_base=True)
    assert len(codec.run("own", GOLDEN_FILE, score=0.3)) > 0
    save_head(other, network("classification", LatentSpec(9, 16)))
    with pytest.raises(HeadError, match="another kind"):
        run(backend, other)
    whole = (heads / "keypoints.safetensors").read_bytes()
    for bad, message in (
        (whole.replace(b'"kind":"keypoints"', b'"kind":"keyboards"'), "unknown kind"),
        (whole.replace(b'"kind":"keypoints"', b'"kind":"detection"'), "not a consistent detection head"),
        (whole.replace(b"grid", b"grit"), "not a consistent keypoints head"),
        (whole.replace(b"bee", b"ant"), "not a consistent keypoints head"),
        (whole.replace(b'"spread":{"dtype":"F16"', b'"spread":{"dtype":"I16"'), "wrong type"),
        (whole[: len(whole) // 2], "safetensors"),
        (b"", "safetensors"),
    ):
        other.write_bytes(bad)
        with pytest.raises(WeightsError, match=message):
            run(backend, other)
    flat: Any = network("keypoints", tiny_codec().spec)
    flat.spread.zero_()
    save_head(other, flat)
    with pytest.raises(WeightsError, match="spread is out of range"):
        run(backend, other)


# -- twins -------------------------------------------------------------------------------------------------------------


def test_a_twins_layout_is_that_of_its_modules() -> None:
    for name in ("tiny", "small"):
        state = twin_modules(ARCHITECTURES[name]).state_dict()
        assert {key: ("F16", tuple(t.shape)) for key, t in state.items()} == twin_layout(ARCHITECTURES[name])


@BACKENDS
def test_twins(backend: Any, twin_path: Path) -> None:
    one, other = (vcm.load_twin(twin_path, backend=b) for b in (backend, "torch"))
    assert one.backend == backend
    assert (one.fingerprint, one.trunk, one.name) == (other.fingerprint, other.trunk, other.name)
    picture = noise(900, 301)
    found, expected = one.detect(picture, score=0.1), other.detect(picture, score=0.1)
    assert len(found) > 3
    assert found.labels.tolist() == expected.labels.tolist()
    assert np.allclose(found.boxes, expected.boxes, atol=0.05)
    assert np.allclose(found.scores, expected.scores, atol=1e-4)
    latents, same = one.latents(picture), other.latents(picture)
    assert isinstance(latents.y_hat, torch.Tensor)
    assert torch.allclose(latents.y_hat, same.y_hat, atol=1e-3)
    assert latents.spec == same.spec


def test_a_twins_backend_follows_the_device(twin_path: Path) -> None:
    assert vcm.load_twin(twin_path).backend == "onnx"
    assert vcm.load_twin(twin_path, "meta").backend == "torch"
    assert vcm.load_twin(twin_path, threads=1)._networks.threads == 1  # type: ignore[attr-defined]


# -- without torch -----------------------------------------------------------------------------------------------------


def test_none_of_it_imports_torch(heads: Path, twin_path: Path) -> None:
    """Where torch is installed as well: a shell command must not wait for it."""
    script = f"""
import sys
import numpy as np
import vcm
codec = vcm.load({str(TINY_WEIGHTS)!r})
for kind in {list(ARRAY_KINDS)!r}:
    codec.add_head(kind, f"{heads}/{{kind}}.safetensors")
    codec.run(kind, {str(GOLDEN_FILE)!r})
vcm.load_twin({str(twin_path)!r}).detect(np.zeros((64, 64, 3), np.uint8))
assert "torch" not in sys.modules
sys.modules["torch"] = None  # as where it is not installed
latents = codec.latents({str(GOLDEN_FILE)!r})
assert isinstance(latents.y_hat, np.ndarray), latents
assert codec.add_head("mean", lambda latents: float(latents.y_hat.mean())).run("mean", {str(GOLDEN_FILE)!r})
assert len(codec.head("detect")(latents, score=0.01)) > 0
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
