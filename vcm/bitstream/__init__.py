"""The container: header, layers, tiles and metadata as bytes. Specified in ``docs/bitstream.md``.

Imports neither torch nor numpy, so that a server, a proxy or a camera can cut, check and append layers without them.

    >>> from vcm.bitstream import Bitstream, ChunkKind, Layer, SourceKind, parse
    >>> base = Layer(ChunkKind.BASE, quality_index=500, fingerprint=bytes(8), tile_log2=10, tiles=(b"stream",))
    >>> file = Bitstream.build(width=640, height=480, codec_id=1, source=SourceKind(), base_scale=8, layers=[base])
    >>> len(file.base), parse(file.to_bytes()) == file
    (47, True)
"""

from __future__ import annotations

from vcm.bitstream.base_layer import BaseLayer
from vcm.bitstream.chunks import FRAME_BYTES, Chunk, ChunkKind, Layer, Metadata
from vcm.bitstream.geometry import coded_size, scale_ratio, tile_grid, tiles
from vcm.bitstream.header import FORMAT_VERSION, HEADER_BYTES, MAGIC, Header, SourceKind
from vcm.bitstream.limits import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_FILE_BYTES,
    MAX_LAYERS,
    MAX_METADATA_BYTES,
    MAX_PIXELS,
    MAX_QUALITY,
    MAX_SIDE,
    MAX_TILE_LOG2,
    MIN_TILE_LOG2,
)
from vcm.bitstream.partial import PartialBitstream, PartialLayer, TiledLayer, read_partially
from vcm.bitstream.picture import PictureFormat, PictureLayer
from vcm.bitstream.reader import BaseRead, append_layer, parse, read, read_base
from vcm.bitstream.stream import Bitstream, LayerSpan

__all__ = [
    "FORMAT_VERSION",
    "FRAME_BYTES",
    "HEADER_BYTES",
    "MAGIC",
    "MAX_CHUNKS",
    "MAX_CHUNK_BYTES",
    "MAX_FILE_BYTES",
    "MAX_LAYERS",
    "MAX_METADATA_BYTES",
    "MAX_PIXELS",
    "MAX_QUALITY",
    "MAX_SIDE",
    "MAX_TILE_LOG2",
    "MIN_TILE_LOG2",
    "BaseLayer",
    "BaseRead",
    "Bitstream",
    "Chunk",
    "ChunkKind",
    "Header",
    "Layer",
    "LayerSpan",
    "Metadata",
    "PartialBitstream",
    "PartialLayer",
    "PictureFormat",
    "PictureLayer",
    "SourceKind",
    "TiledLayer",
    "append_layer",
    "coded_size",
    "parse",
    "read",
    "read_base",
    "read_partially",
    "scale_ratio",
    "tile_grid",
    "tiles",
]
