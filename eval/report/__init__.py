"""Results of a run, as rows, files, figures and one page."""

from __future__ import annotations

from vcm.eval.report.results import Results, read_results, write_results
from vcm.eval.report.summary import Summary, summarise

__all__ = ["Results", "Summary", "read_results", "summarise", "write_results"]
