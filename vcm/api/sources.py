"""What the methods of a codec are given: one picture or file, or many; and how a file is read once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import numpy as np

from vcm.bitstream import Bitstream, PartialBitstream, read, read_base, read_partially
from vcm.carriers import find_base
from vcm.errors import LimitError, MagicError, OptionError
from vcm.limits import USUAL, Limits

__all__ = ["StreamSource", "base_of", "items_of", "one_or_many", "partial_of", "whole_of"]

StreamSource = str | os.PathLike[str] | bytes | BinaryIO | Bitstream | PartialBitstream
"""A file: its path, its bytes, a binary file object at its first byte, or what was read before.

A path or bytes may be of an ordinary picture that carries a base, where a base is enough."""

S = TypeVar("S")
R = TypeVar("R")
P = ParamSpec("P")
_CHANNELS = (1, 3, 4)


class _Bound(Protocol[S, P, R]):
    """A method that takes one or many; see :func:`one_or_many`."""

    @overload
    def __call__(self, source: list[S] | tuple[S, ...], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    @overload
    def __call__(self, source: S, /, *args: P.args, **kwargs: P.kwargs) -> R: ...


class _Method(Protocol[S, P, R]):
    """The same before it is bound to an object."""

    def __get__(self, instance: object, owner: type | None = None, /) -> _Bound[S, P, R]: ...


def one_or_many(method: Callable[Concatenate[Any, S, P], R]) -> _Method[S, P, R]:
    """A method of one picture or file that takes many as well: a list or tuple, or an array or tensor of four axes.

    Given many it gives a list, one result each, in order.
    """

    @functools.wraps(method)
    def call(self: Any, source: Any, /, *args: Any, **kwargs: Any) -> Any:
        many = items_of(source)
        if many is None:
            return method(self, source, *args, **kwargs)
        results = []
        for one in many:  # no comprehension: its frame would stand between a warning and its cause
            results.append(method(self, one, *args, **kwargs))
        return results

    return cast(_Method[S, P, R], call)


def items_of(source: object) -> list[Any] | None:
    """The items of a list, tuple or batch of pictures; ``None`` where ``source`` is one picture or file.

    A batch is a tensor (N, C, H, W), or an array (N, H, W, C) or (N, C, H, W); C is 1, 3 or 4 and no side is as small.
    """
    if isinstance(source, list | tuple):
        return list(source)
    if getattr(source, "ndim", None) != 4:
        return None
    batch: Any = source
    if isinstance(batch, np.ndarray) and batch.shape[3] not in _CHANNELS and batch.shape[1] in _CHANNELS:
        batch = batch.transpose(0, 2, 3, 1)
    return list(batch)


def base_of(source: StreamSource, limits: Limits = USUAL) -> tuple[Bitstream, int]:
    """Header and base of a file, of which no more than that is read; and how many bytes that was."""
    if isinstance(source, Bitstream):
        return Bitstream(source.header, source.chunks[:1]), source.header.base_bytes
    if isinstance(source, PartialBitstream):
        return Bitstream(source.header, (source.coded_base.as_layer(),)), source.header.base_bytes
    try:
        got = read_base(source, max_bytes=limits.bytes)
    except MagicError:
        carried = find_base(source) if isinstance(source, str | os.PathLike | bytes) else None
        if carried is None:
            raise
        if carried.bytes_read > limits.bytes:
            expected = f"at most {limits.bytes} bytes"
            raise LimitError("the base is too long", expected=expected, found=carried.bytes_read) from None
        return carried.stream, carried.bytes_read
    return got.bitstream, got.bytes_read


@contextmanager
def partial_of(source: StreamSource, limits: Limits = USUAL) -> Iterator[PartialBitstream]:
    """A file whose tiles are read when they are needed, open in this block."""
    if isinstance(source, PartialBitstream):
        yield source
    elif isinstance(source, Bitstream):
        yield PartialBitstream(source.header, source.coded_base, source.layers, source.metadata, source.picture)
    else:
        with read_partially(source, max_bytes=limits.bytes) as file:
            yield file


def whole_of(source: StreamSource, limits: Limits = USUAL) -> Bitstream:
    """The whole file.

    Raises:
        OptionError: the source is a file that is read in parts.
    """
    if isinstance(source, PartialBitstream):
        what = "a file that is read in parts is not there as a whole"
        raise OptionError(what, expected="a path, bytes, file object or Bitstream", found=type(source).__name__)
    return source if isinstance(source, Bitstream) else read(source, max_bytes=limits.bytes)
