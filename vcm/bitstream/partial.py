"""A file of which no more is read than is wanted: header, base and metadata first, other layers by tiles on demand."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import SEEK_END
from typing import BinaryIO, Protocol, overload

from vcm.bitstream.base_layer import BaseLayer
from vcm.bitstream.chunks import (
    FRAME_BYTES,
    LAYER_KINDS,
    METADATA_KINDS,
    MIN_LAYER_BYTES,
    Chunk,
    ChunkKind,
    Frame,
    Layer,
    LayerHead,
    Metadata,
)  # fmt: skip
from vcm.bitstream.geometry import tile_grid
from vcm.bitstream.header import Header
from vcm.bitstream.limits import MAX_FILE_BYTES, MAX_QUALITY, check_range, found_in_file
from vcm.bitstream.picture import PictureLayer
from vcm.bitstream.reader import read, read_base
from vcm.bitstream.sources import Source, check_end, check_file_size, file_of, fill, reading
from vcm.bitstream.stream import ChunkRules, layer_name
from vcm.errors import InputError

__all__ = ["PartialBitstream", "PartialLayer", "TiledLayer", "read_partially"]


class TiledLayer(Protocol):
    """What decoding a layer needs: a :class:`Layer`, or one whose streams are read when they are asked for."""

    @property
    def quality_index(self) -> int:
        """0 … 1023, on the codec's own scale."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """8 bytes, of the tensors that decoding depends on."""
        ...

    @property
    def tile_log2(self) -> int:
        """log2 of the side of a tile in pixels of the coded picture."""
        ...

    @property
    def tiles(self) -> Sequence[bytes]:
        """One stream per tile, row by row."""
        ...


@dataclass(frozen=True, slots=True)
class PartialLayer:
    """A :class:`TiledLayer` in an open file: its tiles are read when they are indexed. Attributes as of ``Layer``."""

    kind: ChunkKind
    quality_index: int
    fingerprint: bytes
    tile_log2: int
    tiles: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class PartialBitstream:
    """What :func:`read_partially` gives; good for as long as its file is open.

    Attributes:
        header: the fixed header.
        coded_base: the base layer, read.
        layers: all layers, the base first.
        metadata: read.
        picture: the picture layer, read, or ``None``.
    """

    header: Header
    coded_base: BaseLayer
    layers: tuple[TiledLayer, ...]
    metadata: Metadata
    picture: PictureLayer | None = None

    @property
    def enhancement(self) -> TiledLayer | None:
        """The first enhancement, or ``None``."""
        return self.layers[1] if len(self.layers) > 1 else None


@contextmanager
def read_partially(source: Source, *, max_bytes: int = MAX_FILE_BYTES) -> Iterator[PartialBitstream]:
    """A file whose tiles are read when they are asked for. What cannot be read out of order is read whole.

    A checksum is verified when what it guards is read: damage elsewhere in the file goes unnoticed.

    Args:
        source: a path, bytes, or a binary file object; within the block nobody else must read from that.
        max_bytes: refuse longer files.

    Raises:
        InputError: the path cannot be read.
        LimitError: the file is longer than ``max_bytes``.
        FormatError, LayerError, OptionError: as :func:`vcm.bitstream.parse` says; of a tile's stream when it is read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    with ExitStack() as stack:
        # Errors in the caller's block are not about reading.
        with reading(source):
            file = stack.enter_context(file_of(source))
            if _seekable(file):
                found = _Reader(file, max_bytes).whole()
            else:
                stream = read(file, max_bytes=max_bytes)
                found = PartialBitstream(
                    stream.header, stream.coded_base, stream.layers, stream.metadata, stream.picture
                )
        yield found


def _seekable(file: BinaryIO) -> bool:
    seekable = getattr(file, "seekable", None)
    return seekable is not None and bool(seekable())


class _Reader:
    """Reads a file from front to end, over what is not wanted yet."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file, self._start = file, file.tell()
        self._size = file.seek(0, SEEK_END) - self._start
        file.seek(self._start)
        check_file_size(self._size, max_bytes)

    def whole(self) -> PartialBitstream:
        """All but the streams of the layers after the base."""
        base = read_base(self._file).bitstream
        rules = ChunkRules()
        rules.admit(ChunkKind.BASE, False, base.base_layer.wire_bytes)
        layers: list[TiledLayer] = [base.base_layer]
        metadata: list[Chunk] = []
        picture = None
        offset = base.header.base_bytes
        while offset < self._size:
            whole = tuple(rules.layers)
            check_end("a chunk's frame", FRAME_BYTES, self._size - offset, whole)
            frame = Frame.unpack(self.at(offset, FRAME_BYTES))
            rules.admit(frame.kind, frame.optional, FRAME_BYTES + frame.length)
            offset += FRAME_BYTES
            name = (
                f"the {layer_name(len(whole))} layer" if frame.kind in LAYER_KINDS else f"a chunk of kind {frame.kind}"
            )
            check_end(name, frame.length, self._size - offset, whole)
            if frame.kind in LAYER_KINDS:
                layers.append(self._layer(base.header, ChunkKind(frame.kind), offset, frame.length))
            elif frame.kind == ChunkKind.PICTURE:
                picture = PictureLayer.from_chunk(Chunk.unpack(frame, self.at(offset, frame.length)))
            elif frame.kind in METADATA_KINDS:
                metadata.append(Chunk.unpack(frame, self.at(offset, frame.length)))
            offset += frame.length
        found = Metadata.from_chunks(tuple(metadata))
        return PartialBitstream(base.header, base.coded_base, tuple(layers), found, picture)

    def at(self, offset: int, count: int) -> memoryview:
        """``count`` bytes from ``offset`` of the file on.

        Raises:
            InputError: the file has become shorter.
        """
        taken = bytearray()
        with reading(self._file):
            self._file.seek(self._start + offset)
            fill(self._file, taken, count)
        if len(taken) < count:
            raise InputError("the file became shorter while it was read", expected=f"{count} bytes", found=len(taken))
        return memoryview(taken)

    def _layer(self, header: Header, kind: ChunkKind, offset: int, length: int) -> PartialLayer:
        tile_log2 = Layer.tile_log2_of(self.at(offset, min(length, MIN_LAYER_BYTES)))
        with found_in_file():
            columns, rows = tile_grid(*header.coded_size(kind), tile_log2)
        count = columns * rows
        head = LayerHead.unpack(self.at(offset, min(length, LayerHead.bytes_for(count))), length, count)
        with found_in_file():
            check_range("quality index", head.quality_index, 0, MAX_QUALITY)
        tiles = _Tiles(self, offset, head)
        return PartialLayer(kind, head.quality_index, head.fingerprint, head.tile_log2, tiles)


class _Tiles(Sequence[bytes]):
    """The streams of one layer, each read and checked whenever it is asked for."""

    def __init__(self, reader: _Reader, offset: int, head: LayerHead) -> None:
        self._reader, self._offset, self._head = reader, offset, head

    def __len__(self) -> int:
        return len(self._head.spans)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, end = self._head.spans[index]
        return self._head.stream(index, self._reader.at(self._offset + start, end - start))
