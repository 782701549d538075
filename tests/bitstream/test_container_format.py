"""Building, layout, limits of what a caller may ask for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

import vcm.bitstream.chunks as chunks_module
from vcm.bitstream import (
    FORMAT_VERSION,
    FRAME_BYTES,
    HEADER_BYTES,
    MAX_CHUNKS,
    MAX_LAYERS,
    MAX_METADATA_BYTES,
    MAX_PIXELS,
    Bitstream,
    Chunk,
    ChunkKind,
    Header,
    Layer,
    LayerSpan,
    Metadata,
    SourceKind,
    append_layer,
    coded_size,
    parse,
    tile_grid,
    tiles,
)
from vcm.errors import FormatError, LayerError, LimitError, MandatoryChunkError, OptionError


def one_layer(width: int = 640, height: int = 480, stream: bytes = b"") -> Bitstream:
    base = Layer(ChunkKind.BASE, 0, bytes(8), 10, (stream,))
    return Bitstream.build(width=width, height=height, codec_id=0, source=SourceKind(), base_scale=8, layers=[base])


def test_a_base_only_file_costs_41_bytes_beyond_its_stream() -> None:
    file = one_layer(stream=bytes(600))
    assert len(file.to_bytes()) - 600 == 41
    assert HEADER_BYTES == 17
    assert FRAME_BYTES == 7


def test_the_room_imports_no_tensors() -> None:
    code = "import sys, vcm.bitstream; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_properties(small_file: Bitstream, base_layer: Layer, enhancement_layer: Layer) -> None:
    data = small_file.to_bytes()
    assert (small_file.width, small_file.height, small_file.codec_id, small_file.base_scale) == (1500, 300, 1, 4)
    assert small_file.header.source == SourceKind(16, True, True)
    assert small_file.layer_names == ("base", "enhancement", "enhancement2")
    assert small_file.layers == (base_layer, enhancement_layer, enhancement_layer)
    assert small_file.base_layer == base_layer
    assert small_file.enhancement == enhancement_layer
    assert small_file.metadata.entries == (("camera", b"7"), ("näme", b""))
    assert small_file.metadata.icc == b"profile"
    assert small_file.extra == (Chunk(120, b"private"),)
    assert small_file.total_bytes == len(data)
    assert small_file.bpp == len(data) * 8 / 450_000
    assert small_file.base_bpp == len(small_file.base) * 8 / 450_000
    assert one_layer().enhancement is None
    assert FORMAT_VERSION == data[3] == 1


def test_layout_says_where_each_layer_lies(small_file: Bitstream) -> None:
    data = small_file.to_bytes()
    assert small_file.layout[0] == LayerSpan("base", HEADER_BYTES, small_file.header.base_bytes - HEADER_BYTES)
    for span, layer in zip(small_file.layout, small_file.layers, strict=True):
        assert data[span.offset : span.offset + span.bytes] == layer.pack()


def test_the_base_prefix_is_a_prefix_and_a_file(small_file: Bitstream) -> None:
    assert small_file.to_bytes().startswith(small_file.base)
    assert len(small_file.base) == small_file.header.base_bytes
    assert parse(small_file.base).layers == small_file.layers[:1]


def test_cut_gives_prefixes(small_file: Bitstream) -> None:
    for count in (1, 2, 3):
        part = small_file.cut(count)
        assert part.layers == small_file.layers[:count]
        assert small_file.to_bytes().startswith(part.to_bytes())
    assert small_file.cut(1).metadata == small_file.metadata  # it stands before the enhancement
    assert small_file.cut(3) == small_file
    for count in (0, 4):
        with pytest.raises(OptionError, match=f"layers is out of range: expected 1 … 3, found {count}"):
            small_file.cut(count)


def test_adding_a_layer_is_appending_a_chunk(
    small_file: Bitstream, enhancement_layer: Layer, base_layer: Layer
) -> None:
    data = small_file.to_bytes()
    longer = append_layer(data, enhancement_layer)
    assert longer == data + enhancement_layer.pack()
    assert parse(longer) == small_file.with_layer(enhancement_layer)
    assert parse(longer).layer_names[-1] == "enhancement3"
    with pytest.raises(LayerError, match="out of order"):
        append_layer(data, base_layer)
    with pytest.raises(FormatError, match="wrong number of tiles: expected 2, found 1"):
        append_layer(data, replace(enhancement_layer, tiles=(b"x",)))


def test_unknown_optional_chunks_are_kept_in_their_place(small_file: Bitstream) -> None:
    assert parse(small_file.to_bytes()).to_bytes() == small_file.to_bytes()
    moved = Bitstream(small_file.header, (small_file.chunks[0], Chunk(6, b"new"), *small_file.chunks[1:]))
    assert parse(moved.to_bytes()).extra == (Chunk(6, b"new"), Chunk(120, b"private"))
    assert parse(moved.to_bytes()).to_bytes() == moved.to_bytes()


def test_unknown_mandatory_chunks_are_refused(small_file: Bitstream) -> None:
    with pytest.raises(MandatoryChunkError, match="found kind 20"):
        Bitstream(small_file.header, (*small_file.chunks, Chunk(ChunkKind.ENCRYPTED, b"", optional=False)))


def test_everything_is_immutable(small_file: Bitstream) -> None:
    for thing, name in ((small_file, "header"), (small_file.header, "width"), (small_file.base_layer, "quality_index")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)
    assert hash(small_file) == hash(parse(small_file.to_bytes()))


@pytest.mark.parametrize(
    ("scale", "size"),
    [
        (8, (101, 33)), (4, (51, 17)), (1, (13, 5)), (3, (38, 13)), (7, (89, 29)), (9, (114, 38)), (16, (202, 66)),
        (255, (13, 5)), (192, (7, 3)), (139, (2, 1)), (129, (1, 1)),
    ],
    ids=str,
)  # fmt: skip
def test_coded_size_rounds_up(scale: int, size: tuple[int, int]) -> None:
    assert coded_size(101, 33, scale) == size


def test_an_enlarged_base_keeps_the_limits_of_a_picture() -> None:
    assert coded_size(32_767, 2048, 16) == (65_534, 4096)
    for width, height in ((32_768, 16), (16, 32_768), (8193, 8192)):
        assert coded_size(width, height, 8) == (width, height)
        with pytest.raises(LimitError, match="the enlarged picture has too many pixels"):
            Header(1, width, height, base_scale=16)


@pytest.mark.parametrize(
    ("width", "height", "log2"), [(1, 1, 10), (1024, 1024, 10), (1025, 2049, 10), (4000, 3000, 11)]
)
def test_tiles_cover_each_pixel_once(width: int, height: int, log2: int) -> None:
    boxes = list(tiles(width, height, log2))
    columns, rows = tile_grid(width, height, log2)
    assert len(boxes) == columns * rows
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) == width * height
    assert boxes == sorted(boxes, key=lambda box: (box[1], box[0]))
    assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
    assert all(x0 % (1 << log2) == 0 and x1 - x0 <= 1 << log2 for x0, _, x1, _ in boxes)


def test_the_limits_bound_the_number_of_tiles() -> None:
    sides = [1024 * (n - 1) + 1 for n in range(1, 65)]  # the shortest side with n tiles
    grids = [tile_grid(w, h, 10) for w in sides for h in sides if w * h <= MAX_PIXELS]
    assert max(columns * rows for columns, rows in grids) == 320  # as docs/bitstream.md says


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0},
        {"width": 65_536},
        {"height": 0},
        {"height": 1.5},
        {"codec_id": 256},
        {"codec_id": -1},
        {"base_scale": 0},
        {"base_scale": 17},
        {"base_scale": 128},
        {"base_scale": 256},
        {"base_scale": 0.5},
        {"base_bytes": 0},
        {"base_bytes": 40},
        {"base_bytes": 1 << 32},
    ],
    ids=str,
)
def test_headers_out_of_range_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="out of range: expected"):
        Header(**{"codec_id": 1, "width": 16, "height": 16, "base_bytes": 100, **fields})


def test_too_many_pixels_are_refused() -> None:
    assert Header(1, 16_384, 16_384).width == 16_384
    with pytest.raises(LimitError, match="expected at most 268435456, found 16385×16384"):
        Header(1, 16_385, 16_384)
    with pytest.raises(OptionError, match="bit depth"):
        SourceKind(bit_depth=10)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": ChunkKind.EXIF},
        {"quality_index": 1024},
        {"quality_index": -1},
        {"fingerprint": bytes(7)},
        {"fingerprint": bytearray(8)},
        {"tile_log2": 9},
        {"tile_log2": 13},
        {"tiles": ()},
        {"tiles": [b""]},
        {"tiles": (bytearray(1),)},
    ],
    ids=str,
)
def test_layers_out_of_range_are_refused(base_layer: Layer, fields: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        replace(base_layer, **fields)


def test_layers_must_be_in_order_and_fit_the_picture(base_layer: Layer, enhancement_layer: Layer) -> None:
    def build(*layers: Layer, width: int = 1500) -> Bitstream:
        source = SourceKind()
        return Bitstream.build(width=width, height=300, codec_id=1, source=source, base_scale=4, layers=layers)

    for wrong in ((), (enhancement_layer,), (enhancement_layer, base_layer), (base_layer, base_layer)):
        with pytest.raises(LayerError):
            build(*wrong)
    with pytest.raises(FormatError, match="wrong number of tiles: expected 1, found 2"):
        build(base_layer, enhancement_layer, width=1024)
    with pytest.raises(FormatError, match="wrong number of tiles: expected 2, found 1"):
        build(base_layer, width=2049)
    with pytest.raises(LimitError, match="too many layers: expected at most 16, found 17"):
        build(base_layer, *[enhancement_layer] * MAX_LAYERS)


def test_base_bytes_must_be_the_bases(small_file: Bitstream) -> None:
    with pytest.raises(FormatError, match="base_bytes is not that of the base"):
        Bitstream(replace(small_file.header, base_bytes=small_file.header.base_bytes + 1), small_file.chunks)


def test_too_many_chunks_are_refused(small_file: Bitstream) -> None:
    base = small_file.chunks[:1]
    assert len(Bitstream(small_file.header, base + (Chunk(120, b""),) * (MAX_CHUNKS - 1)).extra) == MAX_CHUNKS - 1
    with pytest.raises(LimitError, match="too many chunks"):
        Bitstream(small_file.header, base + (Chunk(120, b""),) * MAX_CHUNKS)


def test_too_long_layers_and_chunks_are_refused(monkeypatch: pytest.MonkeyPatch, base_layer: Layer) -> None:
    monkeypatch.setattr(chunks_module, "MAX_CHUNK_BYTES", 100)
    assert replace(base_layer, tiles=(bytes(83),)).wire_bytes == 107
    with pytest.raises(LimitError, match="expected at most 100 bytes, found 101"):
        replace(base_layer, tiles=(bytes(84),))
    with pytest.raises(LimitError, match="expected at most 100 bytes, found 101"):
        Chunk(120, bytes(97))


def test_metadata_is_checked(small_file: Bitstream) -> None:
    for entry in (("", b""), ("ä" * 128, b""), ("\ud800", b""), (1, b""), ("a", "")):
        with pytest.raises(OptionError):
            Metadata(entries=(entry,))
    with pytest.raises(OptionError, match="a metadata key is there twice"):
        Metadata(entries=(("a", b""), ("a", b"")))
    with pytest.raises(OptionError, match="EXIF is of the wrong type: expected bytes, found str"):
        Metadata(exif="text")
    with pytest.raises(LimitError, match="too much metadata"):
        Bitstream(small_file.header, (*small_file.chunks[:1], Chunk(ChunkKind.ICC, bytes(MAX_METADATA_BYTES))))
    with pytest.raises(FormatError, match="a second EXIF chunk"):
        Bitstream(small_file.header, (*small_file.chunks, Chunk(ChunkKind.EXIF, b"")))
    for kind in (0, 1, 2, 128):
        with pytest.raises(OptionError):
            Chunk(kind, b"")


def test_empty_metadata_is_not_missing_metadata() -> None:
    file = one_layer()
    full = Bitstream(file.header, (*file.chunks, *Metadata(exif=b"", icc=b"").to_chunks()))
    assert parse(full.to_bytes()).metadata == Metadata(exif=b"", icc=b"")
    assert file.metadata == Metadata(None, None, ())
