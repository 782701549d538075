"""``vcm demo`` and ``vcm bench``: the tool shown and timed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcm.cli.options import MODEL, Json, Model, in_range, quality_option

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(demo)
    app.command()(bench)


def demo(
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT.png", help="The picture.")] = "vcm-demo.png",
    model: Model = MODEL,
    quality: Annotated[float, quality_option("--quality", "-q", help="Quality of the pictures")] = 50,
) -> None:
    """Show it all on three photographs, in one picture.

    They ship with scikit-image: no argument and no network are needed.
    """
    from vcm.cli.demo import run_demo

    run_demo(Path(output), model, quality)


def bench(
    image: Annotated[Path | None, typer.Option("--image", "-i", help="A picture.", show_default="a cat")] = None,
    runs: Annotated[int, typer.Option("--runs", "-n", callback=in_range(1, 1000), help="Timed runs of each.")] = 5,
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-t", callback=in_range(1, 256), help="Of torch.", show_default="torch's choice"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Operations only: no new processes, no busy cores, no batches.")
    ] = False,
    pictures: Annotated[
        int, typer.Option("--pictures", callback=in_range(8, 100_000), help="Of the batches whose rate is taken.")
    ] = 200,
    model: Model = MODEL,
    json: Json = False,
) -> None:
    """Time this machine, beside JPEG, AVIF and CompressAI.

    Each row has what it must reach (floor) and should reach (target), in medians of runs that take turns. Rows of
    CompressAI's mbt2018-mean are left out where it is not installed.
    """
    from vcm.cli.bench import run_bench

    run_bench(image, model, runs=runs, threads=threads, quick=quick, pictures=pictures, json=json)
