"""Results of a run, as rows, files, figures and one page."""

from __future__ import annotations

from vcm.eval.report.answer import Answer, answer
from vcm.eval.report.compare import Comparison, compare
from vcm.eval.report.results import Results, read_results, write_results
from vcm.eval.report.rows import Rows, select
from vcm.eval.report.summary import Summary, summarise

__all__ = [
    "Answer", "Comparison", "Results", "Rows", "Summary", "answer", "compare", "read_results", "select", "summarise",
    "write_results",
]  # fmt: skip
