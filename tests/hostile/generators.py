"""Hostile files, made and not stored. Each is well-formed, checksums included, but for the one lie in its name.

Independent of ``vcm`` (own packing), so that a writer that refuses to write a lie does not stand in the way, and a
mistake shared by writer and reader shows. ``python tests/hostile/generators.py DIR`` writes them all as files.
"""

from __future__ import annotations

import binascii
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import google_crc32c

HOSTILE: dict[str, tuple[Callable[[], bytes], str, bool]] = {}
"""Name -> (generator, name of the error class that parsing must raise, whether reading just the base must fail too)."""


def hostile(error: str, *, base: bool = True) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        HOSTILE[make.__name__] = (make, error, base)
        return make

    return register


def crc16(data: bytes) -> bytes:
    return struct.pack("<H", binascii.crc_hqx(data, 0xFFFF))


def checked(body: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(body)) + body


def header(
    *,
    version: int = 1,
    width: int = 64,
    height: int = 64,
    source: int = 0,
    scale: int = 8,
    base: int = 0,
) -> bytes:
    fields = struct.pack("<3sBBHHBBI", b"VCM", version, 1, width, height, source, scale, base)
    return fields + crc16(fields)


def frame(kind: int, length: int) -> bytes:
    fields = struct.pack("<BI", kind, length)
    return fields + crc16(fields)


def chunk(kind: int, payload: bytes) -> bytes:
    return frame(kind, len(payload)) + payload


def layer(
    *streams: bytes, kind: int = 1, quality: int = 1, log2: int = 10, table: list[int] | None = None, tail: bytes = b""
) -> bytes:
    lengths = [len(s) for s in streams[:-1]] if table is None else table
    head = struct.pack(f"<H8sB{len(lengths)}I", quality, bytes(8), log2, *lengths)
    return chunk(kind, head + crc16(head) + b"".join(map(checked, streams)) + tail)


def file(first: bytes, *rest: bytes, **fields: int) -> bytes:
    return header(**{"base": 17 + len(first), **fields}) + first + b"".join(rest)


BASE = layer(b"stream")
ENHANCEMENT = layer(b"stream", kind=2)


def entry(key: bytes, value: bytes = b"", *, length: int | None = None) -> bytes:
    return chunk(0x92, checked(bytes([len(key) if length is None else length]) + key + value))


# --- not one of ours ---


@hostile("TruncatedError")
def empty() -> bytes:
    return b""


@hostile("MagicError")
def jpeg() -> bytes:
    return b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100)


@hostile("MagicError")
def zeros() -> bytes:
    return bytes(4096)


@hostile("MagicError")
def text_newlines_converted() -> bytes:
    return file(BASE).decode("latin-1").encode("utf-16")


@hostile("VersionError")
def version_of_the_future() -> bytes:
    return header(version=2, base=17 + len(BASE)) + BASE


@hostile("VersionError")
def version_zero() -> bytes:
    return header(version=0, base=17 + len(BASE)) + BASE


# --- lies in the header ---


@hostile("FormatError")
def width_zero() -> bytes:
    return file(BASE, width=0)


@hostile("FormatError")
def height_zero() -> bytes:
    return file(BASE, height=0)


@hostile("LimitError")
def four_gigapixels() -> bytes:
    return file(BASE, width=65535, height=65535)


@hostile("FormatError")
def reserved_source_bit() -> bytes:
    return file(BASE, source=8)


@hostile("FormatError")
def base_scale_zero() -> bytes:
    return file(BASE, scale=0)


@hostile("FormatError")
def base_scale_between_coarse_and_fine() -> bytes:
    return file(BASE, scale=17)


@hostile("FormatError")
def base_scale_without_pixels() -> bytes:
    return file(BASE, scale=128)


@hostile("LimitError")
def base_enlarged_beyond_any_picture() -> bytes:
    return file(BASE, scale=16, width=16384, height=16384)


@hostile("LimitError")
def base_enlarged_beyond_any_side() -> bytes:
    return file(BASE, scale=9, width=65535, height=16)


@hostile("FormatError")
def base_bytes_zero() -> bytes:
    return file(BASE, base=0)


@hostile("FormatError")
def base_bytes_of_four_gigabytes() -> bytes:
    return file(BASE, base=0xFFFFFFFF)


@hostile("FormatError")
def base_bytes_inside_the_base() -> bytes:
    return file(BASE, base=16 + len(BASE))


@hostile("FormatError")
def base_bytes_beyond_the_base() -> bytes:
    return file(BASE, ENHANCEMENT, base=17 + len(BASE) + len(ENHANCEMENT))


@hostile("TruncatedError")
def header_alone() -> bytes:
    return header(base=1000)


# --- lies in frames ---


@hostile("LimitError")
def chunk_of_four_gigabytes() -> bytes:
    return file(frame(1, 0xFFFFFFFF) + bytes(17))


@hostile("TruncatedError")
def chunk_of_a_gigabyte() -> bytes:
    return file(frame(1, 1 << 30) + bytes(17))


@hostile("TruncatedError", base=False)
def enhancement_longer_than_the_file() -> bytes:
    return file(BASE, frame(2, len(ENHANCEMENT)) + ENHANCEMENT[7:])


@hostile("FormatError", base=False)
def kind_zero() -> bytes:
    return file(BASE, chunk(0, b""))


@hostile("FormatError", base=False)
def kind_zero_optional() -> bytes:
    return file(BASE, chunk(0x80, checked(b"")))


@hostile("MandatoryChunkError", base=False)
def mandatory_unknown_kind() -> bytes:
    return file(BASE, chunk(99, checked(b"")))


@hostile("MandatoryChunkError", base=False)
def mandatory_encrypted() -> bytes:
    return file(BASE, chunk(20, checked(b"secret")))


@hostile("FormatError")
def optional_base() -> bytes:
    return file(layer(b"stream", kind=0x81))


@hostile("FormatError", base=False)
def optional_enhancement() -> bytes:
    return file(BASE, layer(b"stream", kind=0x82))


@hostile("FormatError", base=False)
def mandatory_exif() -> bytes:
    return file(BASE, chunk(16, checked(b"")))


@hostile("LayerError")
def enhancement_first() -> bytes:
    return file(ENHANCEMENT, BASE)


@hostile("LayerError")
def metadata_first() -> bytes:
    return file(entry(b"a padded key so long as a layer", bytes(9)), BASE)


@hostile("LayerError", base=False)
def two_bases() -> bytes:
    return file(BASE, BASE)


@hostile("LimitError", base=False)
def a_million_empty_chunks() -> bytes:
    return file(BASE, chunk(0xF0, checked(b"")) * 1_000_000)


@hostile("LimitError", base=False)
def seventeen_layers() -> bytes:
    return file(BASE, ENHANCEMENT * 16)


@hostile("FormatError", base=False)
def optional_chunk_without_room_for_its_crc() -> bytes:
    return file(BASE, chunk(0xF0, b"abc"))


@hostile("ChecksumError", base=False)
def optional_chunk_with_a_wrong_crc() -> bytes:
    return file(BASE, chunk(0xF0, bytes(4) + b"abc"))


# --- lies in layers ---


@hostile("FormatError")
def layer_without_payload() -> bytes:
    return file(chunk(1, b""), entry(b"k" * 40), base=41)


@hostile("FormatError")
def quality_too_high() -> bytes:
    return file(layer(b"stream", quality=1024))


@hostile("FormatError")
def tiles_too_small() -> bytes:
    return file(layer(b"stream", log2=9))


@hostile("FormatError")
def tiles_of_one_pixel() -> bytes:
    return file(layer(b"stream", log2=0), width=16384, height=16384)


@hostile("FormatError")
def tiles_of_two_to_the_255() -> bytes:
    return file(layer(b"stream", log2=255))


@hostile("FormatError")
def tiles_missing() -> bytes:
    return file(layer(b"stream"), width=16384, height=16384)


@hostile("FormatError")
def tile_longer_than_the_layer() -> bytes:
    return file(layer(b"left", b"right", table=[10_000]), width=2000)


@hostile("FormatError")
def tile_of_four_gigabytes() -> bytes:
    return file(layer(b"left", b"right", table=[0xFFFFFFFF]), width=2000)


@hostile("FormatError")
def tile_lengths_that_wrap_around() -> bytes:
    return file(layer(b"a", b"b", b"c", table=[0xFFFFFFFF, 2]), width=3000)


@hostile("ChecksumError")
def tile_lengths_exchanged() -> bytes:
    return file(layer(b"one", b"three", b"last", table=[5, 3]), width=3000)


@hostile("ChecksumError")
def one_tile_too_many() -> bytes:
    return file(layer(b"left", b"right"))


@hostile("ChecksumError")
def bytes_after_the_last_stream() -> bytes:
    return file(layer(b"stream", tail=b"hidden"))


@hostile("ChecksumError")
def stream_without_its_crc() -> bytes:
    head = struct.pack("<H8sB", 1, bytes(8), 10)
    return file(chunk(1, head + crc16(head) + b"no checksum"))


# --- lies in metadata ---


@hostile("LimitError", base=False)
def metadata_of_17_mebibytes() -> bytes:
    return file(BASE, chunk(0x90, checked(bytes(17 << 20))))


@hostile("LimitError", base=False)
def metadata_of_17_mebibytes_in_pieces() -> bytes:
    return file(BASE, *(entry(b"%d" % i, bytes(1 << 20)) for i in range(17)))


@hostile("FormatError", base=False)
def two_icc_profiles() -> bytes:
    return file(BASE, chunk(0x91, checked(b"a")) * 2)


@hostile("FormatError", base=False)
def same_key_twice() -> bytes:
    return file(BASE, entry(b"key", b"1"), entry(b"key", b"2"))


@hostile("FormatError", base=False)
def empty_key() -> bytes:
    return file(BASE, entry(b"", b"value"))


@hostile("FormatError", base=False)
def entry_without_a_body() -> bytes:
    return file(BASE, chunk(0x92, checked(b"")))


@hostile("FormatError", base=False)
def key_longer_than_its_entry() -> bytes:
    return file(BASE, entry(b"key", length=200))


@hostile("FormatError", base=False)
def key_not_utf8() -> bytes:
    return file(BASE, entry(b"\xff\xfe"))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, _, _) in HOSTILE.items():
        (folder / f"{name}.vcm").write_bytes(make())
