"""Integer convolutions: equal to plain integer arithmetic under every setting, and refused where they might not be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from codec_tools import SETTINGS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vcm.codecs.scalable.entropy_net import quant_conv
from vcm.codecs.scalable.fixed_point import MEAN_UNIT, SCALE_UNIT
from vcm.errors import WeightsError
from vcm.nn.integer import (
    IntConv2d,
    QuantConv2d,
    round_ste,
)
from vcm.weights.integers import MAX_ACCUMULATOR, MAX_MULTIPLIER

Ints = npt.NDArray[np.int64]


def reference(x: Ints, layer: IntConv2d) -> Ints:
    """The layer in int64, by shifted sums: x (N, C, H, W)."""
    weight = layer.weight.numpy().astype(np.int64)
    k = weight.shape[2]
    n, _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    acc = np.zeros((n, weight.shape[0], h, w), np.int64)
    for i in range(k):
        for j in range(k):
            acc += np.einsum("nchw,oc->nohw", padded[:, :, i : i + h, j : j + w], weight[:, :, i, j])
    acc += layer.bias.numpy().astype(np.int64)[:, None, None]
    out = (acc * layer.multiplier.numpy().astype(np.int64)[:, None, None] + (1 << 23)) >> 24
    return np.clip(out, layer.low, layer.high)


def random_layer(c_in: int, c_out: int, kernel: int, hidden: bool, seed: int) -> tuple[IntConv2d, Ints]:
    """A layer over the whole legal range, and activations for it (2, c_in, 5, 7) in -255 … 255."""
    rng = np.random.default_rng(seed)
    layer = IntConv2d(c_in, c_out, kernel, hidden)
    weight = rng.integers(-63, 64, (c_out, c_in, kernel, kernel))
    room = MAX_ACCUMULATOR - 1 - int(np.abs(weight).sum((1, 2, 3)).max()) * 255
    state = {
        "weight": torch.from_numpy(weight.astype(np.int8)),
        "bias": torch.from_numpy(rng.integers(-room, room + 1, c_out).astype(np.int32) >> int(rng.integers(0, 12))),
        "multiplier": torch.from_numpy(
            rng.integers(0, 1 + (MAX_MULTIPLIER >> int(rng.integers(0, 20))), c_out).astype(np.int32)
        ),
    }
    layer.load_state_dict(state)
    return layer, rng.integers(-255, 256, (2, c_in, 5, 7))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.sampled_from([1, 3]), st.booleans(), st.integers(0, 2**31))
def test_integer_convolution_is_integer_arithmetic(c_in: int, c_out: int, kernel: int, hidden: bool, seed: int) -> None:
    layer, x = random_layer(c_in, c_out, kernel, hidden, seed)
    assert np.array_equal(layer(torch.from_numpy(x).double()).numpy(), reference(x, layer))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_exact_at_the_largest_legal_accumulator_and_multiplier(kernel: int, sign: int) -> None:
    c_in = 1040 if kernel == 1 else 115
    layer = IntConv2d(c_in, 2, kernel, hidden=False, limit=1 << 40)
    room = MAX_ACCUMULATOR - 1 - 63 * 255 * c_in * kernel * kernel
    layer.load_state_dict(
        {
            "weight": torch.full((2, c_in, kernel, kernel), 63 * sign, dtype=torch.int8),
            "bias": torch.full((2,), room * sign, dtype=torch.int32),
            "multiplier": torch.tensor([MAX_MULTIPLIER, MAX_MULTIPLIER - 1], dtype=torch.int32),
        }
    )
    x = np.full((1, c_in, 3, 3), 255, np.int64)
    found = layer(torch.from_numpy(x).double()).numpy()
    assert np.array_equal(found, reference(x, layer))
    assert abs(found[0, 0, 1, 1]) == (MAX_ACCUMULATOR - 1) * 16


@pytest.mark.parametrize("name", SETTINGS)
def test_no_setting_changes_an_integer(name: str) -> None:
    for seed, (c_in, kernel) in enumerate([(115, 3), (1040, 1), (17, 3)]):
        layer, x = random_layer(c_in, 32, kernel, False, seed)
        tensor = torch.from_numpy(x).double()
        with SETTINGS[name](), torch.inference_mode():
            found = layer(tensor)
            by_channel = layer(tensor.to(memory_format=torch.channels_last))
            alone = torch.cat([layer(tensor[i : i + 1]) for i in range(2)])
        wanted = reference(x, layer)
        for got in (found, by_channel, alone):
            assert got.dtype == torch.float64
            assert np.array_equal(got.numpy(), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: not tried")
def test_a_gpu_gives_the_same_integers() -> None:
    layer, x = random_layer(115, 32, 3, False, 5)
    assert np.array_equal(layer.cuda()(torch.from_numpy(x).double().cuda()).cpu().numpy(), reference(x, layer.cpu()))


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double", "channels_last"])
def test_conversions_of_the_module_leave_its_integers_alone(convert: str) -> None:
    layer, x = random_layer(12, 4, 3, True, 3)
    tensor = torch.from_numpy(x).double()
    before = layer(tensor)
    layer.to(memory_format=torch.channels_last) if convert == "channels_last" else getattr(layer, convert)()
    assert torch.equal(layer(tensor), before)
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.int8, torch.int32)


def frozen_pair(hidden: bool, seed: int, kernel: int = 3) -> tuple[QuantConv2d, IntConv2d, Tensor]:
    torch.manual_seed(seed)
    layer = quant_conv(24, 16, kernel, hidden)
    assert isinstance(layer, QuantConv2d)
    with torch.no_grad():
        layer.bias.add_(torch.randn(16) * 0.5)
    return layer, layer.freeze(), torch.randint(0, 256, (4, 24, 24, 24)).float()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_learning_layer_and_its_frozen_twin_agree(hidden: bool, kernel: int) -> None:
    for seed in range(3):
        learning, shipping, x = frozen_pair(hidden, seed, kernel)
        with torch.no_grad():
            difference = learning(x).double() - shipping(x.double())
        # The bias of the shipping layer is rounded to units of the accumulator: half of one is scale / 2 of an output
        # unit, so it can cross a rounding tie. Measured: 0.02 to 0.12 % of hidden outputs and 0.2 to 0.4 % of
        # parameters, never by more than one unit.
        assert difference.abs().max() <= 1
        assert (difference != 0).float().mean() < 0.01


def test_freezing_keeps_every_learned_weight_within_half_a_step() -> None:
    learning, shipping, _ = frozen_pair(True, 7)
    step = learning.weight.abs().amax((1, 2, 3)) / 63
    error = (shipping.weight.float() * step[:, None, None, None] - learning.weight).abs()
    assert (error <= 0.5001 * step[:, None, None, None]).all()
    assert shipping.weight.abs().amax((1, 2, 3)).eq(63).all()


def test_the_learning_layer_passes_gradients() -> None:
    learning, _, x = frozen_pair(True, 1)
    learning(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learning.parameters())
    y = torch.linspace(-2, 2, 41, requires_grad=True)
    round_ste(y).sum().backward()
    assert torch.equal(y.grad, torch.ones(41))


def test_parameter_units_are_means_then_scales() -> None:
    layer = quant_conv(8, 6, 1, False)
    assert isinstance(layer, QuantConv2d)
    assert layer.units.tolist() == [MEAN_UNIT] * 3 + [SCALE_UNIT] * 3
    out = layer.freeze()(torch.zeros(1, 8, 1, 1, dtype=torch.float64)).flatten().tolist()
    assert out == [0, 0, 0, 6 * SCALE_UNIT, 6 * SCALE_UNIT, 6 * SCALE_UNIT]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("weight", 64, "integer weight"), ("weight", -64, "integer weight"),
        ("weight", -128, "integer weight"), ("weight", 127, "integer weight"),
        ("bias", 1 << 24, "accumulator"), ("bias", -(1 << 24), "accumulator"), ("bias", -(1 << 31), "accumulator"),
        ("multiplier", -1, "multiplier"), ("multiplier", MAX_MULTIPLIER + 1, "multiplier"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name: str, value: int, words: str) -> None:
    layer, _ = random_layer(4, 3, 3, True, 0)
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    state[name].view(-1)[1] = value
    with pytest.raises(WeightsError, match=words):
        layer.load_state_dict(state)
    network = nn.Sequential(random_layer(4, 3, 3, True, 0)[0])
    with pytest.raises(WeightsError, match=words):
        network.load_state_dict({f"0.{k}": v for k, v in state.items()})


def test_the_accumulator_bound_counts_weights_and_bias_together() -> None:
    layer = IntConv2d(1040, 1, 1, hidden=True)
    state = {
        "weight": torch.full((1, 1040, 1, 1), -63, dtype=torch.int8),
        "bias": torch.tensor([MAX_ACCUMULATOR - 1040 * 63 * 255], dtype=torch.int32),
        "multiplier": torch.tensor([1], dtype=torch.int32),
    }
    with pytest.raises(WeightsError, match=f"expected below {MAX_ACCUMULATOR}, found {MAX_ACCUMULATOR}"):
        layer.load_state_dict(state)
    layer.load_state_dict({**state, "bias": state["bias"] - 1})


def test_a_learning_layer_may_not_be_too_wide() -> None:
    QuantConv2d(115, 1, 3)
    with pytest.raises(WeightsError, match="expected fan-in at most 1040, found 1044"):
        QuantConv2d(116, 1, 3)


def test_new_tensors_replace_the_cached_ones() -> None:
    network = nn.Sequential(random_layer(4, 3, 3, True, 0)[0])
    other, x = random_layer(4, 3, 3, True, 1)
    tensor = torch.from_numpy(x).double()
    network(tensor)
    network.load_state_dict({f"0.{k}": v for k, v in other.state_dict().items()})
    assert torch.equal(network(tensor), other(tensor))
