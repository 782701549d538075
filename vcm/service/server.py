"""The service on a socket: uvicorn, and a limit on how long a request's head may take."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from vcm.service.options import ServiceOptions

__all__ = ["serve", "server"]


def server(app: FastAPI, host: str, port: int, options: ServiceOptions) -> uvicorn.Server:
    """A server that is not running yet."""

    class Timed(H11Protocol):
        """Closes a connection whose request does not get on with its head: uvicorn waits for ever."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._idle = True
            self._timer = self.loop.call_later(options.header_seconds, self._look)

        def _look(self) -> None:
            idle = self.conn.their_state is h11.IDLE
            if idle and self._idle and not self.transport.is_closing():
                self.transport.close()
                return
            self._idle = idle
            self._timer = self.loop.call_later(options.header_seconds, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

    config = uvicorn.Config(
        app, host=host, port=port, http=Timed, ws="none", log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=max(1, int(options.header_seconds)), timeout_graceful_shutdown=5, lifespan="off",
        h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve(app: FastAPI, host: str, port: int, options: ServiceOptions, *, log: Any = None) -> None:
    """Answer until a signal comes.

    Args:
        app: from :func:`vcm.service.build_app`.
        host, port: where.
        options: limits.
        log: stream for a line of JSON for each request; stderr by default.
    """
    handler = logging.StreamHandler(log or sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("vcm.service")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    server(app, host, port, options).run()
