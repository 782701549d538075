"""Being told to stop: by Ctrl-C, by ``kill``, by a terminal that closes. What is being written is cleaned up first."""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["Stopped", "install", "received", "restore"]

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP

_received: int | None = None


class Stopped(BaseException):
    """A signal to end; like :class:`KeyboardInterrupt`, nothing that handles errors catches it.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def install() -> None:
    """From here on a signal to end raises :class:`Stopped`, Ctrl-C as always :class:`KeyboardInterrupt`.

    A signal that whoever started us ignores (``nohup``) stays ignored. Workers that are forked end at once.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        global _received
        if os.getpid() != owner and number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        _received = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_IGN)  # once is enough: the second would stop the cleaning up
        raise Stopped(number)

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def received() -> int | None:
    """The signal that came, or ``None``. Some libraries turn the exception into an ordinary one of theirs."""
    return _received


def restore() -> None:
    """At the end of the program a signal ends it without a word: a handler of ours would print a traceback."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
