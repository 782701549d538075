"""Reading pictures: every mode, orientation, metadata, limits, and what is not a picture."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from profiles import ADOBE_RGB, SRGB, SRGB_PRIMARIES, rgb_profile

from vcm.errors import ImageError, OptionError
from vcm.io.pictures import AlphaWarning, SourceImage, load_image
from vcm.limits import MAX_PIXELS

W, H = 40, 24


def ramp(channels: int = 3) -> np.ndarray:
    """uint8 (H, W, channels), every pixel different, no symmetry."""
    y, x = np.mgrid[0:H, 0:W]
    planes = [x * 6, y * 10, (x + y) * 3, 255 - x * 3][:channels]
    return np.stack(planes, axis=-1).astype(np.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


def one_line(error: pytest.ExceptionInfo[ImageError]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, so that its header can say anything."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_rgb_from_every_kind_of_source(tmp_path: Path) -> None:
    import torch

    array = ramp()
    path = saved(tmp_path, Image.fromarray(array), "a.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for source in (path, str(path), Image.fromarray(array), array, tensor, tensor.float() / 255, tensor.double() / 255):
        got = load_image(source)
        assert isinstance(got, SourceImage)
        assert (got.width, got.height, got.bit_depth, got.grey, got.alpha) == (W, H, 8, False, False)
        assert got.pixels.dtype == np.uint8
        assert got.pixels.flags.c_contiguous
        np.testing.assert_array_equal(got.pixels, array)


def test_array_is_copied() -> None:
    array = ramp()
    got = load_image(array)
    array[:] = 0
    assert got.pixels.max() > 0


def test_grey_arrays_and_tensors() -> None:
    import torch

    grey = ramp(1)
    for source in (grey, grey[:, :, 0], torch.from_numpy(grey).permute(2, 0, 1)):
        got = load_image(source)
        assert got.grey
        np.testing.assert_array_equal(got.pixels, np.repeat(grey, 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_modes_without_alpha(mode: str) -> None:
    rgb = Image.fromarray(ramp())
    if mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(rgb, transform)
    else:
        image = rgb.convert(mode)
    assert image.mode == mode
    got = load_image(image)
    assert not got.alpha
    assert got.grey == (mode in ("1", "L"))
    # Equal but for the rounding of the way there and back (a palette of few colours and one bit lose more).
    expected = np.asarray(image.convert("RGB") if mode in ("1", "P", "L") else rgb).astype(int)
    difference = np.abs(got.pixels.astype(int) - expected)
    assert difference.mean() < 2
    assert difference.max() <= {"HSV": 12, "LAB": 32}.get(mode, 4)  # eight bits of Lab are coarse in the dark blues


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "PA"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    rgba = ramp(4)
    rgba[:, :, 3] = 255
    rgba[:8, :, 3] = 0
    rgba[8:16, :, 3] = 128
    image = Image.fromarray(rgba)
    image = image.convert(mode)
    with pytest.warns(AlphaWarning, match="white"):
        got = load_image(image)
    assert got.alpha
    assert got.grey == (mode == "LA")
    assert got.pixels[:8].min() == 255
    opaque = image.convert("RGBA" if mode != "LA" else "LA").convert("RGB") if mode != "RGBa" else Image.fromarray(rgba)
    np.testing.assert_array_equal(got.pixels[16:], np.asarray(opaque.convert("RGB"))[16:])
    if mode == "RGBA":
        half = rgba[8:16, :, :3].astype(float) * 128 / 255 + 255 * 127 / 255
        assert np.abs(got.pixels[8:16] - half).max() <= 1


def test_alpha_of_arrays_and_the_place_of_the_warning() -> None:
    rgba = ramp(4)
    rgba[:, :, 3] = 0
    with pytest.warns(AlphaWarning) as caught:
        got = load_image(rgba)
    assert got.alpha
    assert got.pixels.min() == 255
    assert caught[0].filename == __file__  # the caller's line, not one of ours


def test_transparent_palette_and_colour_key(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8), H * W // 2).reshape(H, W), "L").convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    path = saved(tmp_path, image, "p.png", transparency=0)
    with pytest.warns(AlphaWarning):
        got = load_image(path)
    assert got.pixels[0, 0].tolist() == [255, 255, 255]
    assert got.pixels[-1, -1].tolist() == [200, 100, 50]
    path = saved(tmp_path, Image.fromarray(ramp()), "key.png", transparency=tuple(ramp()[3, 5].tolist()))
    with pytest.warns(AlphaWarning):
        got = load_image(path)
    assert got.pixels[3, 5].tolist() == [255, 255, 255]
    assert got.pixels[3, 6].tolist() == ramp()[3, 6].tolist()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_files_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = (np.arange(H * W, dtype=np.float64).reshape(H, W) * 65535 / (H * W - 1)).astype(np.uint16)
    got = load_image(saved(tmp_path, Image.fromarray(deep), f"a.{suffix}"))
    assert (got.bit_depth, got.grey) == (16, True)
    np.testing.assert_array_equal(got.pixels[:, :, 1], np.rint(deep / 257.0).astype(np.uint8))
    # A dark 16-bit file stays dark: its range is that of its samples, not of its content.
    got = load_image(saved(tmp_path, Image.fromarray((deep // 512).astype(np.uint16)), f"dark.{suffix}"))
    assert got.pixels.max() <= 1


def test_sixteen_bit_big_endian_and_colour(tmp_path: Path) -> None:
    deep = (np.arange(H * W).reshape(H, W) * 60).astype(np.uint16)
    image = Image.frombytes("I;16B", (W, H), deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(load_image(image).pixels[:, :, 0], np.rint(deep / 257.0))
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    (tmp_path / "rgb16.png").write_bytes(png(W, H, 16, 2, rows))
    got = load_image(tmp_path / "rgb16.png")
    assert (got.bit_depth, got.grey) == (16, False)
    assert np.abs(got.pixels[:, :, 0].astype(float) - deep / 257.0).max() <= 1


@pytest.mark.parametrize(
    ("mode", "top"), [("F", 1.0), ("F", 255.0), ("F", 65535.0), ("I", 255), ("I", 65535)]
)  # fmt: skip
def test_ranges_of_deep_modes(mode: str, top: float) -> None:
    values = np.linspace(0, top, H * W).reshape(H, W).astype(np.float32 if mode == "F" else np.int32)
    got = load_image(Image.fromarray(values))
    assert got.bit_depth == 16
    assert got.grey
    assert (got.pixels.min(), got.pixels.max()) == (0, 255)
    assert np.abs(got.pixels[:, :, 0] - np.linspace(0, 255, H * W).reshape(H, W)).max() <= 1.01


def test_other_ranges_are_stretched_and_nan_is_refused() -> None:
    values = np.linspace(-5, 1e6, H * W, dtype=np.float32).reshape(H, W)
    got = load_image(Image.fromarray(values))
    assert (got.pixels.min(), got.pixels.max()) == (0, 255)
    values[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        load_image(Image.fromarray(values))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    # Four flat corners say exactly where each went, whatever JPEG does to them.
    corners = np.zeros((32, 48), np.uint8)
    corners[:16, :24], corners[:16, 24:], corners[16:, :24], corners[16:, 24:] = 0, 80, 160, 240
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    got = load_image(saved(tmp_path, Image.fromarray(corners).convert("RGB"), f"a.{suffix}", exif=exif.tobytes()))
    a, b, c, d = 0, 80, 160, 240
    expected = {
        1: (a, b, c, d), 2: (b, a, d, c), 3: (d, c, b, a), 4: (c, d, a, b),
        5: (a, c, b, d), 6: (c, a, d, b), 7: (d, b, c, a), 8: (b, d, a, c),
    }[orientation]  # fmt: skip
    assert (got.width, got.height) == ((48, 32) if orientation < 5 else (32, 48))
    assert got.pixels.shape == (got.height, got.width, 3)
    found = [int(got.pixels[y, x, 0]) for y in (4, -5) for x in (4, -5)]
    assert found == pytest.approx(expected, abs=3)
    assert got.exif is not None
    kept = Image.Exif()
    kept.load(got.exif)
    assert dict(kept) == {0x010E: "a description"}


def test_orientation_of_a_pil_image_leaves_it_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(saved(tmp_path, Image.fromarray(ramp()), "a.jpg", exif=exif.tobytes())) as image:
        got = load_image(image)
        assert (got.width, got.height) == (H, W)
        assert image.size == (W, H)
        assert image.getexif()[0x0112] == 6


def test_exif_loses_the_position_unless_asked(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    path = saved(tmp_path, Image.fromarray(ramp()), "a.jpg", exif=exif.tobytes())
    for keep in (False, True):
        kept = Image.Exif()
        kept.load(load_image(path, keep_gps=keep).exif or b"")
        assert kept[0x010F] == "Maker"
        assert kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert (0x8825 in kept) == keep
        if keep:
            assert kept.get_ifd(0x8825)[2] == (52.0, 31.0, 12.0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, for the application
def test_no_exif_and_damaged_exif_are_none(tmp_path: Path) -> None:
    assert load_image(saved(tmp_path, Image.fromarray(ramp()), "a.jpg")).exif is None
    assert load_image(saved(tmp_path, Image.fromarray(ramp()), "a.tiff")).exif is None
    junk = saved(tmp_path, Image.fromarray(ramp()), "b.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(40))
    assert load_image(junk).exif is None


def test_profiles(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    got = load_image(saved(tmp_path, Image.fromarray(ramp()), "a.png", icc_profile=srgb))
    assert got.icc == srgb
    # A profile that is not about RGB cannot be handed on with RGB pixels.
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    got = load_image(saved(tmp_path, Image.fromarray(ramp()).convert("CMYK"), "b.jpg", icc_profile=lab))
    assert got.icc is None
    got = load_image(saved(tmp_path, Image.fromarray(ramp()), "c.png", icc_profile=b"not a profile at all"))
    assert got.icc is None


def test_a_profile_is_kept_left_out_or_applied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(40, 216, (H, W, 3), dtype=np.uint8)
    values[:, :, 1:] = values[:, :, :1]  # greys
    values[:, :4] = (110, 180, 90), (150, 120, 100), (90, 100, 150), (200, 190, 60)
    adobe = rgb_profile(ADOBE_RGB)
    path = saved(tmp_path, Image.fromarray(values), "a.png", icc_profile=adobe)
    for use in ("keep", "lean"):
        got = load_image(path, profile=use)
        assert got.icc == adobe
        np.testing.assert_array_equal(got.pixels, values)
    got = load_image(path, profile="apply")
    assert got.icc is None
    # The same by hand: light of the primaries, to X Y Z, to light of sRGB's, to its curve.
    light = (values / 255.0) ** (0x0233 / 256) @ np.array(ADOBE_RGB) @ np.linalg.inv(np.array(SRGB_PRIMARIES))
    light = np.clip(light, 0, 1)
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(got.pixels - wanted).max() < 1.6
    assert np.abs(got.pixels.astype(int) - values).max() > 10
    for like in (SRGB, rgb_profile(SRGB_PRIMARIES)):
        path = saved(tmp_path, Image.fromarray(values), "b.png", icc_profile=like)
        assert load_image(path).icc == like
        for use in ("lean", "apply"):
            got = load_image(path, profile=use)
            assert got.icc is None
            np.testing.assert_array_equal(got.pixels, values)
    damaged = adobe[:200] + bytes(len(adobe) - 200)
    path = saved(tmp_path, Image.fromarray(values), "c.png", icc_profile=damaged)
    assert load_image(path).icc == damaged
    for use in ("lean", "apply"):
        assert load_image(path, profile=use).icc is None
    with pytest.raises(OptionError, match="keep, lean, apply"):
        load_image(path, profile="drop")  # type: ignore[arg-type]


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.tiff", "a.png"):
        options = {"lossless": True} if name.endswith("webp") else {}
        path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AlphaWarning)
            assert load_image(path).pixels[5, 5].tolist() == [255, 0, 0], name


@pytest.mark.parametrize("size", [(15, 16), (16, 15), (65536, 16), (1, 1)])
def test_sizes_out_of_range(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.new("L", size)
    for source in (image, np.zeros((size[1], size[0]), np.uint8), saved(tmp_path, image, "a.png")):
        with pytest.raises(ImageError, match=f"found {size[0]}x{size[1]}") as error:
            load_image(source)
        assert error.value.expected is not None
    load_image(np.zeros((16, 16), np.uint8))


@pytest.mark.parametrize(
    ("width", "height"), [(65535, 65535), (65535, 4097), (1 << 20, 1 << 20), (16384, 16384), (40, 70000)]
)
def test_a_lying_header_costs_no_memory(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, 8, 2, b"\0" * 100))
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20,) * 2)\n"
        "import vcm.io.pictures, vcm.errors\n"
        "try:\n    vcm.io.pictures.load_image(sys.argv[1])\n"
        "except vcm.errors.ImageError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)], capture_output=True, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "expected" in run.stdout
    assert run.stderr == ""


def test_an_applications_own_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is 2^28 at most. Pillow's refuses 179 million pixels; an application may raise that, and may lower it."""
    path = tmp_path / "large.png"
    path.write_bytes(png(65535, 3000, 1, 0, b"".join([bytes(8193)] * 20)))
    assert MAX_PIXELS > 65535 * 3000
    with pytest.raises(ImageError, match=r"at most twice PIL\.Image\.MAX_IMAGE_PIXELS, 89478485"):
        load_image(path, max_pixels=MAX_PIXELS)
    for limit in (None, MAX_PIXELS):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match="truncated"):
            load_image(path, max_pixels=MAX_PIXELS)
        with pytest.raises(ImageError, match=r"at most 67108864 pixels \(max_pixels\), found 65535x3000"):
            load_image(path)
        assert limit == Image.MAX_IMAGE_PIXELS
    small = saved(tmp_path, Image.new("RGB", (40, 30)), "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    assert load_image(small).width == 40
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ImageError, match=r"at most 1199 pixels .*found 40x30"),
    ):
        load_image(small)


def test_bytes_and_file_objects(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(ramp()), "a.png")
    data = path.read_bytes()
    with path.open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            np.testing.assert_array_equal(load_image(source).pixels, ramp())
    for source in (b"", b"words", io.BytesIO(), io.BytesIO(data[:40]), io.StringIO("text"), file):
        with pytest.raises(ImageError) as error:
            load_image(source)  # type: ignore[arg-type]
        one_line(error)


def test_what_is_not_a_picture(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.fromarray(ramp()).save(good, "PNG")
    cases = {
        "empty.png": b"",
        "text.jpg": b"hello there, this is no picture",
        "cut.png": good.getvalue()[: len(good.getvalue()) // 2],
        "header.png": good.getvalue()[:20],
        "eps.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n",
    }
    jpeg = io.BytesIO()
    Image.fromarray(ramp()).save(jpeg, "JPEG")
    cases["cut.jpg"] = jpeg.getvalue()[:-200]
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ImageError) as error:
            load_image(path)
        assert name in one_line(error)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, tmp_path / "none.png", fifo, "a\0b.png", tmp_path / ("x" * 300), loop):
        with pytest.raises(ImageError) as error:
            load_image(path)
        one_line(error)
    assert "Too many levels of symbolic links" in str(error.value)


def test_damaged_files_of_many_formats(tmp_path: Path) -> None:
    """A damaged file is a picture or an ImageError, never another exception, even where warnings are errors."""
    rng = np.random.default_rng(1)
    refused: list[str] = []
    for name in ("a.png", "a.jpg", "a.gif", "a.tiff", "a.webp", "a.bmp"):
        path = saved(tmp_path, Image.fromarray(ramp()), name)
        data = bytearray(path.read_bytes())
        for _ in range(60):
            broken = bytearray(data)
            for position in rng.integers(0, min(len(data), 400), 3):
                broken[position] = rng.integers(0, 256)
            path.write_bytes(broken)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", AlphaWarning)
                try:
                    load_image(path)
                except ImageError as error:
                    refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in text for text in refused)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((H, W, 3), np.float32), np.zeros((H, W, 3), np.uint16), np.zeros((H, W, 2), np.uint8),
        np.zeros((3, H, W), np.uint8), np.zeros((1, H, W, 3), np.uint8), np.zeros(20, np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
)  # fmt: skip
def test_arrays_of_another_shape_or_type(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected") as error:
        load_image(array)
    assert error.value.found is not None


def test_tensors_of_another_shape_range_or_type() -> None:
    import torch

    bad = [
        torch.zeros(H, W, 3), torch.zeros(1, 3, H, W), torch.zeros(3, H, W) - 1, torch.full((3, H, W), 255.0),
        torch.full((3, H, W), float("nan")), torch.zeros(3, H, W, dtype=torch.int64), torch.zeros(3, 4, 4),
    ]  # fmt: skip
    for tensor in bad:
        with pytest.raises(ImageError, match="expected"):
            load_image(tensor)
    half = torch.rand(3, H, W).to(torch.bfloat16).requires_grad_()
    assert load_image(half).pixels.shape == (H, W, 3)


def test_other_objects() -> None:
    for source in (None, 3, [1, 2]):
        with pytest.raises(ImageError, match=type(source).__name__):
            load_image(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_nothing_that_other_threads_see_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Warning filters and Pillow's limit are the process's: what reads a picture must not change them meanwhile."""
    path = saved(tmp_path, Image.fromarray(ramp()), f"a.{suffix}")
    whole, seen = Image.open, []
    before = list(warnings.filters), warnings.showwarning, Image.MAX_IMAGE_PIXELS

    def look(file: object) -> Image.Image:
        image = whole(file)
        load = image.load
        image.load = lambda: (
            seen.append((list(warnings.filters), warnings.showwarning, Image.MAX_IMAGE_PIXELS)) or load()
        )
        seen.append((list(warnings.filters), warnings.showwarning, Image.MAX_IMAGE_PIXELS))
        return image

    monkeypatch.setattr(Image, "open", look)
    load_image(path)
    assert len(seen) >= 2
    assert all(state == before for state in seen)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np, vcm.io.draw; from vcm.io.pictures import load_image; "
        "load_image(np.zeros((20, 20), np.uint8)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
