"""Transforms by window equal those in one piece, and tiles leave no seams."""

from __future__ import annotations

from math import ceil

import numpy as np
import numpy.typing as npt
import pytest
import torch
from codec_tools import copy_of, double_model, model_of, networks_of, noise
from tiny import tiny_codec
from torch import nn

from vcm.codecs.scalable import model as model_module
from vcm.codecs.scalable import synthesis
from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.model import _BASE_HALO, BaseLatents, ScalableModel, picture_array
from vcm.codecs.scalable.picture import PictureAnalysis, PictureSynthesis, sample_base
from vcm.codecs.scalable.resize import resized
from vcm.codecs.scalable.sampling import base_positions, nearest_rows, sample_grid
from vcm.codecs.scalable.synthesis import PICTURE_HALO
from vcm.codecs.scalable.windows import analyse, windows
from vcm.nn.blocks import fuse_batchnorm


def double(picture: np.ndarray) -> npt.NDArray[np.float64]:
    return picture_array(picture).astype(np.float64)


class One:
    """One network in float64, whatever its name."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def run(self, name: str, /, *arrays: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        with torch.inference_mode():
            return (self.module(*(torch.from_numpy(a).double() for a in arrays)).numpy(),)


class Whole:
    """Latents that are all there."""

    def __init__(self, y: np.ndarray) -> None:
        self.y = y

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        return np.ascontiguousarray(self.y[:, :, rows, columns])

    def forget(self, row: int) -> None:
        self.y[:, :, :row] = np.nan  # must not be asked for again


def synthesise(
    model: ScalableModel, y: np.ndarray, base: BaseLatents, quality: int, box: synthesis.Box | None = None
) -> npt.NDArray[np.uint8]:
    return np.concatenate(list(model._bands(Whole(y.copy()), base, quality, box)))


def lively(module: nn.Module) -> nn.Module:
    """Random weights that carry a signal from end to end (torch's default fades with depth)."""
    torch.manual_seed(0)
    for p in module.parameters():
        if p.dim() == 4:
            nn.init.kaiming_normal_(p, nonlinearity="relu")
    return fuse_batchnorm(module.eval()).double().requires_grad_(False)


@pytest.mark.parametrize(
    ("rows", "columns", "window", "halo"), [(1, 1, 4, 2), (9, 5, 4, 2), (8, 8, 4, 0), (3, 40, 16, 8)]
)
def test_windows_cover_every_position_once(rows: int, columns: int, window: int, halo: int) -> None:
    seen = np.zeros((rows, columns), int)
    for w in windows(rows, columns, window, halo):
        seen[w.r0 : w.r1, w.c0 : w.c1] += 1
        assert 0 <= w.R0 <= w.r0 < w.r1 <= w.R1 <= rows
        assert 0 <= w.C0 <= w.c0 < w.c1 <= w.C1 <= columns
        assert (max(0, w.r0 - halo), min(columns, w.c1 + halo)) == (w.R0, w.C1)
    assert (seen == 1).all()


def test_base_analysis_of_the_shipped_shape_by_window_equals_the_whole() -> None:
    """The real trunk: its receptive field, over 400 px to each side, lies within the halo."""
    network = One(lively(BaseAnalysis()))
    x = double(noise(1504, 64, 1))
    (whole,) = network.run("", x)
    parts = analyse(network, "", x, window=24, halo=_BASE_HALO)
    short = analyse(network, "", x, window=24, halo=12)
    size = np.abs(whole).max()
    assert np.abs(parts - whole).max() < 1e-11 * size
    assert np.abs(short - whole).max() > 1e-9 * size  # so the comparison above can fail


def test_picture_analysis_of_the_shipped_shape_by_window_equals_the_whole() -> None:
    network = One(lively(PictureAnalysis()))
    x = double(noise(480, 96, 2))
    (whole,) = network.run("", x)
    parts = analyse(network, "", x, window=6, halo=PICTURE_HALO)
    short = analyse(network, "", x, window=6, halo=1)
    size = np.abs(whole).max()
    assert np.abs(parts - whole).max() < 1e-11 * size
    assert np.abs(short - whole).max() > 1e-9 * size


@pytest.mark.parametrize("shipped", [False, True])
def test_synthesis_by_window_equals_the_whole(shipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = double_model(networks_of(copy_of(tiny_codec())))
    channels, base_channels = 16, 8
    if shipped:
        channels, base_channels = ARCHITECTURES["small"].picture.channels, 48
        model.networks = One(lively(PictureSynthesis()))
    rng = np.random.default_rng(1)
    base = BaseLatents(rng.integers(-4000, 4000, (1, base_channels, 3, 12)), (190, 40), (379, 80), 500)
    y = rng.normal(size=(1, channels, 5, 24))
    whole = synthesise(model, y, base, 600)
    boxes = [(0, 0, 379, 80), (0, 0, 1, 1), (378, 79, 379, 80), (33, 15, 240, 49), (100, 0, 101, 80), (16, 16, 32, 32)]
    crops = [synthesise(model, y, base, 600, box) for box in boxes]
    assert all(np.array_equal(crop, whole[b[1] : b[3], b[0] : b[2]]) for crop, b in zip(crops, boxes, strict=True))
    monkeypatch.setattr(synthesis, "WINDOW", 3)
    crops = [synthesise(model, y, base, 600, box) for box in boxes]
    assert all(np.array_equal(crop, whole[b[1] : b[3], b[0] : b[2]]) for crop, b in zip(crops, boxes, strict=True))
    parts = synthesise(model, y, base, 600)
    monkeypatch.setattr(synthesis, "PICTURE_HALO", 1)
    short = synthesise(model, y, base, 600)
    assert whole.shape == (80, 379, 3)
    assert np.array_equal(parts, whole)
    assert not np.array_equal(short, whole)


def test_base_analysis_by_window_through_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the encoder calls it, padding and cropping included."""
    model = double_model(networks_of(copy_of(tiny_codec())))
    x = picture_array(noise(333, 177, 3))
    for scale in (8, 5):
        whole = model.analyse_base(x, scale)
        monkeypatch.setattr(model_module, "WINDOW", 4)
        np.testing.assert_allclose(model.analyse_base(x, scale), whole, rtol=1e-10, atol=1e-10)
        assert whole.shape[2:] == (ceil(ceil(177 * scale / 8) / 16), ceil(ceil(333 * scale / 8) / 16))
        monkeypatch.undo()


def test_padding_repeats_the_border() -> None:
    """What lies outside the picture is its last row and column: a flat picture stays flat up to its edge."""
    model = model_of(tiny_codec())

    def flat(height: int, width: int) -> npt.NDArray[np.float32]:
        return np.full((1, 3, height, width), 90, np.float32)

    assert np.array_equal(model.analyse_picture(flat(50, 70)), model.analyse_picture(flat(64, 80)))
    assert np.array_equal(model.analyse_base(flat(50, 70), 8), model.analyse_base(flat(64, 96), 8)[:, :, :4, :5])


def test_tiles_leave_no_seams() -> None:
    """Coding noise near a tile's border is like coding noise elsewhere."""
    codec = tiny_codec()
    model = model_of(codec)
    picture = noise(1200, 48, 5)
    file = codec.encode(picture, quality=100, base_quality=100)
    assert file.enhancement is not None
    assert len(file.enhancement.tiles) == 2
    base = model.decode_base(file.coded_base)
    exact = synthesise(model, model.analyse_picture(picture_array(picture)), base, 1023)
    coded = model.decode_picture(file.enhancement, base)
    error = np.abs(coded.astype(float) - exact).mean((0, 2))
    at_border, elsewhere = error[1008:1040].mean(), error[900:1150].mean()
    assert elsewhere > 0
    assert at_border < 1.5 * elsewhere


def test_preview_by_bands_equals_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(tiny_codec())
    base = BaseLatents(np.random.default_rng(0).integers(-4000, 4000, (1, 8, 4, 7)), (100, 60), (231, 131), 500)
    (small,) = (torch.from_numpy(x[:, :, :15, :25]).clamp(0, 255) for x in model.networks.run("preview", base.y_hat()))
    wanted = nn.functional.interpolate(small, (131, 231), mode="bilinear", align_corners=False)[0]
    whole = model.decode_preview(base)
    assert np.abs(whole.transpose(2, 0, 1) - wanted.numpy()).max() < 0.51
    # 57 px are 14.25 preview pixels: the last row is cut, the others stay where they belong.
    cut = model.decode_preview(BaseLatents(base.fixed, (100, 57), (200, 114), 500))
    full = model.decode_preview(BaseLatents(base.fixed, (100, 60), (200, 120), 500))
    assert np.abs(cut[:100].astype(int) - full[:100]).max() <= 1
    monkeypatch.setattr(synthesis, "_BAND_PIXELS", 1000)
    assert np.array_equal(model.decode_preview(base), whole)


@pytest.mark.parametrize(("source", "coded"), [(100, 100), (1030, 129), (640, 400), (17, 3), (65535, 8192)])
def test_base_positions_follow_the_centres(source: int, coded: int) -> None:
    count, grid = -(-source // 16), -(-coded // 16)
    nearest = nearest_rows(count, 0, source, coded, grid)
    position = base_positions(count, 0, source, coded)
    for i in range(0, count, max(1, count // 50)):
        centre = (16 * i + 8) * coded / source / 16  # of the enhancement position, in base positions from the edge
        assert position[i].item() == pytest.approx(centre - 0.5, abs=2e-3)
        assert nearest[i].item() == min(int(centre + 1e-9), grid - 1)
    assert np.array_equal(nearest_rows(count - 1, 1, source, coded, grid), nearest[1:])
    assert np.array_equal(base_positions(count - 1, 1, source, coded), position[1:])


def test_samples_of_the_base_are_bilinear_with_repeated_edges() -> None:
    y = np.array([[[[0.0, 10.0], [20.0, 30.0]]]], np.float32)
    at = np.array([-0.5, 0.0, 0.25, 1.0, 1.5], np.float32), np.array([0.5, 5.0], np.float32)
    wanted = [[5.0, 10.0], [5.0, 10.0], [10.0, 15.0], [25.0, 30.0], [25.0, 30.0]]
    assert sample_grid(y, at)[0, 0].tolist() == wanted


def test_training_samples_the_base_as_the_codec_does() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(1, 3, 5, 7)).astype(np.float32)
    at = rng.uniform(-1, 6, 9).astype(np.float32), rng.uniform(-1, 8, 4).astype(np.float32)
    learned = sample_base(torch.from_numpy(y), (torch.from_numpy(at[0]), torch.from_numpy(at[1])))
    assert np.array_equal(sample_grid(y, at), learned.numpy())


@pytest.mark.parametrize(
    ("old", "new"),
    [((64, 96), (40, 60)), ((77, 131), (10, 17)), ((50, 31), (44, 31)), ((50, 31), (100, 62)), ((64, 96), (5, 200))],
)
def test_resizing_is_that_of_torch(old: tuple[int, int], new: tuple[int, int]) -> None:
    """To within float32 rounding: the networks were trained on pictures that torch resized."""
    x = picture_array(noise(old[1], old[0]))
    wanted = nn.functional.interpolate(torch.from_numpy(x), new, mode="bilinear", antialias=True)[0].numpy()
    assert np.abs(resized(x[0], new[1], new[0]) - wanted).max() < 1e-4
