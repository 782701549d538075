"""``vcm decode``: files to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcm.cli.options import FileModel, Files, Force, Json, Output, in_range

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
    model: FileModel = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Decode VCM files to pictures.

    NAME.decoded.png is written beside each NAME.vcm, never over the photograph that it came from; or what --output
    says, whose extension chooses the format. On stdout it is a PNG.
    """
    from vcm.cli import files as names
    from vcm.cli import output as out
    from vcm.cli.models import Models

    targets = names.plan_outputs(files, output, ".decoded.png", force=force, json=json)
    models = Models(model)

    def work(file: Path) -> out.Row:
        target = targets[file]
        names.check_target(target)
        codec, stream = models.open(names.data_of(file), base_only=False, layers=layers)
        picture = codec.decode(stream, layers=layers)
        names.write_picture(picture, target, picture.info.get("exif"), picture.info.get("icc_profile"))
        size = {"width": picture.width, "height": picture.height}
        return {"file": str(file), "output": str(target), **size, "preview": "vcm_preview" in picture.info}

    def show(row: out.Row) -> None:
        preview = ", a preview from the base layer" if row["preview"] else ""
        out.say(f"{names.shown(Path(row['output']))}: {row['width']}x{row['height']}{preview}")

    raise typer.Exit(out.each(files, "decoding", work, None if json else show))
