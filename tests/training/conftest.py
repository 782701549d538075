"""A folder of made-up pictures and a recipe over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A three-stage recipe of the tiny architecture on six made-up pictures."""
    pictures = tmp_path / "data" / "pics"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        image = Image.new("RGB", (150, 110), tuple(int(v) for v in rng.integers(0, 120, 3)))
        x, y = (int(v) for v in rng.integers(10, 60, 2))
        ImageDraw.Draw(image).ellipse((x, y, x + 40, y + 40), fill=(250, 240, 230))
        image.save(pictures / f"{i}.png")
    data = {"folders": ["pics"], "size": 64, "reference": 0}
    common = {"steps": 4, "batch": 2, "warmup": 1}
    task = {"data": data, "frozen_blocks": 0, **common}
    content = {
        "name": "t",
        "root": str(tmp_path / "data"),
        "out": str(tmp_path / "out"),
        "architecture": "tiny",
        "imagenet": False,
        "stages": [
            {"name": "twin", "kind": "twin", **task},
            {"name": "bottleneck", "kind": "bottleneck", **task},
            {"name": "picture", "kind": "picture", "data": data, "lambda_low": 0.001, "lambda_high": 0.05, **common},
        ],
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
