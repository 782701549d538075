"""What is made of a query's answer: COCO's JSON, a contact sheet, decoded pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vcm.api.opened import find_codec
from vcm.archive.archive import Archive, Hit
from vcm.errors import OptionError, UsageError
from vcm.io.save import save_picture
from vcm.structures import Detections

if TYPE_CHECKING:
    from vcm.api import Codec
    from vcm.bitstream import Bitstream

__all__ = ["Codecs", "contact_sheet", "decode_hits", "to_coco"]

_CELL, _CAPTION, _GAP = 320, 40, 14
_INK, _FAINT, _PAPER, _EMPTY = (31, 35, 40), (101, 109, 118), (255, 255, 255), (240, 242, 244)


class Codecs:
    """The codec of each file: that which was asked for, or by the file's fingerprints."""

    def __init__(self, asked: Codec | None = None) -> None:
        self._asked = asked
        self._found: dict[tuple[bytes, ...], Codec] = {}

    def of(self, stream: Bitstream) -> Codec:
        """For one file.

        Raises:
            FingerprintError: no weights at hand read it.
        """
        if self._asked is not None:
            return self._asked
        key = tuple(layer.fingerprint for layer in stream.layers)
        if key not in self._found:
            self._found[key] = find_codec(stream)
        return self._found[key]


def to_coco(hits: Sequence[Hit]) -> dict[str, Any]:
    """COCO's form of pictures and objects: each annotation has a ``score``; objects without a box are left out."""
    objects = [(number, one) for number, hit in enumerate(hits, 1) for one in hit.objects if one.box is not None]
    categories = {one.category_id: one.label for _, one in objects}
    return {
        "images": [
            {"id": number, "file_name": hit.source, "width": hit.width, "height": hit.height}
            for number, hit in enumerate(hits, 1)
        ],
        "annotations": [
            {
                "id": index, "image_id": number, "category_id": one.category_id, "score": one.score, "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
            }
            for index, (number, one) in enumerate(objects, 1)
            for x1, y1, x2, y2 in [one.box or (0, 0, 0, 0)]
        ],
        "categories": [{"id": key, "name": name} for key, name in sorted(categories.items())],
    }  # fmt: skip


def contact_sheet(
    archive: Archive, hits: Sequence[Hit], codecs: Codecs, *, columns: int | None = None
) -> tuple[Image.Image, int]:
    """Previews with boxes, from base layers alone; and the bytes that were read.

    Args:
        archive: where the pictures are.
        hits: at least one.
        codecs: to decode them with.
        columns: of the sheet; by default such that it is about as wide as high.

    Raises:
        OptionError: there is no picture.
        VcmError: a file cannot be read or decoded.
    """
    if not hits:
        raise OptionError("nothing to draw", expected="at least one picture", found=0)
    across = columns or min(6, math.ceil(math.sqrt(len(hits))))
    down = math.ceil(len(hits) / across)
    height = _CELL * 3 // 4 + _CAPTION
    sheet = Image.new("RGB", (across * (_CELL + _GAP) + _GAP, down * (height + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    read = 0
    for index, hit in enumerate(hits):
        stream = archive.base(hit)
        read += hit.base_bytes
        preview = codecs.of(stream).decode(stream, layers=1)
        x, y = _GAP + index % across * (_CELL + _GAP), _GAP + index // across * (height + _GAP)
        _draw_cell(sheet, draw, preview, hit, (x, y))
    return sheet, read


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, preview: Image.Image, hit: Hit, at: tuple[int, int]
) -> None:
    x, y = at
    box = (_CELL, _CELL * 3 // 4)
    scale = min(box[0] / preview.width, box[1] / preview.height)
    size = max(1, round(preview.width * scale)), max(1, round(preview.height * scale))
    small = preview.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw.rectangle((x, y, x + box[0] - 1, y + box[1] - 1), fill=_EMPTY)
    sheet.paste(_detections(hit).plot(small), (x + (box[0] - size[0]) // 2, y + (box[1] - size[1]) // 2))
    bold, plain = ImageFont.load_default(size=14), ImageFont.load_default(size=12)
    base = y + box[1] + 16
    draw.text((x, base), _fitted(draw, hit.camera, bold, _CELL - 150), font=bold, fill=_INK, anchor="ls")
    draw.text((x + _CELL, base), f"{hit.time:%Y-%m-%d %H:%M:%S}", font=plain, fill=_FAINT, anchor="rs")
    name = f"{hit.picture[:8]}  {hit.source.rpartition('/')[2]}"
    draw.text((x, base + 17), _fitted(draw, name, plain, _CELL - 90), font=plain, fill=_FAINT, anchor="ls")
    draw.text((x + _CELL, base + 17), f"{hit.base_bytes:,} bytes", font=plain, fill=_FAINT, anchor="rs")


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=font) > width:
        text = text[:-1]
    return f"{text}…"


def _detections(hit: Hit) -> Detections:
    """A hit's boxes as they are drawn: classes by name, colours by category."""
    found = [one for one in hit.objects if one.box is not None]
    names = {one.category_id: one.label for one in found}
    size = max(names, default=0) + 1
    return Detections(
        np.array([one.box for one in found], np.float32).reshape(-1, 4),
        np.array([one.score for one in found], np.float32),
        np.array([one.category_id for one in found], np.int64),
        hit.width, hit.height, hit.base_bytes,
        tuple(names.get(index, "") for index in range(size)), tuple(range(size)),
    )  # fmt: skip


def decode_hits(
    archive: Archive, hits: Sequence[Hit], codecs: Codecs, folder: Path, force: bool = False
) -> tuple[list[str], int]:
    """Decode pictures with all their layers, as PNG; only here their enhancements are read.

    Args:
        archive: where they are.
        hits: which.
        codecs: to decode them with.
        folder: where to; made if it is not there.
        force: write over files that are there.

    Returns:
        The names written, and the bytes that were read.

    Raises:
        UsageError: a file is there.
        VcmError: a file cannot be read, decoded or written.
    """
    targets = [folder / f"{hit.time:%Y%m%dT%H%M%S}-{hit.picture[:12]}.png" for hit in hits]
    there = next((target for target in targets if target.exists()), None)
    if there is not None and not force:
        raise UsageError(f"{there} is there", expected="another folder, or --force to write over it")
    folder.mkdir(parents=True, exist_ok=True)
    read = 0
    for hit, target in zip(hits, targets, strict=True):
        stream = archive.stream(hit)
        picture = codecs.of(stream).decode(stream)
        save_picture(picture, target, picture.info.get("exif"), picture.info.get("icc_profile"))
        read += hit.bytes
    return [str(target) for target in targets], read
