"""How ``vcm bench`` takes times: in turn, in processes of their own, and beside others that want the cores."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from vcm.cli import output

__all__ = ["Cold", "Timing", "beside", "cold_start", "in_turn"]

_REST = 0.01
"""Seconds before each timed call: threads of other libraries go on spinning for a while after their work."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one operation.

    Attributes:
        name: the operation.
        median_ms, fastest_ms: over the runs after one warm-up, milliseconds.
    """

    name: str
    median_ms: float
    fastest_ms: float


def in_turn(works: Mapping[str, Callable[[], object]], runs: int) -> list[Timing]:
    """Times of some operations, one run of each after the other, so that what disturbs one disturbs all.

    Args:
        works: by the operations' names.
        runs: timed runs of each, after one that is not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            with output.working(name):
                time.sleep(_REST)
                start = time.perf_counter()
                work()
                if turn:
                    taken[name].append((time.perf_counter() - start) * 1e3)
    return [Timing(name, statistics.median(times), min(times)) for name, times in taken.items()]


@dataclass(frozen=True, slots=True)
class Cold:
    """A command run in a new process, medians: seconds from start to end, and the most memory that it held, MB."""

    seconds: float
    megabytes: float


# A process of its own starts the command: what the kernel counts for a child begins with what its parent held.
_LAUNCHER = """
import os, sys, time
start = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, usage.ru_maxrss, status)
"""


def cold_start(command: list[str], runs: int) -> Cold | None:
    """``vcm`` with some arguments, from nothing; ``None`` where the system has no way to tell.

    Raises:
        RuntimeError: the command failed.
    """
    if not hasattr(os, "wait4"):
        return None
    seconds, memory = [], []
    for turn in range(runs + 1):
        line = [sys.executable, "-S", "-c", _LAUNCHER, sys.executable, "-m", "vcm", *command]
        said = subprocess.run(line, capture_output=True, text=True, check=True)
        took, most, status = said.stdout.split()
        if status != "0":
            raise RuntimeError(f"vcm {' '.join(command)} failed: {said.stderr.strip()}")
        if turn:
            seconds.append(float(took))
            memory.append(int(most) / (1e6 if sys.platform == "darwin" else 1e6 / 1024))
    return Cold(statistics.median(seconds), statistics.median(memory))


def beside(work: Callable[[], object], others: Mapping[str, list[list[str]]], runs: int) -> dict[str, float]:
    """How many times as long ``work`` takes while other processes run; empty where they cannot be held.

    Args:
        work: what is timed, alone and beside each group in turn.
        others: groups of Python processes by name, each given by its arguments. One prints a line when it is ready.
        runs: timed runs of each.
    """
    if not hasattr(signal, "SIGSTOP"):
        return {}
    with _held(others) as groups:
        taken: dict[str, list[float]] = {name: [] for name in ("alone", *groups)}
        for turn in range(runs + 1):
            for name in taken:
                group = groups.get(name, [])
                for process in group:
                    process.send_signal(signal.SIGCONT)
                time.sleep(_REST)
                start = time.perf_counter()
                work()
                took = time.perf_counter() - start
                for process in group:
                    process.send_signal(signal.SIGSTOP)
                if turn:
                    taken[name].append(took)
    alone = statistics.median(taken.pop("alone"))
    return {name: statistics.median(times) / alone for name, times in taken.items()}


@contextmanager
def _held(others: Mapping[str, list[list[str]]]) -> Iterator[dict[str, list[subprocess.Popen[bytes]]]]:
    """Processes that are ready and stopped; killed at the end."""
    groups: dict[str, list[subprocess.Popen[bytes]]] = {name: [] for name in others}
    try:
        for name, lines in others.items():
            for line in lines:
                process = subprocess.Popen([sys.executable, *line], stdout=subprocess.PIPE)
                groups[name].append(process)
                if process.stdout is None or not process.stdout.readline():
                    raise RuntimeError(f"no process {name}")
                process.send_signal(signal.SIGSTOP)
        yield groups
    finally:
        for process in (p for group in groups.values() for p in group):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
