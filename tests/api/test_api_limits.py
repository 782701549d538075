"""Limits that a caller sets, on every method that reads a picture or a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_tools import noise
from PIL import Image
from tiny import TINY_WEIGHTS, tiny_codec, tiny_twin, tiny_weights

import vcm
from vcm.bitstream import Bitstream, ChunkKind, Header, Layer, SourceKind, parse, read_base, read_partially
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.errors import ImageError, LimitError, OptionError, VcmError
from vcm.limits import MAX_PIXELS, Limits
from vcm.twin import load_twin

WIDTH, HEIGHT = 120, 90
PIXELS = WIDTH * HEIGHT


@pytest.fixture(scope="module")
def file() -> Bitstream:
    return tiny_codec().encode(noise(WIDTH, HEIGHT), base_scale=4)


@pytest.fixture(scope="module")
def png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(noise(WIDTH, HEIGHT)).save(data, "PNG")
    return data.getvalue()


def readers(file: Bitstream) -> dict[str, tuple[Callable[..., Any], int, int]]:
    """Every method that reads a file, with the pixels and the bytes that it needs."""
    codec, data, base = tiny_codec(), file.to_bytes(), 60 * 45
    prefix = len(file.base)
    region = (100, 80, WIDTH, HEIGHT)
    return {
        "latents": (lambda **limits: codec.latents(data, **limits), base, prefix),
        "detect": (lambda **limits: codec.detect(io.BytesIO(data), **limits), base, prefix),
        "classify": (lambda **limits: codec.classify(data, **limits), base, prefix),
        "run": (lambda **limits: codec.run("detect", data, **limits), base, prefix),
        "preview": (lambda **limits: codec.decode(data, layers=1, **limits), base, prefix),
        "decode": (lambda **limits: codec.decode(data, **limits), PIXELS, len(data)),
        "rows": (lambda **limits: list(codec.decode_rows(data, **limits)), PIXELS, len(data)),
        "region": (lambda **limits: codec.decode(data, region=region, **limits), 200, len(data)),
        "base alone": (lambda **limits: codec.decode(file.base, **limits), base, prefix),
        "open": (lambda **limits: vcm.open(data, weights=TINY_WEIGHTS, **limits).decode(), PIXELS, len(data)),
        "open, detect": (lambda **limits: vcm.open(data, weights=TINY_WEIGHTS, **limits).detect(), base, prefix),
        "enhance": (lambda **limits: codec.enhance(file.base, noise(WIDTH, HEIGHT), **limits), PIXELS, prefix),
        "many": (lambda **limits: [o.get() for o in codec.detect_many([data], **limits)], base, prefix),
    }


@pytest.mark.parametrize("name", [
    "latents", "detect", "classify", "run", "preview", "decode", "rows", "region", "base alone", "open", "open, detect",
    "enhance", "many",
])  # fmt: skip
def test_files_within_and_over_the_limits(file: Bitstream, name: str) -> None:
    call, pixels, count = readers(file)[name]
    call(max_pixels=pixels, max_bytes=count)
    with pytest.raises(VcmError, match=r"max_pixels"):
        call(max_pixels=pixels - 1)
    with pytest.raises(LimitError, match=f"too long: expected at most {count - 1} bytes"):
        call(max_bytes=count - 1)
    for limits in ({"max_pixels": 0}, {"max_bytes": -1}, {"max_pixels": 1.5}, {"max_bytes": "many"}):
        with pytest.raises(OptionError, match="out of range: expected a whole number from 1 on"):
            call(**limits)


def test_pictures_within_and_over_the_limits(png: bytes, tmp_path: Path) -> None:
    codec, path = tiny_codec(), tmp_path / "a.png"
    path.write_bytes(png)
    tiny_weights(tmp_path)
    twin = load_twin(tiny_twin(tmp_path / "twin.safetensors"))
    pixels = noise(WIDTH, HEIGHT)
    sources = (path, png, io.BytesIO, Image.fromarray(pixels), pixels)
    for call in (codec.encode, twin.detect, twin.latents):
        for source in sources:

            def given() -> Any:
                return io.BytesIO(png) if source is io.BytesIO else source  # noqa: B023

            call(given(), max_pixels=PIXELS, max_bytes=len(png))
            with pytest.raises(ImageError, match=r"at most 10799 pixels \(max_pixels\), found 120x90"):
                call(given(), max_pixels=PIXELS - 1)
            if isinstance(source, Path | bytes | type):
                with pytest.raises(ImageError, match=r"too large: expected at most \d+ bytes \(max_bytes\)"):
                    call(given(), max_bytes=len(png) - 1)
    with pytest.raises(OptionError, match="max_bytes is out of range"):
        codec.encode(pixels, max_bytes=0)


def test_a_file_object_is_not_read_beyond_the_limit(png: bytes) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1, /) -> bytes:
            assert size > 0
            self.taken += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(ImageError, match="too large"):
        tiny_codec().encode(endless, max_bytes=5 << 20)
    assert endless.taken == (5 << 20) + 1


def test_an_applications_own_limit_is_respected_and_left_alone(png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ImageError, match=r"at most 6000 pixels \(PIL.Image.MAX_IMAGE_PIXELS\)"),
    ):
        tiny_codec().encode(png, max_pixels=PIXELS)
    assert Image.MAX_IMAGE_PIXELS == 6000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="max_pixels"):
        tiny_codec().encode(png, max_pixels=6000)
    assert tiny_codec().encode(png, max_pixels=10 * MAX_PIXELS).width == WIDTH


def claiming(width: int, height: int, scale: int = 1, enhancement: bool = True) -> bytes:
    """A file of a few bytes whose tiles are empty."""
    codec = tiny_codec()
    layers = [Layer(ChunkKind.BASE, 0, bytes.fromhex(codec.fingerprint), 12, (b"",))]
    if enhancement:
        tiles = (b"",) * (-(-width // 4096) * -(-height // 4096))
        layers.append(Layer(ChunkKind.ENHANCEMENT, 0, bytes.fromhex(codec.fingerprint_enhancement), 12, tiles))
    return Bitstream.build(
        width=width, height=height, codec_id=1, source=SourceKind(), base_scale=scale, layers=layers
    ).to_bytes()


def test_a_small_file_that_claims_much_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: LatentCoder, *args: object) -> np.ndarray:
        raise AssertionError("a tile was decoded")

    monkeypatch.setattr(LatentCoder, "decode_tile", never)
    codec, data = tiny_codec(), claiming(16384, 16384)
    for call in (codec.decode, codec.decode_rows):
        with pytest.raises(LimitError, match=r"the picture has too many pixels: expected at most 67108864 \(max_pix"):
            call(data)
    with pytest.raises(LimitError, match="the region has too many pixels"):
        codec.decode(data, region=(0, 0, 8193, 8192))
    base = claiming(16384, 16384, enhancement=False)
    assert len(base) == 41
    for call in (codec.decode, codec.detect, codec.latents, codec.classify):
        with pytest.raises(LimitError, match=r"the base's picture has too many pixels: .* found 2048x2048"):
            call(base, max_pixels=1 << 20)


def test_the_bytes_of_a_base_are_bounded_by_its_pixels() -> None:
    most = (1 << 16) + 8 * 256 * 4 * 4
    base = Layer(ChunkKind.BASE, 0, bytes(8), 10, (bytes(most - 17 - 24),))
    fields: dict[str, Any] = {"width": 64, "height": 49, "codec_id": 1, "source": SourceKind(), "base_scale": 8}
    data = Bitstream.build(**fields, layers=[base]).to_bytes()
    assert parse(data).header.base_bytes == most
    longer = Layer(ChunkKind.BASE, 0, bytes(8), 10, (bytes(most - 17 - 24 + 1),))
    with pytest.raises(LimitError, match=f"the base is too long for its picture: expected at most {most} bytes"):
        Bitstream.build(**fields, layers=[longer])
    lie = Header(1, 1000, 1000, base_bytes=most + 1).pack()
    header = bytearray(lie)
    header[5:9] = bytes([64, 0, 49, 0])
    from vcm.bitstream.limits import crc16

    header[15:17] = crc16(bytes(header[:15])).to_bytes(2, "little")
    source = io.BytesIO(bytes(header) + bytes(most))
    with pytest.raises(LimitError, match="the base is too long for its picture"):
        read_base(source)
    assert source.tell() == 17


def test_the_worst_base_that_can_be_written_is_within_its_limit() -> None:
    """Symbols at the far end everywhere, in a picture whose last positions are nearly all padding."""
    for width, height in ((16, 16), (17, 17), (1000, 17), (300, 200)):
        size = -(-width // 16), -(-height // 16)
        y = np.random.default_rng(0).choice([-1e9, 1e9], (1, 8, size[1], size[0])).astype(np.float32)
        layer, _ = tiny_codec()._model.encode_base(y, (width, height), 8, 1023)
        worst = sum(map(len, layer.tiles))
        assert Bitstream.of_base(layer, source=SourceKind()).header.base_bytes > worst > 8 * size[0] * size[1] * 3


def test_reading_in_parts_has_a_limit(file: Bitstream) -> None:
    with pytest.raises(LimitError, match="the file is too long"), read_partially(file.to_bytes(), max_bytes=100):
        pass
    with pytest.raises(OptionError):
        Limits(0)
