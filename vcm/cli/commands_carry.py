"""``vcm attach`` and ``vcm strip``: base layers inside ordinary pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcm.cli.options import MODEL, Force, Json, Model, bpp_option, quality_option

if TYPE_CHECKING:
    from vcm.bitstream import Bitstream
    from vcm.cli.models import Models
    from vcm.cli.output import Row

__all__ = ["register"]

_Pictures = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGE", help="JPEG, PNG, WebP, AVIF, HEIC or JPEG XL; - is stdin.", show_default=False),
]
_Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="OUT|DIR", help="A file, or - for stdout; a folder for several.",
        show_default="IMAGE itself",
    ),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(attach)
    app.command()(strip)


def attach(
    images: _Pictures,
    output: _Output = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="FILE", help="Attach the base of this VCM file.", show_default="encode IMAGE"),
    ] = None,
    model: Model = MODEL,
    base_quality: Annotated[float, quality_option("--base-quality", help="Quality of what detectors read")] = 50,
    bpp: Annotated[float | None, bpp_option("Bits per pixel of the base, instead of --base-quality.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a base layer into ordinary pictures.

    Every viewer still shows them, and their pixels are untouched.

    vcm detect and vcm classify then read the base alone. One that is there
    is replaced, and so is IMAGE, in one step, unless --output names another.
    """
    from vcm.carriers import attach_base
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.cli.models import Models
    from vcm.errors import UsageError

    if base is not None and len(images) > 1:
        raise UsageError("--base is of one picture", expected="one IMAGE", found=len(images))
    targets = _targets(images, output, force=force, json=json, also_read=[] if base is None else [base])
    models = Models(model)

    def work(image: Path) -> Row:
        files.check_target(targets[image])
        data = _bytes_of(image)
        stream = _base_for(models, image, data, base, base_quality, bpp)
        carrying = attach_base(data, stream)
        _write(carrying, targets[image])
        return {
            "file": str(image),
            "output": str(targets[image]),
            "width": stream.width,
            "height": stream.height,
            "base_bytes": len(stream.base),
            "total_bytes": len(carrying),
            "bytes_added": len(carrying) - len(data),
        }

    def show(row: Row) -> None:
        share = row["bytes_added"] / max(1, row["total_bytes"] - row["bytes_added"])
        out.say(
            f"{files.shown(Path(row['output']))}: {row['width']}x{row['height']}, base of {row['base_bytes']:,} bytes, "
            f"file {row['bytes_added']:+,} bytes ({share:+.2%})"
        )

    raise typer.Exit(out.each(images, "attaching", work, None if json else show))


def strip(images: _Pictures, output: _Output = None, force: Force = False, json: Json = False) -> None:
    """Take base layers out of pictures again.

    What is left is the file as it was. IMAGE is replaced, in one step,
    unless --output names another.
    """
    from vcm.carriers import strip_base
    from vcm.cli import files
    from vcm.cli import output as out

    targets = _targets(images, output, force=force, json=json)

    def work(image: Path) -> Row:
        files.check_target(targets[image])
        data = _bytes_of(image)
        left = strip_base(data)
        if targets[image] != image or len(left) != len(data) or image == files.STREAM:
            _write(left, targets[image])
        return {
            "file": str(image),
            "output": str(targets[image]),
            "total_bytes": len(left),
            "bytes_removed": len(data) - len(left),
        }

    def show(row: Row) -> None:
        removed = row["bytes_removed"]
        what = f"{removed:,} bytes removed" if removed else "carries no base"
        out.say(f"{files.shown(Path(row['output']))}: {what}")

    raise typer.Exit(out.each(images, "stripping", work, None if json else show))


def _targets(
    images: Sequence[Path], output: str | None, *, force: bool, json: bool, also_read: Sequence[Path] = ()
) -> dict[Path, Path]:
    from vcm.cli import files
    from vcm.cli import output as out

    if output is not None:
        return files.plan_outputs(images, output, None, also_read=also_read, force=force, json=json)
    if files.STREAM in images:
        out.take_stdout(json=json)
    return {image: image for image in images}


def _bytes_of(image: Path) -> bytes:
    """The whole file.

    Raises:
        InputError: it cannot be read.
        LimitError: it is too long.
    """
    from vcm.cli.files import data_of
    from vcm.cli.output import state
    from vcm.errors import InputError, LimitError, reason
    from vcm.limits import DEFAULT_BYTES

    most = state.limits.get("max_bytes", DEFAULT_BYTES)
    source = data_of(image)
    if isinstance(source, bytes):
        return source
    try:
        # Opening a pipe would wait for its writer.
        if source.exists() and not source.is_file():
            raise InputError(f"cannot read {source}", expected="a file")
        if (size := source.stat().st_size) > most:
            raise LimitError(f"{source} is too long", expected=f"at most {most} bytes", found=size)
        return source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {source}", found=reason(error)) from error


def _base_for(
    models: Models, image: Path, data: bytes, base: Path | None, quality: float, bpp: float | None
) -> Bitstream:
    """The base to attach: of another file, or of the picture, which is encoded."""
    from vcm.bitstream import read_base
    from vcm.carriers import host_format
    from vcm.errors import ImageError

    if host_format(data) is None:
        expected = "JPEG, PNG, WebP, AVIF, HEIC, or JPEG XL in its container"
        raise ImageError(f"{image}: cannot carry a base", expected=expected, found="another file")
    if base is None:
        return models.default().encode(data, base_only=True, base_quality=quality, target_bpp=bpp)
    stream = read_base(base).bitstream
    size = _upright_size(data)
    if size is not None and size != (stream.width, stream.height):
        expected, found = f"{stream.width}x{stream.height}", "x".join(map(str, size))
        raise ImageError(f"{image}: {base} is of another picture", expected=expected, found=found)
    return stream


def _upright_size(data: bytes) -> tuple[int, int] | None:
    """Of a picture that Pillow opens; its pixels are not decoded."""
    import io

    from PIL import ExifTags, Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (picture.height, picture.width) if turned else picture.size
    except Exception:  # a format that Pillow does not know; a decoder that meets a hostile file may raise anything
        return None


def _write(data: bytes, target: Path) -> None:
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.io.files import whole_file

    if target == files.STREAM:
        out.write_bytes(data)
        return
    with whole_file(target) as part:
        part.write_bytes(data)
