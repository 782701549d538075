"""What follows the header: framed chunks, of which layers and metadata are two forms."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate, pairwise

from vcm.bitstream.limits import (
    MAX_CHUNK_BYTES,
    MAX_KEY_BYTES,
    MAX_QUALITY,
    MAX_TILE_LOG2,
    MIN_TILE_LOG2,
    check_bytes,
    check_range,
    crc16,
    crc32c,
    found_in_file,
)  # fmt: skip
from vcm.errors import ChecksumError, FormatError, LimitError, OptionError

__all__ = [
    "FRAME_BYTES",
    "LAYER_KINDS",
    "METADATA_KINDS",
    "MIN_LAYER_BYTES",
    "Chunk",
    "ChunkKind",
    "Frame",
    "Layer",
    "LayerHead",
    "Metadata",
]

_FRAME = struct.Struct("<BI")
_CRC16 = struct.Struct("<H")
_CRC32 = struct.Struct("<I")
_LAYER = struct.Struct("<H8sB")
_OPTIONAL = 0x80
_MAX_KIND = 0x7F
_TILE_LENGTH_BYTES = 4
FINGERPRINT_BYTES = 8
FRAME_BYTES = _FRAME.size + _CRC16.size
"""Bytes of kind, length and their CRC before each payload."""
MIN_LAYER_BYTES = _LAYER.size + _CRC16.size + _CRC32.size
"""Shortest payload of a layer: one tile with an empty stream."""


class ChunkKind(IntEnum):
    """Kinds of chunks, without bit 7. ALPHA, LATENTS, and those from ORIGIN on are reserved."""

    BASE = 1
    ENHANCEMENT = 2
    ALPHA = 3
    LATENTS = 4
    PICTURE = 5
    EXIF = 16
    ICC = 17
    ENTRY = 18
    ORIGIN = 19
    ENCRYPTED = 20
    SIGNATURE = 21


LAYER_KINDS = frozenset({ChunkKind.BASE, ChunkKind.ENHANCEMENT})
METADATA_KINDS = frozenset({ChunkKind.EXIF, ChunkKind.ICC, ChunkKind.ENTRY})


@dataclass(frozen=True, slots=True)
class Frame:
    """The seven bytes before a payload.

    Attributes:
        kind: 1 … 127.
        optional: a reader that does not know the kind may skip the chunk.
        length: bytes of the payload, at most 2**30.
    """

    kind: int
    optional: bool
    length: int

    def pack(self) -> bytes:
        """The frame as 7 bytes."""
        fields = _FRAME.pack(self.kind | (_OPTIONAL if self.optional else 0), self.length)
        return fields + _CRC16.pack(crc16(fields))

    @classmethod
    def unpack(cls, data: memoryview) -> Frame:
        """The frame in the first 7 bytes of ``data``.

        Raises:
            ChecksumError: its CRC does not match.
            FormatError: the kind is 0.
            LimitError: the payload is longer than any may be.
        """
        (stored,) = _CRC16.unpack_from(data, _FRAME.size)
        computed = crc16(data[: _FRAME.size])
        if stored != computed:
            raise ChecksumError("a chunk's frame is damaged", expected=f"CRC {stored:#06x}", found=f"{computed:#06x}")
        kind, length = _FRAME.unpack_from(data)
        if length > MAX_CHUNK_BYTES:
            raise LimitError("a chunk is too long", expected=f"at most {MAX_CHUNK_BYTES} bytes", found=length)
        with found_in_file():
            check_range("chunk kind", kind & _MAX_KIND, 1, _MAX_KIND)
        return cls(kind & _MAX_KIND, bool(kind & _OPTIONAL), length)


@dataclass(frozen=True, slots=True)
class Layer:
    """One coded layer.

    Attributes:
        kind: BASE or ENHANCEMENT.
        quality_index: 0 … 1023, on the codec's own scale.
        fingerprint: 8 bytes, of the tensors that decoding this layer depends on.
        tile_log2: log2 of the side of a tile in pixels of the layer's coded picture, 10 … 12.
        tiles: one entropy-coded stream per tile, row by row; an empty stream is allowed.

    Raises:
        OptionError: a field is out of its range or of the wrong type.
        LimitError: the layer is longer than a chunk may be.
    """

    kind: ChunkKind
    quality_index: int
    fingerprint: bytes
    tile_log2: int
    tiles: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if self.kind not in LAYER_KINDS:
            raise OptionError("a layer has the wrong kind", expected="BASE or ENHANCEMENT", found=self.kind)
        check_range("quality index", self.quality_index, 0, MAX_QUALITY)
        check_bytes("fingerprint", self.fingerprint)
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise OptionError(
                "a fingerprint has the wrong length", expected=f"{FINGERPRINT_BYTES} bytes", found=len(self.fingerprint)
            )
        check_range("tile_log2", self.tile_log2, MIN_TILE_LOG2, MAX_TILE_LOG2)
        if not isinstance(self.tiles, tuple) or not self.tiles:
            raise OptionError(
                "a layer's tiles are wrong", expected="a tuple of at least one stream", found=type(self.tiles).__name__
            )
        for tile in self.tiles:
            check_bytes("a tile's stream", tile)
        if self.wire_bytes - FRAME_BYTES > MAX_CHUNK_BYTES:
            found = self.wire_bytes - FRAME_BYTES
            raise LimitError("a layer is too long", expected=f"at most {MAX_CHUNK_BYTES} bytes", found=found)

    @property
    def quality(self) -> float:
        """The quality on the scale on which encoders are asked for it, 0 … 100."""
        return self.quality_index * 100 / MAX_QUALITY

    @property
    def wire_bytes(self) -> int:
        """Bytes that the layer takes in a file, frame included."""
        return FRAME_BYTES + _layer_overhead(len(self.tiles)) + sum(map(len, self.tiles))

    def pack(self) -> bytes:
        """The layer as a chunk, frame included."""
        lengths = [len(tile) for tile in self.tiles[:-1]]
        head = _LAYER.pack(self.quality_index, self.fingerprint, self.tile_log2)
        head += struct.pack(f"<{len(lengths)}I", *lengths)
        parts = [Frame(self.kind, False, self.wire_bytes - FRAME_BYTES).pack(), head, _CRC16.pack(crc16(head))]
        for tile in self.tiles:
            parts += (_CRC32.pack(crc32c(tile)), tile)
        return b"".join(parts)

    @staticmethod
    def tile_log2_of(payload: memoryview) -> int:
        """The tile size that a layer's payload states, not yet checked; needed to know how long the table is.

        Raises:
            FormatError: the payload is shorter than any layer.
        """
        if len(payload) < MIN_LAYER_BYTES:
            raise FormatError("a layer is too short", expected=f"at least {MIN_LAYER_BYTES} bytes", found=len(payload))
        return int(payload[_LAYER.size - 1])

    @classmethod
    def unpack(cls, kind: ChunkKind, payload: memoryview, tile_count: int) -> Layer:
        """The layer in a chunk's payload.

        Args:
            kind: BASE or ENHANCEMENT.
            payload: the whole payload.
            tile_count: tiles of the layer's coded picture, which follow from the file's header.

        Raises:
            ChecksumError: the layer's head, its tile table or a tile's stream is damaged.
            FormatError: the payload is too short for its table or streams, or a field is out of range.
        """
        head = LayerHead.unpack(payload, len(payload), tile_count)
        streams = tuple(head.stream(index, payload[at:end]) for index, (at, end) in enumerate(head.spans))
        with found_in_file():
            return cls(kind, head.quality_index, head.fingerprint, head.tile_log2, streams)


@dataclass(frozen=True, slots=True)
class LayerHead:
    """What stands in a layer's payload before its streams, and where those are.

    Attributes:
        quality_index, fingerprint, tile_log2: as of :class:`Layer`, not yet checked.
        spans: ``(start, end)`` of each tile's CRC and stream in the payload.
    """

    quality_index: int
    fingerprint: bytes
    tile_log2: int
    spans: tuple[tuple[int, int], ...]

    @staticmethod
    def bytes_for(tile_count: int) -> int:
        """Bytes that it takes in a payload."""
        return _LAYER.size + _TILE_LENGTH_BYTES * (tile_count - 1) + _CRC16.size

    @classmethod
    def unpack(cls, start: memoryview, length: int, tile_count: int) -> LayerHead:
        """The head of a layer.

        Args:
            start: of the payload; at least as much of it as the head takes, or all.
            length: of the payload, bytes.
            tile_count: as for :meth:`Layer.unpack`.

        Raises:
            ChecksumError, FormatError: as for :meth:`Layer.unpack`.
        """
        needed = _layer_overhead(tile_count)
        if length < needed:
            what = f"a layer of {tile_count} tiles is too short"
            raise FormatError(what, expected=f"at least {needed} bytes", found=length)
        crc_at = cls.bytes_for(tile_count) - _CRC16.size
        (stored,) = _CRC16.unpack_from(start, crc_at)
        computed = crc16(start[:crc_at])
        if stored != computed:
            raise ChecksumError("a layer's head is damaged", expected=f"CRC {stored:#06x}", found=f"{computed:#06x}")
        quality, fingerprint, tile_log2 = _LAYER.unpack_from(start)
        lengths = list(struct.unpack_from(f"<{tile_count - 1}I", start, _LAYER.size))
        last = length - needed - sum(lengths)
        if last < 0:
            expected = f"at most {length - needed} bytes"
            raise FormatError("a tile table promises too much", expected=expected, found=sum(lengths))
        starts = accumulate((_CRC32.size + n for n in (*lengths, last)), initial=crc_at + _CRC16.size)
        return cls(quality, fingerprint, tile_log2, tuple(pairwise(starts)))

    @staticmethod
    def stream(index: int, span: memoryview) -> bytes:
        """The stream of tile ``index`` from the bytes of its span.

        Raises:
            ChecksumError: it is damaged.
        """
        stream = bytes(span[_CRC32.size :])
        (stored,) = _CRC32.unpack_from(span)
        computed = crc32c(stream)
        if stored != computed:
            raise ChecksumError(
                f"the stream of tile {index} is damaged", expected=f"CRC {stored:#010x}", found=f"{computed:#010x}"
            )
        return stream


def _layer_overhead(tile_count: int) -> int:
    """Bytes of a layer's payload that are not streams. The last tile's length is implied."""
    return LayerHead.bytes_for(tile_count) + _CRC32.size * tile_count


@dataclass(frozen=True, slots=True)
class Chunk:
    """Any chunk that is not a layer: metadata, or one of a kind that this version does not know.

    Attributes:
        kind: 3 … 127.
        payload: the body, without the CRC-32C that is stored before it.
        optional: a reader that does not know the kind may skip the chunk.

    Raises:
        OptionError: the kind is out of range or a layer's, or the payload is not bytes.
        LimitError: the payload is longer than a chunk may be.
    """

    kind: int
    payload: bytes = field(repr=False)
    optional: bool = True

    def __post_init__(self) -> None:
        check_range("kind of a chunk that is no layer", self.kind, max(LAYER_KINDS) + 1, _MAX_KIND)
        check_bytes("payload", self.payload)
        if self.wire_bytes - FRAME_BYTES > MAX_CHUNK_BYTES:
            found = self.wire_bytes - FRAME_BYTES
            raise LimitError("a chunk is too long", expected=f"at most {MAX_CHUNK_BYTES} bytes", found=found)

    @property
    def wire_bytes(self) -> int:
        """Bytes that the chunk takes in a file, frame included."""
        return FRAME_BYTES + _CRC32.size + len(self.payload)

    def pack(self) -> bytes:
        """The chunk as bytes, frame included."""
        frame = Frame(self.kind, self.optional, self.wire_bytes - FRAME_BYTES)
        return frame.pack() + _CRC32.pack(crc32c(self.payload)) + self.payload

    @classmethod
    def unpack(cls, frame: Frame, payload: memoryview) -> Chunk:
        """The chunk with this frame and this whole payload (CRC, then body).

        Raises:
            FormatError: the payload is shorter than its CRC.
            ChecksumError: the body is damaged.
        """
        if len(payload) < _CRC32.size:
            raise FormatError(
                "a chunk is too short for its CRC", expected=f"at least {_CRC32.size} bytes", found=len(payload)
            )
        body = bytes(payload[_CRC32.size :])
        (stored,) = _CRC32.unpack_from(payload)
        computed = crc32c(body)
        if stored != computed:
            what = f"a chunk of kind {frame.kind} is damaged"
            raise ChecksumError(what, expected=f"CRC {stored:#010x}", found=f"{computed:#010x}")
        return cls(frame.kind, body, frame.optional)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about its picture beside the layers. The container does not look inside.

    Attributes:
        exif: an EXIF block as Pillow gives it, or ``None``.
        icc: an ICC profile, or ``None``.
        entries: ``(key, value)`` pairs; keys are unique, 1 … 255 bytes of UTF-8; values are any bytes.

    Raises:
        OptionError: a value is not bytes, or a key is empty, too long, not encodable or there twice.
    """

    exif: bytes | None = field(default=None, repr=False)
    icc: bytes | None = field(default=None, repr=False)
    entries: tuple[tuple[str, bytes], ...] = ()

    def __post_init__(self) -> None:
        for what, value in (("EXIF", self.exif), ("ICC profile", self.icc)):
            if value is not None:
                check_bytes(what, value)
        keys = set()
        for key, value in self.entries:
            check_bytes("value of a metadata entry", value)
            check_range("length of a metadata key in UTF-8 bytes", len(_encode_key(key)), 1, MAX_KEY_BYTES)
            if key in keys:
                raise OptionError("a metadata key is there twice", expected="unique keys", found=repr(key))
            keys.add(key)

    def to_chunks(self) -> tuple[Chunk, ...]:
        """One optional chunk for each part, EXIF first, then ICC, then the entries in order."""
        out = [Chunk(k, v) for k, v in ((ChunkKind.EXIF, self.exif), (ChunkKind.ICC, self.icc)) if v is not None]
        for key, value in self.entries:
            name = _encode_key(key)
            out.append(Chunk(ChunkKind.ENTRY, bytes([len(name)]) + name + value))
        return tuple(out)

    @classmethod
    def from_chunks(cls, chunks: tuple[Chunk, ...]) -> Metadata:
        """The metadata in ``chunks``, in which EXIF and ICC are there at most once; other kinds are passed over.

        Raises:
            FormatError: an entry is malformed or its key is there twice.
        """
        single = {chunk.kind: chunk.payload for chunk in chunks}
        entries = tuple(_decode_entry(chunk.payload) for chunk in chunks if chunk.kind == ChunkKind.ENTRY)
        with found_in_file():
            return cls(single.get(ChunkKind.EXIF), single.get(ChunkKind.ICC), entries)


def _encode_key(key: object) -> bytes:
    if not isinstance(key, str):
        raise OptionError("a metadata key is of the wrong type", expected="str", found=type(key).__name__)
    try:
        return key.encode("utf-8")
    except UnicodeEncodeError:
        raise OptionError("a metadata key cannot be written as UTF-8", found=ascii(key)) from None


def _decode_entry(body: bytes) -> tuple[str, bytes]:
    """Key and value of an entry's body: key length (u8), key, value."""
    end = 1 + body[0] if body else 1
    if len(body) < end:
        raise FormatError("a metadata entry is too short", expected=f"at least {end} bytes", found=len(body))
    try:
        return body[1:end].decode("utf-8"), body[end:]
    except UnicodeDecodeError:
        raise FormatError("a metadata key is not UTF-8", found=repr(body[1:end])) from None
