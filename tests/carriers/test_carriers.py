"""A base in a picture: found, replaced, taken out; bound to its picture; and the picture unchanged."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from host_files import base, hosts, picture, with_exif, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import TINY_WEIGHTS, tiny_codec

import vcm
from vcm.bitstream import Metadata, SourceKind
from vcm.carriers import attach_base, check_base, find_base, host_format, strip_base
from vcm.carriers.hosts import orientation_in
from vcm.errors import FormatError, ImageError, LimitError, StaleBaseError, VcmError

UUID = bytes.fromhex("bfed3e7880d95a38b87886ca4403f699")
SIZES = (0, 1, 22, 70_000, 300_001)  # in JPEG one segment, two and five


def pixels(data: bytes) -> tuple[bytes, object, object]:
    """What Pillow, or the library of the format, makes of a file."""
    if data[4:8] == b"JXL ":
        imagecodecs = pytest.importorskip("imagecodecs")
        return imagecodecs.jpegxl_decode(data).tobytes(), None, None
    if data[8:12] == b"heic":
        return pytest.importorskip("pillow_heif").open_heif(data).to_pillow().tobytes(), None, None
    with Image.open(io.BytesIO(data)) as opened:
        return opened.tobytes(), opened.info.get("icc_profile"), opened.info.get("exif")


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", hosts())
def test_round_trip(name: str, count: int) -> None:
    data, stream = hosts()[name], base(bytes(i % 251 for i in range(count)))
    carrying = attach_base(data, stream)
    found, checked = find_base(carrying), check_base(carrying)
    assert found is not None
    assert found.stream == stream == checked.stream
    assert found.bytes == len(carrying) - len(data)
    assert strip_base(carrying) == data
    assert pixels(carrying) == pixels(data)
    assert find_base(data) is None
    assert check_base(data) is None
    assert strip_base(data) == data


@pytest.mark.parametrize("name", hosts())
def test_attaching_again_replaces(name: str) -> None:
    first, second = base(b"first" * 40_000), base(b"second")
    assert attach_base(attach_base(hosts()[name], first), second) == attach_base(hosts()[name], second)


@pytest.mark.parametrize("name", hosts())
def test_finding_reads_frames_and_the_segment_only(name: str, tmp_path) -> None:
    stream = base()
    carrying = attach_base(hosts()[name], stream)
    (tmp_path / "a").write_bytes(carrying)
    for source in (tmp_path / "a", carrying, io.BytesIO(carrying)):
        assert find_base(source).bytes_read <= stream.total_bytes + 250
    assert check_base(carrying).bytes_read >= len(hosts()[name])


def test_only_header_and_base_are_taken() -> None:
    full = base()
    metadata = type(full).of_base(full.coded_base, source=SourceKind(), metadata=Metadata(exif=b"Exif\0\0MM"))
    assert find_base(attach_base(hosts()["jpeg"], metadata.to_bytes())).stream == full


def test_where_it_stands() -> None:
    jpeg = attach_base(hosts()["jpeg exif"], base())
    assert jpeg.index(b"Exif\0\0") < jpeg.index(b"vcm.base\0") < jpeg.index(b"ICC_PROFILE")
    assert attach_base(hosts()["png"], base())[37:41] == b"vcMB"
    webp = attach_base(hosts()["webp exif"], base())
    assert (webp[12:16], webp[30:34]) == (b"VP8X", b"VCMB")
    assert int.from_bytes(webp[4:8], "little") == len(webp) - 8
    for name in ("avif", "heic"):
        if name in hosts():
            data = hosts()[name]
            assert attach_base(data, base())[: len(data)] == data


def test_a_png_chunk_has_its_crc() -> None:
    data = attach_base(hosts()["png"], base())
    at = data.index(b"vcMB")
    length = int.from_bytes(data[at - 4 : at], "big")
    crc = int.from_bytes(data[at + 4 + length : at + 8 + length], "big")
    assert crc == zlib.crc32(data[at : at + 4 + length])


def test_the_bytes_of_a_jpeg_segment_as_an_independent_reader_of_jumbf_sees_them() -> None:
    stream = base(bytes(150_000))
    data = attach_base(hosts()["jpeg"], stream)
    offset, packets = 2, []
    while data[offset + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, offset + 2)
        if data[offset + 1] == 0xEB:
            packets.append(data[offset + 4 : offset + 2 + size])
        offset += 2 + size
    assert [struct.unpack_from(">2sHI", p) for p in packets] == [(b"JP", 1, 1), (b"JP", 1, 2), (b"JP", 1, 3)]
    superbox = packets[0][8:16] + b"".join(p[16:] for p in packets)
    assert struct.unpack_from(">I4s", superbox) == (len(superbox), b"jumb")
    length, kind = struct.unpack_from(">I4s", superbox, 8)
    assert (kind, superbox[16 : 8 + length]) == (
        b"jumd", bytes.fromhex("7575696400110010800000aa00389b71") + b"\x03vcm.base\0",
    )  # fmt: skip
    box = superbox[8 + length :]
    assert struct.unpack_from(">I4s", box) == (len(box), b"uuid")
    assert box[8:24] == UUID
    assert box[24 + 15 :] == stream.to_bytes()


def test_boxes_of_others_stay_and_keep_their_numbers() -> None:
    other = b"JP" + struct.pack(">HI", 1, 1) + struct.pack(">I4s", 30, b"jumb") + bytes(22)
    data = hosts()["jpeg"]
    data = data[:2] + b"\xff\xeb" + struct.pack(">H", 2 + len(other)) + other + data[2:]
    carrying = attach_base(data, base())
    assert find_base(carrying).stream == base()
    assert b"JP\0\x02\0\0\0\x01" in carrying
    assert strip_base(carrying) == data


# -- bound to its picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_another_picture_of_another_length_is_refused(name: str) -> None:
    kind = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}[name]
    carrying = attach_base(written(kind), base())
    found = find_base(carrying)
    segment = carrying[found.offset : found.offset + found.bytes]
    other = written(kind, seed=2)
    edited = other[: found.offset] + segment + other[found.offset :] if name != "webp" else other + segment
    if name == "webp":
        edited = edited[:4] + struct.pack("<I", len(edited) - 8) + edited[8:]
    for look in (find_base, check_base):
        with pytest.raises(StaleBaseError, match="edited after"):
            look(edited)
    assert strip_base(edited) == other
    assert find_base(attach_base(edited, base(b"new"))).stream == base(b"new")


@pytest.mark.parametrize("name", hosts())
def test_a_changed_byte_of_the_picture_is_found_by_checking(name: str) -> None:
    carrying = bytearray(attach_base(hosts()[name], base()))
    found, at = find_base(bytes(carrying)), len(hosts()[name]) - 150
    carrying[at if at < found.offset else at + found.bytes] ^= 1
    with pytest.raises((StaleBaseError, ImageError)):
        check_base(bytes(carrying))


def test_metadata_may_change() -> None:
    """A comment, EXIF or XMP that an application adds changes the length, and not the picture."""
    jpeg = attach_base(hosts()["jpeg"], base())
    comment = b"\xff\xfe\x00\x07hello"
    assert find_base(jpeg[:20] + comment + jpeg[20:]).stream == base()
    png = attach_base(hosts()["png"], base())
    text = b"tEXtComment\0hello"
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    assert check_base(png[:33] + chunk + png[33:]).stream == base()


def test_the_orientation_in_exif_is_of_the_picture() -> None:
    data = hosts()["jpeg exif"]
    carrying = attach_base(data, base())
    turned = carrying.replace(with_exif(6)[8:], with_exif(3)[8:])
    assert turned != carrying
    with pytest.raises(StaleBaseError):
        check_base(turned)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_what_pillow_reads(orientation: int) -> None:
    assert orientation_in(with_exif(orientation)) == orientation
    assert orientation_in(with_exif(orientation).removeprefix(b"Exif\0\0")) == orientation


@given(st.binary(max_size=64))
def test_damaged_exif_says_nothing(data: bytes) -> None:
    for block in (data, b"II*\0" + data, b"Exif\0\0MM\0*" + data):
        assert orientation_in(block) in range(1, 9)


# -- hostile -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hosts())
def test_a_file_cut_anywhere(name: str) -> None:
    """An error, or a damaged picture that carries nothing, but never a base."""
    carrying = attach_base(hosts()[name], base())
    for end in range(len(carrying)):
        cut = carrying[:end]
        try:
            assert find_base(cut) is None, end
        except (FormatError, ImageError, StaleBaseError):
            continue


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(hosts())), st.data())
def test_damage_is_refused_or_harmless(name: str, data: st.DataObject) -> None:
    carrying = bytearray(attach_base(hosts()[name], base()))
    for _ in range(data.draw(st.integers(1, 4))):
        carrying[data.draw(st.integers(0, len(carrying) - 1))] = data.draw(st.integers(0, 255))
    for look in (find_base, check_base):
        try:
            result = look(bytes(carrying))
        except VcmError:
            continue
        # A segment that was found whole is the one that was attached.
        assert result is None or result.stream == base()


def test_two_segments_are_refused() -> None:
    for name in hosts():
        one, two = (attach_base(hosts()[name], base(text)) for text in (b"a", b"b"))
        found = find_base(one)
        segment = one[found.offset : found.offset + found.bytes]
        both = two[: found.offset] + segment + two[found.offset :]
        if name.startswith("webp"):
            both = both[:4] + struct.pack("<I", len(both) - 8) + both[8:]
        for look in (find_base, check_base):
            with pytest.raises(FormatError):
                look(both)
        assert strip_base(both) == hosts()[name]


def test_lying_lengths_take_no_memory() -> None:
    import tracemalloc

    jpeg, png = attach_base(hosts()["jpeg"], base()), attach_base(hosts()["png"], base())
    webp, heif = attach_base(hosts()["webp"], base()), b"\0\0\0\x18ftypavif\0\0\0\0avifmif1"
    lying = {
        "jumbf": jpeg.replace(b"JP\0\x01\0\0\0\x01" + jpeg[32:36], b"JP\0\x01\0\0\0\x01\x7f\xff\xff\xff"),
        "chunk": png.replace(png[33:37] + b"vcMB", b"\x7f\xff\xff\xffvcMB"),
        "riff": webp.replace(b"VCMB" + webp[webp.index(b"VCMB") + 4 :][:4], b"VCMB\xf0\xff\xff\xff"),
        "box": heif + b"\x7f\xff\xff\xffuuid" + UUID,
        "long box": heif + b"\0\0\0\x01uuid" + b"\x7f" + bytes(7) + UUID,
        "small box": heif + b"\0\0\0\x07uuid" + UUID,
        "long small box": heif + b"\0\0\0\x01uuid" + bytes(7) + b"\x09" + UUID,
        "empty box": heif + b"\0\0\0\x18uuid" + UUID,
    }
    tracemalloc.start()
    for name, data in lying.items():
        with contextlib.suppress(FormatError, ImageError):
            assert find_base(data) is None, name
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    with pytest.raises(LimitError):
        find_base(lying["jumbf"])


def test_packets_out_of_order_or_missing_are_refused() -> None:
    data = attach_base(hosts()["jpeg"], base(bytes(150_000)))
    first, second = 20, 20 + 0xFFFF + 2
    third = second + 0xFFFF + 2
    swapped = data[:first] + data[first:second].join([data[second:third], data[third:]])
    missing = data[:second] + data[third:]
    for broken in (swapped, missing):
        with pytest.raises((FormatError, StaleBaseError)):
            check_base(broken)
    with pytest.raises(FormatError):
        find_base(missing)


def test_nested_and_foreign_boxes_are_not_ours() -> None:
    carrying = attach_base(hosts()["jpeg"], base())
    found = find_base(carrying)
    packet = carrying[found.offset : found.offset + found.bytes]
    inner = packet[12:]  # LBox on: the whole superbox
    outer = struct.pack(">I4s", 8 + len(inner), b"jumb") + inner
    nested = b"\xff\xeb" + struct.pack(">H", 10 + len(outer)) + b"JP" + struct.pack(">HI", 1, 1) + outer
    data = hosts()["jpeg"]
    assert find_base(data[:20] + nested + data[20:]) is None


def test_what_carries_nothing() -> None:
    gif = io.BytesIO()
    picture().save(gif, "GIF")
    for data in (gif.getvalue(), base().to_bytes(), b"", b"\xff\x0a" + bytes(40), b"\0\0\0\x18ftypisom" + bytes(12)):
        assert host_format(data) is None
        assert find_base(data) is None
        with pytest.raises(ImageError, match="cannot carry a base"):
            attach_base(data, base())
    for data in (b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\0\0", b"RIFF\x04\0\0\0WEBP", b"\x89PNG\r\n\x1a\n"):
        assert find_base(data) is None


def test_nothing_is_looked_for_at_an_address() -> None:
    assert find_base("http://127.0.0.1:9/a.jpg") is None


def test_a_malformed_picture_takes_no_base() -> None:
    for data in (
        b"RIFF\x04\0\0\0WEBP",
        b"\x89PNG\r\n\x1a\n",
        hosts()["png"][:-4],
        hosts()["webp"][:-2],
        b"\xff\xd8\xff\xe0\0\0",
    ):
        with pytest.raises(ImageError):
            attach_base(data, base())


def test_a_last_box_to_the_end_of_the_file_gets_its_length() -> None:
    data = hosts().get("avif")
    if data is None:
        pytest.skip("no AVIF here")
    at = data.index(b"mdat") - 4
    open_ended = data[:at] + bytes(4) + data[at + 4 :]
    carrying = attach_base(open_ended, base())
    assert find_base(carrying).stream == check_base(carrying).stream == base()
    assert strip_base(carrying) == data
    assert pixels(carrying) == pixels(open_ended)


def test_needs_neither_numpy_nor_pillow() -> None:
    code = "import sys, vcm.carriers; sys.exit(any(m in sys.modules for m in ('numpy', 'PIL', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_api_reads_the_base_of_a_picture(tmp_path) -> None:
    codec = tiny_codec()
    photo = tmp_path / "a.jpg"
    stream = codec.encode(picture(), base_only=True)
    photo.write_bytes(attach_base(written("JPEG"), stream))
    for source in (photo, photo.read_bytes()):
        found = codec.detect(source)
        assert np.array_equal(found.boxes, codec.detect(stream).boxes)
        assert found.bytes_read == find_base(photo).bytes_read
    assert len(vcm.open(photo, weights=TINY_WEIGHTS).detect(score=0)) == len(codec.detect(stream, score=0))
