"""Around every request: a rate for each client, numbers for Prometheus, a line in the log."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "Metrics"]

_LOG = logging.getLogger("vcm.service")
_CLIENTS = 10_000
_BURST_SECONDS = 2.0
_FREE = ("/health",)


class Metrics:
    """Numbers of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vcm_requests", "Requests by route and status", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram("vcm_request_seconds", "Time to answer", ("route",), registry=self.registry)
        self.running = Gauge("vcm_requests_running", "Requests being answered", registry=self.registry)
        self.read = Counter("vcm_archive_bytes_read", "Bytes read from the archive", ("what",), registry=self.registry)
        self.taken = Counter("vcm_pictures_taken", "Pictures taken in", registry=self.registry)


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        metrics: gets the numbers.
        rate: requests a second of each client; 0: any number.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, rate: float) -> None:
        self._app, self._metrics, self._rate = app, metrics, rate
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, count = time.perf_counter(), 500, 0

        async def sending(message: Message) -> None:
            nonlocal status, count
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            else:
                count += len(message.get("body", b""))
            await send(message)

        client = (scope.get("client") or ("", 0))[0]
        self._metrics.running.inc()
        try:
            if scope["path"] not in _FREE and not self._admits(client):
                await _refuse(sending)
            else:
                await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.running.dec()
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            line = {
                "time": round(time.time(), 3), "client": client, "method": scope["method"], "path": scope["path"],
                "status": status, "ms": round(1000 * seconds, 1), "bytes": count,
            }  # fmt: skip
            _LOG.info(json.dumps(line))

    def _admits(self, client: str) -> bool:
        """A bucket of tokens for each client, filled at the rate; it holds two seconds' worth."""
        if self._rate == 0:
            return True
        now, most = time.monotonic(), max(1.0, self._rate * _BURST_SECONDS)
        tokens, last = self._clients.pop(client, (most, now))
        tokens = min(most, tokens + (now - last) * self._rate)
        self._clients[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        while len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return tokens >= 1


_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
     b"script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"),
)  # fmt: skip


async def _refuse(send: Send) -> None:
    body = json.dumps({"error": "too many requests"}).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})
