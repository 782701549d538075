"""Pictures of every shape go through files and come back, tile by tile in their own place."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from codec_tools import fixed_latents, model_of, noise
from tiny import tiny_codec

from vcm.bitstream import Bitstream, ChunkKind, Layer, parse
from vcm.bitstream.limits import crc16
from vcm.codecs.scalable.fixed_point import gain_steps
from vcm.codecs.scalable.model import MAX_BASE_PIXELS, picture_array
from vcm.errors import FingerprintError, FormatError, LimitError, OptionError


@pytest.mark.parametrize("scale", [8, 5, 1, None])
@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 33), (31, 200)])
def test_odd_sizes(width: int, height: int, scale: int | None) -> None:
    codec, picture = tiny_codec(), noise(width, height)
    file = parse(codec.encode(picture, base_scale=scale).to_bytes())
    assert codec.decode(file).size == codec.decode(file, layers=1).size == (width, height)
    base, enhancement = fixed_latents(model_of(codec), file)
    used = scale or 8
    assert tuple(enhancement.shape[2:]) == (ceil(height / 16), ceil(width / 16))
    assert tuple(base.shape[2:]) == (ceil(ceil(height * used / 8) / 16), ceil(ceil(width * used / 8) / 16))
    found = codec.detect(file)
    assert (found.width, found.height) == (width, height)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([width, height, width, height])).all()


@pytest.mark.parametrize(("scale", "tiles"), [(8, 2), (4, 1)])
def test_tiles_of_each_layer_follow_its_own_size(scale: int, tiles: int) -> None:
    codec = tiny_codec()
    file = codec.encode(noise(1030, 40), base_scale=scale)
    assert [len(layer.tiles) for layer in file.layers] == [tiles, 2]
    assert codec.decode(file.to_bytes()).size == (1030, 40)


def test_four_tiles_stand_in_their_own_places() -> None:
    codec = tiny_codec()
    model = model_of(codec)
    picture = noise(1100, 1040, 3)
    file = parse(codec.encode(picture, quality=60, base_quality=80).to_bytes())
    assert [len(layer.tiles) for layer in file.layers] == [1, 4]
    _, fixed = fixed_latents(model, file)
    y = model.analyse_picture(picture_array(picture))
    assert file.enhancement is not None
    steps = np.exp2(-gain_steps(model.picture.tables.gain_y, file.enhancement.quality_index) / 32)[:, None, None]
    close = (np.abs(fixed / 1024 - y) <= 0.51 * steps)[0].mean(0)
    for rows in (slice(0, 64), slice(64, 65)):
        for columns in (slice(0, 64), slice(64, 69)):
            assert close[rows, columns].mean() > 0.85
    assert codec.decode(file).size == (1100, 1040)


def test_a_base_that_heads_cannot_hold_is_refused_on_both_sides() -> None:
    codec = tiny_codec()
    model = model_of(codec)
    with pytest.raises(OptionError, match=f"smaller base_scale: expected at most {MAX_BASE_PIXELS} pixels"):
        model.analyse_base(np.broadcast_to(np.float32(0), (1, 3, 4096, 2049)), 8)
    small = codec.encode(noise(16, 16), base_only=True)
    layer = Layer(ChunkKind.BASE, 0, small.base_layer.fingerprint, 12, (b"", b""))
    file = Bitstream.build(
        width=4096, height=4097, codec_id=1, source=small.header.source, base_scale=8, layers=[layer]
    )
    with pytest.raises(LimitError, match="found 4096x4097"):
        codec.detect(file)


def test_a_tile_that_networks_cannot_hold_is_refused() -> None:
    """By the container, before any network is asked for."""
    codec = tiny_codec()
    file = codec.encode(noise(16, 16)).to_bytes()
    head = file.rindex(bytes.fromhex(codec.fingerprint_enhancement)) - 2
    large = file[head : head + 10] + bytes([13])
    wrong = file[:head] + large + crc16(large).to_bytes(2, "little") + file[head + 13 :]
    with pytest.raises(FormatError, match="tile_log2 is out of range: expected 10 … 12, found 13"):
        codec.decode(wrong)
    larger = Layer(
        ChunkKind.ENHANCEMENT,
        0,
        bytes.fromhex(codec.fingerprint_enhancement),
        12,
        codec.encode(noise(16, 16)).layers[1].tiles,
    )
    assert larger.tile_log2 == 12


def test_a_layer_of_other_weights_is_refused() -> None:
    codec = tiny_codec()
    file = codec.encode(noise(32, 32))
    for i, name in enumerate(("base", "enhancement")):
        layers = list(file.layers)
        layers[i] = Layer(layers[i].kind, layers[i].quality_index, bytes(8), 10, layers[i].tiles)
        other = Bitstream.build(
            width=32, height=32, codec_id=1, source=file.header.source, base_scale=file.base_scale, layers=layers
        )
        with pytest.raises(FingerprintError, match=f"the {name} layer was written by other weights"):
            codec.decode(other)
