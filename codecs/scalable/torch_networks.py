"""The networks of a scalable model under the names of :mod:`vcm.runtime.networks`, run by torch."""

from __future__ import annotations

import copy
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from vcm.codecs.scalable.build import ShippedNetworks
from vcm.codecs.scalable.entropy_net import EntropyNet
from vcm.codecs.scalable.layer_networks import LayerNetworks
from vcm.codecs.scalable.model import ScalableModel
from vcm.codecs.scalable.tables import base_tables, picture_tables
from vcm.runtime.torch_runtime import Function, TorchNetworks

__all__ = ["analysis_networks", "layer_functions", "on_device", "torch_model"]


_Module = TypeVar("_Module", bound=nn.Module)


def on_device(module: _Module, device: torch.device) -> _Module:
    """``module`` itself if it is on ``device``, else a copy there: another codec may use it where it is."""
    there = all(
        t.device.type == device.type and device.index in (None, t.device.index)
        for t in (*module.parameters(), *module.buffers())
    )
    return module if there else copy.deepcopy(module).to(device)


def analysis_networks(analysis: nn.Module, device: torch.device) -> TorchNetworks:
    """``base.analysis`` alone, as a pixel twin has it; ``analysis`` must be on ``device``."""
    return TorchNetworks({"base.analysis": _own_precision(analysis)}, device)


def torch_model(shipped: ShippedNetworks, device: torch.device, *, half: bool = False) -> ScalableModel:
    """A model whose networks torch runs on ``device``. ``shipped`` stays where it is.

    With ``half`` the picture's analysis and synthesis compute in bfloat16 where torch's autocast thinks it safe.

    Raises:
        WeightsError: an integer is out of the range on which exact decoding rests.
    """
    base = base_tables(shipped.base.integers(), shipped.base_id)
    picture = picture_tables(shipped.picture.integers(), shipped.picture_id, base)
    shipped = on_device(shipped, device)
    functions: dict[str, Function] = {
        "base.analysis": _own_precision(shipped.analysis),
        "picture.analysis": _own_precision(shipped.picture_analysis, half),
        "picture.synthesis": _own_precision(shipped.synthesis, half),
        "preview": _own_precision(shipped.preview),
    }
    for name, layer in (("base", shipped.base), ("picture", shipped.picture)):
        functions |= {f"{name}.{key}": function for key, function in layer_functions(layer).items()}
    return ScalableModel(shipped.architecture, TorchNetworks(functions, device), base, picture)


def _own_precision(module: nn.Module, half: bool = False) -> Function:
    """``module`` called in the precision of its weights, or with ``half`` under autocast to bfloat16.

    Pixels first: a quarter faster on CPUs than planes first.
    """

    def call(*inputs: Tensor) -> Tensor:
        dtype = next(module.parameters()).dtype
        laid_out = torch.channels_last
        with torch.autocast(inputs[0].device.type, torch.bfloat16, enabled=half):
            out: Tensor = module(
                *(x.to(dtype, memory_format=laid_out) if x.dim() == 4 else x.to(dtype) for x in inputs)
            )
        return out

    return call


def layer_functions(layer: LayerNetworks) -> dict[str, Function]:
    """Networks of one layer's entropy model, by their names without the layer's.

    The integer ones compute in float64, where all their sums are exact in any order.
    """
    net, slices = layer.net, range(layer.spec.slices)
    out: dict[str, Function] = {"h_a": _own_precision(layer.h_a), "hyper": partial(_hyper, net)}
    if net.base is not None:
        out["base_features"] = partial(_base_features, net)
    out |= {f"first.{i}": partial(_first, net, i) for i in slices}
    out |= {f"second.{i}": partial(_second, net, i) for i in slices}
    return out


def _hyper(net: EntropyNet, z: Tensor, quality: Tensor) -> Tensor:
    return net.hyper(z.double(), quality.double(), (4 * z.shape[2], 4 * z.shape[3]))


def _base_features(net: EntropyNet, context: Tensor) -> Tensor:
    return net.base_features(context.double())


def _first(net: EntropyNet, i: int, psi: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    nothing = psi.new_zeros(psi.shape[0], 0, *psi.shape[2:])
    return net.parameters_first(i, psi.double(), (nothing if known is None else known).double())


def _second(net: EntropyNet, i: int, features: Tensor, context: Tensor) -> Tensor:
    return net.parameters_second(i, features.double(), context.double())
