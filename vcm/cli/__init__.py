"""The ``vcm`` command. A thin layer: it names files, calls :mod:`vcm`, and prints.

To add a command, write a module ``commands_NAME.py`` here with a function ``register(app)`` that calls
``app.command()``, and add its name to :data:`COMMAND_MODULES`. Such a module imports typer and its neighbours at the
top and everything else inside its commands, so that ``vcm --help`` stays quick: a test fails when torch, numpy or
Pillow is imported for it.

Exit status: 0 all went well; 1 wrong data or an output that cannot be written; 2 a wrong call; 130 interrupted, 143
terminated (128 and the signal's number); 141 nobody reads what is printed, as where a pipe ends in ``head``, and like
other tools we say nothing then, unless there were several inputs.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn, TextIO

import typer

from vcm.allocator import keep_freed_memory
from vcm.cli import output, signals
from vcm.errors import UsageError

__all__ = ["COMMAND_MODULES", "build_app", "main", "run"]

COMMAND_MODULES = (
    "commands_encode",
    "commands_decode",
    "commands_tasks",
    "commands_archive",
    "commands_serve",
    "commands_info",
    "commands_carry",
    "commands_show",
    "commands_train",
    "commands_head",
    "commands_finetune",
    "commands_eval",
)
"""Modules of this package, in the order in which ``vcm --help`` lists their commands."""

# Typer brings its own copy of click in some versions and uses the package in others. These are right in both.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def build_app() -> typer.Typer:
    """The application with every command of :data:`COMMAND_MODULES`."""
    app = typer.Typer(
        help="Coding for machines: one layered image file, read by detectors without pixels and by people in full.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for module in COMMAND_MODULES:
        importlib.import_module(f"{__name__}.{module}").register(app)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    # Taken out of the arguments by `run`, wherever they stand; here for the help.
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with every error.")] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", help="Refuse larger pictures, before pixels are made.", show_default="67108864"),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", help="Refuse longer files.", show_default="1073741824")
    ] = None,
) -> None:
    if version:
        import vcm

        typer.echo(f"vcm {vcm.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and gives its exit status; never raises for what a user can do wrong."""
    arguments, debug = _take_debug(list(arguments))
    arguments, limits = _take_limits(arguments)
    output.state.start(debug)
    with warnings.catch_warnings():
        # Ours become lines like all others, each time; those of libraries are for developers.
        warnings.simplefilter("always")
        warnings.showwarning = _show_warning
        try:
            output.state.limits = _numbers(limits)
            status = build_app()(args=arguments, prog_name="vcm", standalone_mode=False)
            output.flush()
        except output.StdoutError as failure:
            return _stdout_failed(failure)
        except SystemExit as ended:  # typer's: after completing for a shell, or as a pipe closed while it printed help
            return _CLOSED if ended.code else 0
        except signals.Stopped as stopped:
            return _stopped(stopped.signal)
        except (KeyboardInterrupt, typer.Abort):
            return _stopped(signal.SIGINT)
        except _ClickException as error:
            output.error(error, _usage_text(error))
            return int(getattr(error, "exit_code", 2))
        except Exception as error:
            number = signals.received()
            return output.failed(error) if number is None else _stopped(number)
    if status == 128 + signal.SIGINT:  # some versions of typer catch the interrupt themselves
        return _stopped(signal.SIGINT)
    return status if isinstance(status, int) else 0


def main() -> NoReturn:
    """Runs the command line of this process."""
    signals.install()
    keep_freed_memory()
    if not output.open_streams():
        output.line("error: the standard output is closed")
        sys.exit(1)
    status = run(sys.argv[1:])
    signals.restore()
    if status == _CLOSED:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


_CLOSED = 128 + 13  # as for SIGPIPE, which Python turns into an exception


def _stopped(number: int) -> int:
    output.line(f"{'interrupted' if number == signal.SIGINT else 'terminated'}{output.state.how_far()}")
    return 128 + number


def _stdout_failed(failure: output.StdoutError) -> int:
    if not failure.closed:
        return output.failed(failure)
    if far := output.state.how_far():
        output.line(f"stopped{far}: nobody reads what is printed")
    return _CLOSED


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, which may stand before or after the command but not after ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _take_limits(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without ``--max-pixels`` and ``--max-bytes``, likewise, and what they were given."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, limits = iter(arguments[:end]), dict[str, str]()
    kept = []
    for option in options:
        name, given, value = option.partition("=")
        if name in ("--max-pixels", "--max-bytes"):
            limits[name[2:].replace("-", "_")] = value if given else next(options, "nothing")
        else:
            kept.append(option)
    return kept + arguments[end:], limits


def _numbers(limits: dict[str, str]) -> dict[str, int]:
    for name, value in limits.items():
        if not (value.isdecimal() and int(value) > 0):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is out of range", expected="a whole number from 1 on", found=value)
    return {name: int(value) for name, value in limits.items()}


def _usage_text(error: Exception) -> str:
    """The message of a usage error, with the command whose help says more."""
    text: str = error.format_message()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if isinstance(error, _UsageError) and context is not None:
        text = f"{text.rstrip('.')} (see '{context.command_path} --help')"
    return text


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    if category.__module__.partition(".")[0] == "vcm":
        output.line(f"warning: {output.about_item(str(message))}")
    elif output.state.debug:
        output.line(f"{filename}:{lineno}: {category.__name__}: {message}")
