"""The golden files of format version 1 decode to what they decoded to on the day they were written, for ever.

They were written by ``tiny.make_golden`` and ``tiny.make_golden_scales``. If a test here fails after a change of code,
the change orphans files.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
import torch
from codec_tools import Floats, Indexes, Ints, Recorder, Replay, digest, fixed_latents, model_of
from tiny import GOLDEN_FILE, GOLDEN_SCALES, TINY_WEIGHTS, golden_picture, tiny_codec

import vcm
from vcm.bitstream import Layer, parse
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.model import tile_slices

FILE_SHA256 = "336166e2ce76d35204d64fa74259ed30c4576070fb003d3ed4bfaa858a878b29"
FINGERPRINTS = ("444849c801202bd6", "2b7ded279466ee5e")
BASE_LATENTS, PICTURE_LATENTS = "a26004659ab65e82c06fd332f47e4131", "12962c99bb12ce3d529dfbc5724edf38"
"""blake2b, 16 bytes, of the int64 latents."""
SCALES = {
    16: (
        "78058550f901478bad2c2afcf10151040e4062ab066f9180a9b829efc2850944",
        (2112, 144), "0f72a0972e5239f796f63255d8eedce3", "b4f2a84fa28868910be041920d52ee03",
    ),
    192: (
        "8e663e32887f08bef2286421740bbdd6b60bdbe82eb2c041a871ae0daf586841",
        (66, 5), "791f579752b2af9dc477eea487d808ff", "6cafb795d509e24ab3dab8d55eab9e60",
    ),
}  # fmt: skip
"""Of the file, its SHA-256, the coded size of its base, and digests of both layers' latents."""


def test_the_golden_file_is_the_one_that_was_pinned() -> None:
    data = GOLDEN_FILE.read_bytes()
    assert sha256(data).hexdigest() == FILE_SHA256
    file = parse(data)
    assert (file.width, file.height, file.base_scale, file.codec_id) == (1056, 72, 8, 1)
    assert [len(layer.tiles) for layer in file.layers] == [2, 2]
    assert file.to_bytes() == data


def test_fingerprints_are_pinned() -> None:
    codec = tiny_codec()
    assert (codec.fingerprint, codec.fingerprint_enhancement) == FINGERPRINTS
    assert tuple(layer.fingerprint.hex() for layer in parse(GOLDEN_FILE.read_bytes()).layers) == FINGERPRINTS


def test_latents_are_pinned() -> None:
    base, picture = fixed_latents(model_of(tiny_codec()), parse(GOLDEN_FILE.read_bytes()))
    assert (tuple(base.shape), tuple(picture.shape)) == ((1, 8, 5, 66), (1, 16, 5, 66))
    assert digest(base) == BASE_LATENTS
    assert digest(picture) == PICTURE_LATENTS


@pytest.mark.parametrize("scale", SCALES)
def test_bases_beyond_eighths_of_the_size_are_pinned(scale: int) -> None:
    whole, size, base_latents, picture_latents = SCALES[scale]
    data = GOLDEN_SCALES[scale].read_bytes()
    assert sha256(data).hexdigest() == whole
    file = parse(data)
    assert (file.base_scale, file.coded_base.coded_size, file.to_bytes()) == (scale, size, data)
    base, picture = fixed_latents(model_of(tiny_codec()), file)
    assert (digest(base), digest(picture)) == (base_latents, picture_latents)
    assert tiny_codec().decode(file).size == (1056, 72)
    assert len(tiny_codec().detect(file, score=0.01)) > 0


def recoded(coder: LatentCoder, layer: Layer, size: tuple[int, int], base: list[Floats | None]) -> list[bytes]:
    """The streams that the layer's own symbols give."""
    out = []
    for stream, (rows, columns), features in zip(layer.tiles, tile_slices(*size), base, strict=True):
        shape = rows.stop - rows.start, columns.stop - columns.start
        reader = Recorder(stream)
        coder.walk(reader, None, shape, layer.quality_index, features)
        writer = Replay(reader.symbols)
        coder.walk(writer, None, shape, layer.quality_index, features)
        out.append(writer.encoder.finish())
    return out


def test_the_same_integer_latents_give_the_same_bytes() -> None:
    model, file = model_of(tiny_codec()), parse(GOLDEN_FILE.read_bytes())
    size = file.width, file.height
    assert recoded(model.base, file.base_layer, size, [None, None]) == list(file.base_layer.tiles)
    base = model.decode_base(file.coded_base)
    features = model.picture.base_features(base.fixed)
    conditions = [model.base_features(base, rows, columns, features) for rows, columns in tile_slices(*size)]
    assert file.enhancement is not None
    assert recoded(model.picture, file.enhancement, size, list(conditions)) == list(file.enhancement.tiles)


def test_decoded_latents_coded_again_with_the_same_hyper_latents_give_the_same_bytes() -> None:
    """The encoder's own way from real latents to symbols: those of ``y_hat`` are those that made it."""
    model, file = model_of(tiny_codec()), parse(GOLDEN_FILE.read_bytes())
    layer = file.base_layer
    fixed = model.decode_base(file.coded_base).fixed
    for stream, (rows, columns) in zip(layer.tiles, tile_slices(file.width, file.height), strict=True):
        shape = rows.stop - rows.start, columns.stop - columns.start
        reader = Recorder(stream)
        model.base.walk(reader, None, shape, layer.quality_index)
        left = list(reader.symbols)

        def check(
            target: Floats | None, mean: Ints, index: Indexes, gain: Ints,
            left: list[Ints] = left, hyper: Ints = reader.symbols[0],
        ) -> Ints:  # fmt: skip
            symbols = left.pop(0)
            assert target is not None
            if symbols is not hyper:
                assert np.array_equal(np.rint((target - mean / 1024) * np.exp2(gain / 32)), symbols)
            return symbols

        y = (fixed[:, :, rows, columns] / 1024).astype(np.float32)
        model.base.walk(check, y, shape, layer.quality_index)


def test_encoding_the_golden_picture_again_gives_a_file_that_decodes_alike() -> None:
    """Encoders are float, so another machine may choose a few other symbols; here, nearly all latents must agree."""
    again = tiny_codec().encode(golden_picture(), quality=70, base_quality=60, base_scale=8)
    model, golden = model_of(tiny_codec()), parse(GOLDEN_FILE.read_bytes())
    assert abs(again.total_bytes / golden.total_bytes - 1) < 0.02
    for a, b in zip(fixed_latents(model, again), fixed_latents(model, golden), strict=True):
        assert (np.abs(a - b) < 1024).mean() > 0.95


def test_the_golden_file_serves_every_task() -> None:
    codec = tiny_codec()
    assert len(codec.detect(GOLDEN_FILE, score=0.05)) > 0
    assert codec.classify(GOLDEN_FILE).scores.shape == (80,)
    picture = codec.decode(GOLDEN_FILE)
    assert (picture.size, picture.mode) == ((1056, 72), "RGB")
    assert np.asarray(picture).std() > 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: not tried")
def test_latents_are_those_on_a_gpu_too() -> None:
    base, _ = fixed_latents(model_of(vcm.load(TINY_WEIGHTS, "cuda")), parse(GOLDEN_FILE.read_bytes()))
    assert digest(base) == BASE_LATENTS
