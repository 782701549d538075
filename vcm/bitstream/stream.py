"""A whole file in memory, and the rules about which chunks may stand where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from vcm.bitstream.base_layer import BaseLayer
from vcm.bitstream.chunks import LAYER_KINDS, METADATA_KINDS, Chunk, ChunkKind, Layer, Metadata
from vcm.bitstream.geometry import tile_grid
from vcm.bitstream.header import HEADER_BYTES, Header, SourceKind
from vcm.bitstream.limits import MAX_CHUNKS, MAX_LAYERS, MAX_METADATA_BYTES, check_range
from vcm.bitstream.picture import PictureLayer
from vcm.errors import FormatError, LayerError, LimitError, MandatoryChunkError
from vcm.io.files import whole_file

__all__ = ["Bitstream", "ChunkRules", "LayerSpan", "layer_name"]


PICTURE = "picture"
"""Name of a picture layer."""


def layer_name(index: int) -> str:
    """Name of the layer at ``index``: base, enhancement, enhancement2, enhancement3 …"""
    return ("base", "enhancement")[index] if index < 2 else f"enhancement{index}"


class ChunkRules:
    """Which chunks may follow which. Admits the chunks of one file in order, each before its payload is looked at."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        """Names of the layers admitted so far."""
        self._chunks = 0
        self._metadata_bytes = 0
        self._single: set[int] = set()

    def admit(self, kind: int, optional: bool, wire_bytes: int) -> None:
        """Admit the next chunk.

        Raises:
            LayerError: the first chunk is not the base, or another one is.
            MandatoryChunkError: the kind is unknown and not marked optional.
            FormatError: bit 7 is wrong for a known kind, a second EXIF or ICC chunk, or layers that exclude each other.
            LimitError: too many chunks or layers, or too much metadata.
        """
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise LimitError("too many chunks", expected=f"at most {MAX_CHUNKS}", found=f"{self._chunks} or more")
        if (kind == ChunkKind.BASE) != (self._chunks == 1):
            expected = "the base first and once"
            raise LayerError(
                "the layers are out of order", expected=expected, found=f"kind {kind} as chunk {self._chunks}"
            )
        known = kind in LAYER_KINDS or kind in METADATA_KINDS or kind == ChunkKind.PICTURE
        if not known and not optional:
            raise MandatoryChunkError("a chunk that must be understood is of an unknown kind", found=f"kind {kind}")
        if known and optional != (kind in METADATA_KINDS):
            raise FormatError(
                f"bit 7 (optional) of chunk kind {kind} is wrong", expected=int(not optional), found=int(optional)
            )
        if kind in LAYER_KINDS or kind == ChunkKind.PICTURE:
            self._admit_layer(kind)
        elif kind in METADATA_KINDS:
            self._admit_metadata(kind, wire_bytes)

    def _admit_layer(self, kind: int) -> None:
        if PICTURE in self.layers or (kind == ChunkKind.PICTURE and len(self.layers) > 1):
            expected = "one picture, or enhancements, on a base"
            raise FormatError("layers exclude each other", expected=expected, found=f"kind {kind} on {self.layers[-1]}")
        if len(self.layers) == MAX_LAYERS:
            raise LimitError("too many layers", expected=f"at most {MAX_LAYERS}", found=f"{MAX_LAYERS + 1} or more")
        self.layers.append(PICTURE if kind == ChunkKind.PICTURE else layer_name(len(self.layers)))

    def _admit_metadata(self, kind: int, wire_bytes: int) -> None:
        if kind in self._single:
            raise FormatError(f"a second {ChunkKind(kind).name} chunk", expected="at most one")
        if kind != ChunkKind.ENTRY:
            self._single.add(kind)
        self._metadata_bytes += wire_bytes
        if self._metadata_bytes > MAX_METADATA_BYTES:
            expected = f"at most {MAX_METADATA_BYTES} bytes"
            raise LimitError("too much metadata", expected=expected, found=self._metadata_bytes)


@dataclass(frozen=True, slots=True)
class LayerSpan:
    """Where a layer lies in the file.

    Attributes:
        name: base, enhancement, enhancement2 …; or picture.
        offset: of the layer's frame from the start of the file, bytes.
        bytes: length, frame included.
    """

    name: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Bitstream:
    """One VCM file. Immutable; ``parse(stream.to_bytes()) == stream`` and ``parse(data).to_bytes() == data``.

    Attributes:
        header: the fixed header.
        chunks: everything after it in file order, the base layer first.

    Raises:
        LayerError: the base is missing, not first, or there twice.
        MandatoryChunkError: a chunk of an unknown kind is not marked optional.
        FormatError: ``base_bytes`` is not that of the base, a layer's tiles do not fit its picture, or bad metadata.
        LimitError: too many chunks or layers, or too much metadata.
    """

    header: Header
    chunks: tuple[Layer | Chunk, ...]

    def __post_init__(self) -> None:
        rules = ChunkRules()
        for chunk in self.chunks:
            rules.admit(chunk.kind, isinstance(chunk, Chunk) and chunk.optional, chunk.wire_bytes)
        if not rules.layers:
            raise LayerError("the file has no layer", expected="a base layer", found="none")
        found = HEADER_BYTES + self.chunks[0].wire_bytes
        if self.header.base_bytes != found:
            raise FormatError("base_bytes is not that of the base", expected=self.header.base_bytes, found=found)
        for layer in self.layers:
            columns, rows = tile_grid(*self.header.coded_size(layer.kind), layer.tile_log2)
            if len(layer.tiles) != columns * rows:
                raise FormatError(
                    "a layer has the wrong number of tiles", expected=columns * rows, found=len(layer.tiles)
                )
        _ = self.metadata, self.picture  # what is malformed is refused here, not at first use

    @classmethod
    def build(
        cls,
        *,
        width: int,
        height: int,
        codec_id: int,
        source: SourceKind,
        base_scale: int,
        layers: Sequence[Layer],
        metadata: Metadata | None = None,
        extra: Sequence[Chunk] = (),
    ) -> Bitstream:
        """A file from its parts: base, metadata, enhancements, extra chunks, in that order. Computes ``base_bytes``.

        Args:
            width, height: source picture, upright, pixels.
            codec_id: family of the codec, 0 … 255.
            source: kind of the source picture.
            base_scale: 1 … 16 or 129 … 255: :func:`scale_ratio`.
            layers: base first.
            metadata: EXIF, ICC profile, entries.
            extra: further optional chunks.

        Raises:
            OptionError: a field of the header is out of range.
            LayerError, FormatError, LimitError, MandatoryChunkError: as the class says.
        """
        if not layers:
            raise LayerError("the file has no layer", expected="a base layer", found="none")
        base, *enhancements = layers
        header = Header(codec_id, width, height, source, base_scale, HEADER_BYTES + base.wire_bytes)
        return cls(header, (base, *(metadata or Metadata()).to_chunks(), *enhancements, *extra))

    @classmethod
    def of_base(
        cls, base: BaseLayer, *, source: SourceKind, metadata: Metadata | None = None, extra: Sequence[Chunk] = ()
    ) -> Bitstream:
        """A file of a base layer alone.

        Args:
            base: the layer.
            source: kind of the source picture.
            metadata, extra: as of :meth:`build`.

        Raises:
            FormatError, LimitError: as the class says.
        """
        return cls.build(
            width=base.width, height=base.height, codec_id=base.codec_id, source=source, base_scale=base.scale,
            layers=[base.as_layer()], metadata=metadata, extra=extra,
        )  # fmt: skip

    @property
    def coded_base(self) -> BaseLayer:
        """The base layer, apart from this file."""
        h, layer = self.header, self.base_layer
        return BaseLayer(
            h.codec_id, h.width, h.height, h.base_scale, layer.quality_index, layer.fingerprint, layer.tile_log2,
            layer.tiles,
        )  # fmt: skip

    @property
    def width(self) -> int:
        """Width of the source picture, upright, pixels."""
        return self.header.width

    @property
    def height(self) -> int:
        """Height of the source picture, upright, pixels."""
        return self.header.height

    @property
    def codec_id(self) -> int:
        """Family of the codec."""
        return self.header.codec_id

    @property
    def base_scale(self) -> int:
        """At what scale the base was coded, as the header has it: :func:`scale_ratio` gives the part of each side."""
        return self.header.base_scale

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Base and enhancements in their order; a picture layer is none of them."""
        return tuple(chunk for chunk in self.chunks if isinstance(chunk, Layer))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """base, enhancement, enhancement2 …, as many as there are layers; or base and picture."""
        return tuple(span.name for span in self.layout)

    @property
    def base_layer(self) -> Layer:
        """The base."""
        return self.layers[0]

    @property
    def enhancement(self) -> Layer | None:
        """The first enhancement, or ``None``."""
        return self.layers[1] if len(self.layers) > 1 else None

    @property
    def picture(self) -> PictureLayer | None:
        """The picture layer, or ``None``."""
        found = (c for c in self.chunks if isinstance(c, Chunk) and c.kind == ChunkKind.PICTURE)
        return next(map(PictureLayer.from_chunk, found), None)

    @property
    def metadata(self) -> Metadata:
        """EXIF, ICC profile and entries."""
        return Metadata.from_chunks(tuple(c for c in self.chunks if isinstance(c, Chunk)))

    @property
    def extra(self) -> tuple[Chunk, ...]:
        """Optional chunks of kinds that this version does not know; they are kept when the file is written."""
        known = METADATA_KINDS | {ChunkKind.PICTURE}
        return tuple(c for c in self.chunks if isinstance(c, Chunk) and c.kind not in known)

    @property
    def base(self) -> bytes:
        """The prefix of the file that is enough for tasks: header and base. Itself a valid file."""
        return self.header.pack() + self.base_layer.pack()

    @property
    def layout(self) -> tuple[LayerSpan, ...]:
        """Where each layer lies in the file."""
        spans: list[LayerSpan] = []
        offset = HEADER_BYTES
        for chunk in self.chunks:
            if _is_layer(chunk):
                name = layer_name(len(spans)) if isinstance(chunk, Layer) else PICTURE
                spans.append(LayerSpan(name, offset, chunk.wire_bytes))
            offset += chunk.wire_bytes
        return tuple(spans)

    @property
    def total_bytes(self) -> int:
        """Length of the file."""
        return HEADER_BYTES + sum(chunk.wire_bytes for chunk in self.chunks)

    @property
    def bpp(self) -> float:
        """Bits of the whole file, header and metadata included, per source pixel."""
        return self.total_bytes * 8 / (self.width * self.height)

    @property
    def base_bpp(self) -> float:
        """Bits of the base prefix, header included, per source pixel."""
        return self.header.base_bytes * 8 / (self.width * self.height)

    def with_layer(self, layer: Layer | PictureLayer) -> Bitstream:
        """This file with an enhancement or a picture appended.

        Raises:
            LayerError: ``layer`` is a base.
            FormatError: its tiles do not fit the picture, or the file has layers that it cannot stand beside.
            LimitError: too many layers or chunks.
        """
        chunk = layer.to_chunk() if isinstance(layer, PictureLayer) else layer
        return Bitstream(self.header, (*self.chunks, chunk))

    def cut(self, layers: int) -> Bitstream:
        """The prefix of this file that has the first ``layers`` layers: all that stands before the next layer.

        Raises:
            OptionError: ``layers`` is not 1 … the number of layers.
        """
        starts = [i for i, chunk in enumerate(self.chunks) if _is_layer(chunk)]
        check_range("layers", layers, 1, len(starts))
        return Bitstream(self.header, self.chunks[: starts[layers]] if layers < len(starts) else self.chunks)

    def to_bytes(self) -> bytes:
        """The file; so is ``bytes(stream)``."""
        return b"".join((self.header.pack(), *(chunk.pack() for chunk in self.chunks)))

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __repr__(self) -> str:
        base, *others = self.layer_names
        layers = ", ".join([f"{base} {self.header.base_bytes:,}", *others])
        return f"<Bitstream {self.width}x{self.height}, {self.total_bytes:,} bytes: {layers}>"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file in one step: readers see the old file or the new one, and a failure leaves nothing behind.

        Raises:
            OutputError: the folder is missing or not writable, the disk is full, or ``path`` is no regular file.
        """
        with whole_file(path) as part:
            part.write_bytes(self.to_bytes())


def _is_layer(chunk: Layer | Chunk) -> bool:
    return isinstance(chunk, Layer) or chunk.kind == ChunkKind.PICTURE
