"""Codecs whose picture path computes in bytes or bfloat16: the same files and symbols, nearly the same pixels."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from codec_tools import model_of, picture_fixed
from skimage import data
from tiny import TINY_WEIGHTS

import vcm
from vcm.api import Codec
from vcm.codecs.scalable.onnx_bytes import dead_leaves
from vcm.errors import OptionError
from vcm.runtime.onnx import narrow
from vcm.runtime.onnx.graph import Graph
from vcm.runtime.onnx.narrow import Bytes, Watch, bytes_are_fast
from vcm.runtime.onnx.sessions import OnnxNetworks

fast = pytest.mark.skipif(not bytes_are_fast(), reason="this processor does not multiply bytes")


@cache
def codec(precision: Any, name: Any = "vcm-s", backend: Any = "onnx") -> Codec:
    return vcm.load(name, backend=backend, threads=1, precision=precision)


def psnr(shown: Any, pixels: npt.NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((np.asarray(shown, float) - pixels) ** 2)))


@fast
def test_a_convolution_of_bytes_is_near_the_same_in_float32() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(0, 0.1, (8, 6, 3, 3)).astype(np.float32), rng.normal(0, 1, 8).astype(np.float32)
    weight[:, 3] *= 50  # channels of very different size
    x = rng.normal(0, 1, (1, 6, 12, 14)).astype(np.float32)
    x[:, 3] /= 50
    for leaky in (False, True):
        for stride in (1, 2):
            watch = Watch()

            def run(how: Watch | Bytes, leaky: bool = leaky, stride: int = stride) -> tuple[Any, ...]:
                g = Graph("test")
                y = how.conv(g, g.input("x", "float32", (1, 6, "h", "w")), weight, bias, "a", stride, leaky)
                g.output(g.leaky(y) if leaky else y, "y", "float32", (1, 8, "H", "W"))
                return OnnxNetworks({"test": g.model}, threads=1).run("test", x)

            seen = run(watch)
            (y,) = run(Bytes(watch.grids(seen)))
            assert y.shape == seen[-1].shape
            assert np.sqrt(((y - seen[-1]) ** 2).mean()) < 0.015 * seen[-1].std()


@fast
def test_pictures_cost_hundredths_of_a_decibel() -> None:
    pixels = np.ascontiguousarray(data.astronaut()[:384, :448])
    plain, narrow_one = codec("float32"), codec("int8")
    for quality in (20, 80):
        file, other = plain.encode(pixels, quality=quality), narrow_one.encode(pixels, quality=quality)
        assert other.base_layer == file.base_layer
        assert other.total_bytes == pytest.approx(file.total_bytes, rel=0.01)
        expected = psnr(plain.decode(file), pixels)
        assert psnr(narrow_one.decode(file), pixels) == pytest.approx(expected, abs=0.06)
        assert psnr(plain.decode(other), pixels) == pytest.approx(expected, abs=0.06)
        assert np.any(np.asarray(narrow_one.decode(file)) != np.asarray(plain.decode(file)))
        assert np.array_equal(picture_fixed(model_of(narrow_one), other), picture_fixed(model_of(plain), other))
        assert narrow_one.detect(other) == plain.detect(file)


@fast
def test_the_precision_goes_with_the_codec() -> None:
    pixels = np.ascontiguousarray(data.astronaut()[:96, :128])
    one = codec("int8", TINY_WEIGHTS)
    file = one.encode(pixels)
    for other in (pickle.loads(pickle.dumps(one)), vcm.load(TINY_WEIGHTS, threads=2, precision="int8")):
        assert other.encode(pixels).to_bytes() == file.to_bytes()
        assert np.array_equal(other.decode(file), one.decode(file))
        assert [d.get().to_bytes() for d in other.encode_many([pixels] * 3, jobs=2)] == [file.to_bytes()] * 3


def test_bfloat16_is_for_torch() -> None:
    pixels = np.ascontiguousarray(data.astronaut()[:96, :128])
    plain, half = codec("float32", TINY_WEIGHTS, "torch"), codec("bfloat16", TINY_WEIGHTS, "torch")
    file = plain.encode(pixels)
    shown, other = np.asarray(plain.decode(file), int), np.asarray(half.decode(file), int)
    assert np.abs(shown - other).max() > 0
    assert np.abs(shown - other).mean() < 2
    assert half.encode(pixels).base_layer == file.base_layer
    assert np.array_equal(picture_fixed(model_of(half), file), picture_fixed(model_of(plain), file))
    assert pickle.loads(pickle.dumps(half)).encode(pixels).to_bytes() == half.encode(pixels).to_bytes()


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="no such precision: expected float32, int8, bfloat16, found half"):
        vcm.load(TINY_WEIGHTS, precision="half")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="int8 needs another backend: expected onnx, found torch"):
        vcm.load(TINY_WEIGHTS, backend="torch", precision="int8")
    with pytest.raises(OptionError, match="bfloat16 needs another backend: expected torch, found onnx"):
        vcm.load(TINY_WEIGHTS, precision="bfloat16")
    monkeypatch.setattr(narrow, "bytes_are_fast", lambda: False)
    with pytest.raises(OptionError, match="needs a processor that multiplies bytes"):
        vcm.load(TINY_WEIGHTS, precision="int8")


def test_the_picture_that_bytes_are_found_on_is_always_the_same() -> None:
    x = dead_leaves(64)
    assert np.array_equal(x, dead_leaves(64))
    assert (x.dtype, x.shape) == (np.float32, (1, 3, 64, 64))
    assert np.array_equal(x, np.rint(x))
    assert (x.min(), x.max()) == (0, 255)
