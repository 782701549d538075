"""The figure that ``vcm demo`` writes. Needs Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vcm.errors import OptionError
from vcm.io.text import three_digits
from vcm.structures import DEFAULT_SCORE, Detections
from vcm.structures.drawing import Colour, font

__all__ = ["PanelRow", "panel"]

_INK: Colour = (31, 35, 40)
_FAINT: Colour = (101, 109, 118)
_RULE: Colour = (216, 222, 228)
_PAPER: Colour = (255, 255, 255)
_LAYER_COLOURS: tuple[Colour, ...] = ((230, 57, 70), (29, 122, 223), (46, 160, 67), (157, 78, 221))
_OTHER_COLOUR: Colour = (175, 184, 193)


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
    draw.text((_MARGIN, y - 34), title, font=font(30), fill=_INK, anchor="ls")
    heads = ("Detected from the base layer", "Decoded, all layers", "Preview, base layer only", "Where the bytes are")
    for index, head in enumerate(heads):
        draw.text((_column_x(index), y + 6), head, font=font(18), fill=_FAINT, anchor="ls")
    draw.line((_MARGIN, y + 16, width - _MARGIN, y + 16), fill=_RULE, width=1)
    y += _HEAD
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(out, draw, row, y, score)
        y += row_height + _GAP
    draw.text((_MARGIN, height - 22), note, font=font(14), fill=_FAINT, anchor="ls")
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
    for index, picture in enumerate((found.plot(original), decoded, preview)):
        x = _column_x(index)
        out.paste(picture, (x, y))
        left, right = captions[index]
        draw.text((x, y + size[1] + 24), left, font=font(17), fill=_INK, anchor="ls")
        draw.text((x + size[0], y + size[1] + 24), right, font=font(15), fill=_FAINT, anchor="rs")
    _draw_bars(draw, row, _column_x(3), y)


def _bpp(count: int, row: PanelRow) -> str:
    return three_digits(count * 8 / (row.original.width * row.original.height))


def _draw_bars(draw: ImageDraw.ImageDraw, row: PanelRow, x: int, y: int) -> None:
    """One bar of the whole file split by layer, and a line of numbers for each part."""
    total = max(1, sum(count for _, count in row.layers))
    draw.text((x, y + 24), f"{total:,} bytes", font=font(28), fill=_INK, anchor="ls")
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
        draw.text((x + 20, line), name, font=font(17), fill=_INK, anchor="ls")
        draw.text((x + _BARS, line), f"{count:,} bytes", font=font(17), fill=_INK, anchor="rs")
        share = f"{_bpp(count, row)} bpp, {100 * count / total:.1f}% of the file"
        draw.text((x + 20, line + 20), share, font=font(14), fill=_FAINT, anchor="ls")
        line += 50


def _layer_colour(index: int, row: PanelRow) -> Colour:
    if row.layers[index][0] in ("metadata", "other"):
        return _OTHER_COLOUR
    return _LAYER_COLOURS[index % len(_LAYER_COLOURS)]
