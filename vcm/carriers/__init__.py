"""Base layers inside ordinary pictures: JPEG, PNG, WebP, AVIF, HEIC and JPEG XL, whose own bytes stay as they are.

Specified in ``docs/bitstream.md``. Imports neither torch nor numpy nor Pillow: a segment is found by walking a file's
outer structure, and nothing of the picture is decoded.

    >>> from vcm.carriers import attach_base, find_base, strip_base
    >>> carrying = attach_base(picture, stream)              # doctest: +SKIP
    >>> find_base(carrying).stream.width                     # doctest: +SKIP
    1024
    >>> strip_base(carrying) == picture                      # doctest: +SKIP
    True
"""

from __future__ import annotations

from vcm.carriers.carry import Carried, attach_base, check_base, find_base, host_format, strip_base
from vcm.carriers.segment import MAX_SEGMENT_BYTES

__all__ = ["MAX_SEGMENT_BYTES", "Carried", "attach_base", "check_base", "find_base", "host_format", "strip_base"]
