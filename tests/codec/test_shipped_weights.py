"""The shipped weights still do what they did: files read to the last bit, boxes, distortion and rate nearly.

Of three small photographs; ``tests/shipped.py`` writes the pins.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from shipped import FOLDER, PICTURES, PINS, QUALITY, measure, picture

import vcm
from vcm.bitstream import read


@cache
def codec(backend: Any) -> vcm.Codec:
    return vcm.load("vcm-s", backend=backend)


def pin(name: str) -> dict[str, Any]:
    return dict(json.loads(PINS.read_text())[name])


def compare(found: dict[str, Any], wanted: dict[str, Any], boxes_within: float) -> None:
    assert found["fingerprints"] == wanted["fingerprints"]
    assert found["labels"] == wanted["labels"]
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=boxes_within)
    np.testing.assert_allclose(found["scores"], wanted["scores"], atol=boxes_within / 100)
    assert found["classes"] == wanted["classes"]
    assert found["psnr"] == pytest.approx(wanted["psnr"], abs=0.05)
    assert found["preview_psnr"] == pytest.approx(wanted["preview_psnr"], abs=0.05)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_file_reads_as_it_did(name: str, backend: str) -> None:
    found = measure(codec(backend), name, read(FOLDER / f"{name}.vcm"))
    assert found["latents"] == pin(name)["latents"]
    compare(found, pin(name), boxes_within=0.05)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_coded_as_it_was(name: str) -> None:
    """Encoders are float: another machine may choose a few other symbols."""
    file = codec("torch").encode(picture(name), quality=QUALITY, base_quality=QUALITY)
    found = measure(codec("torch"), name, file)
    assert found["bytes"] == pytest.approx(pin(name)["bytes"], rel=0.01)
    compare(found, pin(name), boxes_within=0.5)


def test_the_pins_say_something() -> None:
    """A person, a cat and a cup were found, in files of a sensible rate and quality."""
    pins = {name: pin(name) for name in PICTURES}
    assert pins["astronaut"]["labels"][0] == "person"
    assert pins["chelsea"]["labels"][0] == "cat"
    assert "cup" in pins["coffee"]["labels"]
    for name, one in pins.items():
        height, width = picture(name).shape[:2]
        assert one["bytes"][0] * 8 / (width * height) < 0.3
        assert one["psnr"] > 28
        assert one["psnr"] > one["preview_psnr"] + 5
