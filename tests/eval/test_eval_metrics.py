"""Each metric against an implementation written from its paper, a value from other people's code, or a closed form."""

from __future__ import annotations

import math
import subprocess

import numpy as np
import pytest
from scipy import ndimage
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from vcm.errors import ImageError, MissingDependencyError, OptionError
from vcm.eval.metrics import distortion as m
from vcm.eval.metrics import vmaf as vmaf_module
from vcm.eval.metrics.distortion import METRICS, luma_bt709, metric

NAMES = [row.name for row in METRICS]
NOT_SYMMETRIC = {"vif", "iw_ssim", "vmaf"}


def quantised(picture, step):
    return np.minimum(picture.astype(int) // step * step + step // 2, 255).astype(np.uint8)


def noisy(picture, sigma):
    noise = np.random.default_rng(1).normal(0, sigma, picture.shape)
    return np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)


ASTRONAUT = data.astronaut()
COFFEE = data.coffee()[:399, :597]
PAIRS = {
    "quantised": (ASTRONAUT, quantised(ASTRONAUT, 32)),
    "blocks": (ASTRONAUT, np.kron(ASTRONAUT[2::4, 2::4], np.ones((4, 4, 1), np.uint8))),
    "odd size": (COFFEE, quantised(COFFEE, 24)),
}
SMALL = np.ascontiguousarray(ASTRONAUT[20:212, 130:322])  # a face, 192x192


# --- the table -------------------------------------------------------------------------------------------------------


def test_table():
    assert len(set(NAMES)) == len(NAMES)
    assert sum(row.jpeg_ai for row in METRICS) == 7
    assert [row.name for row in METRICS if not row.higher_is_better] == ["nlpd"]
    assert metric("vif").function is m.vif
    with pytest.raises(OptionError, match="expected psnr, psnr_y"):
        metric("psrn")


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_installed_here(name):
    assert metric(name).missing() == ()


def test_missing_is_said(monkeypatch):
    monkeypatch.setattr(m, "find_ffmpeg", lambda: None)
    monkeypatch.setattr(vmaf_module, "find_ffmpeg", lambda: None)
    assert metric("vmaf").missing() == ("ffmpeg+libvmaf",)
    with pytest.raises(MissingDependencyError, match="libvmaf"):
        m.vmaf(SMALL, SMALL)
    monkeypatch.setitem(__import__("sys").modules, "piq", None)
    with pytest.raises(MissingDependencyError, match="piq"):
        m.vif(SMALL, SMALL)


# --- what holds for all ----------------------------------------------------------------------------------------------

AT_EQUALITY = {"nlpd": 0.0, **dict.fromkeys(("psnr", "psnr_y", "psnr_hvs", "psnr_hvs_m"), 100.0)}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "vmaf"])
def test_equal_pictures(name):
    assert metric(name)(SMALL, SMALL.copy()) == pytest.approx(AT_EQUALITY.get(name, 1.0), abs=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_more_noise_is_worse(name):
    values = [metric(name)(SMALL, noisy(SMALL, s)) for s in (2, 6, 18, 54)]
    worse = values if metric(name).higher_is_better else values[::-1]
    assert worse == sorted(worse, reverse=True)
    assert len(set(values)) == 4


@pytest.mark.parametrize("name", NAMES)
def test_symmetry(name):
    there, back = metric(name)(SMALL, noisy(SMALL, 20)), metric(name)(noisy(SMALL, 20), SMALL)
    if name in NOT_SYMMETRIC:
        assert there != pytest.approx(back, rel=1e-4)
    else:
        assert there == pytest.approx(back, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_refusals(name):
    row = metric(name)
    with pytest.raises(OptionError, match="one size"):
        row(SMALL, SMALL[:-1])
    with pytest.raises(OptionError, match="uint8"):
        row(SMALL.astype(np.float32), SMALL)
    with pytest.raises(OptionError, match=r"\(H, W, 3\)"):
        row(SMALL[..., 0], SMALL[..., 0])
    if row.min_side > 1:
        small = SMALL[: row.min_side - 1]
        with pytest.raises(ImageError, match=f"sides >= {row.min_side}"):
            row(small, small)
    smallest = SMALL[: row.min_side, : row.min_side]
    assert math.isfinite(row(smallest, quantised(smallest, 16)))


def test_colour_counts_only_where_it_should():
    """A change of colour that leaves every luma sample equal moves what reads RGB and nothing else."""
    levels = np.arange(120, 184, dtype=np.uint8)
    greys = np.repeat(levels[:, None], 3, 1)
    tints = greys.copy()
    for level in range(64):
        steps = ((r, g, b) for b in range(24, 40) for g in range(-6, 0) for r in range(-3, 4))
        candidates = (greys[level] + np.array(s) for s in steps)
        same = (c for c in candidates if luma_bt709(c[None, None]) == luma_bt709(greys[level][None, None]))
        tints[level] = next(same)
    ramp = np.indices((192, 192)).sum(0) % 64
    for row in METRICS:
        unmoved = row(greys[ramp], tints[ramp]) == row(greys[ramp], greys[ramp])
        assert unmoved == (row.components != "RGB"), row.name


# --- PSNR ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_psnr_equals_skimage(pair):
    assert m.psnr(*pair) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=255), abs=1e-9)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_psnr_y_equals_skimage_on_bt709(pair):
    weights = np.array([0.2126, 0.7152, 0.0722])
    planes = [np.round(np.round(p * (1023 / 255)) @ weights) for p in pair]
    assert m.psnr_y(*pair) == pytest.approx(peak_signal_noise_ratio(*planes, data_range=1023), abs=1e-3)
    unrounded = peak_signal_noise_ratio(*(p @ weights for p in pair), data_range=255)
    assert m.psnr_y(*pair) == pytest.approx(unrounded, abs=0.02)
    bt601 = peak_signal_noise_ratio(*(p @ np.array([0.299, 0.587, 0.114]) for p in pair), data_range=255)
    assert abs(unrounded - bt601) > 0.03


def test_psnr_closed_forms():
    black = np.zeros((8, 8, 3), np.uint8)
    assert m.psnr(black, black + 255) == pytest.approx(0.0)
    red = black.copy()
    red[..., 0] = 255
    assert m.psnr(black, red) == pytest.approx(10 * math.log10(3))
    assert m.psnr_y(black, red) == pytest.approx(-20 * math.log10(0.2126), abs=0.02)
    assert luma_bt709(black + 255).max() == 1.0


# --- SSIM family, written from the papers ----------------------------------------------------------------------------

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def windowed(x):
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    g /= g.sum()
    return ndimage.correlate1d(ndimage.correlate1d(x, g, axis=0), g, axis=1)[5:-5, 5:-5]


def ssim_maps(x, y):
    c1, c2 = 0.01**2, 0.03**2
    mx, my = windowed(x), windowed(y)
    vx, vy, cov = windowed(x * x) - mx**2, windowed(y * y) - my**2, windowed(x * y) - mx * my
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * cov + c2) / (vx + vy + c2)


def wang_2003(x, y):
    total = 1.0
    for level, weight in enumerate(WEIGHTS):
        luminance, contrast = ssim_maps(x, y)
        total *= (contrast.mean() if level < 4 else (luminance * contrast).mean()) ** weight
        x, y = ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in (x, y))
    return total


@pytest.mark.parametrize("name", ["quantised", "blocks"])
def test_ms_ssim_equals_the_paper(name):
    a, b = PAIRS[name]
    assert m.ms_ssim_y(a, b) == pytest.approx(wang_2003(luma_bt709(a), luma_bt709(b)), abs=2e-5)
    channels = [wang_2003(a[..., c] / 255, b[..., c] / 255) for c in range(3)]
    assert m.ms_ssim(a, b) == pytest.approx(np.mean(channels), abs=2e-5)


def laplacian_pyramid(x):
    """Four band-pass levels and the low-pass, with Burt and Adelson's binomial filter and mirrored borders."""
    f = np.array([1, 4, 6, 4, 1]) / 16 * math.sqrt(2)
    bands = []
    for _ in range(4):
        low = ndimage.correlate1d(ndimage.correlate1d(x, f, 0, mode="mirror"), f, 1, mode="mirror")[::2, ::2]
        spread = np.zeros_like(x)
        spread[::2, ::2] = low
        bands.append(x - ndimage.correlate1d(ndimage.correlate1d(spread, f, 0, mode="mirror"), f, 1, mode="mirror"))
        x = low
    return [*bands, x]


def doubled(x):
    """The parent band on its child's grid: four-fold bilinear, extrapolated by one pixel, every second sample."""

    def matrix(n):
        at = np.clip((np.arange(4 * n - 3) + 0.5) * n / (4 * n - 3) - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), n - 2)
        out = np.zeros((4 * n - 3, n))
        out[np.arange(4 * n - 3), low] = 1 - (at - low)
        out[np.arange(4 * n - 3), low + 1] = at - low
        return out

    big = matrix(x.shape[0]) @ x @ matrix(x.shape[1]).T
    for axis in (0, 1):
        first, second = np.take(big, [0], axis), np.take(big, [1], axis)
        last, before = np.take(big, [-1], axis), np.take(big, [-2], axis)
        big = np.concatenate([2 * first - second, big, 2 * last - before], axis)
    return big[::2, ::2]


def information(reference, distorted, parent):
    """Mutual information of a Gaussian scale mixture of 3x3 neighbours (and parent) before and after, each position."""
    noise = 0.4

    def mean(x):
        return ndimage.uniform_filter(x, 3, mode="constant")

    mr, md = mean(reference), mean(distorted)
    vr = np.maximum(mean(reference**2) - mr**2, 0)
    vd = np.maximum(mean(distorted**2) - md**2, 0)
    cov = mean(reference * distorted) - mr * md
    gain = np.where((vr > 0) & (vd > 0), cov / (vr + 1e-15), 0)
    error = np.where(vd > 0, np.where(vr > 0, vd - cov / (vr + 1e-15) * cov, vd), 0)
    h, w = reference.shape
    columns = [reference[1 + dy : h - 1 + dy, 1 + dx : w - 1 + dx].ravel() for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    if parent is not None:
        columns.append(doubled(parent)[1 : h - 1, 1 : w - 1].ravel())
    y = np.stack(columns, axis=1)
    covariance = y.T @ y / len(y)
    values = np.linalg.eigvalsh(covariance)
    scale = ((y @ np.linalg.inv(covariance)) * y).sum(1).reshape(h - 2, w - 2) / y.shape[1]
    gain, error = gain[1:-1, 1:-1], error[1:-1, 1:-1]
    total = sum(np.log2(1 + ((error + (1 + gain**2) * noise) * scale * v + noise * error) / noise**2) for v in values)
    return total[4:-4, 4:-4]


def wang_li_2011(reference, distorted):
    r, d = laplacian_pyramid(reference * 255), laplacian_pyramid(distorted * 255)
    total = 1.0
    for level, weight in enumerate(WEIGHTS):
        luminance, contrast = ssim_maps(r[level] / 255, d[level] / 255)
        if level == 4:
            total *= (luminance * contrast).mean() ** weight
        else:
            w = information(r[level], d[level], r[level + 1] if level < 3 else None)
            total *= abs((contrast * w).sum() / w.sum()) ** weight
    return total


@pytest.mark.parametrize("name", ["quantised", "blocks"])
def test_iw_ssim_equals_the_paper(name):
    a, b = (p[:256, 100:356] for p in PAIRS[name])
    expected = wang_li_2011(luma_bt709(a), luma_bt709(b))
    assert m.iw_ssim(a, b) == pytest.approx(expected, abs=2e-5)
    swapped = wang_li_2011(luma_bt709(b), luma_bt709(a))
    assert abs(expected - swapped) > 1e-4  # the order of the arguments was checked


def test_iw_ssim_of_a_flat_picture_is_refused():
    flat = np.full((200, 200, 3), 90, np.uint8)
    with pytest.raises(ImageError, match="IW-SSIM is undefined"):
        m.iw_ssim(flat, flat)


# --- values from other people's code ---------------------------------------------------------------------------------

# On PAIRS: VIFs and FSIM of IQA_pytorch 0.1 (the package inside the JPEG AI software; its two calls of torch.rfft and
# torch.ifft, gone from torch, replaced by torch.fft), NLPD of pyiqa 0.1.16. On the same luma, or RGB for FSIM.
PINNED = {
    "vif": (0.543522, 0.267551, 0.576769),
    "fsim": (0.949766, 0.907256, 0.969166),
    "nlpd": (0.2081413, 0.3997366, 0.1669164),
}


@pytest.mark.parametrize("name", PINNED)
def test_pinned(name):
    for pair, expected in zip(PAIRS.values(), PINNED[name], strict=True):
        assert metric(name)(*pair) == pytest.approx(expected, abs=1e-6 if name == "nlpd" else 3e-5)


def test_vif_closed_form():
    """Contrast halved about the mean, no error: gain 1/2 and no loss but the eye's noise. Raised: more than 1."""
    wave = 128 + 60 * np.sin(np.indices((128, 128)).sum(0) / 3)
    picture = np.repeat(np.round(wave)[..., None], 3, 2).astype(np.uint8)
    half = np.round((picture - 128.0) / 2 + 128).astype(np.uint8)
    assert m.vif(picture, half) < 0.95
    assert m.vif(half, picture) > 1.05


# --- PSNR-HVS --------------------------------------------------------------------------------------------------------

# Contrast sensitivity of some of the 64 DCT terms, from Egiazarian et al. 2006.
CSF = {(0, 0): 1.608443, (0, 1): 2.339554, (1, 0): 2.144591, (3, 3): 0.887417, (0, 7): 0.421887, (7, 0): 0.357432}


@pytest.mark.parametrize("term", CSF)
def test_psnr_hvs_weights_of_single_dct_terms(term):
    """An error of one DCT term on flat grey is weighted by that term's sensitivity, and nothing masks it."""
    k = np.arange(8)
    row, column = (np.cos(np.pi * (2 * k + 1) * t / 16) for t in term)
    pattern = np.outer(row, column) * 40
    grey = np.full((64, 64, 3), 128, np.uint8)
    error = np.round(np.tile(pattern, (8, 8)))
    worse = (grey + error[..., None]).astype(np.uint8)
    expected = -10 * math.log10(np.mean((error / 255) ** 2) * CSF[term] ** 2)
    assert m.psnr_hvs(grey, worse) == pytest.approx(expected, abs=0.1)
    if term != (0, 0):
        assert m.psnr_hvs_m(grey, worse) >= m.psnr_hvs(grey, worse) - 1e-6


def test_texture_masks():
    rough = noisy(np.full((128, 128, 3), 128, np.uint8), 40)
    flat = np.full((128, 128, 3), 128, np.uint8)
    gains = [m.psnr_hvs_m(p, q) - m.psnr_hvs(p, q) for p, q in ((flat, noisy(flat, 4)), (rough, noisy(rough, 4)))]
    assert gains[1] > gains[0] + 3


def test_psnr_hvs_prints_nothing(capsys):
    m.psnr_hvs_m(SMALL, noisy(SMALL, 4))
    assert capsys.readouterr().out == ""


# --- VMAF ------------------------------------------------------------------------------------------------------------


def test_vmaf_equals_ffmpeg_on_8_bit_files(tmp_path):
    """The same scores by another road: grey pictures as 8-bit YUV4MPEG files, whose luma is the picture itself."""
    reference = np.repeat(SMALL[..., 1:2], 3, axis=2)
    for name, worse in (("q", quantised(reference, 64)), ("n", noisy(reference[..., :1], 8).repeat(3, axis=2))):
        files = []
        for role, picture in (("d", worse), ("r", reference)):
            files.append(tmp_path / f"{name}{role}.y4m")
            height, width = picture.shape[:2]
            header = f"YUV4MPEG2 W{width} H{height} F1:1 Ip A1:1 C444\nFRAME\n".encode()
            files[-1].write_bytes(header + picture[..., 0].tobytes() + bytes([128]) * (2 * height * width))
        inputs = ["-i", files[0], "-i", files[1]]
        command = [vmaf_module.find_ffmpeg(), "-nostdin", *inputs, "-lavfi", "libvmaf", "-f", "null", "-"]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        expected = float(log.split("VMAF score:")[1].split()[0])
        assert m.vmaf(reference, worse) == pytest.approx(expected, abs=0.1)
        assert abs(m.vmaf(worse, reference) - expected) > 0.2  # reference and distorted are not swapped


def test_vmaf_of_equal_pictures_is_near_its_top():
    assert 95 < m.vmaf(ASTRONAUT, ASTRONAUT) <= 100


def test_an_ffmpeg_that_cannot_be_run_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "ffmpeg"
    broken.write_text("no program")
    monkeypatch.setattr(vmaf_module, "find_ffmpeg", lambda: str(broken))
    with pytest.raises(ImageError, match=r"ffmpeg cannot be run: found Permission denied"):
        m.vmaf(SMALL, SMALL)


def test_vmaf_failure_is_one_line(monkeypatch):
    monkeypatch.setattr(vmaf_module, "MODEL", "no_such_model")
    with pytest.raises(ImageError, match="no VMAF") as caught:
        m.vmaf(SMALL, SMALL)
    assert "\n" not in str(caught.value)
