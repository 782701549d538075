"""Detections drawn on a picture. Needs Pillow only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from vcm.structures.detections import Detections

__all__ = ["Colour", "class_colour", "draw_detections", "font"]

Colour = tuple[int, int, int]
"""RGB, 0 … 255 each."""

# Twenty hues of similar weight, neighbours far apart, so that classes that meet in one picture rarely look alike.
_PALETTE: tuple[Colour, ...] = (
    (230, 57, 70), (29, 122, 223), (255, 159, 28), (46, 160, 67), (157, 78, 221), (0, 168, 181), (240, 101, 149),
    (188, 140, 0), (94, 96, 206), (251, 111, 36), (20, 140, 110), (200, 54, 160), (111, 168, 25), (82, 113, 255),
    (196, 88, 60), (3, 144, 196), (222, 42, 110), (138, 109, 59), (122, 158, 190), (110, 60, 160),
)  # fmt: skip


def class_colour(label: int) -> Colour:
    """RGB of class index ``label``; the same class has the same colour in every picture."""
    # The shift keeps people and what stands around them (tables, chairs, bags) apart where the palette starts again.
    return _PALETTE[(label + 4 * (label // len(_PALETTE))) % len(_PALETTE)]


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, ``size`` pixels high."""
    return ImageFont.load_default(size=size)


def _text_on(colour: Colour) -> Colour:
    """White or near-black, whichever reads better on ``colour``."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (255, 255, 255) if luma < 150 else (20, 20, 20)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _place_label(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    canvas: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Where a label of ``size`` goes: above the box, in a corner, or below; inside the canvas, on no other label."""
    left, top, right, bottom = box
    width, height = size
    best, least = (0, 0, width, height), None
    for x, y in (
        (left, top - height), (left, top), (right - width, top - height), (right - width, top),
        (left, bottom - height), (right - width, bottom - height), (left, bottom),
    ):  # fmt: skip
        # Pushing a label back inside moves it away from its corner, so that a place that fits as it is wins.
        x_in = max(0, min(x, canvas[0] - width))
        y_in = max(0, min(y, canvas[1] - height))
        place = (x_in, y_in, x_in + width, y_in + height)
        cost = sum(_overlap(place, other) for other in taken) + (abs(x - x_in) + abs(y - y_in)) * height
        if least is None or cost < least:
            best, least = place, cost
    return best


def draw_detections(image: Image.Image, found: Detections) -> Image.Image:
    """A copy of a picture with a box and a label for each detection.

    Args:
        image: any PIL image; boxes are scaled if its size is not that of ``found``.
        found: boxes in source pixels, best first.

    Returns:
        An RGB image of the size of ``image``. Line width and text grow with it.
    """
    out = image.convert("RGB").copy()
    if not len(found):
        return out
    draw = ImageDraw.Draw(out)
    width, height = out.size
    side = (width * height) ** 0.5
    line = max(2, round(side / 170))
    text_height = max(13, round(side / 32))
    letters = font(text_height)
    pad = max(3, text_height // 4)
    scale_x, scale_y = width / max(1, found.width), height / max(1, found.height)
    boxes = []
    for x1, y1, x2, y2 in found.boxes.tolist():
        left, top = (min(max(0, round(v)), end - 1) for v, end in ((x1 * scale_x, width), (y1 * scale_y, height)))
        right, bottom = min(max(left + 1, round(x2 * scale_x)), width), min(max(top + 1, round(y2 * scale_y)), height)
        boxes.append((left, top, right, bottom))
    # Worst first, so that the best lies on top.
    for box, label in reversed(list(zip(boxes, found.labels.tolist(), strict=True))):
        left, top, right, bottom = box
        # A dark hairline outside keeps the box visible on a background of its own colour.
        draw.rectangle((left - 1, top - 1, right, bottom), outline=(0, 0, 0))
        draw.rectangle((left, top, right - 1, bottom - 1), outline=class_colour(label), width=line)
    taken: list[tuple[int, int, int, int]] = []
    places = []
    for box, name, value in zip(boxes, found.label_names(), found.scores.tolist(), strict=True):
        text = f"{name} {value * 100:.0f}%"
        # One height for all, whatever letters a name has.
        size = (round(draw.textlength(text, font=letters)) + 2 * pad, text_height + pad)
        place = _place_label(box, size, out.size, taken)
        taken.append(place)
        places.append((place, text))
    for (place, text), label in reversed(list(zip(places, found.labels.tolist(), strict=True))):
        colour = class_colour(label)
        draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour)
        draw.text((place[0] + pad, (place[1] + place[3]) // 2), text, font=letters, fill=_text_on(colour), anchor="lm")
    return out
