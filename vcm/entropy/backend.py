"""Which loops run: the compiled ``_rans`` if it is there and agrees with the reference, else the reference."""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from vcm.entropy import rans
from vcm.entropy.tables import NUM_SCALES, SKIP_INDEX, gaussian_table

__all__ = ["BACKEND", "ENVIRONMENT_VARIABLE", "Loops", "compiled", "compiled_loops", "loops"]

ENVIRONMENT_VARIABLE: Final = "VCM_ENTROPY_BACKEND"
"""Set to ``python`` it keeps the compiled loops from being used."""

_log = logging.getLogger(__name__)


class Loops(Protocol):
    """The two loops of the coder; :mod:`vcm.entropy.rans` documents them."""

    def encode(self, entries: npt.NDArray[np.uint32], /) -> bytes: ...

    def decode(
        self, data: bytes, position: int, state: int, indexes: npt.NDArray[np.uint8], out: npt.NDArray[np.int32], /
    ) -> tuple[int, int, int]: ...


if TYPE_CHECKING:
    from vcm.entropy import _rans

    _stub: Loops = _rans  # its stub has the signatures of the protocol


def _agree(fast: Any) -> bool:
    """Whether ``fast`` codes every kind of interval, and reads escapes, as the reference does."""
    table = gaussian_table()
    indexes = np.arange(SKIP_INDEX, NUM_SCALES, dtype=np.uint8).repeat(3)
    row, size = table.offsets[indexes], np.diff(table.offsets)[indexes]
    rank = 1 + np.arange(indexes.size) * 7919 % (size - 1)
    escape = np.array([1 << 16, 1 << 31 | 1 << 15, 1 << 31 | 1 << 15], dtype=np.uint32)  # order 0: escape, minus, R + 1
    entries = np.concatenate([table.entries[row + rank], escape])
    indexes = np.append(indexes, np.uint8(SKIP_INDEX))
    stream = rans.encode(entries)
    results, symbols = [], np.empty(indexes.size, dtype=np.int32)
    for loop in (fast, cast(Loops, rans)):
        results.append((loop.decode(stream, *rans.split(stream), indexes, symbols), symbols.tolist()))
    if results[0] != results[1] or results[0][0] != (len(stream), 0, rans.OK):
        return False
    return all(
        (
            fast.encode(entries) == stream,
            fast.codable(symbols, indexes),
            fast.encode_symbols(symbols, indexes) == stream,
        )
    )


def compiled_loops() -> Any:
    """The compiled loops, loaded and tested; ``None`` if not built, or, with a logged warning, if refused."""
    try:
        module: Any = importlib.import_module("vcm.entropy._rans")
    except ImportError as error:
        _log.debug("no compiled entropy coder: %s", error)
        return None
    table = gaussian_table()
    try:
        module.load(table.entries, table.offsets.astype(np.uint32), table.orders.astype(np.uint8), SKIP_INDEX)
        good = _agree(module)
    except Exception as error:  # a stale or foreign build may fail in any way; the reference always works
        _log.warning("compiled entropy coder refused, Python is used: %s", error)
        return None
    if not good:
        _log.warning("compiled entropy coder refused, Python is used: it disagrees with the reference")
        return None
    return module


compiled: Final[Any] = None if os.environ.get(ENVIRONMENT_VARIABLE, "").lower() == "python" else compiled_loops()
"""The compiled module, with all that ``_rans.pyi`` lists, or ``None``."""
loops: Final[Loops] = compiled or cast(Loops, rans)
"""What :class:`vcm.entropy.Encoder` and :class:`vcm.entropy.Decoder` run."""
BACKEND: Final[Literal["c", "python"]] = "c" if compiled is not None else "python"
"""``"c"`` or ``"python"``; both write and read the same bytes."""
