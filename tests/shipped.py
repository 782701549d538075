"""Small photographs with pinned files of the shipped weights, for the test that shipped weights still work as they did.

When new weights ship, or an encoder changes on purpose, write the pins anew and look at what changed. From ``tests/``:
``python -c 'import shipped; shipped.make()'``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from codec_tools import digest, fixed_latents, model_of
from skimage import data

import vcm
from vcm.bitstream import Bitstream

FOLDER = Path(__file__).parent / "golden" / "shipped"
PINS = FOLDER / "pins.json"
PICTURES = {
    "astronaut": (data.astronaut, slice(0, 320), slice(64, 384)),
    "chelsea": (data.chelsea, slice(0, 300), slice(51, 451)),
    "coffee": (data.coffee, slice(40, 360), slice(120, 520)),
}
"""Photographs of scikit-image, and which rows and columns of them."""
QUALITY = 60
SCORE = 0.3


def picture(name: str) -> npt.NDArray[np.uint8]:
    """A photograph, uint8 (H, W, 3)."""
    load, rows, columns = PICTURES[name]
    return np.ascontiguousarray(load()[rows, columns])


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Of RGB, dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def measure(codec: vcm.Codec, name: str, file: Bitstream) -> dict[str, Any]:
    """What is pinned of a file: latents exactly, boxes, classes and distortion nearly."""
    found = codec.detect(file, score=SCORE)
    return {
        "fingerprints": [layer.fingerprint.hex() for layer in file.layers],
        "bytes": [len(file.base), file.total_bytes],
        "latents": [digest(fixed) for fixed in fixed_latents(model_of(codec), file)],
        "boxes": [[round(float(v), 3) for v in box] for box in found.boxes],
        "scores": [round(float(v), 5) for v in found.scores],
        "labels": found.label_names(),
        "classes": [label for label, _ in codec.classify(file).top(3)],
        "psnr": round(psnr(np.asarray(codec.decode(file)), picture(name)), 4),
        "preview_psnr": round(psnr(np.asarray(codec.decode(file, layers=1)), picture(name)), 4),
    }


def make() -> None:
    """Write files and pins anew."""
    codec, pins = vcm.load("vcm-s", backend="torch"), {}
    for name in PICTURES:
        file = codec.encode(picture(name), quality=QUALITY, base_quality=QUALITY)
        file.save(FOLDER / f"{name}.vcm")
        pins[name] = measure(codec, name, file)
    PINS.write_text(json.dumps(pins, indent=1) + "\n")
