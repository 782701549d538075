"""The log of a run: one JSON object a step, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from vcm.io.files import write_atomically
from vcm.training.distributed import rank

__all__ = ["MetricsLog"]

_EVERY = 10
"""Steps between two points in TensorBoard."""


class MetricsLog:
    """``metrics.jsonl`` of a folder, open for appending; a context manager.

    Args:
        folder: where it lies, made where it is not there; ``None``, and in all processes but the first, keeps no log.
        start: rows up to this step, which a former run left, are kept; later ones are of steps that are done again.
    """

    def __init__(self, folder: Path | None, start: int) -> None:
        self._file: TextIO | None = None
        self._board: Any = None
        if folder is None or rank() > 0:
            return
        path = folder / "metrics.jsonl"
        write_atomically(path, "".join(_kept(path, start)))
        self._file = path.open("a")
        self._board = _tensorboard(folder)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, row: dict[str, float]) -> None:
        """Append one step's numbers, ``step`` among them."""
        if self._file is None:
            return
        self._file.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")
        self._file.flush()
        if self._board is not None and row["step"] % _EVERY == 0:
            for key, value in row.items():
                self._board.add_scalar(key, value, row["step"])


def _kept(path: Path, start: int) -> list[str]:
    rows = path.read_text().splitlines(keepends=True) if start and path.is_file() else []
    # A row that a crash cut short has no end.
    return [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= start]


def _tensorboard(folder: Path) -> Any:
    """A SummaryWriter where tensorboard is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
