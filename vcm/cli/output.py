"""What the commands print: results on stdout, everything else on stderr, a line each."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from vcm.errors import UsageError, VcmError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "about_item",
    "each",
    "error",
    "line",
    "print_json",
    "print_table",
    "printable",
    "say",
    "state",
    "steps",
    "working",
]

T = TypeVar("T")


@dataclass
class State:
    """What one run of the program was asked for.

    Attributes:
        debug: tracebacks are wanted.
        item: what is being worked on, for warnings that do not say; empty outside of :func:`each`.
    """

    debug: bool = False
    item: str = ""


state = State()


def printable(text: object) -> str:
    """``text`` on one line: a file's name may hold line breaks and codes that a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def say(text: str) -> None:
    """A line of results on stdout."""
    typer.echo(printable(text))


def line(text: str) -> None:
    """A line on stderr."""
    typer.echo(f"vcm: {printable(text)}", err=True)


def error(failure: BaseException, text: str | None = None) -> None:
    """One line on stderr for a failure; before it, with ``--debug``, the traceback."""
    if state.debug:
        typer.echo("".join(traceback.format_exception(failure)), err=True, nl=False)
    line(f"error: {text if text is not None else failure}")


def print_json(value: Any) -> None:
    """The one JSON document of a command."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> None:
    """A table on stdout.

    Args:
        columns: titles.
        rows: cells, as many as there are columns.
        left: columns of text; the others hold numbers and are set flush right.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    _console().print(table)


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # Names are data, not markup; and what goes into a pipe is not cut to the width of a screen that is not there.
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=None if terminal else 500)


@contextmanager
def working(label: str) -> Iterator[None]:
    """A spinner on stderr while something takes seconds, if somebody is looking."""
    if not sys.stderr.isatty():
        yield
        return
    with _console(stderr=True).status(label):
        yield


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr for each named step, if somebody is looking; called with name, done and total."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=_console(stderr=True), transient=True) as bars:

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show


def each(paths: Sequence[T], label: str, work: Callable[[T], None], name: Callable[[T], object]) -> int:
    """Does ``work`` on each item, with a progress bar on stderr if there are several and somebody is looking.

    A failure costs one line on stderr, and the next item follows. A wrong call is wrong for every item, and is raised.

    Args:
        paths: the items.
        label: what is done, for the bar.
        work: called with an item; may raise :class:`VcmError`.
        name: what to call an item in an error line.

    Returns:
        The exit status: 0, or the greatest of the failures.
    """
    status = 0
    try:
        for item in _tracked(paths, label):
            state.item = str(name(item))
            try:
                work(item)
            except UsageError:
                raise
            except VcmError as failure:
                error(failure, about_item(str(failure)))
                status = max(status, failure.exit_status)
    finally:
        state.item = ""
    return status


def about_item(text: str) -> str:
    """``text``, beginning with the name of what is being worked on unless it has it."""
    return text if state.item in text else f"{state.item}: {text}"


def _tracked(items: Sequence[T], label: str) -> Iterator[T]:
    if len(items) < 2 or not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(stderr=True), transient=True) as progress:
        yield from progress.track(items, description=label)
