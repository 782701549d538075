"""Decoded pictures with boxes, side by side at about the same rate, for the report."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image as PilImage

from vcm.codecs.protocol import ImageCodec, LatentTaskCodec
from vcm.errors import VcmError
from vcm.eval.data.datasets import Picture, read_picture
from vcm.eval.report.rows import ExampleRow, PointRow, RowWriter, select
from vcm.eval.report.summary import Summary
from vcm.eval.run.runner import EXAMPLES, CodecRun, Run
from vcm.eval.run.streams import Streams
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
    bpp: ExampleRow
    objects: ExampleRow | None
    preview: bool
    uri: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Tiles, picture by picture.

    Attributes:
        target: row with the rate that the codecs' points were chosen for.
        tiles: by picture, then by codec.
    """

    target: ExampleRow
    tiles: tuple[tuple[Tile, ...], ...]


def make_gallery(run: Run, summary: Summary, codecs: Sequence[ImageCodec]) -> Gallery | None:
    """A few pictures at the points nearest to one rate, from kept files; ``None`` where there is nothing to match.

    The rate is the second lowest of the anchor: low enough for differences to show. Numbers are added to
    ``summary.rows``.

    Args:
        run, summary: what was measured and computed.
        codecs: those of the run; only their decoders are used, where files were kept.
    """
    points = summary.rows.rows().points
    rates = {codec.info.name: _rates(codec, points) for codec in run.codecs}
    anchor = next((name for name in (*run.protocol.anchors, *rates) if len(rates.get(name, {})) > 1), None)
    if anchor is None:
        return None
    target = sorted(rates[anchor].values())[1]
    row = summary.rows.add(
        ExampleRow, target, unit="bit/px", codec=anchor, point="", picture="", machine="", quantity="target_bpp"
    )
    by_name = {codec.name: codec for codec in codecs}
    shown = [codec for codec in run.codecs if codec.info.name in by_name]
    tiles = []
    for picture in _examples(run):
        line = []
        for codec in shown:
            near = _nearest(rates[codec.info.name], target)
            tile = _tile(run, codec, by_name[codec.info.name], near, picture, summary.rows)
            if tile is not None:
                line.append(tile)
        tiles.append(tuple(line))
    return Gallery(row, tuple(tiles))


def _nearest(rates: Mapping[str, float], target: float) -> str:
    """The point whose rate is nearest to the target, by ratio."""
    return min(rates, key=lambda label: abs(math.log(rates[label] / target)))


def _rates(codec: CodecRun, points: Sequence[PointRow]) -> Mapping[str, float]:
    rows = select(points, codec=codec.info.name, quantity="bpp")
    return {row.point: row.value for row in rows if row.value}


def _examples(run: Run) -> list[Picture]:
    """Those whose files were kept for this; where all of them were left out, a few others."""
    found = [picture for picture in run.dataset.pictures if picture.name in run.examples]
    return found or list(run.dataset.spread(EXAMPLES))


def _tile(run: Run, codec: CodecRun, coder: ImageCodec, point: str, picture: Picture, rows: RowWriter) -> Tile | None:
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
    of = {"codec": name, "point": point, "picture": picture.name, "pictures": 1}
    rate = rows.add(ExampleRow, bpp, unit="bit/px", machine="", quantity="bpp", **of)
    image.thumbnail((_WIDTH, _WIDTH))
    objects = None
    machine = next(iter(record.found), None)
    if machine is not None:
        found = record.found[machine].detections(record.width, record.height)
        image = found.filter(score=DEFAULT_SCORE).plot(image)
        count = float(len(found.filter(score=DEFAULT_SCORE)))
        objects = rows.add(ExampleRow, count, machine=machine, quantity="objects", **of)
    preview = isinstance(coder, LatentTaskCodec)
    return Tile(name, point, picture.name, rate, objects, preview, _uri(image))


def _uri(image: PilImage.Image) -> str:
    out = io.BytesIO()
    image.convert("RGB").save(out, "WEBP", quality=82)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
