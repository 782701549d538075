"""Small videos that tests make."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def make_video(path: Path, frames: int = 20, rate: int = 10, created: str | None = None) -> Path:
    """A grey that gets lighter, four levels a frame, with a white corner at the top left."""
    with av.open(str(path), "w") as container:
        if created:
            container.metadata["creation_time"] = created
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(frames):
            pixels = np.full((48, 64, 3), 40 + 4 * index, np.uint8)
            pixels[:16, :16] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
