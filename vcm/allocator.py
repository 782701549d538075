"""How this process takes memory from the system."""

from __future__ import annotations

import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Let freed tensors be used again instead of giving them back to the system.

    glibc maps each block above 32 MB anew and unmaps it when it is freed, and the kernel zeroes its pages each time: a
    third of the time of decoding 1920×1280 on one thread. From here on blocks come from the heap, which is not trimmed:
    the process keeps the most that it ever needed. Meant for processes that are ours (the ``vcm`` command, workers of
    an evaluation); importing :mod:`vcm` does not do it.

    Returns:
        Whether it took effect; false where the C library is not glibc.

    Source: mallopt(3), ``M_MMAP_MAX`` and ``M_TRIM_THRESHOLD``.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # not at the top: `vcm --help` is quick

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(
        mallopt(name, value) == 1 for name, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    )
