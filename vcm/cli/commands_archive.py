"""``vcm ingest`` and ``vcm query``: an archive of pictures, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import MODEL, FileModel, Force, Json, Model, in_range, quality_option
from vcm.io.remote import place

if TYPE_CHECKING:
    from vcm.api import Codec
    from vcm.archive import Archive, Hit, Hits, Summary, Table
    from vcm.errors import VcmError

__all__ = ["register"]

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(ingest)
    app.command()(query)


def ingest(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC... DEST",
            show_default=False,
            help="Pictures, videos, VCM files, folders of them, patterns, addresses; and the archive.",
        ),
    ],
    model: Model = MODEL,
    quality: Annotated[float, quality_option("--quality", "-q", help="Quality of the picture")] = 50,
    base_quality: Annotated[float, quality_option("--base-quality", help="Quality of what detectors read")] = 50,
    base_only: Annotated[bool, typer.Option("--base-only", help="Keep no pixels: base layers only.")] = False,
    score: Annotated[
        float,
        typer.Option("--score", "-s", callback=in_range(0, 1), help="Objects that score less get no row, 0 to 1."),
    ] = 0.2,
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="NAME", help="Whose pictures they are.", show_default="each file's folder"),
    ] = None,
    split: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--split", metavar="HOT COLD", help="Folders or addresses of bases, and of all that follows them."
        ),
    ] = None,
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Of a video, take each N-th frame.")] = 30,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", min=1, help="Pictures at once.", show_default="one a core"),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="FILE",
            help="Instead: run a head, or classify, on DEST's bases; no pixel is decoded.",
        ),
    ] = None,
    commit: Annotated[int, typer.Option("--commit", metavar="N", min=1, help="Write rows after N pictures.")] = 256,
    engine: Annotated[
        str, typer.Option("--engine", metavar="local|ray", help="On this machine, or on a Ray cluster (RAY_ADDRESS).")
    ] = "local",
    json: Json = False,
) -> None:
    """Take pictures into an archive: VCM files, and tables of what is in them.

    What DEST has already is left alone, so that a run that was stopped goes on where it was. A picture's time is that
    of its EXIF, or of its file.
    """  # fmt: skip
    import vcm
    from vcm.archive import IngestOptions, add_head_rows
    from vcm.archive import ingest as run
    from vcm.cli import output as out
    from vcm.cli.models import Models
    from vcm.errors import UsageError

    if head is None and len(places) < 2:
        raise UsageError("ingest takes sources and an archive", expected="SRC... DEST", found=" ".join(places))
    if head is not None and (len(places) > 1 or engine != "local"):
        raise UsageError("--head takes an archive alone, on this machine", expected="DEST", found=" ".join(places))
    if engine not in ("local", "ray"):
        raise UsageError("no such engine", expected="local or ray", found=engine)
    options = IngestOptions(quality, base_quality, base_only, score, camera, split, every)
    Models(model)  # what it says to Pillow
    problems, label = 0, "ingesting" if head is None else "reading bases"

    def failed(name: str, error: VcmError) -> None:
        nonlocal problems
        problems, text = 1, str(error)
        out.line(f"error: {text if name in text else f'{name}: {text}'}")

    def codec() -> Codec:
        with out.working(f"loading {model}"):
            return vcm.load(model, threads=1)

    with out.steps() as bar:

        def progress(summary: Summary, total: int) -> None:
            if bar is not None:
                done = summary.pictures + summary.known + summary.failed
                bar(label, done, max(total, done))

        common: dict[str, Any] = {"commit": commit, "progress": progress, "failed": failed}
        if head is not None:
            summary = add_head_rows(place(places[0]), codec(), head, score=score, jobs=jobs, **common)
        elif engine == "ray":
            from vcm.archive.ray_engine import ingest_on_ray

            summary = ingest_on_ray(places[:-1], place(places[-1]), model, options, workers=jobs, **common)
        else:
            summary = run(places[:-1], place(places[-1]), codec(), options, jobs=jobs, **common)
    _show_summary(summary, json, head is not None)
    raise typer.Exit(problems)


def _show_summary(summary: Summary, json: bool, bases: bool) -> None:
    from dataclasses import asdict

    from vcm.cli import output as out

    rate = summary.pictures / max(summary.seconds, 1e-9)
    saved = summary.source_bytes - summary.bytes
    if json:
        out.print_json({**asdict(summary), "pictures_per_second": rate, "saved_bytes": saved})
        return
    more = [f"{summary.known:,} known"] if summary.known else []
    more += [f"{summary.failed:,} failed"] if summary.failed else []
    text = f"{summary.pictures:,} pictures{''.join(f', {one}' for one in more)}; {summary.objects:,} objects"
    out.say(f"{text}; {rate:.1f} pictures/s")
    if summary.pictures and bases:
        out.say(f"{summary.base_bytes:,} bytes read of {summary.bytes:,} stored")
    elif summary.pictures:
        kept = f"{summary.bytes:,} bytes, of which bases {summary.base_bytes:,}"
        out.say(f"{summary.source_bytes:,} bytes became {kept}: {saved:,} saved")


def query(
    archive: Annotated[str, typer.Argument(metavar="DEST", help="The archive.", show_default=False)],
    text: Annotated[
        str, typer.Argument(metavar="QUERY", help="As in 'person > 0.5 and dog, camera = 3, since yesterday'.")
    ] = "",
    sql: Annotated[
        str | None, typer.Option("--sql", metavar="SQL", help="Instead: DuckDB's SQL over detections and pictures.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Newest pictures that are given.")] = _SHOWN,
    coco: Annotated[
        Path | None, typer.Option("--coco", metavar="FILE", help="Write pictures and objects as COCO's JSON.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Draw previews with boxes, from bases alone.")
    ] = None,
    decode: Annotated[
        Path | None, typer.Option("--decode", metavar="DIR", help="Decode the pictures that are given, there.")
    ] = None,
    model: FileModel = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find pictures of an archive by what is in them.

    A class alone wants a score of 0.3. Terms: CLASS, CLASS > 0.5, camera = NAME, source, head, width, height, bytes,
    time and day likewise, since WHEN, before WHEN; joined by and, or, not, brackets and commas. WHEN: today, yesterday,
    2026-11-24, 2026-11-24T18:30, 2 hours ago (UTC).
    """
    from vcm.archive import Archive
    from vcm.cli import output as out
    from vcm.errors import UsageError

    if sql is not None and (text or coco or sheet or decode):
        raise UsageError("--sql stands alone", expected="no query and no other output")
    with Archive(place(archive)) as opened:
        if sql is not None:
            _show_table(opened.sql(sql), json)
            return
        hits = opened.query(text, limit=limit)
        written = _write(opened, hits, coco, sheet, decode, model, force)
        (_print_json if json else _show_hits)(opened, hits, written)
    out.flush()


def _write(
    archive: Archive, hits: Hits, coco: Path | None, sheet: Path | None, decode: Path | None, model: str | None,
    force: bool,
) -> dict[str, Any]:  # fmt: skip
    """Files that were asked for; and what there is to say of them."""
    import json as encoder

    from vcm.archive.show import Codecs, contact_sheet, decode_hits, to_coco
    from vcm.cli import output as out
    from vcm.errors import UsageError
    from vcm.io.files import write_atomically

    for target in (coco, sheet):
        if target is not None and target.exists() and not force:
            raise UsageError(f"{target} is there", expected="another name, or --force to write over it")
    said: dict[str, Any] = {}
    if coco is not None:
        write_atomically(coco, encoder.dumps(to_coco(hits.pictures), allow_nan=False))
    if sheet is not None or decode is not None:
        from vcm.cli.models import Models

        codecs = Codecs(None if model is None else Models(model).default())
        if sheet is not None and hits.pictures:
            from vcm.io.save import save_picture

            with out.working("drawing"):
                picture, said["sheet_bytes_read"] = contact_sheet(archive, hits.pictures, codecs)
            save_picture(picture, sheet)
        if decode is not None:
            with out.working("decoding"):
                said["decoded"], said["decode_bytes_read"] = decode_hits(archive, hits.pictures, codecs, decode, force)
    return said


def _print_json(archive: Archive, hits: Hits, written: dict[str, Any]) -> None:
    from vcm.cli import output as out

    out.print_json({"total": hits.total, "pictures": [_hit_json(hit) for hit in hits.pictures], **written})


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "picture": hit.picture, "source": hit.source, "time": f"{hit.time.isoformat()}Z", "camera": hit.camera,
        "width": hit.width, "height": hit.height, "bytes": hit.bytes, "base_bytes": hit.base_bytes, "file": hit.file,
        "rest": hit.rest,
        "detections": [
            {
                "label": one.label, "score": round(one.score, 4), "category_id": one.category_id, "head": one.head,
                "box": None if one.box is None else [round(v, 2) for v in one.box],
            }
            for one in hit.objects
        ],
    }  # fmt: skip


def _show_hits(archive: Archive, hits: Hits, written: dict[str, Any]) -> None:
    from vcm.cli import output as out

    shown = f", the newest {len(hits.pictures)} shown (--limit)" if hits.total > len(hits.pictures) else ""
    out.say(f"{hits.total:,} picture{'' if hits.total == 1 else 's'}{shown}")
    if hits.pictures:
        rows = [
            (hit.picture[:8], f"{hit.time:%Y-%m-%d %H:%M:%S}", hit.camera, _summed(hit), hit.source)
            for hit in hits.pictures
        ]
        out.print_table(("picture", "time (UTC)", "camera", "found", "source"), rows, left=(0, 1, 2, 3, 4))
    read = written.get("sheet_bytes_read", 0) + written.get("decode_bytes_read", 0)
    if read:
        count, stored = archive.stored()
        out.say(f"{read:,} bytes read of {stored:,} stored in {count:,} pictures")


def _summed(hit: Hit) -> str:
    """``2 person 0.91, dog 0.55``: how many of each class, and the best score."""
    best: dict[str, float] = {}
    count: dict[str, int] = {}
    for one in hit.objects:
        best[one.label] = max(best.get(one.label, 0.0), one.score)
        count[one.label] = count.get(one.label, 0) + 1
    parts = [f"{f'{count[k]} ' if count[k] > 1 else ''}{k} {best[k]:.2f}" for k in best]
    return ", ".join(parts[:4]) + (" …" if len(parts) > 4 else "")


def _show_table(table: Table, json: bool) -> None:
    from vcm.cli import output as out

    if json:
        out.print_json([dict(zip(table.columns, map(_plain, row), strict=True)) for row in table.rows])
        return
    numbers = [i for i in range(len(table.columns)) if all(isinstance(row[i], int | float) for row in table.rows)]
    left = [i for i in range(len(table.columns)) if i not in numbers]
    rows = [tuple("" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in r) for r in table.rows]
    out.print_table(table.columns, rows, left=left)


def _plain(value: Any) -> Any:
    """A value of SQL as JSON has it."""
    import math

    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return str(value)
