"""``vcm detect`` and ``vcm classify``: what is in the picture, from the base layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import (
    Backend,
    Device,
    FileModel,
    Force,
    Jobs,
    Json,
    Ndjson,
    Recursive,
    Score,
    Threads,
    in_range,
)
from vcm.io.remote import place

if TYPE_CHECKING:
    from PIL import Image

    from vcm.api import Codec
    from vcm.bitstream import Bitstream
    from vcm.carriers import Carried
    from vcm.cli.models import Models
    from vcm.cli.output import Row
    from vcm.structures import Detections

__all__ = ["register"]

_DRAWN_SIDE = 2048  # of drawings, pixels
_MOST_DECODED = 1 << 23  # pixels that are decoded for a drawing

_Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        help="VCM files, pictures, or quoted patterns of names; - is stdin.",
        show_default=False,
        parser=place,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(detect)
    app.command()(classify)


def detect(
    files: _Inputs,
    recursive: Recursive = False,
    score: Score = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="LIST", help="Only these, with commas: person,dog.", show_default="all"),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            "--iou",
            callback=in_range(0, 1),
            help="Overlap above which the weaker of two boxes of one class is dropped, 0 to 1.",
            show_default="0.5",
        ),
    ] = None,
    agnostic: Annotated[
        bool, typer.Option("--agnostic", help="Drop the weaker of two boxes of different classes as well.")
    ] = False,
    max_det: Annotated[
        int, typer.Option("--max-det", callback=in_range(1, 1000), help="Most boxes of a picture.")
    ] = 100,
    draw: Annotated[
        str | None,
        typer.Option(
            "--draw", "-d", metavar="OUT|DIR", help="Draw the boxes there, - is stdout; a folder for several."
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Draw on the whole picture, not on at most 2048 pixels a side, and a preview from 8 megapixels on.",
        ),
    ] = False,
    head: Annotated[
        Path | None,
        typer.Option("--head", metavar="FILE", help="A detection head of your own.", show_default="the model's"),
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
    """Detect objects from the base layer.

    Of a picture that carries a base, that is read (vcm attach); any other is encoded in memory first. A pixel twin
    named by --model reads pixels.
    """
    from vcm.cli import files as names
    from vcm.cli import output as out
    from vcm.cli.inputs import find_inputs
    from vcm.cli.models import Models
    from vcm.errors import OptionError
    from vcm.structures import DEFAULT_SCORE
    from vcm.tasks.postprocessing import NMS_IOU

    least = DEFAULT_SCORE if score is None else score
    options: dict[str, Any] = {
        "agnostic": agnostic,
        "max_det": max_det,
        "classes": None if classes is None else classes.split(","),
    }
    overlap = NMS_IOU if iou is None else iou
    inputs = find_inputs(files, recursive=recursive, pictures=True, streams=True)
    drawings = {}
    if draw is not None:
        drawings = names.plan_outputs(
            inputs.paths, draw, ".boxes.png", below=inputs.below, force=force, json=json or ndjson
        )
    models = Models(model, threads=threads, device=device, backend=backend, jobs=jobs)
    twin = models.twin()
    if twin is not None and head is not None:
        raise OptionError("a pixel twin has its own head", expected="--head with a codec", found=f"--model {model}")

    def detected(source: Path | bytes) -> tuple[Detections, int]:
        if twin is not None:
            if names.is_vcm(source):
                raise OptionError("a pixel twin reads pixels", expected="a picture", found="a VCM file")
            return twin.detect(source, score=least, iou=overlap, **options, **out.state.limits), 0
        codec, stream, count = _base_of(models, source)
        if head is None:
            return codec.detect(stream, score=least, iou=overlap, **options, **out.state.limits), count
        name = models.detector(codec, head)
        return codec.run(name, stream, score=least, nms_iou=overlap, **options, **out.state.limits), count

    def work(file: Path) -> out.Row:
        source = names.data_of(file)
        found, count = detected(source)
        if file in drawings:
            picture = _picture_of(models, source, (found.width, found.height), full)
            names.write_picture(found.plot(picture), drawings[file], icc=picture.info.get("icc_profile"))
        size = {"width": found.width, "height": found.height}
        return {"file": str(file), **size, "bytes_read": count, "detections": found.to_json()}

    raise typer.Exit(
        out.each(inputs.paths, "detecting", work, None if json else _show_detections, ndjson=ndjson, jobs=jobs)
    )


def classify(
    files: _Inputs,
    recursive: Recursive = False,
    top: Annotated[int, typer.Option("--top", "-k", callback=in_range(1, 80), help="How many classes.")] = 5,
    model: FileModel = None,
    jobs: Jobs = 1,
    threads: Threads = None,
    device: Device = "cpu",
    backend: Backend = "auto",
    json: Json = False,
    ndjson: Ndjson = False,
) -> None:
    """Say what is in a picture from the base layer.

    Of a picture that carries a base, that is read (vcm attach); any other is encoded in memory first.
    """
    from vcm.cli import output as out
    from vcm.cli.files import data_of
    from vcm.cli.inputs import find_inputs
    from vcm.cli.models import Models

    inputs = find_inputs(files, recursive=recursive, pictures=True, streams=True)
    models = Models(model, threads=threads, device=device, backend=backend, jobs=jobs)

    def work(file: Path) -> out.Row:
        codec, stream, count = _base_of(models, data_of(file))
        found = codec.classify(stream, **out.state.limits)
        classes = [{"label": label, "score": round(value, 4)} for label, value in found.top(top)]
        return {"file": str(file), "bytes_read": count, "classes": classes}

    def show(row: out.Row) -> None:
        out.say(f"{out.input_name(row['file'])}: {row['bytes_read']:,} bytes read")
        out.print_table(("class", "score"), [(c["label"], f"{c['score']:.3f}") for c in row["classes"]])

    raise typer.Exit(out.each(inputs.paths, "classifying", work, None if json else show, ndjson=ndjson, jobs=jobs))


def _base_of(models: Models, source: Path | bytes) -> tuple[Codec, Bitstream, int]:
    """The codec for a file, what its heads read, and how many bytes that took.

    Read is the file, or the base that a picture carries, or that of a picture that is encoded for it.
    """
    from vcm.cli.files import is_vcm
    from vcm.cli.output import state

    if is_vcm(source):
        codec, stream = models.open(source, base_only=True)
        return codec, stream, stream.header.base_bytes
    if (carried := _carried(source)) is not None:
        return models.reading(carried.stream, source), carried.stream, carried.bytes_read
    codec = models.default()
    stream = codec.encode(source, base_only=True, **state.limits)
    return codec, stream, stream.header.base_bytes


def _carried(source: Path | bytes) -> Carried | None:
    """The base that a picture carries; ``None``, and a line, where it is of the picture as it was before an edit."""
    from vcm.carriers import find_base
    from vcm.cli import output as out
    from vcm.errors import InputError, StaleBaseError

    try:
        # Opening a pipe would wait for its writer.
        return find_base(source) if isinstance(source, bytes) or source.is_file() else None
    except InputError:  # whoever reads it next says why
        return None
    except StaleBaseError as error:
        out.line(f"warning: {out.about_item(error.what)}: the picture is encoded instead")
        return None


def _picture_of(models: Models, source: Path | bytes, size: tuple[int, int], full: bool) -> Image.Image:
    """What boxes are drawn on: of a picture of some size, no more than a screen shows, or all of it."""
    from PIL import Image

    from vcm.cli.files import is_vcm
    from vcm.cli.output import state
    from vcm.io.pictures import load_image

    if not is_vcm(source):
        picture = Image.fromarray(load_image(source, quiet=True, **state.limits).pixels)
    else:
        # A preview costs little; the pixels of 48 megapixels take half a minute.
        layers = 1 if not full and size[0] * size[1] > _MOST_DECODED else None
        codec, stream = models.open(source, base_only=layers == 1, layers=layers)
        picture = codec.decode(stream, layers=layers, **state.limits)
    if not full:
        picture.thumbnail((_DRAWN_SIDE, _DRAWN_SIDE), reducing_gap=2)
    return picture


def _show_detections(row: Row) -> None:
    from vcm.cli import output as out
    from vcm.io.text import three_digits

    found, width, height, count = row["detections"], row["width"], row["height"], row["bytes_read"]
    objects = f"{len(found)} object{'' if len(found) == 1 else 's'}"
    bpp = three_digits(count * 8 / (width * height))
    out.say(f"{out.input_name(row['file'])}: {width}x{height}, {objects}, {count:,} bytes read ({bpp} bpp)")
    if found:
        rows = [(one["label"], f"{one['score']:.2f}", *(f"{value:.0f}" for value in one["box"])) for one in found]
        out.print_table(("label", "score", "x1", "y1", "x2", "y2"), rows)
