"""Detectors that read decoded pixels."""

from __future__ import annotations

from vcm.eval.machines.load import load_machine, load_machines
from vcm.eval.machines.protocol import Machine, MachineInfo

__all__ = ["Machine", "MachineInfo", "load_machine", "load_machines"]
