"""``vcm decode``: files to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcm.cli.options import FileModel, Files, Force, Json, Output, Region, in_range

if TYPE_CHECKING:
    from PIL import Image

    from vcm.cli.models import Models

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(decode)


def decode(
    files: Files,
    output: Output = None,
    layers: Annotated[
        int | None,
        typer.Option(
            "--layers", "-n", callback=in_range(1, 16), help="Use the first N layers, the base being the first."
        ),
    ] = None,
    region: Region = None,
    model: FileModel = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Decode VCM files to pictures.

    NAME.decoded.png is written beside each NAME.vcm, never over the photograph that it came from; or what --output
    says, whose extension chooses the format. On stdout it is a PNG.

    With --layers 1, which gives a preview, or --region no more of a file is read than that takes.
    """
    from vcm.cli import files as names
    from vcm.cli import output as out
    from vcm.cli.models import Models

    targets = names.plan_outputs(files, output, ".decoded.png", force=force, json=json)
    models = Models(model)

    def work(file: Path) -> out.Row:
        target = targets[file]
        names.check_target(target)
        picture = _picture(models, names.data_of(file), layers, region)
        names.write_picture(picture, target, picture.info.get("exif"), picture.info.get("icc_profile"))
        size = {"width": picture.width, "height": picture.height}
        return {"file": str(file), "output": str(target), **size, "preview": "vcm_preview" in picture.info}

    def show(row: out.Row) -> None:
        preview = ", a preview from the base layer" if row["preview"] else ""
        out.say(f"{names.shown(Path(row['output']))}: {row['width']}x{row['height']}{preview}")

    raise typer.Exit(out.each(files, "decoding", work, None if json else show))


def _picture(models: Models, source: Path | bytes, layers: int | None, region: str | None) -> Image.Image:
    from vcm.bitstream import read_partially

    if region is None or layers == 1:
        codec, stream = models.open(source, base_only=layers == 1, layers=layers)
        return codec.decode(stream, layers=layers, region=_numbers(region))
    with read_partially(source) as file:
        return models.reading(file, source, layers=layers).decode(file, layers=layers, region=_numbers(region))


def _numbers(region: str | None) -> tuple[int, int, int, int] | None:
    if region is None:
        return None
    x0, y0, x1, y1 = map(int, region.split(","))
    return x0, y0, x1, y1
