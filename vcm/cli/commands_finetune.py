"""``vcm finetune``: a codec's detection head, or head and base layer, on a COCO folder of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import MODEL, Json, in_range

if TYPE_CHECKING:
    from vcm.eval.metrics.bootstrap import ConfidenceInterval
    from vcm.eval.metrics.detection import DetectionAccuracy

__all__ = ["register"]

_DRAWS = 1000


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(finetune)


def finetune(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="FOLDER", help="Pictures and instances.json (COCO).", show_default=False),
    ],
    start: Annotated[str, typer.Option("--from", metavar="MODEL", help="Shipped model or weights file.")] = MODEL,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="A,B", help="Classes to learn; by default all that have boxes.")
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", callback=in_range(0, 1e6), help="How long to train.")] = 10,
    base: Annotated[
        bool, typer.Option("--base", help="Train the base layer too: files of before need the old weights.")
    ] = False,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where weights go.")] = Path("runs/finetune"),
    base_quality: Annotated[
        float, typer.Option("--base-quality", callback=in_range(0, 100), help="Of the files that are tested.")
    ] = 50,
    seed: Annotated[int, typer.Option("--seed", help="All randomness follows from it.", min=0)] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune detection on pictures of your own, with classes of your own.

    A fifth of the pictures is held out and tested on, before and after. The head's file goes to the folder; existing
    files stay readable unless --base is given.
    """
    import json as encoder

    from vcm.cli import output as out
    from vcm.eval.metrics.bootstrap import draw_resamples, percentile_interval, resample_accuracy
    from vcm.eval.metrics.detection import evaluate_detections
    from vcm.io.files import write_atomically
    from vcm.training.finetune import finetune as run

    wanted = tuple(name.strip() for name in (classes or "").split(",") if name.strip())
    with out.steps() as told:
        done = run(
            data, model=start, classes=wanted, minutes=minutes, base=base, out=folder, quality=base_quality, seed=seed,
            resume=resume, told=told,
        )  # fmt: skip
    before, after = (evaluate_detections(done.truth, tested.found) for tested in (done.before, done.after))
    draws = draw_resamples(len(done.truth.images), _DRAWS)
    samples = resample_accuracy(before, draws), resample_accuracy(after, draws)

    def interval(which: int, name: str) -> ConfidenceInterval:
        accuracy = (before, after)[which]
        return percentile_interval(getattr(samples[which], name), getattr(accuracy, name))

    def gain(name: str) -> ConfidenceInterval:
        drawn = getattr(samples[1], name) - getattr(samples[0], name)
        return percentile_interval(drawn, getattr(after, name) - getattr(before, name))

    report: dict[str, Any] = {
        "head": str(done.head),
        "codec": None if done.codec is None else str(done.codec),
        "classes": list(done.classes.names),
        "from_coco": list(done.known),
        "train": {"pictures": done.pictures, "objects": done.objects, "steps": done.steps, "finished": done.finished},
        "test": {
            "pictures": before.images, "objects": before.boxes,
            "before": _row(before, done.before.bpp, interval(0, "ap50"), interval(0, "ap")),
            "after": _row(after, done.after.bpp, interval(1, "ap50"), interval(1, "ap")),
            "gain": {"ap50": _numbers(gain("ap50")), "ap": _numbers(gain("ap"))},
        },
    }  # fmt: skip
    write_atomically(folder / "report.json", encoder.dumps(report, indent=2, allow_nan=False))
    if json:
        out.print_json(report)
        return
    rows = [
        (name, f"{tested.bpp:.4f}", _shown(interval(which, "ap50")), _shown(interval(which, "ap")))
        for which, (name, tested) in enumerate((("before", done.before), ("after", done.after)))
    ]
    out.print_table(("", "bpp", "AP50", "AP"), [*rows, ("gain", "", _shown(gain("ap50")), _shown(gain("ap")))])
    new = [name for name in done.classes.names if name not in done.known]
    if new:
        out.say(f"the shipped head does not know {', '.join(new)}")
    if not done.finished:
        out.line(f"warning: time was up at step {done.steps}; --resume goes on")
    out.say(f"{before.images} held-out pictures, {before.boxes} objects: {folder / 'report.json'}")
    out.say(f"head: {done.head}" if done.codec is None else f"head: {done.head}, codec: {done.codec}")


def _numbers(value: ConfidenceInterval) -> dict[str, float]:
    return {"estimate": round(value.estimate, 3), "low": round(value.low, 3), "high": round(value.high, 3)}


def _row(accuracy: DetectionAccuracy, bpp: float, ap50: ConfidenceInterval, ap: ConfidenceInterval) -> dict[str, Any]:
    classes = {c.name: None if c.ap50 is None else round(c.ap50, 2) for c in accuracy.per_class}
    return {"bpp": round(bpp, 5), "ap50": _numbers(ap50), "ap": _numbers(ap), "ap50_by_class": classes}


def _shown(value: ConfidenceInterval) -> str:
    return f"{value.estimate:.1f} ({value.low:.1f} to {value.high:.1f})"
