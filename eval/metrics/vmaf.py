"""VMAF of one picture, through an ffmpeg that has libvmaf: one on PATH, or the one that imageio-ffmpeg carries."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcm.errors import ImageError, MissingDependencyError

__all__ = ["MODEL", "find_ffmpeg", "vmaf_of_luma"]

MODEL = "vmaf_v0.6.1"
"""Netflix's default model, built into libvmaf. It reads luma only."""

_TIMEOUT_S = 300


@functools.cache
def find_ffmpeg() -> str | None:
    """Path of the first ffmpeg that has the libvmaf filter, or ``None``. Asked once a process."""
    candidates = [shutil.which("ffmpeg")]
    # ImportError: not installed. RuntimeError: installed without a binary for this machine.
    with contextlib.suppress(ImportError, RuntimeError):
        candidates.append(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    for path in candidates:
        if path is None:
            continue
        try:
            listed = subprocess.run([path, "-hide_banner", "-filters"], capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if b" libvmaf " in listed.stdout:
            return path
    return None


def vmaf_of_luma(reference: npt.NDArray[np.float64], distorted: npt.NDArray[np.float64]) -> float:
    """VMAF of two luma planes, float64 ``(H, W)`` in 0 … 1, handed over as 10-bit 4:4:4 with flat chroma.

    Raw planes are handed over, so that ffmpeg converts no colours.

    Raises:
        MissingDependencyError: no ffmpeg with libvmaf.
        ImageError: ffmpeg fails on the pictures.
    """
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise MissingDependencyError("no ffmpeg with libvmaf on PATH: pip install imageio-ffmpeg, or install one")
    height, width = reference.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", f"{width}x{height}", "-i"]
    # The log's name is relative: a path inside a filter description would need escaping.
    graph = f"[0:v][1:v]libvmaf=model=version={MODEL}:log_fmt=json:log_path=log.json:n_threads=1"
    with tempfile.TemporaryDirectory(prefix="vcm-vmaf-") as folder:
        for name, plane in (("distorted", distorted), ("reference", reference)):
            luma = np.round(plane * 1023.0).astype("<u2")
            chroma = np.full((2, height, width), 512, "<u2")
            (Path(folder) / name).write_bytes(luma.tobytes() + chroma.tobytes())
        command = [ffmpeg, "-hide_banner", "-nostdin", *raw, "distorted", *raw, "reference"]
        try:
            done = subprocess.run(
                [*command, "-lavfi", graph, "-f", "null", "-"],
                cwd=folder, capture_output=True, timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ImageError("ffmpeg did not finish VMAF", expected=f"within {_TIMEOUT_S} s") from error
        except OSError as error:
            raise ImageError(f"{ffmpeg} cannot be run", found=error.strerror) from error
        try:
            log = json.loads((Path(folder) / "log.json").read_bytes())
            return float(log["frames"][0]["metrics"]["vmaf"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            found = f"exit status {done.returncode}, {last[0] if last else 'no message'}"
            raise ImageError("ffmpeg gave no VMAF", expected="a score in its log", found=found) from error
