"""A second parser, written from docs/bitstream.md alone and slowly, agrees with ours; so does the page's example."""

from __future__ import annotations

import re
import struct
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from vcm.bitstream import Bitstream, ChunkKind, Layer, Metadata, SourceKind, parse
from vcm.bitstream.limits import crc16, crc32c

PAGE = Path(__file__).parents[2] / "docs" / "bitstream.md"


def slow_crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # 0x1EDC6F41 with its bits reversed
    return crc ^ 0xFFFFFFFF


def slow_parse(data: bytes) -> dict[str, Any]:
    magic, version, codec, width, height, source, scale, base_bytes, crc = struct.unpack_from("<3sBBHHBBIH", data)
    assert (magic, version, crc) == (b"VCM", 1, slow_crc16(data[:15]))
    out = {"codec": codec, "size": (width, height), "source": source, "scale": scale, "layers": [], "other": []}
    at = 17
    while at < len(data):
        kind, length, crc = struct.unpack_from("<BIH", data, at)
        assert crc == slow_crc16(data[at : at + 5])
        payload = data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind not in (1, 2):
            assert kind & 128 or kind == 5
            assert struct.unpack_from("<I", payload)[0] == slow_crc32c(payload[4:])
            out["other"].append((kind & 127, payload[4:]))
            continue
        if kind == 1:
            assert at == base_bytes
        part, of = (8, 8) if kind == 2 else (scale, 8) if scale <= 16 else (scale - 128, 1024)
        quality, fingerprint, log2 = struct.unpack_from("<H8sB", payload)
        w, h = ((side * part + of - 1) // of for side in (width, height))
        n = len(range(0, w, 2**log2)) * len(range(0, h, 2**log2))
        table = list(struct.unpack_from(f"<{n - 1}I", payload, 11))
        assert struct.unpack_from("<H", payload, 7 + 4 * n)[0] == slow_crc16(payload[: 7 + 4 * n])
        table.append(length - 9 - 8 * n - sum(table))
        spot, streams = 9 + 4 * n, []
        for size in table:
            streams.append(payload[spot + 4 : spot + 4 + size])
            assert struct.unpack_from("<I", payload, spot)[0] == slow_crc32c(streams[-1])
            spot += 4 + size
        assert spot == length
        out["layers"].append((kind, quality, fingerprint, log2, tuple(streams)))
    return out


def test_checksums_have_the_stated_check_values() -> None:
    for fast, slow, value in ((crc16, slow_crc16, 0x29B1), (crc32c, slow_crc32c, 0xE3069283)):
        assert fast(b"123456789") == slow(b"123456789") == value


def agree(file: Bitstream) -> None:
    seen = slow_parse(file.to_bytes())
    assert seen["codec"] == file.codec_id
    assert seen["size"] == (file.width, file.height)
    assert (seen["source"], seen["scale"]) == (file.header.source.pack(), file.base_scale)
    assert seen["layers"] == [(x.kind, x.quality_index, x.fingerprint, x.tile_log2, x.tiles) for x in file.layers]
    others = (*file.metadata.to_chunks(), *file.extra)
    assert seen["other"] == [(chunk.kind, chunk.payload) for chunk in others]


def test_both_parsers_agree(small_file: Bitstream) -> None:
    agree(small_file)


@pytest.mark.parametrize("scale", [*range(1, 17), 129, 200, 255])
def test_both_parsers_agree_on_many_tiles(scale: int) -> None:
    width, height = 5000, 1100
    layers = []
    for kind, ratio in (
        (ChunkKind.BASE, scale / 8 if scale < 17 else scale / 1024 - 1 / 8),
        (ChunkKind.ENHANCEMENT, 1),
    ):
        count = ceil(width * ratio / 1024) * ceil(height * ratio / 1024)
        layers.append(Layer(kind, 1, bytes(8), 10, tuple(bytes([i]) * (i * 7 % 5) for i in range(count))))
    source = SourceKind(16)
    agree(Bitstream.build(width=width, height=height, codec_id=9, source=source, base_scale=scale, layers=layers))


def test_the_example_of_the_page_is_what_the_writer_writes() -> None:
    example = PAGE.read_text(encoding="utf-8").partition("## Example")[2]
    rows = re.findall(r"^(\d+) +((?:[0-9a-f]{2} )+)", example, re.MULTILINE)
    data = b""
    for offset, row in rows:
        assert int(offset) == len(data)
        data += bytes.fromhex(row)
    base = Layer(ChunkKind.BASE, 500, bytes.fromhex("00112233aabbccdd"), 10, (b"base",))
    enhancement = Layer(ChunkKind.ENHANCEMENT, 700, bytes.fromhex("0123456789abcdef"), 10, (b"left", b"right"))
    file = Bitstream.build(
        width=1500,
        height=300,
        codec_id=1,
        source=SourceKind(),
        base_scale=4,
        layers=[base, enhancement],
        metadata=Metadata(entries=(("by", b"me"),)),
    )
    assert data == file.to_bytes()
    assert parse(data) == file
