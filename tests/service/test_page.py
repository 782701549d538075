"""The page in headless Chromium: filters, boxes, the large picture, keyboard, a phone's screen, the counter of bytes.

``VCM_TEST_SCREENSHOTS=DIR`` keeps what it looks like; with ``VCM_TEST_PHOTOS=DIR`` of real photographs.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from vcm.archive import Archive  # noqa: E402
from vcm.service import ServiceOptions  # noqa: E402


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            found = started.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def visit(browser, run, archive: Path) -> Iterator[Callable[..., object]]:
    """Opens the page; fails the test if the page had errors."""
    pages, errors, services = [], [], []

    def call(width: int = 1200, height: int = 800, options: ServiceOptions | None = None, **context: object) -> object:
        service = run(archive, options)
        address = service.__enter__()
        services.append(service)
        page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console", lambda m: errors.append(m.text) if m.type == "error" and "Failed to load" not in m.text else None
        )
        page.set_default_timeout(60_000)
        page.address = address
        return page

    yield call
    for page in pages:
        page.context.close()
    for service in services:
        service.__exit__(None, None, None)
    assert not errors


def shot(page: object, name: str) -> None:
    if folder := os.environ.get("VCM_TEST_SCREENSHOTS"):
        page.wait_for_timeout(300)
        page.screenshot(path=f"{folder}/{name}.png")


def wait(page: object, expression: str) -> None:
    """Until it is true. Playwright's own way needs ``eval``, which the page's policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def loaded(page: object) -> None:
    wait(
        page,
        "[...document.querySelectorAll('.card')].filter(c => c.getBoundingClientRect().top < innerHeight)"
        ".every(c => c.querySelector('img').naturalWidth > 0) && !!document.querySelector('.card')",
    )


def test_a_grid_of_previews_that_reads_bases_only(visit, archive: Path) -> None:
    page = visit()
    page.goto(page.address)
    loaded(page)
    shot(page, "grid")
    with Archive(archive) as opened:
        hits = opened.query("").pictures
    cards = page.locator(".card")
    assert cards.count() == len(hits)
    boxes = sum(len(hit.objects) for hit in hits)
    assert page.locator("rect").count() == boxes
    numbers = page.evaluate("({read, stored})")
    assert 0 < numbers["read"] <= sum(hit.base_bytes for hit in hits)
    assert numbers["stored"] == sum(hit.bytes for hit in hits)
    assert "stored" in page.locator("#status").inner_text()


def test_a_click_streams_the_full_picture_in_and_the_keyboard_goes_on(visit, archive: Path) -> None:
    page = visit()
    page.goto(page.address)
    loaded(page)
    with Archive(archive) as opened:
        hits = opened.query("").pictures
    before = page.evaluate("read")
    page.locator(".card").first.click()
    page.wait_for_selector("#large img.full")
    shot(page, "picture")
    assert page.evaluate("read") - before == hits[0].bytes
    size = page.evaluate("(({naturalWidth: w, naturalHeight: h}) => [w, h])(document.querySelector('#large img'))")
    assert size == [hits[0].width, hits[0].height]
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#large img.full")
    assert page.evaluate("open") == 1
    page.keyboard.press("Escape")
    wait(page, "!document.querySelector('dialog').open")
    assert page.evaluate("document.activeElement.dataset.index") == "1"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_selector("#large img.full")
    assert page.evaluate("open") == 0


def test_filters(visit, archive: Path) -> None:
    page = visit()
    page.goto(page.address)
    loaded(page)
    with Archive(archive) as opened:
        labels = opened.labels()
        label = labels[0] if labels else None
        expected = opened.query(f'"{label}" >= 0.3').total if label else 0
    assert page.locator("#class option").count() == len(labels) + 1
    if label:
        page.select_option("#class", label)
        wait(page, f"total === {expected}")
        shot(page, "filtered")
        page.select_option("#class", "")
    page.fill("#query", "camera = nowhere")
    page.keyboard.press("Enter")
    page.wait_for_selector(".empty")
    page.fill("#query", "person >")
    page.keyboard.press("Enter")
    page.wait_for_selector("#error:not([hidden])")
    assert "cannot be understood" in page.locator("#error").inner_text()
    page.wait_for_timeout(100)


def test_a_phone(visit) -> None:
    page = visit(390, 844, has_touch=True, is_mobile=True, device_scale_factor=2, color_scheme="dark")
    page.goto(page.address)
    loaded(page)
    shot(page, "phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".card").first.tap()
    page.wait_for_selector("#large img.full")
    shot(page, "phone-picture")
    assert page.evaluate("document.querySelector('dialog').getBoundingClientRect().width <= innerWidth")


def test_a_token_is_asked_for(visit) -> None:
    page = visit(options=ServiceOptions(rate=0, token="secret"))
    page.on("dialog", lambda dialog: dialog.accept("secret"))
    page.goto(page.address)
    loaded(page)
    assert page.locator(".card").count() > 0
