"""Pictures that carry a base, opened by Pillow, ImageMagick and Chromium: pixels as before, to the bit.

Slow, and of real photographs: ``python -m pytest -m slow tests/carriers/test_viewers.py``. What is not installed is
left out, and said.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from host_files import base
from PIL import Image

from vcm.carriers import attach_base, check_base, find_base, strip_base

PHOTOS = Path(os.environ.get("VCM_TEST_PHOTOS", Path(__file__).parents[3] / "shared/data/coco-dev/images"))
COUNT = 100
MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Minutes, so by hand only."""
    if "slow" not in request.config.option.markexpr:
        pytest.skip("run by hand with -m slow")


def _magick() -> str | None:
    for name in ("magick", "/usr/bin/convert", "convert"):
        found = shutil.which(name)
        if found and "ImageMagick" in subprocess.run([found, "-version"], capture_output=True, text=True).stdout:
            return found
    return None


def files(kind: str) -> list[bytes]:
    """A hundred files of one kind: photographs as they are where they are of that kind, else made from them."""
    found = sorted(path for path in PHOTOS.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".webp", ".png"))
    if len(found) < COUNT:
        pytest.skip(f"no {COUNT} pictures in {PHOTOS}")
    made = []
    for index, path in enumerate(found[:: len(found) // COUNT][:COUNT]):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            if picture.format != {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind]:
                out = io.BytesIO()
                options = {
                    "jpg": {"quality": 60 + index % 40, "progressive": index % 2 == 1},
                    "png": {"compress_level": 1},
                    "webp": {"lossless": index % 4 == 3, "method": 0},
                }[kind]
                picture.convert("RGB").save(out, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[kind], **options)
                data = out.getvalue()
        made.append(data)
    return made


def carrying(data: bytes, index: int) -> bytes:
    """``data`` with a base of its size, one in ten longer than a JPEG segment."""
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    stream = base(bytes(i * index % 256 for i in range(90_000 if index % 10 == 0 else 700)), width=width, height=height)
    whole = attach_base(data, stream)
    assert strip_base(whole) == data
    assert find_base(whole).stream == check_base(whole).stream == stream
    return whole


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", MIME)
def test_pillow_and_imagemagick(kind: str, tmp_path: Path) -> None:
    magick = _magick()
    for index, data in enumerate(files(kind)):
        whole = carrying(data, index)
        with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(whole)) as after:
            assert (before.tobytes(), before.info) == (after.tobytes(), after.info)
        if magick is not None:
            signatures = []
            for name, content in (("before", data), ("after", whole)):
                (tmp_path / f"{name}.{kind}").write_bytes(content)
                command = [magick, str(tmp_path / f"{name}.{kind}"), "-format", "%#", "info:"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                signatures.append((done.stdout, done.stderr.replace(f"{name}.{kind}", "")))
            assert signatures[0] == signatures[1]


_DRAW = """async (urls) => {
  const out = [];
  for (const url of urls) {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const digest = await crypto.subtle.digest('SHA-256', data);
    out.push(canvas.width + 'x' + canvas.height + ':' + btoa(String.fromCharCode(...new Uint8Array(digest))));
  }
  return out;
}"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", MIME)
def test_chromium(kind: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        try:
            system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            browser = started.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        page = browser.new_page()
        # A secure context, for crypto.subtle.
        page.route("http://localhost:9/*", lambda route: route.fulfill(body="<p>", content_type="text/html"))
        page.goto("http://localhost:9/")
        for index, data in enumerate(files(kind)):
            whole = carrying(data, index)
            urls = [f"data:{MIME[kind]};base64,{base64.b64encode(one).decode()}" for one in (data, whole)]
            before, after = page.evaluate(_DRAW, urls)
            assert before == after
            with Image.open(io.BytesIO(data)) as picture:
                assert before.startswith("{}x{}:".format(*picture.size))
        browser.close()
