"""A small file with every kind of chunk, shared by the tests of the container."""

from __future__ import annotations

import pytest

from vcm.bitstream import Bitstream, Chunk, ChunkKind, Layer, Metadata, SourceKind


@pytest.fixture(scope="session")
def base_layer() -> Layer:
    return Layer(ChunkKind.BASE, 500, bytes(range(8)), 10, (b"the base stream",))


@pytest.fixture(scope="session")
def enhancement_layer() -> Layer:
    """Two tiles: fits a picture of 1025 … 2048 by at most 1024 pixels."""
    return Layer(ChunkKind.ENHANCEMENT, 1023, bytes(range(8, 16)), 10, (b"left tile", b"right"))


@pytest.fixture(scope="session")
def small_file(base_layer: Layer, enhancement_layer: Layer) -> Bitstream:
    """Base (one tile, at half size), EXIF, ICC, two entries, two enhancements of two tiles, an unknown chunk."""
    metadata = Metadata(exif=b"Exif\0\0MM", icc=b"profile", entries=(("camera", b"7"), ("näme", b"")))
    return Bitstream.build(
        width=1500,
        height=300,
        codec_id=1,
        source=SourceKind(16, grey=True, alpha=True),
        base_scale=4,
        layers=[base_layer, enhancement_layer, enhancement_layer],
        metadata=metadata,
        extra=[Chunk(120, b"private")],
    )
