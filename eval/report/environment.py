"""What a run was made with: machine, versions, time, and our commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

__all__ = ["environment"]

_PACKAGES = (
    "vcm", "numpy", "torch", "torchvision", "pillow", "pillow-heif", "imagecodecs", "compressai", "onnxruntime",
    "pycocotools", "piq", "scipy",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Machine, versions of what was used, time, and our commit where vcm runs from its own checkout."""
    found = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = _commit()
    if commit:
        found["commit"] = commit
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """Commit of our own checkout; empty where this file is not one of a checkout's own (an installed package)."""
    here = Path(__file__).resolve()
    # An installed copy may lie inside the user's repository, in a virtual environment say: its commit is not ours.
    if _git(here.parent, "rev-parse", "--show-toplevel") != str(here.parents[2]):
        return ""
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
