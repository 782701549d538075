"""Damaged and hostile files: one clear error each, and no memory on a lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from codec_tools import Drawn, model_of, noise
from tiny import tiny_codec

from vcm.bitstream import Bitstream, ChunkKind, Layer, SourceKind, coded_size, tile_grid
from vcm.codecs.scalable.model import tile_slices
from vcm.errors import ChecksumError, EntropyError, TruncatedError, VcmError


@pytest.fixture(scope="module")
def file() -> Bitstream:
    return tiny_codec().encode(noise(64, 48), quality=40, base_quality=50)


def test_every_byte_matters(file: Bitstream) -> None:
    """Each byte changed, one at a time: an error from decode, and from detect where it lies in the base prefix."""
    codec, data = tiny_codec(), file.to_bytes()
    rng = np.random.default_rng(0)
    wanted = codec.detect(data, score=0.05)
    for at, change in enumerate(rng.integers(1, 256, len(data)).tolist()):
        damaged = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
        with pytest.raises(VcmError):
            codec.decode(damaged)
        if at < file.header.base_bytes:
            with pytest.raises(VcmError):
                codec.detect(damaged, score=0.05)
        elif at % 101 == 0:
            assert np.array_equal(codec.detect(damaged, score=0.05).boxes, wanted.boxes)


def test_every_cut_is_an_error_or_a_shorter_file(file: Bitstream) -> None:
    codec, data = tiny_codec(), file.to_bytes()
    for length in range(len(data)):
        if length == file.header.base_bytes:
            assert codec.decode(data[:length]).info["vcm_preview"] is True
            continue
        with pytest.raises(TruncatedError) as caught:
            codec.decode(data[:length])
        assert caught.value.whole_layers == (("base",) if length > file.header.base_bytes else ())


def test_streams_swapped_for_others_with_good_checksums(file: Bitstream) -> None:
    """What checksums cannot see, the coder's end state does, nearly always; whatever comes is no crash."""
    codec = tiny_codec()
    (stream,) = file.base_layer.tiles
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        other = bytearray(stream)
        for at in rng.integers(0, len(other), 3):
            other[at] ^= int(rng.integers(1, 256))
        layer = Layer(
            ChunkKind.BASE, file.base_layer.quality_index, bytes.fromhex(codec.fingerprint), 10, (bytes(other),)
        )
        lie = Bitstream.build(width=64, height=48, codec_id=1, source=SourceKind(), base_scale=8, layers=[layer])
        try:
            assert codec.decode(lie.to_bytes()).size == (64, 48)
        except EntropyError:
            refused += 1
    assert refused >= 58


def test_a_second_base_of_the_same_length_is_found_out(file: Bitstream) -> None:
    """An enhancement under another base: no crash, and nearly always an error."""
    codec = tiny_codec()
    other = codec.encode(noise(64, 48, 9), base_only=True, base_quality=50)
    assert file.enhancement is not None
    with pytest.raises(EntropyError):
        codec.decode(other.with_layer(file.enhancement))


def peak(reset: bool = False) -> int:
    """Most memory that this process ever held, bytes; ``reset`` starts anew."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def claiming(width: int, height: int, scale: int, tile_log2: int, *, cheap_base: bool = False) -> bytes:
    """A file with good checksums that claims a picture of this size, and holds next to nothing."""
    codec = tiny_codec()
    size = coded_size(width, height, scale)

    def stream(rows: slice, columns: slice) -> bytes:
        if not cheap_base:
            return b""
        shape = rows.stop - rows.start, columns.stop - columns.start
        writer = Drawn(0, zero=True)
        model_of(codec).base.walk(writer, None, shape, 0)
        return writer.encoder.finish()

    columns, rows = tile_grid(*size, tile_log2)
    streams = tuple(stream(r, c) for r, c in tile_slices(*size)) if cheap_base else (b"",) * (columns * rows)
    columns, rows = tile_grid(width, height, tile_log2)
    layers = [
        Layer(ChunkKind.BASE, 0, bytes.fromhex(codec.fingerprint), tile_log2, streams),
        Layer(
            ChunkKind.ENHANCEMENT, 0, bytes.fromhex(codec.fingerprint_enhancement), tile_log2, (b"",) * (columns * rows)
        ),
    ]
    file = Bitstream.build(width=width, height=height, codec_id=1, source=SourceKind(), base_scale=scale, layers=layers)
    return file.to_bytes()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("scale", "tile_log2", "cheap_base"),
    [(8, 10, False), (8, 12, False), (1, 10, False), (1, 12, False), (1, 10, True)],
)
def test_a_lie_about_the_size_takes_no_memory(scale: int, tile_log2: int, cheap_base: bool) -> None:
    codec = tiny_codec()
    data = claiming(65535, 4096, scale, tile_log2, cheap_base=cheap_base)
    assert len(data) < 50_000  # for 268 million pixels
    codec.detect(codec.encode(noise(64, 48)))  # what loads once is loaded
    try:
        before = peak(reset=True)
    except OSError:
        pytest.skip("the peak of memory cannot be reset here")
    with pytest.raises(VcmError):
        codec.decode(data)
    if not cheap_base:
        with pytest.raises(VcmError):
            codec.detect(data, score=0.05)
    assert peak() - before < 300 << 20


def test_random_bytes_are_no_file() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 16, 17, 40, 1000):
        for head in (b"", b"VCM", b"VCM\x01"):
            for call in (tiny_codec().decode, tiny_codec().detect):
                with pytest.raises(VcmError):
                    call(head + rng.bytes(size))


def test_a_damaged_header_says_so(file: Bitstream) -> None:
    data = bytearray(file.to_bytes())
    data[6] ^= 1
    with pytest.raises(ChecksumError, match="the header is damaged"):
        tiny_codec().detect(bytes(data))
