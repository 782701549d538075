"""Small servers of files, in threads of the test's process."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What a server has, and what it was asked for.

    Attributes:
        url: of its root, with a slash.
        files: content by path, as ``a/b.vcm``.
        ranges: whether it knows ranges.
        sent: bytes of bodies that were sent.
        requests: method and path of each request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    sent: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def http_server(ranges: bool = True) -> Iterator[Served]:
    """A web server with ranges, or without; PUT stores a file."""
    served = Served(ranges=ranges)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_PUT(self) -> None:
            served.requests.append(("PUT", self.path))
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                data = self.rfile.read(int(self.headers["Content-Length"]))
            served.files[self.path.lstrip("/")] = data
            self._head(201, 0)

        def _answer(self, body: bool) -> None:
            served.requests.append((self.command, self.path))
            data = served.files.get(self.path.lstrip("/"))
            if data is None:
                self._head(404, 0)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked and served.ranges:
                first, last = int(asked[1]), int(asked[2] or len(data) - 1)
                if first >= len(data):
                    self._head(416, 0)
                    return
                total, data = len(data), data[first : last + 1]
                self._head(206, len(data), f"bytes {first}-{first + len(data) - 1}/{total}")
            else:
                self._head(200, len(data))
            if body:
                served.sent += len(data)
                self.wfile.write(data)

        def _head(self, status: int, length: int, part: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            if served.ranges:
                self.send_header("Accept-Ranges", "bytes")
            if part is not None:
                self.send_header("Content-Range", part)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
