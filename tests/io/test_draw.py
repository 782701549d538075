"""The demo's figure."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vcm.errors import OptionError
from vcm.io.draw import PanelRow, panel
from vcm.structures import Detections
from vcm.structures.drawing import class_colour


def detections(boxes: list[list[float]], labels: list[int], scores: list[float], size: tuple[int, int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64), *size
    )


def test_panel() -> None:
    image = Image.effect_noise((300, 200), 50).convert("RGB")
    found = detections([[30, 30, 200, 150]], [15], [0.9], image.size)
    row = PanelRow(
        "cat", image, found, image, image, 31.5, 0.5, (("base", 600), ("enhancement", 3000), ("metadata", 90))
    )
    tall = PanelRow("tall", image.rotate(90, expand=True), found, image, image, float("inf"), 0.5, (("base", 10),))
    one, two = panel([row], title="A title"), panel([row, tall], title="A title", note="a note")
    assert one.mode == two.mode == "RGB"
    assert one.width == two.width
    assert two.height > one.height + 300
    # The photograph, and the bar's two colours, are really there.
    colours = {c for _, c in one.getcolors(1 << 20) or []}
    assert {class_colour(15), (230, 57, 70), (29, 122, 223)} <= colours
    with pytest.raises(OptionError):
        panel([], title="A title")
