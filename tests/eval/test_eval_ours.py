"""Our own codec behind the interface of the anchors, with the tiny seeded weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vcm.codecs.protocol import ImageCodec, LatentTaskCodec, LayeredCodec
from vcm.errors import OptionError
from vcm.eval.data.datasets import load_dataset
from vcm.eval.run.codecs import VcmBaseCodec, VcmCodec, load_codecs
from vcm.eval.run.protocols import Point
from vcm.eval.run.worker import HEAD, Job, Worker

TINY = str(Path(__file__).parent.parent / "golden" / "tiny.safetensors")
SPEC = f"vcm-s:weights={TINY}"


def _image() -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4 % 256, y * 6 % 256, (x + y) * 2 % 256], -1).astype(np.uint8)


def test_one_name_means_base_and_whole_file_where_machines_look() -> None:
    assert [c.name for c in load_codecs([SPEC], base=True)] == ["vcm-s-base", "vcm-s"]
    assert [c.name for c in load_codecs([SPEC], base=False)] == ["vcm-s"]
    assert [c.name for c in load_codecs([f"vcm-s-base:weights={TINY}"], base=False)] == ["vcm-s-base"]
    assert [c.name for c in load_codecs(["jpeg", "webp@50"], base=True)] == ["jpeg", "webp@50"]


def test_wrong_specifications() -> None:
    for bad in ("vcm-s@50", "vcm-s:colour=red", "vcm-s:base_quality=high", "vcm-s:base_quality=101", "gif"):
        with pytest.raises(OptionError):
            load_codecs([bad], base=True)
    with pytest.raises(OptionError, match="twice"):
        load_codecs(["jpeg", "jpeg"], base=True)


def test_whole_file() -> None:
    codec = VcmCodec(weights=TINY, base_quality=30)
    assert isinstance(codec, ImageCodec)
    assert isinstance(codec, LayeredCodec)
    assert not isinstance(codec, LatentTaskCodec)
    data = codec.compress(_image(), 50)
    assert codec.decompress(data).shape == _image().shape
    layers = codec.layer_bytes(data)
    assert sum(layers.values()) == len(data)
    assert len(layers) == 3
    assert min(layers.values()) > 0


def test_base_alone_detects_and_is_the_smaller_file() -> None:
    base = VcmBaseCodec(weights=TINY)
    assert isinstance(base, LatentTaskCodec)
    data = base.compress(_image(), 50)
    assert len(data) < len(VcmCodec(weights=TINY).compress(_image(), 50))
    found = base.detect(data)
    assert (found.width, found.height) == (56, 40)
    assert found.bytes_read == len(data)


def test_a_codec_pickles_without_its_networks() -> None:
    codec = VcmCodec(weights=TINY)
    data = codec.compress(_image(), 40)
    text = pickle.dumps(codec)
    assert len(text) < 2000
    assert pickle.loads(text).compress(_image(), 40) == data


def test_the_worker_lets_the_head_look(tmp_path: Path) -> None:
    PilImage.fromarray(_image()).save(tmp_path / "a.png")
    (picture,) = load_dataset(tmp_path).pictures
    worker = Worker(VcmBaseCodec(weights=TINY), [], ["psnr"])
    record = worker.measure(Job(Point(quality=50), picture))
    assert record.error is None
    assert set(record.found) == {HEAD}
    assert sum(record.layers.values()) == record.bytes


def test_description_tells_weights_and_cost() -> None:
    base, whole = VcmBaseCodec(weights=TINY).describe(), VcmCodec(weights=TINY).describe()
    assert base.version in whole.version
    assert base.complexity is not None
    assert whole.complexity is not None
    assert base.complexity.encode_kmac_per_px < whole.complexity.encode_kmac_per_px
    other = VcmCodec(weights=TINY, base_quality=10).describe()
    assert other.fingerprint != whole.fingerprint


def test_a_new_head_is_another_codec_to_the_cache(tmp_path: Path) -> None:
    tensors = load_file(TINY)
    with safe_open(TINY, "pt") as file:
        meta = file.metadata()
    name = next(name for name in tensors if name.startswith("detect.") and name.endswith("bias"))
    tensors[name] += 1
    save_file(tensors, tmp_path / "other.safetensors", meta)
    for kind in (VcmBaseCodec, VcmCodec):
        one, other = kind(weights=TINY).describe(), kind(weights=str(tmp_path / "other.safetensors")).describe()
        assert one.version == other.version
        assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    "name", ["jpeg+base", "webp+base", "avif+base", "jpeg-carrying", "webp-carrying", "avif-carrying"]
)
def test_standard_codecs_with_a_base(name: str) -> None:
    [codec] = load_codecs([f"{name}:weights={TINY};base_quality=30"], base=True)
    assert isinstance(codec, ImageCodec)
    assert isinstance(codec, LayeredCodec)
    assert codec.name == name
    small, large = codec.compress(_image(), 10), codec.compress(_image(), 90)
    assert len(small) < len(large)
    assert codec.decompress(large).shape == _image().shape
    layers = codec.layer_bytes(large)
    assert sum(layers.values()) == len(large)
    assert {"base", "picture"} <= set(layers)
    assert ("base_quality", 30) in codec.describe().settings
    assert pickle.loads(pickle.dumps(codec)).compress(_image(), 10) == small
