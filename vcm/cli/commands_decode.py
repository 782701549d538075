"""``vcm decode``: files to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcm.cli.options import FileModel, Files, Output, in_range

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
) -> None:
    """Decode VCM files to pictures.

    NAME.decoded.png is written beside each NAME.vcm, never over the photograph that it came from; or what --output
    says, whose extension chooses the format.
    """
    from vcm.cli import output as out
    from vcm.cli.files import plan_outputs
    from vcm.cli.models import Models
    from vcm.io.save import picture_format, save_picture

    targets = dict(zip(files, plan_outputs(files, output, ".decoded.png"), strict=True))
    for target in targets.values():
        picture_format(target)
    models = Models(model)

    def work(file: Path) -> None:
        codec, stream = models.open(file, base_only=False, layers=layers)
        picture = codec.decode(stream, layers=layers)
        save_picture(picture, targets[file], picture.info.get("exif"), picture.info.get("icc_profile"))
        preview = ", a preview from the base layer" if picture.info.get("vcm_preview") else ""
        out.say(f"{targets[file]}: {picture.width}x{picture.height}{preview}")

    raise typer.Exit(out.each(files, "decoding", work, str))
