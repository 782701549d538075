"""Several processes of one training run (``torchrun``): each takes its part of every seeded batch.

Sums over a batch go through :func:`normaliser`, noise is drawn for the whole batch, BatchNorm sees the whole batch and
gradients are averaged, so a run gives the same losses on any number of processes, up to the order of sums.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vcm.errors import ConfigError

__all__ = [
    "agree",
    "average",
    "average_gradients",
    "barrier",
    "batch_part",
    "normaliser",
    "pick_device",
    "processes",
    "rank",
    "summed",
    "synchronise_norms",
    "whole_batch_noise",
    "world",
]


def world() -> int:
    """Number of processes; 1 where none was started by ``torchrun``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 … ``world() - 1``."""
    return dist.get_rank() if world() > 1 else 0


def pick_device(name: str) -> torch.device:
    """The device of this process: ``auto`` takes a GPU where there is one, the process's own under ``torchrun``.

    Raises:
        ConfigError: ``cuda`` without a GPU.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device is cuda and PyTorch sees no GPU", expected="auto or cpu", found=name)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, where it did; NCCL between GPUs, Gloo between CPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # Fake-quantised networks are exact in float32, not in TF32; all other networks run in bfloat16 on a GPU.
        torch.backends.cudnn.allow_tf32 = False
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world() > 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here."""
    if world() > 1:
        dist.barrier()


def batch_part(count: int) -> slice:
    """This process's part of a batch of ``count``.

    Raises:
        ConfigError: the batch does not divide.
    """
    if count % world():
        raise ConfigError("the batch does not divide by the processes", expected=f"k · {world()}", found=count)
    size = count // world()
    return slice(rank() * size, (rank() + 1) * size)


@torch.no_grad()
def normaliser(mass: Tensor, least: float = 1.0) -> Tensor:
    """What a process divides its sum by, so that the mean over processes is the whole batch's sum over its mass.

    Args:
        mass: scalar, this process's part of the batch's mass.
        least: the whole batch's mass is taken as at least this.
    """
    if world() == 1:
        return mass.detach().clamp(min=least)
    total = mass.detach().clone()
    dist.all_reduce(total)
    return total.clamp(min=least) / world()


@torch.no_grad()
def summed(x: Tensor) -> Tensor:
    """The sum of every process's ``x``."""
    if world() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def agree(stop: bool, device: torch.device) -> bool:
    """What process 0 says; clocks differ."""
    if world() == 1:
        return stop
    said = torch.tensor(float(stop), device=device)
    dist.broadcast(said, 0)
    return bool(said)


def average(numbers: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Means over processes of numbers that all of them have."""
    if world() == 1:
        return dict(numbers)
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(numbers, (values / world()).tolist(), strict=True))


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace gradients by their mean over processes, in one message.

    A parameter that no process has a gradient for keeps none, so that the optimiser passes over it as it would alone.
    """
    if world() == 1 or not parameters:
        return
    have = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    dist.all_reduce(have)
    used = [p for p, h in zip(parameters, have.tolist(), strict=True) if h]
    flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in used])
    dist.all_reduce(flat)
    flat /= world()
    for p, part in zip(used, flat.split([p.numel() for p in used]), strict=True):
        p.grad = torch.empty_like(p).copy_(part.view(p.shape))  # with the parameter's strides: AdamW is fused


class _WholeBatchNoise(TorchFunctionMode):
    """``rand_like`` draws for the whole batch and gives this process its part."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.rand_like:
            like = cast(Tensor, args[0])
            whole = torch.cat([like.detach()] * world())
            return func(whole)[rank() * len(like) : (rank() + 1) * len(like)]
        return func(*args, **(kwargs or {}))


def whole_batch_noise() -> AbstractContextManager[Any]:
    """Inside, quantisation noise is what one process with the whole batch would draw."""
    return _WholeBatchNoise() if world() > 1 else nullcontext()


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone()
        dist.all_reduce(out)
        return out


class _WholeBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose statistics are of all processes (torch's SyncBatchNorm has no CPU form)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.running_mean is None or self.running_var is None or self.momentum is None:
            return super().forward(x)
        count = x.numel() // x.shape[1] * world()
        own = x.float()
        mean = cast(Tensor, _Sum.apply(own.mean((0, 2, 3)))) / world()
        centred = own - mean[:, None, None]
        var = cast(Tensor, _Sum.apply(centred.square().mean((0, 2, 3)))) / world()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        out = centred * (self.weight / torch.sqrt(var + self.eps))[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)


def synchronise_norms(modules: nn.Module) -> None:
    """Let every BatchNorm below ``modules`` see the whole batch, in place; tensors and their names stay."""
    if world() == 1:
        return
    for part in modules.modules():
        for name, child in list(part.named_children()):
            if type(child) is nn.BatchNorm2d:
                norm = _WholeBatchNorm(child.num_features, child.eps, child.momentum)
                norm.weight, norm.bias = child.weight, child.bias
                norm.running_mean, norm.running_var = child.running_mean, child.running_var
                norm.num_batches_tracked = child.num_batches_tracked
                norm.train(child.training)
                setattr(part, name, norm)
