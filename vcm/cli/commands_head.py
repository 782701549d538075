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
        Path, typer.Argument(metavar="CONFIG", help="YAML; configs/heads has one a kind of head.", show_default=False)
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
    """Train a head on frozen latents and test it.

    The same head is trained on the codec's base latents and, if the configuration says so, on its pixel twin's features
    and a random trunk's. Weights and report.json go to the configuration's folder.
    """
    from vcm.training.latent_heads.config import kind_in

    if kind_in(config) == "keypoints":
        _keypoints(config, features, minutes, overrides, json)
    else:
        _latent_head(config, tuple(features or ()), minutes, tuple(overrides or ()), json)


def _latent_head(
    config: Path, features: tuple[str, ...], minutes: float | None, overrides: tuple[str, ...], json: bool
) -> None:
    import json as encoder

    from vcm.cli import head_curves
    from vcm.cli import output as out
    from vcm.io.files import write_atomically
    from vcm.training.data.keypoints import is_test
    from vcm.training.latent_heads.run import train_latent_head

    with out.steps() as progress:
        run = train_latent_head(config, overrides=overrides, features=features, minutes=minutes, progress=progress)
        plan, share = run.config, run.test_share
        files = {head.features: head.weights for head in run.heads}
        curves = []
        if "base" in files:
            curves = [
                head_curves.measure(
                    files["base"], folder, plan.qualities, model=plan.weights, twin=plan.twin,
                    ceiling=files.get("twin"), chosen=lambda p: not share or is_test(p.name, share), progress=progress,
                )
                for folder in run.test
            ]  # fmt: skip
    report: dict[str, Any] = {
        "config": plan.model_dump(mode="json"),
        "train": {"pictures": run.pictures, "classes": len(run.names)},
        "heads": {
            head.features: {
                "weights": str(head.weights), "steps": head.steps, "finished": head.finished, "views": head.views,
                "loss": round(head.loss, 4), "bank_bpp": round(head.bpp, 5),
                "views_a_minute": round(head.pictures_a_minute),
            }
            for head in run.heads
        },
        "test": [head_curves.report(curve) for curve in curves],
    }  # fmt: skip
    target = plan.out / "report.json"
    write_atomically(target, encoder.dumps(report, indent=2, allow_nan=False))
    if json:
        out.print_json(report)
        return
    for curve in curves:
        out.say(f"{curve.data}: {curve.pictures} pictures")
        head_curves.show(curve)
    for head in run.heads:
        if not head.finished:
            out.line(f"warning: time was up: the {head.features} head stopped at step {head.steps}")
        out.say(f"{head.weights}: {head.steps} steps, {head.pictures_a_minute:.0f} views a minute")
    out.say(f"{run.pictures} pictures learned from: {target}")


def _keypoints(
    config: Path, features: list[str] | None, minutes: float | None, overrides: list[str] | None, json: bool
) -> None:
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
