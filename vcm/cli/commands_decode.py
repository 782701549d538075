"""``vcm decode``: files to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcm.cli.options import (
    Backend,
    Device,
    FileModel,
    Files,
    Force,
    Jobs,
    Json,
    Ndjson,
    Output,
    Recursive,
    Region,
    Threads,
    in_range,
)

if TYPE_CHECKING:
    from PIL import Image

    from vcm.cli.models import Models

__all__ = ["register"]


_BY_BANDS = 64_000_000
"""Pixels above which a picture is written while it is decoded."""


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(decode)


def decode(
    files: Files,
    output: Output = None,
    recursive: Recursive = False,
    layers: Annotated[
        int | None,
        typer.Option(
            "--layers", "-n", callback=in_range(1, 16), help="Use the first N layers, the base being the first."
        ),
    ] = None,
    region: Region = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="EXT", help="jpg, webp, avif, tiff …, where --output names no file.", show_default="png"
        ),
    ] = None,
    output_quality: Annotated[
        int | None,
        typer.Option(
            "--output-quality",
            callback=in_range(1, 100),
            help="Of JPEG, WebP and AVIF outputs, 1 to 100 in their own scale.",
            show_default="90, AVIF 80",
        ),
    ] = None,
    model: FileModel = None,
    jobs: Jobs = 1,
    threads: Threads = None,
    device: Device = "cpu",
    backend: Backend = "auto",
    force: Force = False,
    json: Json = False,
    ndjson: Ndjson = False,
) -> None:
    """Decode VCM files to pictures.

    NAME.decoded.png is written beside each NAME.vcm, never over the photograph that it came from; or what --output
    says, whose extension chooses the format.

    With --layers 1, which gives a preview, or --region no more of a file is read than that takes.
    """
    from vcm.cli import files as names
    from vcm.cli import output as out
    from vcm.cli.inputs import find_inputs
    from vcm.cli.models import Models

    found = find_inputs(files, recursive=recursive, streams=True)
    kind = (form or "png").lower().removeprefix(".")
    targets = names.plan_outputs(
        found.paths, output, f".decoded.{kind}", below=found.below, force=force, json=json or ndjson
    )
    _check_form(list(targets.values()), form, kind, output_quality)
    models = Models(model, threads=threads, device=device, backend=backend, jobs=jobs)

    def work(file: Path) -> out.Row:
        target = targets[file]
        names.check_target(target)
        picture = _picture(models, names.data_of(file), layers, region, target, kind)
        if isinstance(picture, tuple):
            size = {"width": picture[0], "height": picture[1]}
            return {"file": str(file), "output": str(target), **size, "preview": False}
        exif, icc = picture.info.get("exif"), picture.info.get("icc_profile")
        names.write_picture(picture, target, exif, icc, quality=output_quality, form=kind)
        size = {"width": picture.width, "height": picture.height}
        return {"file": str(file), "output": str(target), **size, "preview": "vcm_preview" in picture.info}

    def show(row: out.Row) -> None:
        preview = ", a preview from the base layer" if row["preview"] else ""
        out.say(f"{names.shown(Path(row['output']))}: {row['width']}x{row['height']}{preview}")

    raise typer.Exit(out.each(found.paths, "decoding", work, None if json else show, ndjson=ndjson, jobs=jobs))


def _picture(
    models: Models, source: Path | bytes, layers: int | None, region: str | None, target: Path, form: str
) -> Image.Image | tuple[int, int]:
    """The picture; or its size, where it was large and has been written by bands."""
    from vcm.bitstream import read_partially
    from vcm.cli.files import write_rows
    from vcm.cli.output import state
    from vcm.limits import DEFAULT_BYTES

    if region is None or layers == 1:
        codec, stream = models.open(source, base_only=layers == 1, layers=layers)
        if layers in (None, 2) and stream.enhancement is not None and stream.width * stream.height > _BY_BANDS:
            rows = codec.decode_rows(stream, **state.limits)
            if write_rows(rows, target, form=form):
                return rows.width, rows.height
        return codec.decode(stream, layers=layers, region=_numbers(region), **state.limits)
    with read_partially(source, max_bytes=state.limits.get("max_bytes", DEFAULT_BYTES)) as file:
        codec = models.reading(file, source, layers=layers)
        return codec.decode(file, layers=layers, region=_numbers(region), **state.limits)


def _numbers(region: str | None) -> tuple[int, int, int, int] | None:
    if region is None:
        return None
    x0, y0, x1, y1 = map(int, region.split(","))
    return x0, y0, x1, y1


def _check_form(targets: list[Path], form: str | None, kind: str, quality: int | None) -> None:
    """A format that is asked for is that of every output, and a quality means something for it."""
    from vcm.cli.files import STREAM, shown
    from vcm.errors import UsageError
    from vcm.io.save import QUALITIES, picture_format

    for target in targets:
        name = Path(f"stdout.{kind}") if target == STREAM else target
        written = picture_format(name)
        if form is not None and written != picture_format(f"x.{kind}"):
            raise UsageError("--format and the name in --output disagree", expected=kind, found=name.suffix)
        if quality is not None and written not in QUALITIES:
            expected = "JPEG, WebP or AVIF, by --format or an extension in --output"
            raise UsageError("--output-quality for a format without", expected=expected, found=shown(target))
