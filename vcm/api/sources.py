"""What the methods of a codec are given: one picture or file, or many; and how a file is read once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Concatenate, ParamSpec, Protocol, TypeGuard, TypeVar, cast, overload

import numpy as np
from PIL import Image, UnidentifiedImageError

from vcm.bitstream import HEADER_BYTES, Bitstream, PartialBitstream, read, read_base, read_partially
from vcm.carriers import find_base
from vcm.errors import ImageError, LimitError, MagicError, OptionError
from vcm.limits import USUAL, Limits

if TYPE_CHECKING:
    from vcm.io.pictures import ImageSource

__all__ = ["StreamSource", "base_of", "items_of", "one_or_many", "partial_of", "whole_of"]

StreamSource = str | os.PathLike[str] | bytes | BinaryIO | Bitstream | PartialBitstream
"""A file: its path, its bytes, a binary file object at its first byte, or what was read before.

A path or bytes may be of an ordinary picture that carries a base, where a base is enough."""

if TYPE_CHECKING:
    Source = StreamSource | ImageSource
    """A file, or a picture whose base is made for it."""

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


def base_of(
    source: Source, limits: Limits = USUAL, encode: Callable[[ImageSource], Bitstream] | None = None
) -> tuple[Bitstream, int]:
    """Header and base of a file, of which no more than that is read; and how many bytes that was.

    Args:
        source: the file; with ``encode``, or a picture.
        limits: of what is read.
        encode: makes a file of a picture that carries no base; its base's length is what is then said to be read.
    """
    if isinstance(source, Bitstream):
        return Bitstream(source.header, source.chunks[:1]), source.header.base_bytes
    if isinstance(source, PartialBitstream):
        return Bitstream(source.header, (source.coded_base.as_layer(),)), source.header.base_bytes
    if encode is not None and _is_pixels(source):
        return base_of(encode(source))
    file: Any = _Started(source) if encode is not None and hasattr(source, "read") else source
    try:
        got = read_base(file, max_bytes=limits.bytes)
    except MagicError as error:
        data = file.rest(limits.bytes) if isinstance(file, _Started) else file
        carried = find_base(data) if isinstance(data, str | os.PathLike | bytes) else None
        if carried is None:
            if encode is None:
                raise
            return base_of(_encoded(encode, data, error))
        if carried.bytes_read > limits.bytes:
            expected = f"at most {limits.bytes} bytes"
            raise LimitError("the base is too long", expected=expected, found=carried.bytes_read) from None
        return carried.stream, carried.bytes_read
    return got.bitstream, got.bytes_read


def _is_pixels(source: object) -> TypeGuard[ImageSource]:
    """Whether it is a picture that is no file: a PIL image, an array or a tensor."""
    return isinstance(source, Image.Image) or (hasattr(source, "ndim") and not isinstance(source, memoryview))


def _encoded(encode: Callable[[ImageSource], Bitstream], data: Any, error: MagicError) -> Bitstream:
    """The file of a picture; ``error`` is raised where the data are in no picture format either."""
    try:
        return encode(data)
    except ImageError as other:
        if isinstance(other.__cause__, UnidentifiedImageError):
            raise error from None
        raise


class _Started:
    """A binary file object whose first bytes are remembered: that they are not ours shows when they were taken."""

    def __init__(self, file: Any) -> None:
        self._file, self._taken = file, b""

    def read(self, count: int) -> bytes:
        piece: bytes = self._file.read(count)
        if len(self._taken) < HEADER_BYTES and isinstance(piece, bytes):
            self._taken += piece
        return piece

    def rest(self, most: int) -> bytes:
        """All of it from its first byte on; or one byte more than ``most``, which is too long."""
        parts, count = [self._taken], len(self._taken)
        while count <= most and (piece := self._file.read(most + 1 - count)):
            parts.append(piece)
            count += len(piece)
        return b"".join(parts)


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
