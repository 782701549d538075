"""``vcm serve`` as a process of its own under load: many clients, connections that dawdle, poison.

A few seconds each here. By hand, for the numbers of docs/service.md:
``VCM_LOAD_SECONDS=60 python -m pytest -s tests/service/test_load.py``.
"""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

SECONDS = float(os.environ.get("VCM_LOAD_SECONDS", "2"))
BY_HAND = "VCM_LOAD_SECONDS" in os.environ
CLIENTS, DAWDLERS, BYTES_A_SECOND = 32, 200, 20e6
MEMORY = 1 << 30


@contextmanager
def serving(archive: Path, *options: str) -> Iterator[tuple[int, int]]:
    """``vcm serve``; gives its port and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vcm", "serve", str(archive), "-p", str(port), "--rate", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError):
                if ask(port, "/health")[0] == 200:
                    break
            assert process.poll() is None
            time.sleep(0.1)
        yield port, process.pid
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15, 143)


def say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


def ask(port: int, path: str, *, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def health(port: int) -> float:
    """Seconds that ``/health`` takes on a connection of its own."""
    start = time.perf_counter()
    assert ask(port, "/health")[0] == 200
    return time.perf_counter() - start


def peak_memory(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_many_clients(archive: Path) -> None:
    with serving(archive) as (port, _):
        names = [one["picture"] for one in json.loads(ask(port, "/pictures?limit=1000")[1])["pictures"]]
        times, failures = [], []

        def client(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for name in itertools.islice(itertools.cycle(names), number, None):
                if time.monotonic() > end:
                    break
                start = time.perf_counter()
                connection.request("GET", f"/pictures/{name}/detections")
                answer = connection.getresponse()
                answer.read()
                times.append(time.perf_counter() - start)
                if answer.status != 200:
                    failures.append(answer.status)
            connection.close()

        end = time.monotonic() + SECONDS
        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    times.sort()
    p50, p99 = (1000 * times[int(share * len(times))] for share in (0.5, 0.99))
    say(f"{CLIENTS} clients, {SECONDS:g} s: {len(times)} answers, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {failures}")
    assert len(times) > CLIENTS
    assert not failures
    assert p99 < 300 or not BY_HAND


def test_connections_that_dawdle(archive: Path) -> None:
    with serving(archive) as (port, process):
        dawdlers = [socket.create_connection(("127.0.0.1", port)) for _ in range(DAWDLERS)]
        half = len(dawdlers) // 2
        for one in dawdlers[:half]:
            one.sendall(b"GET /pictures HTTP/1.1\r\nHost: x\r\n")
        for one in dawdlers[half:]:
            one.sendall(b"POST /pictures HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        times, end = [], time.monotonic() + max(SECONDS, 25 if BY_HAND else 0)
        while time.monotonic() < end:
            times.append(health(port))
            for one in dawdlers:
                with suppress(OSError):
                    one.sendall(b"X")
            time.sleep(0.2)
        memory = peak_memory(process)
        for one in dawdlers:
            one.settimeout(0.5)
        closed = 0
        if BY_HAND:  # heads have 10 seconds
            for one in dawdlers[:half]:
                with suppress(OSError):
                    closed += one.recv(1000) == b"" or 1
        for one in dawdlers:
            one.close()
    worst = 1000 * max(times)
    say(f"{DAWDLERS} dawdlers: health at most {worst:.0f} ms, memory {memory / 1e6:.0f} MB, {closed} closed")
    assert max(times) < (1 if BY_HAND else 10)
    assert memory < MEMORY


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it has 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )


def test_poison(archive: Path, make_photo) -> None:
    out = io.BytesIO()
    Image.effect_noise((3000, 2000), 90).save(out, "JPEG", quality=95)
    whole = out.getvalue()
    poison = [
        bomb(), os.urandom(1 << 20), whole[: len(whole) // 2], make_photo(1)[:-200], bytes(21_000_000),
        b"VCM\x01" + bytes(99),
        b"VCM\x01\x01\xff\xff\xff\x0f\x00\x08\xff\xff\xff\x3f\x00\x00" + bytes(1000),
        whole[:100] + os.urandom(1 << 20), b"",
    ]  # fmt: skip
    with serving(archive) as (port, process):
        statuses, sent, times = [], 0, []
        start = time.monotonic()

        def sender(index: int) -> None:
            nonlocal sent
            for one in itertools.islice(itertools.cycle(poison), index, None):
                if time.monotonic() > start + SECONDS:
                    return
                with suppress(OSError, http.client.HTTPException):  # it may hang up on what is too long
                    statuses.append(ask(port, "/pictures", method="POST", body=one)[0])
                sent += len(one)
                ahead = sent / BYTES_A_SECOND - (time.monotonic() - start)
                if ahead > 0:
                    time.sleep(min(ahead, 1))

        threads = [threading.Thread(target=sender, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            times.append(health(port))
            time.sleep(0.1)
        memory, seconds = peak_memory(process), time.monotonic() - start
        assert health(port) < 10
    say(
        f"poison: {sent / seconds / 1e6:.1f} MB/s, {len(statuses)} answers {sorted(set(statuses))}, "
        f"health at most {1000 * max(times):.0f} ms, memory {memory / 1e6:.0f} MB"
    )
    assert set(statuses) <= {413, 422, 503}
    assert max(times) < (1 if BY_HAND else 10)
    assert memory < MEMORY
