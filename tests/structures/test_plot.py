"""Detections drawn on pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from vcm.errors import OptionError
from vcm.structures import COCO_NAMES, Detections
from vcm.structures.drawing import class_colour

GREY = (128, 128, 128)


def detections(boxes: list[list[float]], labels: list[int], scores: list[float], size: tuple[int, int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64), *size
    )


def test_a_box_lies_where_it_should_and_the_input_is_untouched() -> None:
    image = Image.new("RGB", (320, 240), GREY)
    out = detections([[100, 80, 200, 180]], [0], [0.9], image.size).plot(image)
    assert image.getcolors() == [(320 * 240, GREY)]
    assert (out.mode, out.size) == ("RGB", image.size)
    colour = class_colour(0)
    for point in ((100, 130), (199, 130), (150, 80), (150, 179)):
        assert out.getpixel(point) == colour, point
    for point in ((150, 130), (90, 130), (210, 130), (150, 190)):
        assert out.getpixel(point) == GREY, point
    assert out.getpixel((99, 130)) == (0, 0, 0)


def test_nothing_is_drawn_where_nothing_was_found() -> None:
    out = detections([], [], [], (64, 64)).plot(Image.new("L", (64, 64), 100))
    assert out.getcolors() == [(64 * 64, (100, 100, 100))]


def test_arrays_are_rgb_and_nothing_else_is_taken() -> None:
    array = np.full((48, 64, 3), (200, 10, 20), np.uint8)
    found = detections([[8, 8, 40, 40]], [3], [0.9], (64, 48))
    assert found.plot(array).tobytes() == found.plot(Image.fromarray(array)).tobytes()
    assert found.plot(array).getpixel((60, 44)) == (200, 10, 20)
    wrong = {"ndarray float64 (48, 64, 3)": array.astype(float), "ndarray uint8 (48, 64)": array[:, :, 0], "str": "a"}
    for name, picture in wrong.items():
        expected = f"cannot draw on this: expected a PIL image or a uint8 array (H, W, 3), found {name}"
        with pytest.raises(OptionError, match=re.escape(expected)):
            found.plot(picture)  # type: ignore[arg-type]


def test_a_picture_that_lies_on_its_side_is_drawn_upright() -> None:
    """Boxes are of the picture as people see it, and Pillow opens it as it is stored."""
    picture = Image.new("RGB", (60, 40), GREY)
    picture.getexif()[0x0112] = 6
    found = detections([[10, 20, 30, 50]], [0], [0.9], (40, 60))
    out = found.plot(picture)
    assert out.size == (40, 60)
    assert out.getpixel((29, 40)) == class_colour(0)


def test_boxes_are_scaled_to_another_size_of_the_picture() -> None:
    out = detections([[10, 40, 40, 70]], [2], [1], (64, 96)).plot(Image.new("RGB", (320, 240), GREY))
    left, right, top, bottom = 50, 199, 100, 174
    for point in ((left, 140), (right, 140), (120, top), (120, bottom)):
        assert out.getpixel(point) == class_colour(2), point


@pytest.mark.parametrize("size", [(16, 16), (16, 900), (3000, 40)])
def test_any_size_and_boxes_on_or_over_the_border(size: tuple[int, int]) -> None:
    boxes = [[0, 0, *size], [-50, -50, 5, 5], [size[0] - 1, size[1] - 1, size[0] + 9, size[1] + 9], [4, 4, 4, 4]]
    out = detections(boxes, [0, 1, 2, 3], [0.9, 0.8, 0.7, 0.6], size).plot(Image.new("RGBA", size))
    assert out.size == size


def test_labels_do_not_cover_each_other() -> None:
    boxes = [[100, 100, 300, 300]] * 3
    image = Image.new("RGB", (400, 400), GREY)
    one = [detections([boxes[0]], [i], [0.9], image.size).plot(image) for i in (0, 1, 2)]
    areas = [
        sum(n for n, c in picture.getcolors(1 << 16) or [] if c == class_colour(i)) for i, picture in enumerate(one)
    ]
    out = detections(boxes, [0, 1, 2], [0.9, 0.8, 0.7], image.size).plot(image)
    counts = {colour: n for n, colour in out.getcolors(1 << 16) or []}
    outline = counts[class_colour(1)]
    # The frames lie on top of each other; each label's own area must still be there.
    assert outline > 0.15 * areas[1]
    assert counts[class_colour(2)] > 0.15 * areas[2]


def test_colours_of_classes_that_meet_differ() -> None:
    met = ("person", "bicycle", "car", "dog", "cat", "chair", "dining table", "cup", "backpack", "handbag")
    assert len({class_colour(COCO_NAMES.index(name)) for name in met}) == len(met)
