"""What ``vcm train-head`` and ``vcm eval HEAD`` share: measuring a head's curve, and showing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcm.eval.heads import HeadCurve

__all__ = ["evaluate_head", "measure", "report", "show"]


def measure(
    head: Path,
    folder: Path,
    qualities: Sequence[float],
    *,
    model: str,
    twin: str | None,
    ceiling: Path | None,
    chosen: Callable[[Path], bool] = lambda path: True,
    other_base: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> HeadCurve:
    """The curve of a head's file.

    Args:
        head: the file.
        folder: what it is tested on.
        qualities: of the base layer.
        model: codec.
        twin: pixel twin, for the ceiling; ``None``: no ceiling.
        ceiling: a head that was trained on the twin's features; without one, a detection head's ceiling is the twin's
            own
            detector, and other heads have none.
        chosen: which pictures of the folder.
        other_base: take a head of another base layer.
        progress: told along the way.
    """
    from vcm.api import load
    from vcm.errors import HeadError
    from vcm.eval.heads import head_curve, head_test, twin_ceiling
    from vcm.structures import Detections, InstanceMasks
    from vcm.tasks.protocol import Head
    from vcm.twin import load_twin
    from vcm.weights.head_file import load_head

    codec = load(model, backend="torch")
    codec.add_head(head.stem, head, allow_other_base=other_base)
    task = codec.head(head.stem)
    if not isinstance(task, Head):
        raise HeadError("the head does not say what it reads", expected="a head's file", found=head)
    test = head_test(task, folder, chosen)
    top = None
    if twin is not None and ceiling is not None:
        loaded = load_head(ceiling)
        on_twin = loaded.task(codec.head("detect"))  # type: ignore[arg-type]
        if on_twin.spec.names != task.spec.names or on_twin.spec.result is not task.spec.result:
            raise HeadError(
                "the ceiling is of another task", expected=task.spec.names[:5], found=on_twin.spec.names[:5]
            )
        top = twin_ceiling(load_twin(twin, trunk=model), on_twin)
    elif twin is not None and task.spec.result in (Detections, InstanceMasks):
        top = twin_ceiling(load_twin(twin, trunk=model), None)
    return head_curve(codec, head.stem, test, qualities, ceiling=top, progress=progress)


def show(curve: HeadCurve) -> None:
    """A table: a row for each point, the ceiling last."""
    from vcm.cli import output as out

    names = list(curve.points[0].accuracy)
    rows: list[tuple[str, ...]] = []
    for point in (*curve.points, *([] if curve.ceiling is None else [curve.ceiling])):
        at = "twin" if point.quality is None else f"{point.quality:g}"
        share = curve.share(point) if point.quality is not None else None
        values = (f"{point.accuracy[name]:.1f}" for name in names)
        bpp = "–" if point.quality is None else f"{point.bpp:.4f}"
        rows.append((at, bpp, *values, "" if share is None else f"{share:.1f} %"))
    out.print_table(("quality", "bpp", *names, f"{names[0]} of twin"), rows)


def report(curve: HeadCurve) -> dict[str, Any]:
    """Plain values, rounded."""
    return {key: _rounded(value) for key, value in curve.to_json().items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def evaluate_head(
    head: Path, data: Path, out: Path, ceiling: Path | None, model: str, twin: str, qualities: str, json: bool
) -> int:
    """``vcm eval HEAD``: writes ``curve.json`` and ``curve.svg`` into ``out`` and shows the table."""
    import json as encoder

    from vcm.cli import output as screen
    from vcm.errors import OptionError
    from vcm.eval.heads import draw_curve
    from vcm.io.files import write_atomically

    try:
        wanted = [float(part) for part in qualities.split(",") if part.strip()]
    except ValueError as error:
        raise OptionError("--qualities", expected="numbers with commas", found=qualities) from error
    top = None if twin == "none" else twin
    with screen.steps() as progress:
        curve = measure(head, data, wanted, model=model, twin=top, ceiling=ceiling, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    target = out / "curve.json"
    write_atomically(target, encoder.dumps(report(curve), indent=2, allow_nan=False))
    write_atomically(out / "curve.svg", draw_curve(curve))
    if json:
        screen.print_json(report(curve))
        return 0
    show(curve)
    screen.say(f"{curve.pictures} pictures of {curve.data}: {target}")
    return 0
