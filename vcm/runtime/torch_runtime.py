"""Networks run by torch: the reference, and what runs on GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vcm.runtime.networks import Array

__all__ = ["Function", "TorchNetworks"]

Function = Callable[..., Tensor | tuple[Tensor, ...]]
"""Float32 tensors to a tensor or several, on the device of its weights; it may compute in any precision."""


class TorchNetworks:
    """See :class:`vcm.runtime.networks.Networks`.

    Args:
        functions: by the names of :mod:`vcm.runtime.networks`.
        device: where their weights are.
    """

    def __init__(self, functions: Mapping[str, Function], device: torch.device) -> None:
        self._functions, self.device = dict(functions), device

    @torch.inference_mode()
    def run(self, name: str, /, *arrays: Array) -> tuple[Array, ...]:
        """See :meth:`vcm.runtime.networks.Networks.run`."""
        out = self._functions[name](*(torch.from_numpy(array).to(self.device) for array in arrays))
        parts = (out,) if isinstance(out, Tensor) else out
        return tuple(part.float().contiguous().cpu().numpy() for part in parts)


def _one_thread() -> None:
    """In a forked child: the parent's OpenMP threads are not there, and work for several would wait for them for ever.

    As in torch's own data loaders, whose workers have one thread each.
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)
