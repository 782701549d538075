"""``vcm encode`` and ``vcm enhance``: pictures to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import MODEL, FileModel, Json, Model, Output, bpp_option, quality_option

if TYPE_CHECKING:
    from vcm.bitstream import Bitstream

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(encode)
    app.command()(enhance)


def encode(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Photographs.", show_default=False)],
    output: Output = None,
    model: Model = MODEL,
    quality: Annotated[float | None, quality_option("--quality", "-q", help="Quality of the picture")] = None,
    base_quality: Annotated[float, quality_option("--base-quality", help="Quality of what detectors read")] = 50,
    bpp: Annotated[
        float | None,
        bpp_option("Bits per pixel instead of --quality: of the whole file, or of the base with --base-only."),
    ] = None,
    base_only: Annotated[
        bool, typer.Option("--base-only", help="Write the base layer only: for machines, at a fraction of the work.")
    ] = False,
    json: Json = False,
) -> None:
    """Encode photographs to VCM files.

    IMAGE.vcm is written beside each IMAGE, or where --output says. With several, a failure costs one line, the
    others are written, and the status at the end is 1.
    """
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.cli.models import Models
    from vcm.errors import UsageError

    if bpp is not None and quality is not None:
        raise UsageError("--bpp and --quality exclude each other", expected="one of them")
    targets = dict(zip(images, files.plan_outputs(images, output, ".vcm"), strict=True))
    codec = Models(model).default()
    rows: list[dict[str, Any]] = []

    def work(image: Path) -> None:
        stream = codec.encode(
            image,
            quality=50 if quality is None else quality,
            base_quality=base_quality,
            base_only=base_only,
            target_bpp=bpp,
        )
        stream.save(targets[image])
        rows.append(_row(image, targets[image], stream))
        if not json:
            out.say(_text(rows[-1]))

    status = out.each(images, "encoding", work, str)
    if json:
        out.print_json(rows)
    raise typer.Exit(status)


def enhance(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A VCM file with a base layer.", show_default=False)],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The same photograph.", show_default=False)],
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="OUT", show_default="FILE itself")] = None,
    model: FileModel = None,
    quality: Annotated[float | None, quality_option("--quality", "-q", help="Quality of the picture")] = None,
    bpp: Annotated[float | None, bpp_option("Bits per pixel of the whole file, instead of --quality.")] = None,
    json: Json = False,
) -> None:
    """Append the picture layer to a file that has its base only.

    FILE is replaced, in one step, unless --output names another.
    """
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.cli.models import Models
    from vcm.errors import UsageError

    if bpp is not None and quality is not None:
        raise UsageError("--bpp and --quality exclude each other", expected="one of them")
    target = file if output is None else files.plan_outputs([file], output, ".vcm", also_read=[image])[0]

    def work(file: Path) -> None:
        codec, base = Models(model).open(file, base_only=False, layers=1)
        stream = codec.enhance(base, image, quality=50 if quality is None else quality, target_bpp=bpp)
        stream.save(target)
        row = _row(file, target, stream)
        if json:
            out.print_json(row)
        else:
            out.say(_text(row))

    raise typer.Exit(out.each([file], "enhancing", work, str))


def _row(image: Path, target: Path, stream: Bitstream) -> dict[str, Any]:
    return {
        "file": str(image),
        "output": str(target),
        "width": stream.width,
        "height": stream.height,
        "base_bytes": len(stream.base),
        "total_bytes": stream.total_bytes,
        "bpp": stream.bpp,
        "base_bpp": stream.base_bpp,
        "layers": [{"name": span.name, "offset": span.offset, "bytes": span.bytes} for span in stream.layout],
    }


def _text(row: dict[str, Any]) -> str:
    return (
        f"{row['output']}: {row['width']}x{row['height']}, {row['total_bytes']:,} bytes ({row['bpp']:.3f} bpp), "
        f"of which base {row['base_bytes']:,} ({row['base_bpp']:.3f} bpp)"
    )
