"""A standard codec's picture on a base of ours: the chunk's bytes, decoding, rates, and what is refused."""

from __future__ import annotations

import io
import json
import struct
import warnings
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from tiny import GOLDEN_PICTURE, TINY_WEIGHTS, golden_picture, tiny_codec

import vcm
from vcm.api import RateWarning
from vcm.bitstream import Bitstream, Chunk, ChunkKind, PictureFormat, PictureLayer, parse, read_base, read_partially
from vcm.bitstream.limits import crc16, crc32c
from vcm.errors import FormatError, LayerError, MandatoryChunkError, OptionError

GOLDEN_SHA256 = "862b3f6c6f8db36eb81918e5cedec1fbb264b6ae065cb8aced7888037ef2d4fc"
NAMES = ("avif", "webp", "jxl", "jpeg")


@pytest.fixture(scope="module")
def stream() -> Bitstream:
    return parse(GOLDEN_PICTURE.read_bytes())


def smooth() -> np.ndarray:
    """A picture that all these codecs can code well."""
    noise = np.random.default_rng(5).integers(60, 196, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((192, 144), Image.Resampling.BICUBIC))


def test_the_golden_file_is_the_one_that_was_pinned() -> None:
    assert sha256(GOLDEN_PICTURE.read_bytes()).hexdigest() == GOLDEN_SHA256


def test_it_reads_as_it_was_written(stream: Bitstream) -> None:
    assert stream.to_bytes() == GOLDEN_PICTURE.read_bytes()
    assert stream.layer_names == ("base", "picture")
    assert (stream.picture.format, stream.picture.quality_index) == (PictureFormat.JPEG, 307)
    with Image.open(io.BytesIO(stream.picture.data)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(np.asarray(tiny_codec().decode(stream)), expected)
    assert stream.cut(1).to_bytes() == stream.base
    assert stream.layers == (stream.base_layer,)
    assert stream.extra == ()


def test_the_chunk_as_the_specification_has_it(stream: Bitstream) -> None:
    data = stream.to_bytes()[len(stream.base) :]
    kind, length, crc = struct.unpack_from("<BIH", data)
    assert (kind, crc) == (5, crc16(data[:5]))
    (stored,), body = struct.unpack_from("<I", data, 7), data[11 : 7 + length]
    assert stored == crc32c(body)
    assert struct.unpack_from("<BH", body) == (1, 307)
    assert body[3:5] == b"\xff\xd8"


def test_readers_from_before_refuse_the_whole_and_read_the_base(stream: Bitstream) -> None:
    data = stream.to_bytes()
    assert read_base(data).bitstream.to_bytes() == stream.base
    unknown = data[: len(stream.base)] + Chunk(6, b"picture", optional=False).pack()
    with pytest.raises(MandatoryChunkError):
        parse(unknown)
    assert read_base(unknown).bitstream == read_base(data).bitstream


@pytest.mark.parametrize("name", NAMES)
def test_encode_enhance_decode(name: str, tmp_path) -> None:
    if name == "jxl":
        pytest.importorskip("imagecodecs")
    codec, pixels = tiny_codec(), smooth()
    stream = codec.encode(pixels, quality=80, picture=name)
    base = codec.encode(pixels, base_only=True)
    assert codec.enhance(base, pixels, quality=80, picture=name) == stream
    assert stream.base == base.to_bytes()
    picture = np.asarray(codec.decode(stream), np.float64)
    assert np.abs(picture - pixels).mean() < 6
    stream.save(tmp_path / "a.vcm")
    opened = vcm.open(tmp_path / "a.vcm", weights=TINY_WEIGHTS)
    assert np.array_equal(np.asarray(opened.decode()), picture)
    region = (3, 5, 40, 30)
    for source in (stream, tmp_path / "a.vcm", stream.to_bytes()):
        assert np.array_equal(np.asarray(codec.decode(source, region=region)), picture[5:30, 3:40])
    assert np.array_equal(np.concatenate(list(codec.decode_rows(stream))), picture)
    assert codec.decode(stream, layers=1).info["vcm_preview"]
    assert np.array_equal(codec.detect(stream).boxes, codec.detect(base).boxes)
    with read_partially(tmp_path / "a.vcm") as partial:
        assert partial.picture == stream.picture


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_is_of_the_whole_file(name: str) -> None:
    if name == "jxl":
        pytest.importorskip("imagecodecs")
    codec, pixels = (
        tiny_codec(),
        np.asarray(Image.fromarray(golden_picture()).resize((256, 192), Image.Resampling.BICUBIC)),
    )
    least, most = (codec.encode(pixels, quality=q, picture=name).bpp for q in (10, 90))
    target = (least * most) ** 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RateWarning)  # JPEG's and WebP's qualities are whole numbers
        stream = codec.encode(pixels, target_bpp=target, picture=name)
    assert stream.bpp == pytest.approx(target, rel=0.08)


def test_a_grey_source_stays_grey() -> None:
    grey = Image.fromarray(golden_picture()).convert("L")
    assert tiny_codec().decode(tiny_codec().encode(grey, picture="webp")).mode == "L"


def test_wrong_calls(stream: Bitstream) -> None:
    codec, pixels = tiny_codec(), golden_picture()
    for options in ({"picture": "gif"}, {"picture": 3}, {"picture": "avif", "base_only": True}):
        with pytest.raises(OptionError):
            codec.encode(pixels, **options)
    with pytest.raises(LayerError, match="found base, picture"):
        codec.enhance(stream, pixels)
    with pytest.raises(LayerError):
        codec.decode(stream, layers=3)


def test_layers_that_exclude_each_other(stream: Bitstream) -> None:
    full = tiny_codec().encode(golden_picture())
    for file, layer in ((stream, full.enhancement), (full, stream.picture), (stream, stream.picture)):
        with pytest.raises(FormatError, match="exclude each other"):
            file.with_layer(layer)


def forged(stream: Bitstream, body: bytes) -> bytes:
    return stream.base + Chunk(ChunkKind.PICTURE, body, optional=False).pack()


def test_hostile_pictures(stream: Bitstream) -> None:
    for body, error in ((b"", "too short"), (b"\x01\0", "too short"), (b"\0\0\0x", "format"), (b"\x05\0\0x", "format")):
        with pytest.raises(FormatError, match=error):
            parse(forged(stream, body))
    with pytest.raises(FormatError, match="quality"):
        parse(forged(stream, b"\x01\xff\xffx"))
    with pytest.raises(FormatError, match="bit 7"):
        parse(stream.base + Chunk(ChunkKind.PICTURE, b"\x01\0\0x").pack())
    out = io.BytesIO()
    Image.new("RGB", (stream.width + 1, stream.height)).save(out, "JPEG")
    for data in (
        b"",
        b"junk",
        stream.picture.data[:400],
        out.getvalue(),
        b"\x89PNG\r\n\x1a\n",
        GOLDEN_PICTURE.read_bytes(),
    ):
        for format in PictureFormat:
            if format == PictureFormat.JPEG_XL:
                pytest.importorskip("imagecodecs")
            whole = stream.cut(1).with_layer(PictureLayer(format, 0, data))
            with pytest.raises(FormatError) as caught:
                tiny_codec().decode(whole)
            assert "\n" not in str(caught.value)
            assert "0x" not in str(caught.value)


def test_the_command_line(tmp_path, capsys) -> None:
    from vcm.cli import run

    Image.fromarray(golden_picture()).save(tmp_path / "a.png")
    weights = str(TINY_WEIGHTS)
    assert run(["encode", str(tmp_path / "a.png"), "--picture", "webp", "-q", "70", "-m", weights]) == 0
    capsys.readouterr()
    assert run(["inspect", str(tmp_path / "a.vcm"), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in row["layers"]] == ["base", "picture"]
    assert (row["layers"][1]["format"], row["layers"][1]["quality"]) == ("WEBP", 70)
    assert sum(chunk["bytes"] for chunk in row["chunks"]) == row["total_bytes"]
    assert run(["inspect", str(tmp_path / "a.vcm")]) == 0
    assert "WEBP" in capsys.readouterr().out
    assert run(["decode", str(tmp_path / "a.vcm"), "-m", weights]) == 0
    assert run(["encode", str(tmp_path / "a.png"), "--picture", "gif"]) == 2
    assert run(["encode", str(tmp_path / "a.png"), "--picture", "avif", "--base-only"]) == 2
