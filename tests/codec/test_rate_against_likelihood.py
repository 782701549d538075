"""Bytes of real streams against the likelihood of their symbols under the float model.

The float model is what was trained: Gaussians at the networks' own means and scales, before scales are rounded to rows
of the table and clamped to its range, for every symbol, those included that are skipped and cost nothing in the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from codec_tools import Drawn, Floats, Recorder, model_of, noise
from PIL import Image
from scipy.special import log_ndtr
from tiny import tiny_codec

import vcm
from vcm.api import Codec
from vcm.codecs.scalable import latent_coder, passes
from vcm.codecs.scalable.fixed_point import SCALE_ORIGIN, SCALE_UNIT
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.model import tile_slices
from vcm.entropy import SKIP_INDEX
from vcm.errors import ModelNotFoundError

MOST_BITS = -np.log2(1e-9)
"""The float model's price of a symbol far out: ``gaussian_bits`` takes no mass for less than 1e-9."""
QUALITIES = (5, 25, 50, 75, 95)


def bits(symbols: npt.NDArray[np.float64], sigma: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``-log2`` of the mass of N(0, sigma) on [s - 1/2, s + 1/2], both tails on the small side."""
    high, low = log_ndtr((0.5 - np.abs(symbols)) / sigma), log_ndtr((-0.5 - np.abs(symbols)) / sigma)
    return -(high + np.log1p(-np.exp(low - high))) / np.log(2)


@dataclass
class Scales:
    """Log scales as the networks gave them, in the order of the symbols; caught on their way to the table."""

    steps: list[npt.NDArray[np.int32]]

    def sigma(self) -> npt.NDArray[np.float64]:
        return np.exp2(np.concatenate([s.reshape(-1) for s in self.steps]) / SCALE_UNIT - SCALE_ORIGIN)


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> Scales:
    seen, table_index = Scales([]), passes.table_index

    def recording(scale: npt.NDArray[np.int32], gain: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        seen.steps.append(scale + gain)
        return table_index(scale, gain)

    monkeypatch.setattr(latent_coder, "table_index", recording)
    monkeypatch.setattr(passes, "table_index", recording)
    monkeypatch.setattr(latent_coder, "predict", passes.Reference.predict)  # the compiled one does not pass by here
    return seen


@dataclass(frozen=True)
class Rate:
    """Of one layer of one file."""

    payload: int
    tiles: int
    likelihood: float  # bits
    skipped: float  # share of the symbols

    @property
    def excess(self) -> float:
        """Bytes over the likelihood, over what is allowed: 0 and 1 are the ends of what passes."""
        return (self.payload - self.likelihood / 8) / (0.01 * self.likelihood / 8 + 8 * self.tiles)


def priced(coder: LatentCoder, streams: list[bytes], sizes: list[tuple[int, int]], quality: int,
           conditions: list[Floats | None], scales: Scales) -> Rate:  # fmt: skip
    """Price the symbols that streams hold."""
    scales.steps.clear()
    symbols, indexes = [], []
    for stream, size, condition in zip(streams, sizes, conditions, strict=True):
        reader = Recorder(stream)
        coder.walk(reader, None, size, quality, condition)
        reader.decoder.finish()
        symbols += reader.symbols
        indexes += reader.indexes
    priced_bits = bits(_joined(symbols).astype(float), scales.sigma())
    total = np.minimum(priced_bits, MOST_BITS).sum()
    skipped = float((_joined(indexes) < SKIP_INDEX).mean())
    return Rate(sum(map(len, streams)), len(streams), float(total), skipped)


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate([part.reshape(-1) for part in parts])


def rates(codec: Codec, picture: npt.NDArray[np.uint8], quality: float, scales: Scales) -> tuple[Rate, Rate]:
    """Base and enhancement of a picture."""
    model = model_of(codec)
    file = codec.encode(picture, quality=quality, base_quality=quality)
    assert file.enhancement is not None
    base = model.decode_base(file.coded_base)
    out = []
    for coder, layer, extent in (
        (model.base, file.base_layer, base.coded_size),
        (model.picture, file.enhancement, base.source_size),
    ):
        slices = tile_slices(*extent)
        sizes = [(r.stop - r.start, c.stop - c.start) for r, c in slices]
        conditions: list[Floats | None] = [None] * len(slices)
        if coder is model.picture:
            features = coder.base_features(base.fixed)
            conditions = [model.base_features(base, r, c, features) for r, c in slices]
        out.append(priced(coder, list(layer.tiles), sizes, layer.quality_index, conditions, scales))
    return out[0], out[1]


def test_the_price_of_a_symbol_is_right() -> None:
    """Masses sum to one, and agree with an integral of the density."""
    for sigma in (0.05, 0.3, 1.0, 7.0):
        s = np.arange(-200, 201, dtype=np.float64)
        assert np.exp2(-bits(s, np.full_like(s, sigma))).sum() == pytest.approx(1, abs=1e-12)
    x = np.linspace(1.5, 2.5, 100_001)
    density = np.exp(-0.5 * (x / 0.7) ** 2) / (0.7 * np.sqrt(2 * np.pi))
    mass = float(((density[1:] + density[:-1]) / 2).sum() * (x[1] - x[0]))
    assert bits(np.array([2.0]), np.array([0.7]))[0] == pytest.approx(-np.log2(mass), abs=1e-7)
    assert bits(np.array([30.0]), np.array([0.5]))[0] > 2000, "no underflow far out"


@pytest.mark.parametrize("quality", [0, 200, 400])  # above, scales of these networks leave the table
def test_symbols_of_the_model_cost_what_the_model_says(quality: int, scales: Scales) -> None:
    """Symbols drawn from the model itself, but for the rounding of its scales."""
    model, size = model_of(tiny_codec()), (40, 48)
    features = model.picture.base_features(np.random.default_rng(0).integers(-4000, 4000, (1, 8, *size)))
    for coder, condition in ((model.base, None), (model.picture, features)):
        drawn = Drawn(quality, far=0)
        coder.walk(drawn, None, size, quality, condition)
        rate = priced(coder, [drawn.encoder.finish()], [size], quality, [condition], scales)
        assert rate.likelihood > 8 * 1000
        assert abs(rate.excess) < 1, rate


@pytest.mark.parametrize("quality", QUALITIES)
def test_tiny_files_cost_what_the_model_says(quality: float, scales: Scales) -> None:
    for rate in rates(tiny_codec(), noise(1100, 70, 2), quality, scales):
        assert rate.likelihood > 0
        assert rate.excess < 1, rate


def kodak() -> list[Path]:
    folder = os.environ.get("VCM_TEST_KODAK", "")
    return sorted(p for p in Path(folder).iterdir() if p.suffix in (".png", ".webp")) if folder else []


@pytest.mark.slow
@pytest.mark.skipif(not kodak(), reason="VCM_TEST_KODAK names no folder of pictures")
@pytest.mark.timeout(3600)
def test_kodak_files_cost_what_the_model_says(scales: Scales, capsys: pytest.CaptureFixture[str]) -> None:
    """Every layer of every picture at five qualities: payload within 1 % and 8 bytes a tile of the likelihood.

    ``VCM_TEST_KODAK`` is the folder; ``VCM_TEST_MODEL`` a model's name or path, ``vcm-s`` by default.
    """
    try:
        codec = vcm.load(os.environ.get("VCM_TEST_MODEL", "vcm-s"))
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    wrong = []
    for quality in QUALITIES:
        sums = np.zeros((2, 3))
        for path in kodak():
            found = rates(codec, np.asarray(Image.open(path).convert("RGB")), quality, scales)
            for i, (layer, rate) in enumerate(zip(("base", "enhancement"), found, strict=True)):
                sums[i] += rate.payload, rate.likelihood / 8, rate.skipped / len(kodak())
                # Below the likelihood by more, it may be: an escape is cheaper than a Gaussian's price far out.
                if rate.excess > 1 or rate.payload < 0.96 * rate.likelihood / 8:
                    wrong.append(f"{path.name} {layer} at {quality}: {rate}")
        with capsys.disabled():
            for layer, (payload, likelihood, skipped) in zip(("base", "enhancement"), sums, strict=True):
                print(  # noqa: T201
                    f"\nquality {quality:3} {layer:12} payload {payload:9.0f} likelihood {likelihood:11.1f} bytes "
                    f"({100 * (payload / likelihood - 1):+.3f} %), skipped {100 * skipped:.1f} %", end=""
                )  # fmt: skip
    assert not wrong, "\n".join(wrong)
