"""Arguments of the API: what is taken, and what is refused before any work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from codec_tools import default_dtype, model_of, networks_of, noise
from tiny import TINY_WEIGHTS, tiny_codec

import vcm
from vcm.api import Codec
from vcm.errors import ImageError, OptionError
from vcm.weights.codec_file import load_weights


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 1000, "1"])
def test_a_target_rate_out_of_range_is_refused(rate):
    codec, picture = tiny_codec(), noise(64, 64)
    with pytest.raises(OptionError, match="target_bpp"):
        codec.encode(picture, target_bpp=rate)
    with pytest.raises(OptionError, match="target_bpp"):
        codec.enhance(codec.encode(picture, base_only=True), picture, target_bpp=rate)


def test_tuples_are_lists():
    codec, pictures = tiny_codec(), (noise(64, 48), noise(40, 32, 1))
    bases = tuple(codec.encode(pictures, base_only=True))
    assert [b.width for b in bases] == [64, 40]
    assert len(codec.enhance(bases, pictures)) == len(codec.detect(bases)) == 2
    with pytest.raises(OptionError, match="lists of one length"):
        codec.enhance(bases, pictures[:1])
    with pytest.raises(OptionError, match="lists of one length"):
        codec.enhance(bases[0], pictures)


def test_batches_are_lists():
    """Tensors (N, C, H, W), and arrays with their channels last or, as tensors have them, second."""
    codec, pictures = tiny_codec(), [noise(40, 32, seed) for seed in (0, 1)]
    wanted = [codec.encode(picture) for picture in pictures]
    last = np.stack(pictures)
    second = last.transpose(0, 3, 1, 2)
    for batch in (last, second, torch.from_numpy(second), torch.from_numpy(second).float() / 255):
        assert codec.encode(batch) == wanted
    assert codec.enhance(codec.encode(last, base_only=True), second) == wanted
    assert codec.encode(last[:0]) == []
    with pytest.raises(ImageError, match="array has the wrong type"):
        codec.encode(last.astype(np.float32))


def test_two_codecs_of_one_loaded_model_do_not_move_each_other():
    loaded = load_weights(TINY_WEIGHTS)
    first, other = Codec(loaded), Codec(loaded, "meta")
    assert (model_of(first).networks.device.type, model_of(other).networks.device.type) == ("cpu", "meta")
    assert {t.device.type for t in loaded.model.state_dict().values()} == {"cpu"}
    assert {t.device.type for t in loaded.detect.state_dict().values()} == {"cpu"}
    assert first.encode(noise(32, 32)) == tiny_codec().encode(noise(32, 32))


def test_numpy_integers_are_integers():
    codec, picture = tiny_codec(), noise(64, 48)
    stream = codec.encode(picture, base_scale=np.int64(4), quality=np.float32(50))
    assert stream == codec.encode(picture, base_scale=4)
    assert codec.decode(stream, layers=np.int64(1)).info["vcm_preview"]


def test_an_unknown_device_is_refused():
    with pytest.raises(OptionError, match="no such device"):
        vcm.load(TINY_WEIGHTS, device="toaster")


def test_torch_default_dtype_does_not_matter_when_loading():
    picture = noise(64, 48)
    stream = tiny_codec().encode(picture)
    with default_dtype(torch.float64):
        codec = vcm.load(TINY_WEIGHTS)
        assert codec.encode(picture) == stream
        assert np.array_equal(np.asarray(codec.decode(stream)), np.asarray(tiny_codec().decode(stream)))


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1040, 16), (16, 300)])
@pytest.mark.parametrize("scale", [1, 3, 8, None])
def test_any_size_and_scale(size, scale):
    codec = tiny_codec()
    stream = codec.encode(noise(*size), base_scale=scale)
    found = codec.detect(stream.base, score=0)
    assert codec.decode(stream).size == codec.decode(stream.base).size == size
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array(size * 2, dtype=np.float32)).all()


def test_the_preview_lies_where_the_picture_lies(monkeypatch):
    """A preview that is a ramp stays that ramp, though its last position reaches over the coded picture's edge."""
    codec = tiny_codec()
    width, height, coded = 328, 64, 41
    stream = codec.encode(noise(width, height), base_scale=1, base_only=True)

    def ramp(y):
        columns = torch.arange(y.shape[3] * 4, dtype=torch.float32)
        return (columns * 4 + 1.5)[None, None, None].expand(1, 3, y.shape[2] * 4, -1)

    monkeypatch.setattr(networks_of(codec).preview, "forward", ramp)
    row = np.asarray(codec.decode(stream))[0, :, 0].astype(float)
    expected = (np.arange(width) + 0.5) * coded / width - 0.5
    inside = (expected > 1.5) & (expected < coded - 2.5)
    assert np.abs(row - expected)[inside].max() <= 0.51
