"""Integer networks under onnxruntime: equal to the torch reference to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vcm.errors import WeightsError
from vcm.nn.integer import IntConv2d
from vcm.runtime.networks import Array
from vcm.runtime.onnx import OnnxNetworks
from vcm.runtime.onnx.integer import CONTEXT, FEATURE, IntegerLayer, IntegerNetwork

Tensors = tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], npt.NDArray[np.int32]]


def largest(c_in: int, c_out: int, kernel: int, seed: int) -> Tensors:
    """Weights, biases and multipliers as large as they may be: every accumulator can come next to 2**24."""
    rng = np.random.default_rng(seed)
    weight = rng.choice(np.array([-63, 63], np.int8), (c_out, c_in, kernel, kernel))
    weight[::3] = rng.integers(-63, 64, weight[::3].shape)
    room = (1 << 24) - 1 - np.abs(weight.astype(np.int64)).sum((1, 2, 3)) * 255
    bias = (rng.choice([-1, 1], c_out) * room).astype(np.int32)
    bias[1::4] = rng.integers(-1000, 1000, bias[1::4].shape)
    multiplier = rng.choice([0, 1, 3, 1000, (1 << 24) - 1, 1 << 24, 1 << 28, 12345], c_out).astype(np.int32)
    return weight, bias, multiplier


def of_torch(tensors: Tensors, hidden: bool, x: Array) -> npt.NDArray[Any]:
    weight = tensors[0]
    layer = IntConv2d(weight.shape[1], weight.shape[0], weight.shape[2], hidden)
    layer.load_state_dict(
        {k: torch.from_numpy(v) for k, v in zip(("weight", "bias", "multiplier"), tensors, strict=True)}
    )
    out: npt.NDArray[Any] = layer(torch.from_numpy(x).double()).numpy()
    return out


def one_layer(tensors: Tensors, hidden: bool, bounds: tuple[int, int] = (-255, 255)) -> IntegerNetwork:
    low, high = FEATURE if hidden else (-65535, 65535)
    c_in = tensors[0].shape[1]
    return IntegerNetwork("one", (("x", c_in, *bounds),), None, (IntegerLayer(*tensors, low, high),), 1, ("y",))


@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel"), [(115, 48, 3), (9, 64, 3), (64, 1024, 1), (1040, 24, 1), (1, 1, 1)]
)
@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (32, 48)])
def test_equal_to_the_reference_at_the_ends_of_the_range(
    c_in: int, c_out: int, kernel: int, hidden: bool, size: tuple[int, int]
) -> None:
    tensors = largest(c_in, c_out, kernel, seed=c_in)
    network = one_layer(tensors, hidden)
    networks = OnnxNetworks({"one": lambda: network}, threads=2)
    rng = np.random.default_rng(1)
    shape = (1, c_in, *size)
    pictures = [
        rng.integers(-255, 256, shape), rng.choice([-255, 255], shape), np.full(shape, 255), np.full(shape, -255),
    ]  # fmt: skip
    # The sum of the first output's magnitudes, in the middle of the picture.
    signs = np.sign(tensors[0][0].astype(int)).sum((1, 2))[:, None, None] * np.ones(size)
    pictures.append((np.where(signs < 0, -255, 255))[None])
    for picture in pictures:
        x = picture.astype(np.float32)
        before = x.copy()
        (found,) = networks.run("one", x)
        expected = of_torch(tensors, hidden, x)
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)
        assert np.array_equal(network.reference(x)[0], expected)
        assert np.array_equal(x, before)


def test_halves_round_up_in_both_signs() -> None:
    # acc · M = ±(k + 1/2) · 2**24 exactly.
    weight = np.ones((2, 1, 1, 1), np.int8)
    tensors = weight, np.zeros(2, np.int32), np.array([1 << 23, 3 << 22], np.int32)
    x = np.arange(-255, 256, dtype=np.float32).reshape(1, 1, 1, -1)
    (found,) = OnnxNetworks({"one": lambda: one_layer(tensors, False)}).run("one", x)
    whole = x[0, 0, 0].astype(np.int64)
    for channel, m in enumerate((1 << 23, 3 << 22)):
        assert np.array_equal(found[0, channel, 0], (whole * m + (1 << 23)) >> 24)


def test_a_network_that_is_not_exact_is_run_by_numpy_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = largest(16, 8, 3, seed=3)
    network = one_layer(tensors, False)
    x = np.random.default_rng(0).integers(-255, 256, (1, 16, 6, 7)).astype(np.float32)

    def nearly(self: IntegerLayer, graph: Any, value: str) -> str:
        return graph.clip(graph.conv(value, self.weight.astype(np.float32)), self.low, self.high)

    monkeypatch.setattr(IntegerLayer, "add_to", nearly)
    networks = OnnxNetworks({"one": lambda: network})
    with pytest.warns(UserWarning, match="not exact for one"):
        (found,) = networks.run("one", x)
    assert np.array_equal(found, of_torch(tensors, False, x))
    assert np.array_equal(networks.run("one", x)[0], found)  # without a second warning


def test_the_self_test_sees_short_mantissas_and_a_bias_that_is_off_by_one() -> None:
    tensors = largest(64, 32, 3, seed=4)
    network = one_layer(tensors, False, CONTEXT)
    assert network.self_test(network.reference)

    def short(*arrays: Array) -> tuple[Array, ...]:  # ten bits of mantissa, as TensorFloat-32 has
        return tuple((out.view(np.uint32) & 0xFFFFE000).view(np.float32) for out in network.reference(*arrays))

    other = one_layer((tensors[0], tensors[1] - np.sign(tensors[1]), tensors[2]), False, CONTEXT)
    assert not network.self_test(short)
    assert not network.self_test(other.reference)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 64}, "integer weight is out of range"),
        ({"weight": -128}, "integer weight is out of range"),
        ({"bias": (1 << 24) - 63 * 9 * 255}, "accumulator may overflow"),
        ({"bias": -(1 << 31)}, "accumulator may overflow"),
        ({"multiplier": -1}, "multiplier is out of range"),
        ({"multiplier": (1 << 28) + 1}, "multiplier is out of range"),
    ],
)
def test_tensors_outside_the_exact_range_are_refused(change: dict[str, int], message: str) -> None:
    values = {"weight": 63, "bias": 0, "multiplier": 1 << 24} | change
    weight = np.full((1, 1, 3, 3), values["weight"], np.int8)
    bias, multiplier = np.array([values["bias"]], np.int32), np.array([values["multiplier"]], np.int32)
    with pytest.raises(WeightsError, match=message):
        IntegerLayer(weight, bias, multiplier, 0, 255)
