"""One call for a whole evaluation: measure, summarise, and write results, figures and report into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vcm.codecs.pillow import UncompressedCodec
from vcm.codecs.protocol import ImageCodec
from vcm.codecs.resampled import ResampledCodec
from vcm.eval.data.datasets import Dataset
from vcm.eval.machines.protocol import Machine
from vcm.eval.report.figures import draw_figures
from vcm.eval.report.gallery import make_gallery
from vcm.eval.report.page import render_report
from vcm.eval.report.results import Results, write_results
from vcm.eval.report.summary import summarise
from vcm.eval.run.protocols import Protocol
from vcm.eval.run.runner import Progress, Run, run
from vcm.io.files import write_atomically

__all__ = ["complete_codecs", "evaluate"]


def complete_codecs(protocol: Protocol, codecs: Sequence[ImageCodec]) -> list[ImageCodec]:
    """The codecs with what a protocol adds: ``uncompressed`` as ceiling of accuracies, and the resampled anchor."""
    names = {codec.name for codec in codecs}
    first: list[ImageCodec] = []
    if protocol.task == "detection" and "uncompressed" not in names:
        first.append(UncompressedCodec())
    found = [*first, *codecs]
    if protocol.resampled is not None:
        anchor = next((c for wanted in protocol.resampled.codecs for c in codecs if c.name == wanted), None)
        if anchor is not None:
            scaled = (ResampledCodec(anchor, percent) for percent in protocol.resampled.percent)
            found += [codec for codec in scaled if codec.name not in names]
    return found


def evaluate(
    protocol: Protocol,
    dataset: Dataset,
    codecs: Sequence[ImageCodec],
    machines: Sequence[Machine],
    out: Path,
    *,
    command: str,
    jobs: int = 1,
    pseudo: str | None = None,
    streams: Path | None = None,
    progress: Progress | None = None,
    stage: Callable[[str], None] = lambda text: None,
) -> tuple[Run, Results]:
    """Run a protocol and write ``results.json``, ``results.csv``, ``report.html`` and ``figures/`` into ``out``.

    Args:
        protocol, dataset, codecs, machines, jobs, pseudo, streams, progress: as of :func:`vcm.eval.run.runner.run`, the
            codecs completed by :func:`complete_codecs`.
        command: what the report says it was made by.
        stage: told what is being worked on after the measurements.

    Raises:
        OptionError, OutputError: as of :func:`vcm.eval.run.runner.run`.
        MissingDependencyError: matplotlib, pycocotools or scipy is not installed.
    """
    every = complete_codecs(protocol, codecs)
    measured = run(
        protocol, dataset, every, machines, out, jobs=jobs, pseudo=pseudo, streams=streams, progress=progress
    )
    summary = summarise(measured, lambda text: stage(f"accuracy: {text}"))
    stage("pictures")
    gallery = make_gallery(measured, summary, every)
    results = Results.of(measured, summary, command)
    write_results(results, out)
    stage("figures")
    figures = draw_figures(results)
    for figure in figures:
        write_atomically(out / "figures" / f"{figure.name}.svg", figure.svg)
        write_atomically(out / "figures" / f"{figure.name}.png", figure.png)
    write_atomically(out / "report.html", render_report(results, figures, gallery))
    return measured, results
