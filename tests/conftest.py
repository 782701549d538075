"""What holds for every test."""

from __future__ import annotations

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program sets Pillow's limit for its process; a test that runs it leaves the next test Pillow's own."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
