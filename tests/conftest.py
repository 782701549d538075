"""What holds for every test."""

from __future__ import annotations

import pytest
from PIL import Image

_PILLOWS = Image.MAX_IMAGE_PIXELS


@pytest.fixture(autouse=True)
def pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program sets Pillow's limit for its process: what ran it leaves the next test Pillow's own."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", _PILLOWS)
