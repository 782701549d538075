"""Compiled rANS loops; optional. They write and read the same bytes as :mod:`vcm.entropy.rans`."""

import numpy as np
import numpy.typing as npt

def load(
    entries: npt.NDArray[np.uint32], offsets: npt.NDArray[np.uint32], orders: npt.NDArray[np.uint8], skip: int, /
) -> None:
    """Take copies of the tables, once.

    Args:
        entries: ``(n,)``, ``frequency << 16 | start``, the rows one after the other.
        offsets: ``(rows + 1,)``, where each row starts; the last is ``n``.
        orders: ``(rows,)``, Exp-Golomb order of each row's escape.
        skip: indexes below it are not coded.

    Raises:
        ValueError: the tables are malformed, are already loaded, or do not fit into memory.
    """

def encode(entries: npt.NDArray[np.uint32], /) -> bytes:
    """Code intervals ``(n,)``, ``frequency << 16 | start``, into one stream.

    Raises:
        ValueError: an interval is empty or ends beyond 65536, or the bytes are not whole numbers.
    """

def decode(
    data: bytes, position: int, state: int, indexes: npt.NDArray[np.uint8], out: npt.NDArray[np.int32], /
) -> tuple[int, int, int]:
    """Read one symbol for each of ``indexes`` into ``out``.

    Returns:
        Position and state behind the last symbol, and a status: 0, or one of ``rans.STATUS_…``.

    Raises:
        RuntimeError: :func:`load` was not called.
        ValueError: ``position`` is outside ``data``, or ``out`` has another length than ``indexes``.
    """

def codable(symbols: npt.NDArray[np.int32], indexes: npt.NDArray[np.uint8], /) -> bool:
    """Whether :func:`encode_symbols` takes them: known indexes, magnitudes at most 32767, 0 where skipped."""

def encode_symbols(symbols: npt.NDArray[np.int32], indexes: npt.NDArray[np.uint8], /) -> bytes:
    """Code symbols ``(n,)``, each under the row of its index, into one stream.

    Raises:
        ValueError: they cannot be coded, or differ in number.
    """

def predict(
    parameters: npt.NDArray[np.float32],
    gain: npt.NDArray[np.int32],
    rows: int,
    columns: int,
    number: int,
    offset: int,
    means: npt.NDArray[np.int32],
    indexes: npt.NDArray[np.uint8],
    /,
) -> None:
    """Fill ``means`` and ``indexes``: see :func:`vcm.codecs.scalable.passes.predict`.

    Raises:
        ValueError: the arrays do not fit the pass.
    """

def quantise(
    targets: npt.NDArray[np.float32],
    means: npt.NDArray[np.int32],
    indexes: npt.NDArray[np.uint8],
    factors: npt.NDArray[np.float64],
    symbols: npt.NDArray[np.int32],
    /,
) -> None:
    """Fill ``symbols``: see :func:`vcm.codecs.scalable.passes.quantise`; ``factors`` are ``2**gain``.

    Raises:
        ValueError: the arrays differ in length.
    """

def settle(
    symbols: npt.NDArray[np.int32],
    means: npt.NDArray[np.int32],
    inverses: npt.NDArray[np.int64],
    rows: int,
    columns: int,
    number: int,
    fixed: npt.NDArray[np.int64],
    context: npt.NDArray[np.float32],
    /,
) -> None:
    """Fill the pass in ``fixed`` and ``context``: see :func:`vcm.codecs.scalable.passes.settle`.

    Raises:
        ValueError: the arrays do not fit the pass.
    """
