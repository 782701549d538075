"""``vcm detect`` and ``vcm classify``: what is in the picture, from the base layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import FileModel, Json, Score, in_range

if TYPE_CHECKING:
    from PIL import Image

    from vcm.api import Codec
    from vcm.bitstream import Bitstream
    from vcm.cli.models import Models
    from vcm.structures import Detections

__all__ = ["register"]

_Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="VCM files, or pictures (encoded in memory).", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(detect)
    app.command()(classify)


def detect(
    files: _Inputs,
    score: Score = None,
    draw: Annotated[
        str | None,
        typer.Option("--draw", "-d", metavar="OUT|DIR", help="Draw the boxes there; a folder for several."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option("--head", metavar="FILE", help="A detection head of your own.", show_default="the model's"),
    ] = None,
    model: FileModel = None,
    json: Json = False,
) -> None:
    """Detect objects from the base layer.

    A picture that is no VCM file is encoded in memory first, and its base is read.
    """
    from vcm.cli import output as out
    from vcm.cli.files import plan_outputs
    from vcm.cli.models import Models
    from vcm.structures import DEFAULT_SCORE

    least = DEFAULT_SCORE if score is None else score
    drawings: dict[Path, Path] = {}
    if draw is not None:
        from vcm.io.save import picture_format

        drawings = dict(zip(files, plan_outputs(files, draw, ".boxes.png"), strict=True))
        for drawing in drawings.values():
            picture_format(drawing)
    models = Models(model)
    rows: list[dict[str, Any]] = []

    def work(file: Path) -> None:
        codec, source = _base_of(models, file)
        if head is None:
            found = codec.detect(source, score=least)
        else:
            found = codec.run(models.detector(codec, head), source, score=least)
        if file in drawings:
            _draw(models, file, found, least, drawings[file])
        if json:
            rows.append(
                {
                    "file": str(file),
                    "width": found.width,
                    "height": found.height,
                    "bytes_read": found.bytes_read,
                    "detections": found.to_json(),
                }
            )
        else:
            _print_detections(file, found)

    status = out.each(files, "detecting", work, str)
    if json:
        out.print_json(rows)
    raise typer.Exit(status)


def classify(
    files: _Inputs,
    top: Annotated[int, typer.Option("--top", "-k", callback=in_range(1, 80), help="How many classes.")] = 5,
    model: FileModel = None,
    json: Json = False,
) -> None:
    """Say what is in a picture from the base layer.

    A picture that is no VCM file is encoded in memory first, and its base is read.
    """
    from vcm.cli import output as out
    from vcm.cli.models import Models

    models = Models(model)
    rows: list[dict[str, Any]] = []

    def work(file: Path) -> None:
        codec, source = _base_of(models, file)
        found = codec.classify(source)
        classes = [{"label": label, "score": round(value, 4)} for label, value in found.top(top)]
        if json:
            rows.append({"file": str(file), "bytes_read": found.bytes_read, "classes": classes})
        else:
            out.say(f"{file}: {found.bytes_read:,} bytes read")
            out.print_table(("class", "score"), [(str(c["label"]), f"{c['score']:.3f}") for c in classes])

    status = out.each(files, "classifying", work, str)
    if json:
        out.print_json(rows)
    raise typer.Exit(status)


def _base_of(models: Models, file: Path) -> tuple[Codec, Bitstream]:
    """The codec for a file, and what its heads read: the file, or the base of a picture that is encoded for it."""
    from vcm.cli.files import is_vcm

    if is_vcm(file):
        return models.open(file, base_only=True)
    codec = models.default()
    return codec, codec.encode(file, base_only=True)


def _picture_of(models: Models, file: Path) -> Image.Image:
    from PIL import Image

    from vcm.cli.files import is_vcm
    from vcm.io.pictures import load_image

    if not is_vcm(file):
        return Image.fromarray(load_image(file).pixels)
    codec, stream = models.open(file, base_only=False)
    return codec.decode(stream)


def _draw(models: Models, file: Path, found: Detections, score: float, target: Path) -> None:
    from vcm.io.draw import draw_detections
    from vcm.io.save import save_picture

    picture = _picture_of(models, file)
    save_picture(draw_detections(picture, found, score), target, icc=picture.info.get("icc_profile"))


def _print_detections(file: Path, found: Detections) -> None:
    from vcm.cli import output as out

    objects = f"{len(found)} object{'' if len(found) == 1 else 's'}"
    bpp = found.bytes_read * 8 / (found.width * found.height)
    out.say(f"{file}: {found.width}x{found.height}, {objects}, {found.bytes_read:,} bytes read ({bpp:.3f} bpp)")
    if len(found):
        rows = [
            (label, f"{score:.2f}", *(f"{value:.0f}" for value in box))
            for label, score, box in zip(found.label_names(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        ]
        out.print_table(("label", "score", "x1", "y1", "x2", "y2"), rows)
