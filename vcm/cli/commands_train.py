"""``vcm train``: run a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vcm.cli.options import Json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(train)


def train(
    config: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A YAML file; see configs/recipes/.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a value, e.g. stages.0.steps=10.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Start from a shipped model or a weights file, e.g. vcm-s."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Stop cleanly with a checkpoint after this long.", min=0)
    ] = None,
    json: Json = False,
) -> None:
    """Train a model from a recipe, stage by stage."""
    from vcm.cli import output as out
    from vcm.training.run import train as run

    result = run(config, overrides=tuple(overrides or ()), start=start, resume=resume, minutes=minutes)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks for all
        return
    if json:
        stages = [{"weights": str(s.weights), "step": s.step, "finished": s.finished} for s in result.stages]
        out.print_json({"stages": stages, "weights": str(result.weights) if result.weights else None})
    elif result.weights:
        out.say(f"trained: {result.weights}")
    elif (last := result.stages[-1]).finished:  # a recipe without a codec
        out.say(f"trained: {last.weights}")
    else:
        out.say(f"stopped at step {last.step}; continue with --resume")
