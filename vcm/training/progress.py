"""A progress bar of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vcm.training.distributed import rank
from vcm.training.engine import Progress

__all__ = ["bar"]


@contextmanager
def bar(name: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """What to give the engine to show ``name``'s progress; ``None`` where ``quiet``, or in a process but the first."""
    if quiet or rank() > 0:
        yield None
        return
    count = TextColumn("{task.completed}/{task.total} {task.fields[info]}")
    with Bars(TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn(), TimeRemainingColumn()) as bars:
        task = bars.add_task(name, total=None, info="")
        yield lambda done, total, info: bars.update(task, completed=done, total=total, info=info)
