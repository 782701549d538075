"""Boxes, labels and the demo's figure."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vcm.errors import OptionError
from vcm.io.draw import PanelRow, class_colour, draw_detections, panel
from vcm.structures import COCO_NAMES, Detections

GREY = (128, 128, 128)


def detections(boxes: list[list[float]], labels: list[int], scores: list[float], size: tuple[int, int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64), *size
    )


def test_a_box_lies_where_it_should_and_the_input_is_untouched() -> None:
    image = Image.new("RGB", (320, 240), GREY)
    out = draw_detections(image, detections([[100, 80, 200, 180]], [0], [0.9], image.size))
    assert image.getcolors() == [(320 * 240, GREY)]
    assert (out.mode, out.size) == ("RGB", image.size)
    colour = class_colour(0)
    for point in ((100, 130), (199, 130), (150, 80), (150, 179)):
        assert out.getpixel(point) == colour, point
    for point in ((150, 130), (90, 130), (210, 130), (150, 190)):
        assert out.getpixel(point) == GREY, point
    assert out.getpixel((99, 130)) == (0, 0, 0)


def test_scores_below_the_threshold_are_not_drawn() -> None:
    image = Image.new("L", (64, 64), 100)
    out = draw_detections(image, detections([[5, 5, 40, 40]], [3], [0.29], image.size))
    assert out.getcolors() == [(64 * 64, (100, 100, 100))]
    assert (
        draw_detections(image, detections([[5, 5, 40, 40]], [3], [0.29], image.size), 0.2).getcolors()
        != out.getcolors()
    )


def test_boxes_are_scaled_to_another_size_of_the_picture() -> None:
    out = draw_detections(Image.new("RGB", (320, 240), GREY), detections([[10, 40, 40, 70]], [2], [1], (64, 96)))
    left, right, top, bottom = 50, 199, 100, 174
    for point in ((left, 140), (right, 140), (120, top), (120, bottom)):
        assert out.getpixel(point) == class_colour(2), point


@pytest.mark.parametrize("size", [(16, 16), (16, 900), (3000, 40)])
def test_any_size_and_boxes_on_or_over_the_border(size: tuple[int, int]) -> None:
    boxes = [[0, 0, *size], [-50, -50, 5, 5], [size[0] - 1, size[1] - 1, size[0] + 9, size[1] + 9], [4, 4, 4, 4]]
    out = draw_detections(Image.new("RGBA", size), detections(boxes, [0, 1, 2, 3], [0.9, 0.8, 0.7, 0.6], size))
    assert out.size == size


def test_labels_do_not_cover_each_other() -> None:
    boxes = [[100, 100, 300, 300]] * 3
    image = Image.new("RGB", (400, 400), GREY)
    one = [draw_detections(image, detections([boxes[0]], [i], [0.9], image.size)) for i in (0, 1, 2)]
    areas = [
        sum(n for n, c in picture.getcolors(1 << 16) or [] if c == class_colour(i)) for i, picture in enumerate(one)
    ]
    out = draw_detections(image, detections(boxes, [0, 1, 2], [0.9, 0.8, 0.7], image.size))
    counts = {colour: n for n, colour in out.getcolors(1 << 16) or []}
    outline = counts[class_colour(1)]
    # The frames lie on top of each other; each label's own area must still be there.
    assert outline > 0.15 * areas[1]
    assert counts[class_colour(2)] > 0.15 * areas[2]


def test_colours_of_classes_that_meet_differ() -> None:
    met = ("person", "bicycle", "car", "dog", "cat", "chair", "dining table", "cup", "backpack", "handbag")
    assert len({class_colour(COCO_NAMES.index(name)) for name in met}) == len(met)


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
