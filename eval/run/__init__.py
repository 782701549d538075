"""Measuring: codecs over pictures by a protocol, cached, in parallel, with every failure counted."""

from __future__ import annotations

from vcm.eval.run.codecs import load_codecs
from vcm.eval.run.protocols import Protocol, list_protocols, load_protocol
from vcm.eval.run.runner import Run, run

__all__ = ["Protocol", "Run", "list_protocols", "load_codecs", "load_protocol", "run"]
