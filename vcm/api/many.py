"""Many inputs at once: a few threads, each with networks of one thread, results in the order of the inputs.

A network of one thread wastes none of it: two pictures side by side are faster than one after the other with two
threads each, whose parts that are not networks run on one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from vcm.errors import VcmError

__all__ = ["Outcome", "run_many"]

S = TypeVar("S")
R = TypeVar("R")

_AHEAD = 2
"""Inputs under way or waiting for their turn, for each thread."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[S, R]):
    """What became of one of many inputs: one of ``result`` and ``error`` is ``None``.

    Attributes:
        source: the input, as it was given.
        result: what the method for one input gives.
        error: why there is none.
    """

    source: S
    result: R | None
    error: VcmError | None

    def get(self) -> R:
        """The result.

        Raises:
            VcmError: ``error``, where there is no result.
        """
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # there is one where there is no error


def run_many(work: Callable[[S], R], sources: Iterable[S], jobs: int) -> Iterator[Outcome[S, R]]:
    """``work`` on each source, in ``jobs`` threads; outcomes in the order of the sources.

    Sources are taken as they are needed, :data:`_AHEAD` for each thread beyond what was given out, and as many results
    wait at most. When the iterator is closed, or its consumer fails, what is under way is finished and nothing else
    begun.

    Args:
        work: safe to call in several threads. A :class:`VcmError` of it is that source's outcome, another exception is
            raised.
        sources: iterated over in the caller's thread.
        jobs: at least 1, which takes no thread.
    """

    def one(source: S) -> Outcome[S, R]:
        try:
            return Outcome(source, work(source), None)
        except VcmError as error:
            return Outcome(source, None, error)

    if jobs == 1:
        yield from map(one, sources)
        return
    waiting: deque[Future[Outcome[S, R]]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="vcm")
    try:
        for source in sources:
            waiting.append(pool.submit(one, source))
            if len(waiting) >= _AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
