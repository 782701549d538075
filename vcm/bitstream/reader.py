"""From bytes, paths and file objects to :class:`Bitstream`. Every checksum is computed, every length is compared."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fstat

from vcm.bitstream.chunks import FRAME_BYTES, LAYER_KINDS, Chunk, ChunkKind, Frame, Layer
from vcm.bitstream.geometry import tile_grid
from vcm.bitstream.header import HEADER_BYTES, Header
from vcm.bitstream.limits import MAX_FILE_BYTES, found_in_file
from vcm.bitstream.sources import Source, check_end, check_file_size, fill, opened
from vcm.bitstream.stream import Bitstream, ChunkRules, layer_name
from vcm.errors import FormatError, OptionError
from vcm.io.remote import address_of

__all__ = ["BaseRead", "Source", "append_layer", "parse", "read", "read_base"]


@dataclass(frozen=True, slots=True)
class BaseRead:
    """What :func:`read_base` gives.

    Attributes:
        bitstream: header and base layer only.
        bytes_read: bytes that were taken from the source.
    """

    bitstream: Bitstream
    bytes_read: int


def parse(data: bytes | bytearray | memoryview) -> Bitstream:
    """The file in ``data``, every checksum verified.

    Raises:
        MagicError, VersionError: this is no VCM file, or one of another version.
        TruncatedError: the data end inside the header or a chunk; ``whole_layers`` names the layers before that point.
        ChecksumError: something is damaged.
        LayerError: the base is not the first chunk, or another one is a base.
        MandatoryChunkError: a chunk of an unknown kind must not be skipped.
        LimitError: a size is over its limit.
        FormatError: anything else is malformed.
        OptionError: ``data`` is not bytes.
    """
    view = _view(data)
    header = Header.unpack(view)
    rules = ChunkRules()
    chunks: list[Layer | Chunk] = []
    offset = HEADER_BYTES
    # A file without a base is a truncated one: the header promises the base's length.
    while offset < len(view) or not chunks:
        whole = tuple(rules.layers)
        check_end("a chunk's frame", FRAME_BYTES, len(view) - offset, whole)
        frame = Frame.unpack(view[offset:])
        rules.admit(frame.kind, frame.optional, FRAME_BYTES + frame.length)
        offset += FRAME_BYTES
        name = f"the {layer_name(len(whole))} layer" if frame.kind in LAYER_KINDS else f"a chunk of kind {frame.kind}"
        check_end(name, frame.length, len(view) - offset, whole)
        try:
            chunks.append(_unpack(header, frame, view[offset : offset + frame.length]))
        except FormatError as error:
            named = type(error)(f"{name}: {error.what}", expected=error.expected, found=error.found)
            named.whole_layers = whole
            raise named from error
        offset += frame.length
    return Bitstream(header, tuple(chunks))


def read(source: Source, *, max_bytes: int = MAX_FILE_BYTES) -> Bitstream:
    """The whole file at a path, in bytes, or in a binary file object (read to its end).

    Args:
        source: a path, bytes, or a binary file object, which need not be seekable.
        max_bytes: refuse longer files, before they are in memory.

    Raises:
        InputError: the path cannot be read.
        LimitError: the file is longer than ``max_bytes``.
        FormatError, LayerError, OptionError: as :func:`parse` says.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = _view(source)
    else:
        with opened(source) as file:
            if isinstance(source, str | PathLike) and address_of(source) is None:
                check_file_size(fstat(file.fileno()).st_size, max_bytes)
            taken = bytearray()
            fill(file, taken, HEADER_BYTES)
            Header.unpack(bytes(taken))  # a foreign file is refused before more of it is read
            # A device or an object's end is not known; one byte over the limit is enough to know that it is too long.
            fill(file, taken, max_bytes + 1)
            data = memoryview(taken)
    check_file_size(len(data), max_bytes)
    return parse(data)


def read_base(source: Source, *, max_bytes: int = MAX_FILE_BYTES) -> BaseRead:
    """Header and base of a file. Takes exactly ``base_bytes`` bytes from the source, in order, and not one more.

    Args:
        source: a path, bytes, or a binary file object, which need not be seekable.
        max_bytes: refuse longer bases, before they are read.

    Raises:
        InputError: the path cannot be read.
        LimitError: the base prefix is longer than ``max_bytes``.
        FormatError, LayerError, OptionError: as :func:`parse` says.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = _view(source)
        header = Header.unpack(data)
        check_file_size(header.base_bytes, max_bytes, "the base")
        data = data[: header.base_bytes]
    else:
        with opened(source) as file:
            taken = bytearray()
            fill(file, taken, HEADER_BYTES)
            header = Header.unpack(bytes(taken))
            check_file_size(header.base_bytes, max_bytes, "the base")
            fill(file, taken, header.base_bytes)
            data = memoryview(taken)
    check_end("the base layer", header.base_bytes, len(data), ())
    return BaseRead(parse(data), len(data))


def append_layer(data: bytes | bytearray | memoryview, layer: Layer) -> bytes:
    """The file in ``data`` with ``layer`` after it. The bytes of ``data`` stay as they are.

    Raises:
        LayerError: ``layer`` is a base.
        FormatError: ``data`` is no whole file, or the layer's tiles do not fit its picture.
        LimitError: too many layers or chunks.
    """
    parse(data).with_layer(layer)
    return bytes(data) + layer.pack()


def _view(data: bytes | bytearray | memoryview) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise OptionError("cannot read from this", expected="contiguous bytes", found=type(data).__name__) from None


def _unpack(header: Header, frame: Frame, payload: memoryview) -> Layer | Chunk:
    if frame.kind not in LAYER_KINDS:
        return Chunk.unpack(frame, payload)
    kind = ChunkKind(frame.kind)
    with found_in_file():
        columns, rows = tile_grid(*header.coded_size(kind), Layer.tile_log2_of(payload))
    return Layer.unpack(kind, payload, columns * rows)
