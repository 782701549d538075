"""CompressAI's models with initialised weights. Skipped where compressai is not installed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from vcm.codecs.compressai_models import CompressAiCodec, _leb128, _streams
from vcm.errors import ImageError, MissingDependencyError, ModelNotFoundError, OptionError, WeightsError


@pytest.fixture(scope="module")
def codec() -> CompressAiCodec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies' deprecations
        try:
            return CompressAiCodec("bmshj2018-hyperprior", None)
        except MissingDependencyError as error:
            pytest.skip(str(error))


def _image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)


def test_round_trip_of_an_odd_size(codec: CompressAiCodec) -> None:
    data = codec.compress(_image(), 1)
    decoded = codec.decompress(data)
    assert decoded.shape == (70, 101, 3)
    assert decoded.dtype == np.uint8
    assert data == codec.compress(_image(), 1)


def test_damaged_files_are_image_errors(codec: CompressAiCodec) -> None:
    data = codec.compress(_image(), 1)
    for bad in (b"", data[:5], data[:-1], data + b"x"):
        with pytest.raises(ImageError):
            codec.decompress(bad)


def test_cost_counts_both_sides(codec: CompressAiCodec) -> None:
    info = codec.describe()
    assert info.complexity is not None
    assert info.complexity.parameters is not None
    assert info.complexity.encode_kmac_per_px > 10
    assert info.complexity.decode_kmac_per_px > 10
    assert dict(info.settings)["weights"] == "initialised, seed = index"


def test_weights_by_path(codec: CompressAiCodec, tmp_path: Path) -> None:
    state = codec._network(1).state_dict()
    torch.save({"state_dict": state}, tmp_path / "h1.pth")
    loaded = CompressAiCodec("bmshj2018-hyperprior", str(tmp_path / "h{quality}.pth"))
    assert loaded.compress(_image(), 1) == codec.compress(_image(), 1)
    with pytest.raises(ModelNotFoundError):
        loaded.compress(_image(), 2)
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "h3.pth")
    with pytest.raises(WeightsError):
        loaded.compress(_image(), 3)


def test_options_are_checked_before_anything_is_imported() -> None:
    for bad in (("resnet",), ("mbt2018", "weights.pth"), ("mbt2018", None, "vmaf")):
        with pytest.raises(OptionError):
            CompressAiCodec(*bad)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 1 << 27])
def test_stream_lengths(value: int) -> None:
    encoded = _leb128(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    if value < 20000:
        assert _streams(encoded + bytes(value), 1) == [bytes(value)]


def test_bad_stream_lengths_are_refused() -> None:
    for data, count in ((b"", 1), (b"\x80", 1), (b"\xff" * 9, 1), (b"\x05abc", 1), (b"\x01ab", 1)):
        with pytest.raises(ImageError):
            _streams(data, count)
