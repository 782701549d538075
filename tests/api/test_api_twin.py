"""Pixel twins: what is written is read back, on the trunk that it was made for, and detects as its networks do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_tools import noise
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import TINY_WEIGHTS, tiny_codec, tiny_twin, tiny_weights

import vcm
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.errors import ModelNotFoundError, OptionError, TrunkError, WeightsError
from vcm.training.export import training_modules
from vcm.training.export_twin import quantise_channels, write_twin
from vcm.twin import PixelTwin, load_twin
from vcm.weights.registry import list_twins, read_metadata


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec and its twin side by side, and a twin with a trunk of its own."""
    folder = tmp_path_factory.mktemp("twin")
    tiny_weights(folder)
    tiny_twin(folder / "tiny-twin.safetensors")
    tiny_twin(folder / "own.safetensors", own_trunk=True)
    return folder


@pytest.fixture(scope="module")
def twin(folder: Path) -> PixelTwin:
    return vcm.load_twin(folder / "tiny-twin.safetensors")


def test_the_file_holds_no_trunk_and_int8_convolutions(folder: Path) -> None:
    tensors = load_file(folder / "tiny-twin.safetensors")
    meta = read_metadata(folder / "tiny-twin.safetensors")
    assert (meta["format"], meta["trunk"], meta["name"]) == ("vcm-twin-1", "tiny", "tiny-twin")
    assert len(meta["trunk_sha256"]) == 64
    assert not [name for name in tensors if "trunk" in name]
    assert not [name for name in tensors if "norm" in name]
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.int8 if tensor.dim() == 4 else torch.float16), name
    own = load_file(folder / "own.safetensors")
    assert [t.dtype for name, t in own.items() if name.endswith("trunk.stem.weight")] == [torch.float16]


def test_quantisation_is_within_half_a_step_and_keeps_the_largest() -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    weight[3] *= 1e-9  # below half precision: a channel of zeros
    values, scale = quantise_channels(weight)
    restored = values.float() * scale.float()[:, None, None, None]
    # Half a step, and what the largest loses where its scale was rounded down in half precision.
    allowed = scale.float() / 2 + weight.abs().amax((1, 2, 3)) * 2**-11
    assert ((restored - weight).abs().amax((1, 2, 3))[[0, 1, 4]] <= allowed[[0, 1, 4]]).all()
    assert values.abs().amax((1, 2, 3))[[0, 1, 4]].tolist() == [127, 127, 127]
    assert not restored[2:4].any()


def test_a_shared_trunk_and_one_of_its_own_are_the_same_twin(folder: Path, twin: PixelTwin) -> None:
    own = load_twin(folder / "own.safetensors")
    assert (twin.trunk, own.trunk) == ("tiny", "own")
    assert twin.fingerprint == own.fingerprint
    other = load_twin(tiny_twin(folder / "third.safetensors", seed=3))
    assert other.fingerprint != twin.fingerprint


def test_it_sees_what_the_codec_would_code(folder: Path, twin: PixelTwin) -> None:
    picture = noise(900, 301)
    latents, coded = twin.latents(picture), tiny_codec().latents(tiny_codec().encode(picture, base_only=True))
    assert latents.coded_size == coded.coded_size == (450, 151)
    assert latents.source_size == coded.source_size
    assert latents.y_hat.shape == coded.y_hat.shape
    assert (latents.spec, latents.quality) == (replace(coded.spec, fingerprint=twin.fingerprint), 100)


def test_every_kind_of_picture_gives_the_same(twin: PixelTwin, tmp_path: Path) -> None:
    picture = noise(130, 70)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = twin.detect(picture, score=0.15)
    assert len(found) > 0
    assert (found.width, found.height, found.bytes_read) == (130, 70, 0)
    assert found.scores.min() >= 0.15
    for other in twin.detect([tmp_path / "a.png", Image.fromarray(picture), picture], score=0.15):
        assert np.array_equal(found.boxes, other.boxes)
    with pytest.raises(OptionError, match="score"):
        twin.detect(picture, score=2)


def test_threads_share_a_twin(twin: PixelTwin) -> None:
    pictures = [noise(96, 64, seed) for seed in range(6)]
    alone = [twin.detect(picture, score=0.05) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(lambda picture: twin.detect(picture, score=0.05), pictures), strict=True):
            assert np.array_equal(one.boxes, other.boxes)
            assert np.array_equal(one.scores, other.scores)


def test_another_trunk_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(TINY_WEIGHTS)
    tensors["model.analysis.trunk.stem.bias"][0] += 1
    other = tmp_path / "tiny.safetensors"
    save_file(tensors, other, read_metadata(TINY_WEIGHTS))
    path = folder / "tiny-twin.safetensors"
    with pytest.raises(TrunkError, match=f"expected '{read_metadata(path)['trunk_sha256']}', found '[0-9a-f]{{64}}'"):
        load_twin(path, trunk=other)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(TrunkError):
        load_twin(copy)  # the changed codec lies beside it
    other.unlink()
    with pytest.raises(ModelNotFoundError, match=r"takes its trunk from the codec tiny.*tiny\.safetensors beside it"):
        load_twin(copy)
    assert load_twin(copy, trunk=TINY_WEIGHTS).trunk == "tiny"
    with pytest.raises(ModelNotFoundError, match="is a pixel twin"):
        load_twin(copy, trunk=path)


def test_a_twin_on_another_trunk_is_not_written(tmp_path: Path) -> None:
    architecture = ARCHITECTURES["tiny"]
    path = tmp_path / "t.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = training_modules(architecture).eval()
    with pytest.raises(TrunkError, match="not that of"):
        write_twin(path, modules, architecture, "t", "", TINY_WEIGHTS)
    assert list(tmp_path.iterdir()) == []


def test_batchnorm_is_folded_into_what_is_written(tmp_path: Path) -> None:
    """The file detects as the training modules do, BatchNorm statistics included, up to eight bits."""
    architecture = ARCHITECTURES["tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = training_modules(architecture)
        x = torch.from_numpy(noise(96, 64)).permute(2, 0, 1)[None].float()
        modules["analysis"](x)  # in training mode: statistics other than 0 and 1
        modules.eval()
        with torch.no_grad():
            before = modules["analysis"](x)
    write_twin(tmp_path / "t.safetensors", modules, architecture, "t", "", None)
    after = load_twin(tmp_path / "t.safetensors").latents(noise(96, 64)).y_hat
    error = (after - before).square().mean() / before.square().mean()
    assert 0 < float(error) < 1e-3


def test_twins_are_no_codecs_and_codecs_no_twins(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a pixel twin"):
        vcm.load(folder / "tiny-twin.safetensors")
    with pytest.raises(ModelNotFoundError, match="is a codec: expected a pixel twin"):
        vcm.load_twin(TINY_WEIGHTS)
    with pytest.raises(ModelNotFoundError, match="no such pixel twin"):
        vcm.load_twin("no-such-twin")
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        vcm.load_twin(Path(__file__))
    with pytest.raises(OptionError, match="no such device"):
        vcm.load_twin(folder / "tiny-twin.safetensors", "toaster")


@pytest.fixture
def _shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcm.weights.registry._WEIGHTS", folder)


@pytest.mark.usefixtures("_shipped")
def test_shipped_twins_are_a_kind_of_their_own() -> None:
    assert [model.name for model in vcm.list_models()] == ["tiny"]
    twins = {twin.name: twin for twin in list_twins()}
    assert {"tiny-twin", "own"} <= twins.keys()
    assert (twins["tiny-twin"].trunk, twins["own"].trunk) == ("tiny", "own")
    assert vcm.load_twin("tiny-twin").name == "tiny-twin"
    with pytest.raises(ModelNotFoundError, match="tiny-twin is a pixel twin"):
        vcm.load("tiny-twin")
    with pytest.raises(ModelNotFoundError, match="expected tiny, or a path"):
        vcm.load("nothing")


def test_a_head_can_learn_on_its_latents(twin: PixelTwin) -> None:
    """They are ordinary tensors, not inference tensors, which autograd refuses."""
    head = torch.nn.Conv2d(8, 2, 1)
    head(twin.latents(noise(64, 48)).y_hat).sum().backward()
    assert head.weight.grad is not None
