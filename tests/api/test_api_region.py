"""Parts of pictures: equal to the crop of the whole, and neither read nor computed beyond what they need."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from codec_tools import model_of, noise
from tiny import TINY_WEIGHTS, tiny_codec

import vcm
from vcm.api import Codec
from vcm.bitstream import Bitstream, ChunkKind, Layer, SourceKind, read_partially, tile_grid
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.synthesis import MAX_PREVIEW_PIXELS
from vcm.errors import ChecksumError, InputError, LayerError, OptionError, TruncatedError

SIZE = WIDTH, HEIGHT = 2061, 1079  # three tiles by two, odd
REGIONS = [
    (0, 0, *SIZE), (0, 0, 1, 1), (WIDTH - 1, HEIGHT - 1, *SIZE), (1000, 1000, 1050, 1050), (0, HEIGHT - 7, *SIZE),
    (1023, 5, 1025, 9), (1024, 1024, 1040, 1040), (WIDTH - 33, 0, WIDTH, HEIGHT), (333, 77, 1800, 1001),
]  # fmt: skip


class Counting(io.BytesIO):
    """A file object that says how many bytes were read of it, and whether it can seek."""

    def __init__(self, data: bytes, *, seekable: bool = True) -> None:
        super().__init__(data)
        self.taken, self.can_seek = 0, seekable

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.taken += len(piece)
        return piece

    def seekable(self) -> bool:
        return self.can_seek

    def seek(self, *to: int) -> int:
        if not self.can_seek:
            raise io.UnsupportedOperation("seek")
        return super().seek(*to)


@pytest.fixture(scope="module")
def file() -> Bitstream:
    return tiny_codec().encode(noise(*SIZE), quality=60, base_scale=7)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return vcm.load(TINY_WEIGHTS, backend=request.param)


@pytest.fixture(scope="module")
def whole(file: Bitstream, codec: Codec) -> npt.NDArray[np.uint8]:
    return np.asarray(codec.decode(file))


@pytest.mark.parametrize("box", REGIONS)
def test_a_region_is_the_crop_of_the_whole(
    codec: Codec, file: Bitstream, whole: npt.NDArray[np.uint8], box: tuple[int, int, int, int]
) -> None:
    x0, y0, x1, y1 = box
    for source in (file, file.to_bytes()):
        apart = np.asarray(codec.decode(source, region=box)).astype(int) - whole[y0:y1, x0:x1]
        # Networks over another extent may round otherwise.
        assert np.abs(apart).max() <= 1
        assert np.count_nonzero(apart) <= apart.size * 1e-4


def test_a_region_takes_only_the_bytes_of_its_tiles(codec: Codec, file: Bitstream) -> None:
    data, layer = file.to_bytes(), file.enhancement
    assert layer is not None
    assert len(layer.tiles) == 6
    overhead = file.layout[1].bytes - sum(map(len, layer.tiles))

    def taken(*box: int) -> int:
        source = Counting(data)
        codec.decode(source, region=box)
        return source.taken - file.header.base_bytes

    for box, wanted in (((5, 5, 50, 50), [0]), ((1400, 200, 1500, 300), [1]), ((1200, 1060, 1300, 1079), [1, 4])):
        assert sum(len(layer.tiles[i]) for i in wanted) <= taken(*box)
        assert taken(*box) <= sum(len(layer.tiles[i]) for i in wanted) + overhead + 64
    assert taken(0, 0, *SIZE) <= len(data) - file.header.base_bytes + 64


def test_a_region_computes_only_its_tiles_and_their_halo(
    codec: Codec, file: Bitstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles: list[str] = []
    positions: list[int] = []
    decode_tile, networks = LatentCoder.decode_tile, model_of(codec).networks
    run = networks.run

    def counted(self: LatentCoder, *args: Any) -> Any:
        tiles.append(self.layer)
        return decode_tile(self, *args)

    def watched(name: str, /, *arrays: Any) -> Any:
        if name == "picture.synthesis":
            positions.append(arrays[0].shape[2] * arrays[0].shape[3])
        return run(name, *arrays)

    monkeypatch.setattr(LatentCoder, "decode_tile", counted)
    monkeypatch.setattr(networks, "run", watched)
    codec.decode(file, region=(1400, 200, 1500, 300))
    assert sorted(tiles) == ["base", "base", "picture"]  # the picture's tile lies over both of the base's
    assert positions == [(7 + 16) * (7 + 16)]
    tiles.clear()
    codec.decode(file)
    assert sorted(tiles) == ["base"] * 2 + ["picture"] * 6


def test_damage_outside_of_a_region_does_not_matter(codec: Codec, file: Bitstream) -> None:
    data = bytearray(file.to_bytes())
    data[-1] ^= 1  # the last tile's
    box = (5, 5, 50, 50)
    assert np.array_equal(codec.decode(bytes(data), region=box), codec.decode(file, region=box))
    with pytest.raises(ChecksumError, match="the stream of tile 5 is damaged"):
        codec.decode(bytes(data), region=(2050, 1070, *SIZE))
    with pytest.raises(ChecksumError):
        codec.decode(bytes(data))
    with pytest.raises(TruncatedError, match="whole layers: base"):
        codec.decode(bytes(data[:-1]), region=box)
    data = bytearray(file.to_bytes())
    data[file.layout[1].offset + 8] ^= 1
    with pytest.raises(ChecksumError, match="a layer's head is damaged"):
        codec.decode(bytes(data), region=box)


def test_what_cannot_seek_is_read_whole(codec: Codec, file: Bitstream) -> None:
    box = (1400, 200, 1500, 300)
    source = Counting(file.to_bytes(), seekable=False)
    assert np.array_equal(codec.decode(source, region=box), codec.decode(file, region=box))
    assert source.taken == file.total_bytes


def test_a_file_object_is_read_from_where_it_stands(codec: Codec, file: Bitstream) -> None:
    source = io.BytesIO(b"something else" + file.to_bytes())
    source.seek(14)
    assert np.array_equal(codec.decode(source, region=(9, 9, 20, 20)), codec.decode(file, region=(9, 9, 20, 20)))


def test_several_regions_of_one_open_file(codec: Codec, file: Bitstream, whole: npt.NDArray[np.uint8]) -> None:
    with read_partially(file.to_bytes()) as partial:
        for box in ((1400, 200, 1500, 300), (0, 0, 30, 20)):
            assert np.array_equal(codec.decode(partial, region=box), codec.decode(file, region=box))
        assert np.array_equal(codec.decode(partial), whole)
        assert len(codec.detect(partial, score=0.05)) == len(codec.detect(file, score=0.05))
        with pytest.raises(OptionError, match="read in parts is not there as a whole"):
            codec.decode_rows(partial)
        with pytest.raises(LayerError, match="expected 3, found 2"):
            codec.decode(partial, layers=3, region=(0, 0, 3, 3))


def test_errors_in_the_block_are_not_about_reading(file: Bitstream) -> None:
    with pytest.raises(ValueError, match="mine"), read_partially(file.to_bytes()):
        raise ValueError("mine")
    source = io.BytesIO(file.to_bytes())
    with read_partially(source) as partial:
        source.close()
        with pytest.raises(InputError, match="cannot read BytesIO"):
            _ = partial.layers[1].tiles[0]
    with read_partially(file.to_bytes()) as partial:
        assert partial.layers[1].tiles[1:3] == list(file.layers[1].tiles[1:3])
        with pytest.raises(IndexError):
            _ = partial.layers[1].tiles[6]


@pytest.mark.parametrize(
    "region",
    [
        (0, 0, 0, 5), (5, 5, 4, 9), (0, 0, WIDTH + 1, 5), (0, HEIGHT, 5, HEIGHT + 1), (-1, 0, 5, 5), (0, 0, 5), "0055",
        (0, 0, 2.5, 5), 7,
    ],
)  # fmt: skip
def test_regions_that_are_none(file: Bitstream, region: Any) -> None:
    for layers in (None, 1):
        with pytest.raises(OptionError, match="region"):
            tiny_codec().decode(file, region=region, layers=layers)


def test_a_region_of_a_preview_and_of_a_base_alone(codec: Codec) -> None:
    file = codec.encode(noise(120, 90), base_scale=7)
    preview = np.asarray(codec.decode(file, layers=1))
    for source, layers in ((file, 1), (file.base, None), (file.base, 1)):
        part = codec.decode(source, layers=layers, region=(33, 10, 101, 90))
        assert part.info["vcm_preview"] is True
        assert np.abs(np.asarray(part).astype(int) - preview[10:90, 33:101]).max() <= 1


def test_a_preview_reads_the_base_prefix_only(codec: Codec, file: Bitstream) -> None:
    for region in (None, (3, 4, 50, 60)):
        source = Counting(file.to_bytes())
        codec.decode(source, layers=1, region=region)
        assert source.taken == file.header.base_bytes < file.total_bytes


def claiming(width: int, height: int, scale: int) -> bytes:
    """A base of empty streams."""
    columns, rows = tile_grid(-(-width * scale // 8), -(-height * scale // 8), 12)
    layer = Layer(ChunkKind.BASE, 0, bytes.fromhex(tiny_codec().fingerprint), 12, (b"",) * (columns * rows))
    file = Bitstream.build(
        width=width, height=height, codec_id=1, source=SourceKind(), base_scale=scale, layers=[layer]
    )
    return file.to_bytes()


@pytest.mark.parametrize(("width", "height"), [(16384, 16384), (65535, 4096), (4096, 65535), (65535, 1)])
def test_a_preview_costs_no_more_than_a_screen(codec: Codec, width: int, height: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        LatentCoder, "decode_tile",
        lambda self, stream, size, quality, base=None: np.zeros((1, self.spec.channels, *size), np.int64),
    )  # fmt: skip
    data = claiming(width, height, 1)
    assert len(data) < 100
    preview = codec.decode(data, layers=1)
    assert preview.width * preview.height <= MAX_PREVIEW_PIXELS
    assert preview.width / preview.height == pytest.approx(width / height, rel=0.02)
    part = codec.decode(data, layers=1, region=(width // 2, 0, width, height))
    assert part.width * part.height <= MAX_PREVIEW_PIXELS


def test_a_reduced_preview_shows_the_same_places(codec: Codec, monkeypatch: Any) -> None:
    file = codec.encode(noise(400, 300), base_only=True)
    full = codec.decode(file)
    monkeypatch.setattr("vcm.codecs.scalable.synthesis.MAX_PREVIEW_PIXELS", 200 * 150)
    small = codec.decode(file)
    assert (full.size, small.size) == ((400, 300), (200, 150))
    means = np.asarray(full).reshape(150, 2, 200, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(small) - means).mean() < 1


def test_rows_are_the_whole_picture(codec: Codec, file: Bitstream, whole: npt.NDArray[np.uint8]) -> None:
    rows = codec.decode_rows(file)
    assert (rows.width, rows.height, rows.mode) == (*SIZE, "RGB")
    assert np.array_equal(np.concatenate(list(rows)), whole)
    tall = codec.encode(noise(40, 1700)[:, :, 0])
    grey = codec.decode_rows(tall.to_bytes())
    bands = list(grey)
    assert grey.mode == "L"
    assert [band.shape for band in bands] == [(1536, 40), (164, 40)]
    assert np.array_equal(np.concatenate(bands), np.asarray(codec.decode(tall)))
    with pytest.raises(LayerError, match="the file has fewer layers"):
        codec.decode_rows(file.base)


def test_an_open_file_reads_regions(file: Bitstream, tmp_path: Any) -> None:
    path = tmp_path / "a.vcm"
    file.save(path)
    box = (1400, 200, 1500, 300)
    opened = vcm.open(path, weights=TINY_WEIGHTS)
    wanted = opened.codec.decode(file, region=box)
    assert np.array_equal(opened.decode(region=box), wanted)
    assert "stream" not in opened.__dict__, "the whole file was not read"
    assert opened.decode(layers=1, region=box).size == (100, 100)
    assert np.array_equal(np.concatenate(list(opened.decode_rows())), np.asarray(opened.decode()))
    assert np.array_equal(opened.decode(region=box), wanted)
