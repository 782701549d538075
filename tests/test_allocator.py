"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from vcm.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import torch
def faults(mib):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(mib << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(64)
# Somewhat smaller: glibc looks for room for the alignment as well, and its place may have a neighbour by now.
print(faults(60))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_a_tensor_takes_the_pages_of_the_one_before() -> None:
    def faults(mode: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", COUNT, mode], check=True, capture_output=True, text=True).stdout
        )

    assert faults("keep") < 10 < faults("leave")
