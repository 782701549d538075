"""What the commands print: results on stdout, everything else on stderr, a line each."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar

import typer

from vcm.cli import signals
from vcm.errors import FormatError, OtherPictureError, OutputError, UsageError, VcmError, reason
from vcm.requirements import missing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "Row", "StdoutError", "about_item", "described", "each", "error", "failed", "flush", "input_name", "line",
    "open_streams", "print_json", "print_table", "printable", "say", "state", "steps", "take_stdout", "working",
    "write_bytes",
]  # fmt: skip

_LONGEST = 2000  # characters of a line: text of files may be of any length

Row = dict[str, Any]
Item = TypeVar("Item")


class StdoutError(OutputError):
    """What is printed cannot be written.

    Attributes:
        closed: the other end of the pipe is gone.
    """

    closed = False


@dataclass
class State:
    """What one run of the program was asked for, and how far it is.

    Attributes:
        debug: tracebacks are wanted.
        done, total: items of :func:`each`.
        data: stdout takes a file's bytes, so that text goes to stderr.
        limits: those of ``max_pixels`` and ``max_bytes`` that were asked for, by name, for whatever is called.
    """

    debug: bool = False
    done: int = 0
    total: int = 0
    data: bool = False
    limits: dict[str, Any] = field(default_factory=dict)
    _here: threading.local = field(default_factory=threading.local)

    @property
    def item(self) -> str:
        """What this thread works on, for warnings that do not say; empty outside of :func:`each`."""
        return getattr(self._here, "item", "")

    @item.setter
    def item(self, name: str) -> None:
        self._here.item = name

    def start(self, debug: bool) -> None:
        """Begin anew."""
        self.debug, self.item, self.done, self.total, self.data, self.limits = debug, "", 0, 0, False, {}

    def how_far(self) -> str:
        """`` after 3 of 10``, where there are several."""
        return f" after {self.done} of {self.total}" if self.total > 1 else ""


state = State()


def open_streams() -> bool:
    """Whether there is a stdout. A stderr that is closed swallows what it is told.

    Where one is closed, the next file that is opened would take its number, and get what is meant for the stream.
    """
    missing = [stream is None for stream in (sys.stdout, sys.stderr)]
    if any(missing):
        while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(handle)
    if missing[1]:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    return not missing[0]


def printable(text: object) -> str:
    """``text`` on one line: a file's name may hold line breaks and codes that a terminal would obey."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[: _LONGEST + 1])
    return clean if len(clean) <= _LONGEST else f"{clean[:_LONGEST]}…"


def say(text: str) -> None:
    """A line of results on stdout; on stderr if stdout takes a file."""
    if state.data:
        line(text)
    else:
        _write(f"{printable(text)}\n")


def line(text: str) -> None:
    """A line on stderr."""
    typer.echo(f"vcm: {printable(text)}", err=True)


def error(failure: BaseException, text: str) -> None:
    """One line on stderr for a failure; before it, with ``--debug``, the traceback."""
    if state.debug:
        typer.echo("".join(traceback.format_exception(failure)), err=True, nl=False)
    line(f"error: {about_item(text)}")


def failed(failure: Exception) -> int:
    """The line of a failure, and the exit status that it stands for."""
    error(failure, described(failure))
    lacks = isinstance(failure, ModuleNotFoundError) and missing(failure) is not None
    return UsageError.exit_status if lacks else failure.exit_status if isinstance(failure, VcmError) else 1


def described(failure: Exception) -> str:
    """What to say of a failure."""
    if isinstance(failure, MemoryError):
        return "out of memory"
    if isinstance(failure, FormatError) and failure.whole_layers:
        return f"{failure} (decode with --layers 1 shows what is whole)"
    if isinstance(failure, OtherPictureError):
        return f"{failure} (--force takes it all the same)"
    if isinstance(failure, VcmError | OSError):
        return str(failure)
    if isinstance(failure, ModuleNotFoundError) and (explained := missing(failure)) is not None:
        return str(explained)
    # A bug of ours: still one line, and the way to more.
    return f"internal error: {type(failure).__name__}: {failure} (--debug shows where)"


def print_json(value: Any) -> None:
    """The one JSON document of a command."""
    _write(f"{_as_json(value, indent=2)}\n")


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, allow_nan=False)


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
    text = io.StringIO()
    _console(stderr=state.data, file=text).print(table)
    if state.data:
        typer.echo(text.getvalue(), err=True, nl=False)
    else:
        _write(text.getvalue())


def take_stdout(*, json: bool) -> None:
    """Stdout is for a file's bytes in this run.

    Raises:
        UsageError: it is a terminal, or a JSON document is to be printed there as well.
    """
    if json:
        raise UsageError("--json and an output on stdout exclude each other", expected="one of them")
    if sys.stdout.isatty():
        raise UsageError("a file is not printed on a terminal", expected="a pipe, or a name with --output")
    state.data = True


def write_bytes(data: bytes | memoryview) -> None:
    """A file's bytes on stdout."""
    _write(data)


def flush() -> None:
    """Everything printed is written.

    Raises:
        StdoutError: it cannot be.
    """
    _write("")


def _write(data: str | bytes | memoryview) -> None:
    try:
        if isinstance(data, str):
            sys.stdout.write(data)
        else:
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except OSError as failure:
        broken = StdoutError("cannot write to the standard output", found=reason(failure))
        broken.closed = isinstance(failure, BrokenPipeError)
        raise broken from failure


def _console(stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Rich's console for stdout or stderr, or for a file in the place of it."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # Names are data, not markup; and what goes into a pipe is not cut to the width of a screen that is not there.
    return Console(
        stderr=stderr, file=file, force_terminal=terminal, markup=False, emoji=False, highlight=False,
        width=None if terminal else 500,
    )  # fmt: skip


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
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with _progress() as bars:

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show


def each(
    paths: Iterable[Item],
    label: str,
    work: Callable[[Item], Row],
    show: Callable[[Row], None] | None = None,
    *,
    ndjson: bool = False,
    jobs: int = 1,
    total: int | None = None,
) -> int:
    """Does ``work`` on each file, with a progress bar on stderr if there are several and somebody is looking.

    A failure costs one line on stderr, and the next file follows. A wrong call is wrong for every file, and is raised.

    Args:
        paths: the files, or anything else whose text names it.
        label: what is done, for the bar.
        work: called with a file; gives what there is to say of it.
        show: prints that as text. If ``None``, one JSON document with a row for each file is printed at the end: where
            ``work`` failed, the row has ``file`` and ``error``.
        ndjson: print each row as JSON on a line of its own as soon as it is there.
        jobs: files at once, each in a thread; what is said of them comes in order all the same.
        total: how many there are, where ``paths`` does not say; 0 if nobody knows.

    Returns:
        The exit status: 0, or the greatest of the failures.

    Raises:
        UsageError: both JSON and lines of it are wanted.
    """
    if show is None and ndjson:
        raise UsageError("--json and --ndjson exclude each other", expected="one of them")
    status, rows = 0, []

    def tell(row: Row) -> None:
        if show is None:
            rows.append(row)
        elif ndjson:
            _write(f"{_as_json(row)}\n")
        elif "error" not in row:
            show(row)

    if total is None:
        paths = list(paths)
        total = len(paths)
    state.total = total
    try:
        for path, row, failure in _tracked(_worked(paths, work, jobs), total, label):
            state.item = input_name(path)
            if failure is not None:
                status = max(status, failed(failure))
            tell({"file": str(path), "error": described(failure)} if failure is not None else row or {})
            state.done += 1
    finally:
        state.item = ""
    if show is None:
        print_json(rows)
    return status


_Worked = tuple[Item, Row | None, Exception | None]


def _worked(paths: Iterable[Item], work: Callable[[Item], Row], jobs: int) -> Iterator[_Worked[Item]]:
    """Each file with its row, or with why there is none; a wrong call is raised."""

    def one(path: Item) -> _Worked[Item]:
        state.item = input_name(path)
        try:
            return path, work(path), None
        except (UsageError, StdoutError):
            raise
        except Exception as failure:
            if signals.received() is not None:  # a library's wrapping of the interrupt
                raise
            return path, None, failure

    if jobs == 1:
        yield from map(one, paths)
        return
    from vcm.api.many import run_many

    for outcome in run_many(one, paths, jobs):
        yield outcome.get()


def input_name(path: object) -> str:
    """An input's name for a person."""
    return "stdin" if str(path) == "-" else str(path)


def about_item(text: str) -> str:
    """``text``, beginning with the name of what is being worked on unless it has it."""
    return text if state.item in text else f"{state.item}: {text}"


def _tracked(worked: Iterator[_Worked[Item]], total: int, label: str) -> Iterator[_Worked[Item]]:
    if total == 1 or not sys.stderr.isatty():
        yield from worked
        return
    with _progress() as progress:
        yield from progress.track(worked, total=total or None, description=label)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Rich would print on its own stream what goes to stdout meanwhile: results of a pipe or file would be lost.
    both = sys.stdout.isatty()
    return Progress(*columns, console=_console(stderr=True), transient=True, redirect_stdout=both)
