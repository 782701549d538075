"""Decoded pictures with boxes, side by side at about the same rate, for the report."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image as PilImage

from vcm.codecs.protocol import ImageCodec, LatentTaskCodec
from vcm.errors import VcmError
from vcm.eval.data.datasets import Picture, read_picture
from vcm.eval.report.summary import Row, Summary
from vcm.eval.run.runner import EXAMPLES, CodecRun, Run
from vcm.eval.run.streams import Streams
from vcm.io.draw import draw_detections
from vcm.structures import DEFAULT_SCORE

__all__ = ["Gallery", "Tile", "make_gallery"]

_WIDTH = 380


@dataclass(frozen=True, slots=True)
class Tile:
    """One decoded picture.

    Attributes:
        codec, point: of the file.
        picture: name.
        bpp: row with the rate of this very file.
        objects: row with the number of boxes drawn, or ``None`` where no machine looked.
        preview: the picture is only a base layer's preview; the boxes come from its latents.
        uri: the picture with boxes as a ``data:`` URI.
    """

    codec: str
    point: str
    picture: str
    bpp: Row
    objects: Row | None
    preview: bool
    uri: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Tiles, picture by picture, and the rows of their numbers.

    Attributes:
        target: row with the rate that the codecs' points were chosen for.
        tiles: by picture, then by codec.
        rows: every number here.
    """

    target: Row
    tiles: tuple[tuple[Tile, ...], ...]
    rows: tuple[Row, ...]


def make_gallery(run: Run, summary: Summary, codecs: Sequence[ImageCodec]) -> Gallery | None:
    """A few pictures at the points nearest to one rate, from kept files; ``None`` where there is nothing to match.

    The rate is the second lowest of the anchor: low enough for differences to show.
    """
    rates = {codec.info.name: _rates(codec, summary) for codec in run.codecs}
    anchor = next((name for name in (*run.protocol.anchors, *rates) if len(rates.get(name, {})) > 1), None)
    if anchor is None:
        return None
    target = sorted(rates[anchor].values())[1]
    rows = list(summary.rows)
    first = len(rows)
    rows.append(Row(first + 1, "gallery", anchor, "", "", "target_bpp", target, unit="bit/px", note="rate matched"))
    by_name = {codec.name: codec for codec in codecs}
    shown = [codec for codec in run.codecs if codec.info.name in by_name]
    tiles = []
    for picture in _examples(run):
        line = []
        for codec in shown:
            points = rates[codec.info.name]
            point = min(points, key=lambda label, p=points: abs(math.log(p[label] / target)))  # type: ignore[misc]
            tile = _tile(run, codec, by_name[codec.info.name], point, picture, rows)
            if tile is not None:
                line.append(tile)
        tiles.append(tuple(line))
    return Gallery(rows[first], tuple(tiles), tuple(rows[first:]))


def _rates(codec: CodecRun, summary: Summary) -> Mapping[str, float]:
    rows = summary.find("point", codec=codec.info.name, quantity="bpp")
    return {row.point: row.value for row in rows if row.value}


def _examples(run: Run) -> list[Picture]:
    """Those whose files were kept for this; where all of them were left out, a few others."""
    found = [picture for picture in run.dataset.pictures if picture.name in run.examples]
    return found or list(run.dataset.spread(EXAMPLES))


def _tile(run: Run, codec: CodecRun, coder: ImageCodec, point: str, picture: Picture, rows: list[Row]) -> Tile | None:
    record = codec.records[point][picture.name]
    try:
        asked = next(p for p in codec.points if p.label == point)
        stream = Streams(run.streams, codec.info).get(asked, record.digest)
        # Only a run that an older version began has kept none.
        data = stream.data if stream else coder.compress(read_picture(picture)[0], record.quality)
        decoded = coder.decompress(data)
    except VcmError:
        return None  # it worked during the run; the report can do without this tile
    image = PilImage.fromarray(decoded)
    name = codec.info.name
    bpp = 8 * record.bytes / (record.width * record.height)
    rate = Row(len(rows) + 1, "gallery", name, point, "", "bpp", bpp, unit="bit/px", pictures=1, against=picture.name)
    rows.append(rate)
    image.thumbnail((_WIDTH, _WIDTH))
    objects = None
    machine = next(iter(record.found), None)
    if machine is not None:
        found = record.found[machine].detections(record.width, record.height)
        image = draw_detections(image, found, DEFAULT_SCORE)
        note = f"score at least {DEFAULT_SCORE:g}"
        count = float(len(found.above(DEFAULT_SCORE)))
        objects = replace(rate, row=len(rows) + 1, machine=machine, quantity="objects", value=count, unit="", note=note)
        rows.append(objects)
    preview = isinstance(coder, LatentTaskCodec)
    return Tile(name, point, picture.name, rate, objects, preview, _uri(image))


def _uri(image: PilImage.Image) -> str:
    out = io.BytesIO()
    image.convert("RGB").save(out, "WEBP", quality=82)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
