"""Any file decodes to the same integers, whatever the machine does about floating point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from codec_tools import (
    SETTINGS,
    Drawn,
    Recorder,
    Replay,
    coder_of,
    copy_of,
    fixed_latents,
    model_of,
    networks_of,
    noise,
    picture_fixed,
    wild_coder,
    wild_layer,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY_WEIGHTS, tiny_codec

import vcm
from vcm.bitstream import Bitstream, parse
from vcm.bitstream.limits import MAX_QUALITY
from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.fixed_point import gain_steps
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.latent_model import LatentModel
from vcm.codecs.scalable.layer_networks import LayerNetworks
from vcm.codecs.scalable.model import picture_array
from vcm.entropy import SKIP_INDEX
from vcm.errors import EntropyError, OptionError, WeightsError

BASE_SPEC, PICTURE_SPEC = LayerSpec(8, 1, 4, 12), LayerSpec(12, 3, 4, 10, base=8, base_width=6)


def base_features(coder: LatentCoder, size: tuple[int, int], seed: int) -> npt.NDArray[np.float32] | None:
    if not coder.spec.base:
        return None
    return coder.base_features(np.random.default_rng(seed).integers(-(1 << 20), 1 << 20, (1, coder.spec.base, *size)))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([BASE_SPEC, PICTURE_SPEC]), st.integers(1, 11), st.integers(1, 11), st.integers(0, MAX_QUALITY),
    st.integers(0, 1000),
)  # fmt: skip
def test_any_symbols_come_back(spec: LayerSpec, height: int, width: int, quality: int, seed: int) -> None:
    coder, size = wild_coder(spec, seed), (height, width)
    base = base_features(coder, size, seed)
    drawn = Drawn(seed)
    written = coder.walk(drawn, None, size, quality, base)
    stream = drawn.encoder.finish()
    assert np.array_equal(coder.decode_tile(stream, size, quality, base), written)
    reader = Recorder(stream)
    coder.walk(reader, None, size, quality, base)
    assert all(np.array_equal(a, b) for a, b in zip(reader.symbols, drawn.symbols, strict=True))


@pytest.mark.parametrize("spec", [BASE_SPEC, PICTURE_SPEC], ids=["base", "picture"])
def test_no_setting_changes_a_symbol_or_a_byte(spec: LayerSpec) -> None:
    """Networks at the ends of their ranges: same latents from a stream, same stream from symbols."""
    coder, size, quality = wild_coder(spec, 3), (7, 10), 700
    base = base_features(coder, size, 3)
    drawn = Drawn(3)
    written = coder.walk(drawn, None, size, quality, base)
    stream = drawn.encoder.finish()
    indexes = Recorder(stream)
    coder.walk(indexes, None, size, quality, base)
    found = np.concatenate([i.reshape(-1) for i in indexes.indexes])
    assert (found < SKIP_INDEX).any()
    assert found.min() == 0
    assert found.max() > 88
    for name, setting in SETTINGS.items():
        with setting():
            # New features too: they come from integer networks as well.
            again = base_features(coder, size, 3)
            assert np.array_equal(coder.decode_tile(stream, size, quality, again), written), name
            replay = Replay(drawn.symbols)
            coder.walk(replay, None, size, quality, again)
            assert replay.encoder.finish() == stream, name
    for convert in (lambda c: c.double(), lambda c: c.half(), lambda c: c.to(memory_format=torch.channels_last)):
        other = coder_of(convert(wild_layer(spec, 3)))
        assert np.array_equal(other.decode_tile(stream, size, quality, base_features(other, size, 3)), written)


@pytest.fixture(scope="module")
def files() -> list[Bitstream]:
    """Files of several sizes and qualities, as encoded with oneDNN and without, in both precisions."""
    codec = tiny_codec()
    made = [
        codec.encode(noise(w, h, i), quality=q, base_quality=b, base_scale=s)
        for i, (w, h, q, b, s) in enumerate(((16, 16, 0, 100, 8), (100, 70, 60, 40, 5), (203, 130, 100, 100, 8)))
    ]  # fmt: skip
    double = copy_of(codec)
    networks_of(double).double()
    with SETTINGS["oneDNN off"]():
        made.append(codec.encode(noise(100, 70, 1), quality=60, base_quality=40, base_scale=5))
    y = model_of(double).analyse_base(picture_array(noise(64, 64)), 8)
    layer, _ = model_of(double).encode_base(y, (64, 64), 8, 512)
    made.append(Bitstream.of_base(layer, source=made[0].header.source))
    return made


def both(codec: vcm.Codec, file: Bitstream) -> tuple[npt.NDArray[np.int64], ...]:
    model = model_of(codec)
    return fixed_latents(model, file) if file.enhancement else (model.decode_base(file.coded_base).fixed,)


@pytest.mark.parametrize("name", SETTINGS)
def test_files_decode_to_the_same_integers_under(name: str, files: list[Bitstream]) -> None:
    if name == "two threads":
        files = files[:2]  # on a busy machine, threads that wait for each other are slow
    codec = tiny_codec()
    wanted = [both(codec, file) for file in files]
    with SETTINGS[name]():
        fresh = vcm.load(TINY_WEIGHTS)
        for c in (codec, fresh):
            for file, integers in zip(files, wanted, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(both(c, file), integers, strict=True))


@pytest.mark.parametrize("convert", ["double", "half", "channels_last"])
def test_files_decode_to_the_same_integers_with_a_model_in(convert: str, files: list[Bitstream]) -> None:
    codec, other = tiny_codec(), copy_of(tiny_codec())
    networks = networks_of(other)
    networks.to(memory_format=torch.channels_last) if convert == "channels_last" else getattr(networks, convert)()
    for file in files:
        assert all(np.array_equal(a, b) for a, b in zip(both(other, file), both(codec, file), strict=True))


def test_files_decode_to_the_same_latents_in_a_list_and_alone(files: list[Bitstream]) -> None:
    codec = tiny_codec()
    together = codec.latents([file.to_bytes() for file in files])
    assert all(torch.equal(a.y_hat, codec.latents(f).y_hat) for a, f in zip(together, files, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: not tried")
def test_files_decode_to_the_same_integers_on_a_gpu(files: list[Bitstream]) -> None:
    codec, gpu = tiny_codec(), vcm.load(TINY_WEIGHTS, "cuda")
    for file in files:
        assert all(np.array_equal(a, b) for a, b in zip(both(gpu, file), both(codec, file), strict=True))


def test_the_encoder_knows_what_the_decoder_will_have() -> None:
    model = model_of(tiny_codec())
    x = picture_array(noise(200, 120))
    layer, base = model.encode_base(model.analyse_base(x, 8), (200, 120), 8, 900)
    assert np.array_equal(model.decode_base(layer).fixed, base.fixed)
    file = Bitstream.of_base(layer, source=vcm.bitstream.SourceKind())
    assert parse(file.to_bytes()).coded_base == layer


@pytest.mark.parametrize("quality", [300, 700, 1023])
def test_latents_are_within_half_a_step(quality: int) -> None:
    """Of every latent that is coded and not skipped, in its own place, over several tiles: nothing is mixed up."""
    codec = tiny_codec()
    model = model_of(codec)
    picture = noise(1100, 40, 4)
    x = picture_array(picture)
    file = codec.encode(picture, quality=quality * 100 / 1023, base_quality=quality * 100 / 1023, base_scale=8)
    assert [len(layer.tiles) for layer in file.layers] == [2, 2]
    fixed = fixed_latents(model, file)
    for coder, y, found in (
        (model.base, model.analyse_base(x, 8), fixed[0]),
        (model.picture, model.analyse_picture(x), fixed[1]),
    ):
        steps = np.exp2(-gain_steps(coder.tables.gain_y, quality) / 32)[:, None, None]
        error = np.abs(found / 1024 - y) / steps
        # What is skipped is set to its mean; its error is small against a scale below an eighth of a step only if the
        # model is right, and this one was never trained.
        assert (error <= 0.5 + 0.01 / steps).mean() > 0.85
        assert np.median(error) < 0.35


def test_a_damaged_stream_is_an_entropy_error() -> None:
    model = model_of(tiny_codec())
    file = tiny_codec().encode(noise(120, 90), base_scale=8, base_quality=90)
    (stream,) = file.base_layer.tiles
    for wrong in (stream[:-4], stream + bytes(4), b"", bytes([stream[0] ^ 1]) + stream[1:]):
        with pytest.raises(EntropyError):
            model.base.decode_tile(wrong, (6, 8), file.base_layer.quality_index)


def test_a_quality_index_out_of_range_is_refused() -> None:
    coder = model_of(tiny_codec()).base
    for quality in (-1, 1024):
        with pytest.raises(OptionError, match="expected 0 to 1023"):
            coder.encode_tile(np.zeros((1, 8, 2, 2), np.float32), quality)


def test_gains_are_interpolated_in_integers() -> None:
    knots = np.random.default_rng(0).integers(-90000, 90000, (8, 5)).astype(np.int32)
    for quality in (0, 1, 146, 147, 500, 1022, 1023):
        at = quality * 7 / 1023
        low = min(int(at), 6)
        exact = (knots[low] * (1 - (at - low)) + knots[low + 1] * (at - low)) / 256
        assert np.abs(gain_steps(knots, quality) - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("name", ["gain_y", "gain_z", "prior_mean", "prior_scale"])
def test_numbers_that_fixed_point_cannot_take_are_refused(name: str) -> None:
    for value in (1 << 24, -(1 << 31)):
        layer = wild_layer(BASE_SPEC, 0)
        getattr(layer, name).view(-1)[0] = value
        with pytest.raises(WeightsError, match=f"{name} is out of range"):
            layer.check()


def test_the_learning_model_and_the_shipping_one_agree() -> None:
    """Same latents, up to a few symbols at rounding ties and their consequences."""
    torch.manual_seed(0)
    spec = LayerSpec(16, 2, 4, 24)
    model = LatentModel(spec, (-1.0, 3.0))
    with torch.no_grad():
        for name, p in model.net.named_parameters():
            if name.endswith(".1.weight"):
                p.mul_(5)
    layer = LayerNetworks(spec)
    layer.load_state_dict(model.frozen())
    coder = coder_of(layer)
    y = torch.randn(1, 16, 12, 20) * 2
    for quality in (200, 1023):
        found = torch.from_numpy(coder.encode_tile(y.numpy(), quality).y_fixed) / 1024
        with torch.no_grad():
            learned = model(y, torch.tensor([quality / 1023])).y_hat
        assert ((found - learned).abs() < 0.05).float().mean() > 0.97


def test_enhancement_latents_depend_on_the_base() -> None:
    """The enhancement is coded conditionally: with another base its stream means something else."""
    codec = tiny_codec()
    model = model_of(codec)
    a = codec.encode(noise(96, 64, 1), base_quality=90, base_scale=8)
    b = codec.encode(noise(96, 64, 2), base_quality=90, base_scale=8)
    assert a.enhancement is not None
    mixed = b.cut(1).with_layer(a.enhancement)
    try:
        found = picture_fixed(model, mixed)
    except EntropyError:
        return
    assert not np.array_equal(found, picture_fixed(model, a))
