"""From a file that ships back to weights that learn: the inverse of :mod:`vcm.training.export`.

The integer entropy networks thaw exactly: freezing what was thawed gives the same integers, so a stage that starts from
shipped weights begins with the codec that shipped. Half precision and int8 widen. BatchNorm, which shipping folds into
the convolutions, comes back as the identity; :func:`recentre_norms` then gives it the statistics of real pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from vcm.codecs.scalable.entropy_net import EntropyNet, quant_conv
from vcm.codecs.scalable.fixed_point import MEAN_UNIT, SCALE_ORIGIN, SCALE_UNIT
from vcm.codecs.scalable.layer_networks import LayerNetworks
from vcm.errors import ModelNotFoundError, WeightsError
from vcm.nn.blocks import ConvNormAct
from vcm.nn.integer import ACTIVATION_UNIT, IntConv2d, QuantConv2d
from vcm.training.distributed import summed, world
from vcm.weights.codec_file import load_weights
from vcm.weights.integers import MAX_WEIGHT, SHIFT
from vcm.weights.registry import find_twin, find_weights
from vcm.weights.twin_file import read_twin

__all__ = ["recentre_norms", "thaw", "thaw_convolution"]

_GAIN_STEPS = 256 * SCALE_UNIT
_ULPS = 8
"""Float32 neighbours that are tried on each side of what arithmetic suggests."""


def thaw(source: str | Path) -> dict[str, Tensor]:
    """Weights in training form from a file that ships.

    Args:
        source: a shipped codec or pixel twin by name, or a path to its ``.safetensors`` file.

    Returns:
        tensors by the names that a stage's modules give them. Of a codec: ``analysis``, ``base``, ``detect``,
        ``classify``, ``picture_analysis``, ``picture``, ``synthesis`` and ``preview``; of a twin: ``analysis`` and
        ``detect``.

    Raises:
        ModelNotFoundError: no such model.
        WeightsError: the file is inconsistent, or holds integers that freezing cannot have given.
        TrunkError: the codec whose trunk a twin takes has another trunk.
    """
    try:
        path = find_weights(source)
    except ModelNotFoundError as error:
        try:
            twin = read_twin(find_twin(source))
        except ModelNotFoundError:
            raise error from None
        return _training_form(nn.ModuleDict({"analysis": twin.analysis, "detect": twin.detect}))
    loaded = load_weights(path)
    codec = loaded.model
    out = _training_form(
        nn.ModuleDict(
            {
                "analysis": codec.analysis, "detect": loaded.detect, "classify": loaded.classify,
                "picture_analysis": codec.picture_analysis, "synthesis": codec.synthesis, "preview": codec.preview,
            }
        )
    )  # fmt: skip
    for name, coder in (("base", codec.base), ("picture", codec.picture)):
        out |= {f"{name}.{key}": tensor for key, tensor in _thaw_coder(coder).items()}
    return out


@torch.no_grad()
def _training_form(modules: nn.Module) -> dict[str, Tensor]:
    """The state of float modules, with a BatchNorm that does nothing wherever one was folded."""
    out = {name: tensor.detach().clone() for name, tensor in modules.state_dict().items()}
    for name, block in modules.named_modules():
        if isinstance(block, ConvNormAct) and isinstance(block.norm, nn.Identity):
            norm = nn.BatchNorm2d(block.conv.out_channels)
            # sqrt(1 + eps) over sqrt(1 + eps): folding it again multiplies by exactly one.
            norm.weight.fill_(1.0).mul_(torch.sqrt(torch.ones(1) + norm.eps))
            out |= {f"{name}.norm.{key}": tensor for key, tensor in norm.state_dict().items()}
    return out


@torch.no_grad()
def _thaw_coder(coder: LayerNetworks) -> dict[str, Tensor]:
    """State of the ``LatentModel`` whose ``frozen()`` gives ``coder``'s tensors."""
    net = EntropyNet(coder.spec, quant_conv)
    for name, layer in net.named_modules():
        frozen = coder.net.get_submodule(name)
        if isinstance(layer, QuantConv2d) and isinstance(frozen, IntConv2d):
            thaw_convolution(frozen, layer)
    out = {f"net.{key}": tensor for key, tensor in net.state_dict().items()}
    out |= {f"h_a.{key}": tensor.detach().clone() for key, tensor in coder.h_a.state_dict().items()}
    out["gain_y"], out["gain_z"] = coder.gain_y.float() / _GAIN_STEPS, coder.gain_z.float() / _GAIN_STEPS
    out["prior_mean"] = coder.prior_mean.float() / MEAN_UNIT
    out["prior_log2"] = coder.prior_scale.float() / SCALE_UNIT - SCALE_ORIGIN
    return out


@torch.no_grad()
def thaw_convolution(frozen: IntConv2d, layer: QuantConv2d) -> None:
    """Give ``layer`` real weights that freeze to ``frozen``'s integers.

    A channel's multiplier fixes its scale, its scale its weights and bias, each to a few float32 neighbours; those are
    tried, since ``freeze`` rounds in float32.

    Args:
        frozen: the integer layer.
        layer: of the same shape; changed.

    Raises:
        WeightsError: no real weights freeze to these integers.
    """
    units = torch.full((len(frozen.bias),), float(ACTIVATION_UNIT)) if layer.units is None else layer.units
    scale = frozen.multiplier.double() * ACTIVATION_UNIT / (units.double() * (1 << SHIFT))
    scale = torch.where(frozen.multiplier > 0, scale, 1e-4)
    settled = torch.zeros(len(scale), dtype=torch.bool)
    weight, bias = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    for step in sorted(range(-_ULPS, _ULPS + 1), key=abs):
        largest = _neighbour((scale * MAX_WEIGHT).float(), step).double() / MAX_WEIGHT
        layer.weight.copy_((frozen.weight.double() * largest[:, None, None, None]).float())
        # Where the scale is `freeze`'s floor of 1e-4 the largest weight is below 63.
        exact = layer._scale().double()
        for nudge in sorted(range(-_ULPS, _ULPS + 1), key=abs):
            layer.bias.copy_(_neighbour((frozen.bias.double() * exact / ACTIVATION_UNIT).float(), nudge))
            again = layer.freeze()
            same = (again.weight == frozen.weight).flatten(1).all(1) & (again.bias == frozen.bias)
            same &= (again.multiplier == frozen.multiplier) & ~settled
            weight[same], bias[same] = layer.weight[same], layer.bias[same]
            settled |= same
        if bool(settled.all()):
            break
    if not bool(settled.all()):
        lost = int((~settled).nonzero()[0])
        raise WeightsError("an integer convolution cannot be thawed", expected="what freezing gives", found=lost)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def _neighbour(x: Tensor, ulps: int) -> Tensor:
    """The float32 numbers ``ulps`` places away from zero (negative: towards it)."""
    towards = torch.where(x < 0, -torch.inf, torch.inf) if ulps > 0 else torch.zeros_like(x)
    for _ in range(abs(ulps)):
        x = torch.nextafter(x, towards)
    return x


@torch.no_grad()
def recentre_norms(modules: nn.Module, run: Callable[[], None]) -> None:
    """Give every BatchNorm below ``modules`` the statistics of its input without changing what the network computes.

    A thawed BatchNorm is the identity with statistics of nothing; training would at once normalise by the batch's.
    Afterwards mean and variance are measured ones, gain and shift undo them.

    Args:
        modules: networks whose BatchNorms are identities; those that do not learn are left so.
        run: runs them on some batches; they are in evaluation mode meanwhile.
    """
    blocks = [
        m
        for m in modules.modules()
        if isinstance(m, ConvNormAct) and isinstance(m.norm, nn.BatchNorm2d) and m.norm.weight.requires_grad
    ]
    if not blocks:
        return
    # Of each block's convolution: sum, sum of squares (C,), number of positions.
    sums: dict[ConvNormAct, tuple[Tensor, Tensor, int]] = {}

    def measure(block: ConvNormAct) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
            values = out.detach().double()
            total, squares, count = values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), values[:, 0].numel()
            if block in sums:
                before = sums[block]
                total, squares, count = before[0] + total, before[1] + squares, before[2] + count
            sums[block] = total, squares, count

        return hook

    training = [(module, module.training) for module in modules.modules()]
    hooks = [block.conv.register_forward_hook(measure(block)) for block in blocks]
    try:
        modules.eval()
        run()
    finally:
        for handle in hooks:
            handle.remove()
        for module, mode in training:
            module.training = mode
    for block, (total, squares, count) in sums.items():
        norm = cast(nn.BatchNorm2d, block.norm)
        mean = summed(total) / (count * world())
        variance = (summed(squares) / (count * world()) - mean.square()).clamp(min=0)
        cast(Tensor, norm.running_mean).copy_(mean)
        cast(Tensor, norm.running_var).copy_(variance)
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.copy_(mean)
