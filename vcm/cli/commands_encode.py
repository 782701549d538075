"""``vcm encode`` and ``vcm enhance``: pictures to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import (
    MODEL,
    Backend,
    Device,
    FileModel,
    Force,
    Jobs,
    Json,
    Keep,
    Model,
    Ndjson,
    Output,
    Picture,
    Recursive,
    Threads,
    bpp_option,
    in_range,
    quality_option,
)
from vcm.io.remote import place

if TYPE_CHECKING:
    from vcm.bitstream import Bitstream
    from vcm.cli.output import Row

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(encode)
    app.command()(enhance)


def encode(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE", help="Photographs, or quoted patterns; - is stdin.", show_default=False, parser=place
        ),
    ],
    output: Output = None,
    recursive: Recursive = False,
    model: Model = MODEL,
    quality: Annotated[float | None, quality_option("--quality", "-q", help="Quality of the picture")] = None,
    base_quality: Annotated[float, quality_option("--base-quality", help="Quality of what detectors read")] = 50,
    bpp: Annotated[
        float | None,
        bpp_option("Bits per pixel of the whole file, instead of --quality, or of --base-quality with --base-only."),
    ] = None,
    base_only: Annotated[
        bool, typer.Option("--base-only", help="Write the base layer only: for machines, at a fraction of the work.")
    ] = False,
    base_scale: Annotated[
        float | None,
        typer.Option(
            "--base-scale",
            metavar="EIGHTHS",
            help="Size of what detectors read, in eighths of the picture's, up to 16: more finds smaller things.",
            show_default="longest side near 480 px, at most 8",
        ),
    ] = None,
    picture: Picture = None,
    every: Annotated[
        int,
        typer.Option("--every", callback=in_range(1, 1_000_000), help="Of a video or of pictures, each Nth."),
    ] = 1,
    keep: Keep = None,
    jobs: Jobs = 1,
    threads: Threads = None,
    device: Device = "cpu",
    backend: Backend = "auto",
    force: Force = False,
    json: Json = False,
    ndjson: Ndjson = False,
) -> None:
    """Encode photographs to VCM files.

    IMAGE.vcm is written beside each IMAGE, or where --output says. With several, a failure costs one line, the
    others are written, and the status at the end is 1.

    Of a video NAME.mp4 the files NAME.000000.vcm, NAME.000001.vcm … are written, by frame number, into NAME.frames or
    the folder of --output. That needs PyAV, the extra video.
    """
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.cli.inputs import find_inputs
    from vcm.cli.models import Models
    from vcm.cli.video import encode_videos, is_video
    from vcm.errors import UsageError

    _one_of(bpp, quality)
    if base_only and picture is not None:
        raise UsageError("--base-only and --picture exclude each other", expected="one of them")
    found = find_inputs(images, recursive=recursive, pictures=True)
    videos = [path for path in found.paths if is_video(path)]
    if videos and len(videos) < len(found.paths):
        raise UsageError("videos and pictures go apart", expected="videos only, or pictures only")
    coded: Any = {} if picture is None else {"picture": picture}

    def encoded(image: Any) -> Bitstream:
        stream: Bitstream = codec.encode(
            image,
            quality=50 if quality is None else quality,
            base_quality=base_quality,
            base_scale=base_scale,
            base_only=base_only,
            target_bpp=bpp,
            **coded,
            keep=None if keep is None else [name for name in keep.split(",") if name != "none"],
            **out.state.limits,
        )
        return stream

    if videos:
        codec = Models(model, threads=threads, device=device, backend=backend, jobs=jobs).default()
        shown = None if json else _show
        status = encode_videos(videos, output, every, encoded, _written, shown, ndjson=ndjson, jobs=jobs)
        raise typer.Exit(status)
    found.paths[:] = found.paths[::every]
    targets = files.plan_outputs(found.paths, output, ".vcm", below=found.below, force=force, json=json or ndjson)
    codec = Models(model, threads=threads, device=device, backend=backend, jobs=jobs).default()

    def work(image: Path) -> out.Row:
        files.check_target(targets[image])
        return _written(encoded(files.data_of(image)), image, targets[image])

    raise typer.Exit(out.each(found.paths, "encoding", work, None if json else _show, ndjson=ndjson, jobs=jobs))


def enhance(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A VCM file with a base layer; - is stdin.", show_default=False, parser=place
        ),
    ],
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="The same photograph; - is stdin.", show_default=False, parser=place),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A file, or - for stdout.", show_default="FILE itself"),
    ] = None,
    model: FileModel = None,
    quality: Annotated[float | None, quality_option("--quality", "-q", help="Quality of the picture")] = None,
    bpp: Annotated[float | None, bpp_option("Bits per pixel of the whole file, instead of --quality.")] = None,
    picture: Picture = None,
    threads: Threads = None,
    device: Device = "cpu",
    backend: Backend = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Append the picture layer to a file that has its base only.

    FILE is replaced, in one step, unless --output names another. A picture whose base is not FILE's is refused without
    --force.
    """
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.cli.models import Models
    from vcm.errors import UsageError

    _one_of(bpp, quality)
    if file == image == files.STREAM:
        raise UsageError("FILE and IMAGE cannot both be stdin", expected="a name for one of them")
    target = file
    if output is not None:
        target = files.plan_outputs([file], output, ".vcm", also_read=[image], force=force, json=json)[file]
    elif file == files.STREAM:
        out.take_stdout(json=json)

    def work(file: Path) -> out.Row:
        data = files.data_of(file)
        codec = Models(model, threads=threads, device=device, backend=backend).open(data, base_only=True)[0]
        coded: Any = {} if picture is None else {"picture": picture}
        stream = codec.enhance(
            data,
            files.data_of(image),
            quality=50 if quality is None else quality,
            target_bpp=bpp,
            allow_other_picture=force,
            **coded,
            **out.state.limits,
        )
        return _written(stream, file, target)

    raise typer.Exit(out.each([file], "enhancing", work, None if json else _show))


def _one_of(bpp: float | None, quality: float | None) -> None:
    from vcm.errors import UsageError

    if bpp is not None and quality is not None:
        raise UsageError("--bpp and --quality exclude each other", expected="one of them")


def _written(stream: Bitstream, source: Path, target: Path) -> Row:
    """Saves a file and gives what there is to say of it."""
    from vcm.cli import files
    from vcm.cli import output as out

    if target == files.STREAM:
        out.write_bytes(stream.to_bytes())
    else:
        stream.save(target)
    return {
        "file": str(source),
        "output": str(target),
        "width": stream.width,
        "height": stream.height,
        "base_bytes": len(stream.base),
        "total_bytes": stream.total_bytes,
        "bpp": stream.bpp,
        "base_bpp": stream.base_bpp,
        "layers": [{"name": span.name, "offset": span.offset, "bytes": span.bytes} for span in stream.layout],
    }


def _show(row: Row) -> None:
    from vcm.cli import files
    from vcm.cli import output as out
    from vcm.io.text import three_digits

    bpp, base_bpp = three_digits(row["bpp"]), three_digits(row["base_bpp"])
    out.say(
        f"{files.shown(Path(row['output']))}: {row['width']}x{row['height']}, "
        f"{row['total_bytes']:,} bytes ({bpp} bpp), of which base {row['base_bytes']:,} ({base_bpp} bpp)"
    )
