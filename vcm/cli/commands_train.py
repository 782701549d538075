"""``vcm train``: run a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcm.cli.options import Json

if TYPE_CHECKING:
    from vcm.training.config import TrainConfig

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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done: weights, data, steps, files; and stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a model from a recipe, stage by stage."""
    from vcm.cli import output as out
    from vcm.training.run import load_recipe
    from vcm.training.run import train as run

    if dry_run:
        _show_plan(load_recipe(config, tuple(overrides or ()), start), json)
        return
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


def _show_plan(recipe: TrainConfig, json: bool) -> None:
    """Print where each stage's weights come from, what it trains on and for how long, and what is written after it."""
    from vcm.cli import output as out
    from vcm.training.plan import resolve

    plan = resolve(recipe)
    rows = []
    for stage in plan.stages:
        c = stage.config
        sources = {part: "new" if source is None else source.name for part, source in stage.parts.items()}
        if stage.base is not None:
            sources["base (frozen)"] = stage.base.name
        data = f"{' '.join(c.data.folders)}, {c.data.size} px"
        rows.append((c.name, c.kind, sources, data, c.steps, c.batch, [str(s.path) for s in stage.ships]))
    if json:
        keys = ("name", "kind", "weights", "data", "steps", "batch", "ships")
        out.print_json({"stages": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    for name, kind, sources, data, steps, batch, ships in rows:
        out.say(f"{name} ({kind}): {steps} steps of {batch} on {data}")
        for source in dict.fromkeys(sources.values()):
            parts = ", ".join(part for part, own in sources.items() if own == source)
            out.say(f"  from {source}: {parts}" if source != "new" else f"  new: {parts}")
        if ships:
            out.say(f"  writes {', '.join(ships)}")
