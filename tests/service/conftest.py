"""An archive of a few made pictures, and its service: in this process, and on a socket."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

import vcm
from vcm.archive import ingest
from vcm.service import ServiceOptions, build_app
from vcm.service.server import server


def photo(index: int, size: tuple[int, int] = (160, 120), format: str = "JPEG") -> bytes:
    """A picture of its own for each index."""
    picture = Image.effect_mandelbrot(size, (-2.2 + index / 100, -1.4, 0.9, 1.4), 60).convert("RGB")
    out = io.BytesIO()
    picture.save(out, format)
    return out.getvalue()


@pytest.fixture(scope="session")
def codec() -> vcm.Codec:
    return vcm.load("vcm-s", threads=1)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, codec: vcm.Codec) -> Path:
    """Six pictures; or, by VCM_TEST_PHOTOS, those of a folder."""
    folder = tmp_path_factory.mktemp("service")
    photos = os.environ.get("VCM_TEST_PHOTOS")
    source = folder / "photos"
    if photos is None:
        source.mkdir()
        for index in range(6):
            (source / f"{index}.jpg").write_bytes(photo(index))
    ingest([photos or str(source)], folder / "archive", codec)
    return folder / "archive"


@contextmanager
def running(folder: Path, codec: vcm.Codec, options: ServiceOptions) -> Iterator[str]:
    """A service on a socket of its own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = server(build_app(str(folder), codec, options), "127.0.0.1", port, options)
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not one.started:
        assert thread.is_alive()
        assert time.monotonic() < end
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        one.should_exit = True
        thread.join(20)


@pytest.fixture
def run(codec: vcm.Codec) -> Callable[..., object]:
    """``with run(folder, options) as address``."""
    return lambda folder, options=None: running(folder, codec, options or ServiceOptions(rate=0))


@pytest.fixture
def make_photo() -> Callable[..., bytes]:
    return photo
