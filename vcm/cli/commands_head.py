"""``vcm train-head``: a new task on the frozen latents of a codec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import Json

if TYPE_CHECKING:
    from vcm.eval.metrics.bootstrap import ConfidenceInterval
    from vcm.eval.metrics.keypoints import KeypointAccuracy
    from vcm.training.features import FeatureKind

__all__ = ["register"]

_KINDS: tuple[FeatureKind, ...] = ("base", "twin", "random")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("train-head")(train_head)


def train_head(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML; see configs/heads/keypoints.yaml.", show_default=False)
    ],
    features: Annotated[
        list[str] | None,
        typer.Option("--features", metavar="base|twin|random", help="Only these features; may be repeated."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Stop training after this long, all heads together.", min=0)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a value, e.g. epochs=5.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a keypoint head on frozen features and test it.

    The same head is trained on the codec's base latents, on its pixel twin's features and on a random trunk's. Weights
    and report.json go to the configuration's folder.
    """
    import json as encoder

    from vcm.cli import output as out
    from vcm.errors import OptionError
    from vcm.eval.metrics.keypoints import compare_features, evaluate_keypoints
    from vcm.io.files import write_atomically
    from vcm.training.heads import train_heads

    chosen = [kind for kind in _KINDS if features and kind in features]
    unknown = [kind for kind in features or () if kind not in _KINDS]
    if unknown:
        raise OptionError("no such features", expected=", ".join(_KINDS), found=", ".join(unknown))
    with out.steps() as progress:
        run = train_heads(
            config, overrides=tuple(overrides or ()), features=chosen or None, minutes=minutes, progress=progress
        )
    accuracies: dict[str, KeypointAccuracy] = {
        head.kind: evaluate_keypoints(run.truth, head.found, run.sigmas) for head in run.heads
    }
    compared = compare_features(accuracies, resamples=run.config.resamples, seed=run.config.seed)
    report: dict[str, Any] = {
        "config": run.config.model_dump(mode="json"),
        "train": {"pictures": run.train_pictures, "objects": run.train_objects},
        "heads": {
            head.kind: {
                "weights": str(head.weights), "steps": head.steps, "finished": head.finished,
                "loss": round(head.loss, 4), "bpp": round(head.bpp, 5),
            }
            for head in run.heads
        },
        "test": compared.to_json(),
    }  # fmt: skip
    target = run.config.out / "report.json"
    write_atomically(target, encoder.dumps(report, indent=2, allow_nan=False))
    if json:
        out.print_json(report)
        return
    bpp: dict[str, float] = {head.kind: head.bpp for head in run.heads}
    rows = [
        (row.kind, f"{bpp[row.kind]:.4f}" if row.kind == "base" else "–", _interval(row.ap50), _interval(row.ap))
        for row in compared.rows
    ]
    out.print_table(("features", "bpp", "OKS-AP50", "OKS-AP"), rows)
    if compared.share is not None:
        out.say(f"base of twin: {_interval(compared.share)} %")
    if compared.over_random is not None:
        out.say(f"base over random: {_interval(compared.over_random)} points")
    for head in run.heads:
        if not head.finished:
            out.line(f"warning: the {head.kind} head stopped at step {head.steps}")
    out.say(f"{compared.pictures} pictures, {compared.objects} objects: {target}")


def _interval(value: ConfidenceInterval) -> str:
    return f"{value.estimate:.1f} ({value.low:.1f} to {value.high:.1f})"
