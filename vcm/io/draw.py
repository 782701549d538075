"""Detections drawn on a picture, and the figure that ``vcm demo`` writes. Needs Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from vcm.errors import OptionError
from vcm.io.text import three_digits
from vcm.structures import DEFAULT_SCORE, Detections

__all__ = ["PanelRow", "class_colour", "draw_detections", "panel"]

Colour = tuple[int, int, int]

# Twenty hues of similar weight, neighbours far apart, so that classes that meet in one picture rarely look alike.
_PALETTE: tuple[Colour, ...] = (
    (230, 57, 70), (29, 122, 223), (255, 159, 28), (46, 160, 67), (157, 78, 221), (0, 168, 181), (240, 101, 149),
    (188, 140, 0), (94, 96, 206), (251, 111, 36), (20, 140, 110), (200, 54, 160), (111, 168, 25), (82, 113, 255),
    (196, 88, 60), (3, 144, 196), (222, 42, 110), (138, 109, 59), (122, 158, 190), (110, 60, 160),
)  # fmt: skip
_INK: Colour = (31, 35, 40)
_FAINT: Colour = (101, 109, 118)
_RULE: Colour = (216, 222, 228)
_PAPER: Colour = (255, 255, 255)
_LAYER_COLOURS: tuple[Colour, ...] = ((230, 57, 70), (29, 122, 223), (46, 160, 67), (157, 78, 221))
_OTHER_COLOUR: Colour = (175, 184, 193)


def class_colour(label: int) -> Colour:
    """RGB of class index ``label``; the same class has the same colour in every picture."""
    # The shift keeps people and what stands around them (tables, chairs, bags) apart where the palette starts again.
    return _PALETTE[(label + 4 * (label // len(_PALETTE))) % len(_PALETTE)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
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


def draw_detections(image: Image.Image, detections: Detections, score: float = DEFAULT_SCORE) -> Image.Image:
    """A copy of a picture with a box and a label for each detection of at least ``score``.

    Args:
        image: any PIL image; boxes are scaled if its size is not that of ``detections``.
        detections: boxes in source pixels.
        score: 0 … 1.

    Returns:
        An RGB image of the size of ``image``. Line width and text grow with it.
    """
    out = image.convert("RGB").copy()
    found = detections.filter(score=score)
    if not len(found):
        return out
    draw = ImageDraw.Draw(out)
    width, height = out.size
    side = (width * height) ** 0.5
    line = max(2, round(side / 170))
    text_height = max(13, round(side / 32))
    font = _font(text_height)
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
        size = (round(draw.textlength(text, font=font)) + 2 * pad, text_height + pad)
        place = _place_label(box, size, out.size, taken)
        taken.append(place)
        places.append((place, text))
    for (place, text), label in reversed(list(zip(places, found.labels.tolist(), strict=True))):
        colour = class_colour(label)
        draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour)
        draw.text((place[0] + pad, (place[1] + place[3]) // 2), text, font=font, fill=_text_on(colour), anchor="lm")
    return out


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One photograph of the figure.

    Attributes:
        title: its name.
        original: the photograph.
        detections: found on the base layer.
        decoded: picture from all layers.
        preview: picture from the base layer only.
        psnr_db: of ``decoded`` against ``original``, dB.
        bpp: bits of the whole file per source pixel.
        layers: (name, bytes) of each part of the file, the base first; their sum is the file.
    """

    title: str
    original: Image.Image
    detections: Detections
    decoded: Image.Image
    preview: Image.Image
    psnr_db: float
    bpp: float
    layers: tuple[tuple[str, int], ...]


_COLUMN = 430
"""Width of a picture, pixels."""
_MAX_PICTURE_HEIGHT = 430
_BARS = 300
"""Width of the last column, pixels."""
_GAP, _MARGIN = 22, 36
_HEAD, _TITLE, _CAPTION, _FOOT = 34, 78, 36, 40


def panel(rows: Sequence[PanelRow], *, title: str, note: str = "", score: float = DEFAULT_SCORE) -> Image.Image:
    """The figure: for each photograph the original with boxes, the decoded picture, the base's preview, and the bits.

    Args:
        rows: at least one.
        title: first line.
        note: last line, small.
        score: boxes of at least this score are drawn and counted.

    Raises:
        OptionError: there is no row.
    """
    if not rows:
        raise OptionError("nothing to draw", expected="at least one row", found=0)
    heights = [_fit(row.original)[1] + _CAPTION for row in rows]
    width = 2 * _MARGIN + 3 * (_COLUMN + _GAP) + _BARS
    height = _MARGIN // 2 + _TITLE + _HEAD + sum(heights) + _GAP * len(rows) + _FOOT
    out = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(out)
    y = _MARGIN // 2 + _TITLE
    draw.text((_MARGIN, y - 34), title, font=_font(30), fill=_INK, anchor="ls")
    heads = ("Detected from the base layer", "Decoded, all layers", "Preview, base layer only", "Where the bytes are")
    for index, head in enumerate(heads):
        draw.text((_column_x(index), y + 6), head, font=_font(18), fill=_FAINT, anchor="ls")
    draw.line((_MARGIN, y + 16, width - _MARGIN, y + 16), fill=_RULE, width=1)
    y += _HEAD
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(out, draw, row, y, score)
        y += row_height + _GAP
    draw.text((_MARGIN, height - 22), note, font=_font(14), fill=_FAINT, anchor="ls")
    return out


def _column_x(index: int) -> int:
    return _MARGIN + index * (_COLUMN + _GAP)


def _fit(image: Image.Image) -> tuple[int, int]:
    """Size of a photograph in the figure: as wide as its column unless that makes it too high."""
    scale = min(_COLUMN / image.width, _MAX_PICTURE_HEIGHT / image.height)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _draw_row(out: Image.Image, draw: ImageDraw.ImageDraw, row: PanelRow, y: int, score: float) -> None:
    size = _fit(row.original)
    found = row.detections.filter(score=score)
    original, decoded, preview = (
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        for picture in (row.original, row.decoded, row.preview)
    )
    base_bytes = row.layers[0][1]
    count = f"{len(found)} object" + ("" if len(found) == 1 else "s")
    captions = (
        (f"{row.title}: {count}", f"{base_bytes:,} bytes read"),
        (f"{row.psnr_db:.1f} dB PSNR", f"{three_digits(row.bpp)} bpp"),
        ("what the detector's bytes show", f"{_bpp(base_bytes, row)} bpp"),
    )
    for index, picture in enumerate((draw_detections(original, found, score), decoded, preview)):
        x = _column_x(index)
        out.paste(picture, (x, y))
        left, right = captions[index]
        draw.text((x, y + size[1] + 24), left, font=_font(17), fill=_INK, anchor="ls")
        draw.text((x + size[0], y + size[1] + 24), right, font=_font(15), fill=_FAINT, anchor="rs")
    _draw_bars(draw, row, _column_x(3), y)


def _bpp(count: int, row: PanelRow) -> str:
    return three_digits(count * 8 / (row.original.width * row.original.height))


def _draw_bars(draw: ImageDraw.ImageDraw, row: PanelRow, x: int, y: int) -> None:
    """One bar of the whole file split by layer, and a line of numbers for each part."""
    total = max(1, sum(count for _, count in row.layers))
    draw.text((x, y + 24), f"{total:,} bytes", font=_font(28), fill=_INK, anchor="ls")
    bar_top, bar_bottom = y + 42, y + 66
    start = x
    running = 0
    for index, (_, count) in enumerate(row.layers):
        running += count
        # At least three pixels: a base of one per cent must still be seen.
        end = max(start + 3, x + round(_BARS * running / total))
        draw.rectangle((start, bar_top, min(end, x + _BARS) - 1, bar_bottom), fill=_layer_colour(index, row))
        start = end
    line = bar_bottom + 30
    for index, (name, count) in enumerate(row.layers):
        draw.rectangle((x, line - 12, x + 11, line - 1), fill=_layer_colour(index, row))
        draw.text((x + 20, line), name, font=_font(17), fill=_INK, anchor="ls")
        draw.text((x + _BARS, line), f"{count:,} bytes", font=_font(17), fill=_INK, anchor="rs")
        share = f"{_bpp(count, row)} bpp, {100 * count / total:.1f}% of the file"
        draw.text((x + 20, line + 20), share, font=_font(14), fill=_FAINT, anchor="ls")
        line += 50


def _layer_colour(index: int, row: PanelRow) -> Colour:
    if row.layers[index][0] in ("metadata", "other"):
        return _OTHER_COLOUR
    return _LAYER_COLOURS[index % len(_LAYER_COLOURS)]
