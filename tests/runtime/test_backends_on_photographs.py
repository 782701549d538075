"""Photographs through both backends: the same symbols from every file, whoever wrote it.

Needs a folder of 50, which ``VCM_TEST_PHOTOS`` names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vcm
from vcm.api import Codec
from vcm.runtime.networks import Array, Networks

PHOTOS = Path(os.environ.get("VCM_TEST_PHOTOS", Path(__file__).parents[3] / "shared/data/coco-dev/images"))
PICTURES = sorted(PHOTOS.glob("*.jpg"))[:50]
QUALITIES = (15, 50, 85)


class _Recording:
    """Networks that keep what the synthesis reads: the dequantised latents, which say every symbol."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.seen: list[Array] = []

    def run(self, name: str, /, *arrays: Array) -> tuple[Array, ...]:
        if name == "picture.synthesis":
            self.seen += arrays[:2]
        return self._networks.run(name, *arrays)


def _recorded(backend: Any) -> tuple[Codec, _Recording]:
    codec = vcm.load("vcm-s", backend=backend)
    networks = codec._model.networks = _Recording(codec._model.networks)
    return codec, networks


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(len(PICTURES) < 50, reason="VCM_TEST_PHOTOS names no folder of 50 photographs")
def test_both_read_the_same_symbols_from_files_of_either() -> None:
    both = {backend: _recorded(backend) for backend in ("torch", "onnx")}
    levels, boxes, same = 0, 0.0, 0
    for path in PICTURES:
        for quality in QUALITIES:
            files = {b: codec.encode(path, quality=quality, base_quality=quality) for b, (codec, _) in both.items()}
            same += bytes(files["torch"]) == bytes(files["onnx"])
            for writer, file in files.items():
                pixels, latents, found = [], [], []
                for codec, recording in both.values():
                    recording.seen.clear()
                    pixels.append(np.asarray(codec.decode(bytes(file)).convert("RGB")).astype(int))
                    latents.append(list(recording.seen))
                    found.append(codec.detect(file))
                assert len(latents[0]) == len(latents[1]) > 0
                for one, other in zip(*latents, strict=True):
                    assert np.array_equal(one, other), (path.name, quality, writer)
                levels = max(levels, int(np.abs(pixels[0] - pixels[1]).max()))
                assert found[0].labels.tolist() == found[1].labels.tolist(), (path.name, quality, writer)
                boxes = max(boxes, float(np.abs(found[0].boxes - found[1].boxes).max(initial=0)))
    print(f"{len(PICTURES)} pictures, {levels} level apart, boxes {boxes:.4f} px, {same} pairs of equal files")  # noqa: T201
    assert levels <= 1
    assert boxes <= 0.05
