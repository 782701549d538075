"""VVC through external programs, with scripts in their place that keep the raw frame."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from vcm.codecs.anchors import load_anchor
from vcm.codecs.protocol import Image
from vcm.codecs.vvc import VvcCodec
from vcm.codecs.yuv import Planes, from_y4m, rgb_to_yuv420, to_y4m, yuv420_to_rgb
from vcm.errors import ImageError, MissingDependencyError, OptionError

# It stores the Y4M file behind a start code, and its arguments, so that tests can see both.
_ENCODER = """#!{python}
import pathlib, sys
a = sys.argv[1:]
if a[:1] == ["--version"]:
    print("stand-in encoder, version 1.2.3")
    raise SystemExit
value = lambda *names: next(a[i + 1] for i, x in enumerate(a) if x in names)
out = pathlib.Path(value("-o", "-b"))
out.write_bytes(b"\\0\\0\\0\\1" + pathlib.Path(value("-i")).read_bytes())
pathlib.Path({log!r}).write_text(" ".join(a))
"""
_DECODER = """#!{python}
import pathlib, sys
a = sys.argv[1:]
if a[:1] == ["--version"]:
    print("stand-in decoder 4.5")
    raise SystemExit
value = lambda name: a[a.index(name) + 1]
data = pathlib.Path(value("-b")).read_bytes()
if b"broken" in data:
    print("cannot parse the slice header", file=sys.stderr)
    raise SystemExit(3)
if b"silent" not in data:
    pathlib.Path(value("-o")).write_bytes(data[4:])
"""


@pytest.fixture
def programs(tmp_path: Path) -> tuple[str, str, Path]:
    paths = []
    log = tmp_path / "arguments.txt"
    for name, text in (("EncoderAppFake", _ENCODER), ("DecoderAppFake", _DECODER), ("vvencfake", _ENCODER)):
        path = tmp_path / name
        path.write_text(text.format(python=sys.executable, log=str(log)))
        path.chmod(0o755)
        paths.append(str(path))
    return paths[2], paths[1], log


def _photo(height: int, width: int) -> Image:
    return np.ascontiguousarray(data.coffee()[50 : 50 + height, 80 : 80 + width])


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("shape", [(16, 16), (17, 16), (16, 21), (33, 47)])
def test_round_trip_of_any_size(programs: tuple[str, str, Path], depth: int, shape: tuple[int, int]) -> None:
    codec = VvcCodec(programs[0], programs[1], bit_depth=depth)
    image = _photo(*shape)
    data_ = codec.compress(image, 32)
    decoded = codec.decompress(data_)
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 4  # 4:2:0 costs some colour
    odd = shape[0] % 2 or shape[1] % 2
    assert (data_[:4] == b"\0\0\0\1") == (not odd)
    assert (data_[1:5] == b"\0\0\0\1") == bool(odd)


def test_encoder_gets_qp_preset_depth_and_one_frame(programs: tuple[str, str, Path]) -> None:
    VvcCodec(programs[0], programs[1], preset="slow", bit_depth=8).compress(_photo(16, 16), 37)
    arguments = programs[2].read_text()
    for wanted in ("-q 37", "--preset slow", "--internal-bitdepth 8", "--frames 1", "--qpa 0", "--threads 1"):
        assert wanted in arguments


def test_vtm_gets_its_configuration_and_the_size(programs: tuple[str, str, Path], tmp_path: Path) -> None:
    config = tmp_path / "encoder_intra_vtm.cfg"
    config.write_text("")
    encoder = str(tmp_path / "EncoderAppFake")
    codec = VvcCodec(encoder, programs[1], config=str(config))
    image = _photo(17, 30)
    assert codec.decompress(codec.compress(image, 22)).shape == image.shape
    arguments = programs[2].read_text()
    for wanted in (f"-c {config}", "-wdt 30", "-hgt 18", "-q 22", "--InternalBitDepth=10", "--InputChromaFormat=420"):
        assert wanted in arguments
    with pytest.raises(OptionError, match="configuration"):
        VvcCodec(encoder, programs[1])


def test_versions_and_preset_are_recorded(programs: tuple[str, str, Path]) -> None:
    info = VvcCodec(programs[0], programs[1], preset="medium").describe()
    assert info.version == "stand-in encoder, version 1.2.3; stand-in decoder 4.5"
    assert dict(info.settings)["preset"] == "medium"
    other = VvcCodec(programs[0], programs[1], preset="fast").describe()
    assert info.fingerprint != other.fingerprint


def test_a_missing_program_is_told_with_the_remedy() -> None:
    with pytest.raises(MissingDependencyError, match=r"PATH.*no-such-encoder"):
        load_anchor("vvc:encoder=no-such-encoder")


def test_bad_options() -> None:
    for bad in ({"bit_depth": 9}, {"preset": "fastest"}):
        with pytest.raises(OptionError):
            VvcCodec(**bad)  # type: ignore[arg-type]


def test_decoder_failures_are_image_errors(programs: tuple[str, str, Path]) -> None:
    codec = VvcCodec(programs[0], programs[1])
    with pytest.raises(ImageError, match="cannot parse the slice header"):
        codec.decompress(b"\0\0\0\1broken")
    with pytest.raises(ImageError, match="wrote nothing"):
        codec.decompress(b"\0\0\0\1silent")
    for foreign in (b"", b"\xff\xd8\xff\xe0", b"\x83\xff\xd8\xff"):
        with pytest.raises(ImageError, match="start code"):
            codec.decompress(foreign)


@pytest.mark.parametrize("depth", [8, 10])
def test_grey_levels_survive_the_colour_conversion(depth: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(2, axis=0)
    assert np.array_equal(yuv420_to_rgb(rgb_to_yuv420(ramp, depth), 256, 2), ramp)


def test_bt709_luma_of_primaries() -> None:
    for colour, luma in (((255, 0, 0), 0.2126), ((0, 255, 0), 0.7152), ((0, 0, 255), 0.0722)):
        planes = rgb_to_yuv420(np.full((2, 2, 3), colour, np.uint8), 10)
        assert planes.y[0, 0] == round(luma * 1023)
    blue = rgb_to_yuv420(np.full((2, 2, 3), (0, 0, 255), np.uint8), 10)
    assert int(blue.u[0, 0]) == 1023  # the most that blue difference can be


def test_flat_colours_survive_chroma_resampling() -> None:
    image = np.full((7, 9, 3), (200, 30, 90), np.uint8)
    assert np.abs(yuv420_to_rgb(rgb_to_yuv420(image, 10), 9, 7).astype(int) - image).max() <= 1


@pytest.mark.parametrize("depth", [8, 10])
def test_y4m_round_trip(depth: int) -> None:
    planes = rgb_to_yuv420(_photo(18, 22), depth)
    again = from_y4m(to_y4m(planes))
    assert again.bit_depth == depth
    for a, b in ((planes.y, again.y), (planes.u, again.u), (planes.v, again.v)):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"RIFF", b"YUV4MPEG2 W4 H4\nFRAME\n" + bytes(5), b"YUV4MPEG2 H4\nFRAME\n" + bytes(24),
        b"YUV4MPEG2 W4 H4 C444\nFRAME\n" + bytes(48), b"YUV4MPEG2 W3 H4\nFRAME\n" + bytes(48),
        b"YUV4MPEG2 Wx H4\nFRAME\n" + bytes(24),
    ],
)  # fmt: skip
def test_bad_y4m_is_refused(bad: bytes) -> None:
    with pytest.raises(ImageError):
        from_y4m(bad)


def test_planes_that_do_not_belong_together_are_refused() -> None:
    y, c = np.zeros((4, 4), np.uint16), np.zeros((2, 2), np.uint16)
    with pytest.raises(ImageError):
        yuv420_to_rgb(Planes(y, c, np.zeros((1, 2), np.uint16), 8), 4, 4)
    with pytest.raises(ImageError):
        yuv420_to_rgb(Planes(y, c, c, 8), 5, 4)
