"""Names, types and shapes of the tensors of layers that several of our networks have, as weights files hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from vcm.weights.safetensors_file import Layout

__all__ = ["Parts", "film", "integer", "real", "residual", "under"]

Parts: TypeAlias = Iterator[tuple[str, tuple[str, tuple[int, ...]]]]
"""Name, and safetensors type and shape, of one tensor after the other."""


def real(name: str, *shape: int) -> Parts:
    """A convolution's or linear layer's ``weight`` of ``shape`` (out, …), and ``bias``."""
    yield f"{name}.weight", ("F16", shape)
    yield f"{name}.bias", ("F16", shape[:1])


def integer(name: str, c_in: int, c_out: int, kernel: int) -> Parts:
    """A :class:`vcm.nn.integer.IntConv2d`."""
    yield f"{name}.weight", ("I8", (c_out, c_in, kernel, kernel))
    yield f"{name}.bias", ("I32", (c_out,))
    yield f"{name}.multiplier", ("I32", (c_out,))


def residual(name: str, channels: int) -> Parts:
    """A :class:`vcm.nn.blocks.ResidualBlock`."""
    yield from real(f"{name}.conv1", channels, channels, 3, 3)
    yield from real(f"{name}.conv2", channels, channels, 3, 3)


def film(name: str, channels: int, hidden: int = 32) -> Parts:
    """A :class:`vcm.nn.blocks.FiLM`."""
    yield from real(f"{name}.fc1", hidden, 1)
    yield from real(f"{name}.fc2", 2 * channels, hidden)


def under(prefix: str, parts: Iterable[tuple[str, tuple[str, tuple[int, ...]]]]) -> Layout:
    """Those tensors, their names after ``prefix`` and a full stop."""
    return {f"{prefix}.{name}": what for name, what in parts}
