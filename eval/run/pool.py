"""Workers in processes of their own: owned by a pool, released when it is left, whatever the reason.

Processes are spawned, not forked: torch and onnxruntime hold threads that do not survive a fork. Each leads a process
group, so that an encoder that it started ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from types import TracebackType

from vcm.allocator import keep_freed_memory
from vcm.codecs.protocol import ImageCodec
from vcm.eval.machines.protocol import Machine
from vcm.eval.run.records import Record
from vcm.eval.run.worker import Job, Worker

__all__ = ["Setup", "WorkerPool"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What each process needs; picklable.

    Attributes:
        codecs: with different names.
        machines: pixel machines.
        metrics: names of distortion metrics.
        streams: folder where coded files are kept and looked for; ``None`` codes every time.
        kept: names of the pictures whose files are kept; ``None``: all.
    """

    codecs: tuple[ImageCodec, ...]
    machines: tuple[Machine, ...]
    metrics: tuple[str, ...]
    streams: Path | None = None
    kept: frozenset[str] | None = None

    def workers(self) -> dict[str, Worker]:
        """A worker for each codec, by its name."""
        return {c.name: Worker(c, self.machines, self.metrics, self.streams, self.kept) for c in self.codecs}


class WorkerPool:
    """Measures in ``jobs`` processes or, with one job, in this one. A context manager.

    Leaving it waits for idle processes to end. Leaving it by an exception (Ctrl-C is one) ends them at once, and what
    they were at is lost. A run that is killed takes them with it: they watch a pipe that only this process holds open.

    Args:
        setup: what the processes need.
        jobs: how many, at least 1.
    """

    def __init__(self, setup: Setup, jobs: int) -> None:
        self._setup, self._jobs = setup, jobs
        self._here = setup.workers() if jobs == 1 else {}
        self._context = get_context("spawn")
        self._ended, self._end = self._context.Pipe(duplex=False)
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._end.close()
        self._shut_down()
        self._end.close()
        self._ended.close()

    def _shut_down(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def measure(self, codec: str, todo: Sequence[Job]) -> Iterator[Record]:
        """Records of the codec of that name, as they come."""
        if self._jobs == 1:
            yield from map(self._here[codec].measure, todo)
            return
        left = list(todo)
        while left:
            done: set[tuple[str, str]] = set()
            self._executor = self._executor or self._started(self._jobs)
            try:
                for future in as_completed([self._executor.submit(_work, codec, job) for job in left]):
                    record = future.result()
                    done.add((record.point, record.picture))
                    yield record
            except BrokenProcessPool:
                self._shut_down()
            left = [job for job in left if (job.point.label, job.picture.name) not in done]
            # A library has crashed a process. The guilty picture is among the first of those left, which the processes
            # held: these get a process each, so that only it is lost.
            held = 2 * self._jobs + 1
            for job in left[:held]:
                yield self._alone(codec, job)
            left = left[held:]

    def _alone(self, codec: str, job: Job) -> Record:
        with self._started(1) as executor:
            try:
                return executor.submit(_work, codec, job).result()
            except BrokenProcessPool:
                reason = f"the process crashed while {codec} worked on it"
                return Record(job.point.label, job.picture.name, job.picture.digest(), error=reason)

    def _started(self, jobs: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, self._context, _start, (self._setup, self._ended))


_workers: dict[str, Worker] = {}
"""Of a worker process; empty in every other."""


def _start(setup: Setup, ended: connection.Connection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.setpgid(0, 0)
    keep_freed_memory()
    # Processes are the parallelism. A library that is loaded later reads the variable; torch may be here already.
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_end_with_pool, args=(ended,), daemon=True).start()
    _workers.update(setup.workers())


def _end_with_pool(ended: connection.Connection) -> None:
    # A killed run cannot tell its processes to stop, and they would wait for work, with their memory, for ever. The
    # pipe never carries a byte: it becomes readable when its other end is closed.
    parent = parent_process()
    connection.wait([ended] if parent is None else [ended, parent.sentinel])
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _work(codec: str, job: Job) -> Record:
    return _workers[codec].measure(job)
