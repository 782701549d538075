"""Coded files kept between runs, so that another detector, or one trained anew, need not wait for a slow encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vcm.codecs.protocol import CodecInfo
from vcm.eval.run.protocols import Point
from vcm.io.files import write_atomically

__all__ = ["Stream", "Streams"]


@dataclass(frozen=True, slots=True)
class Stream:
    """What a codec made of one picture.

    Attributes:
        data: the file.
        quality: that it was made with, maybe found by a search for a rate.
        encode_s: seconds that it took.
    """

    data: bytes
    quality: float
    encode_s: float


class Streams:
    """Files of one codec: a line of JSON, then the bytes; named by point and picture.

    Args:
        folder: for all codecs; made when the first file is kept.
        codec: its fingerprint stands in the path: another version, other settings or weights are another codec.
    """

    def __init__(self, folder: Path, codec: CodecInfo) -> None:
        self._folder = folder / f"{codec.name}-{codec.fingerprint}"

    def _path(self, point: Point, digest: str) -> Path:
        asked = json.dumps([point.quality, point.target_bpp, digest])
        return self._folder / f"{sha256(asked.encode()).hexdigest()[:32]}.stream"

    def get(self, point: Point, digest: str) -> Stream | None:
        """What is there of the picture whose file has this SHA-256; ``None`` too where the file is damaged."""
        try:
            head, _, data = self._path(point, digest).read_bytes().partition(b"\n")
            meta = json.loads(head)
            whole = meta["sha256"] == sha256(data).hexdigest()
            return Stream(data, float(meta["quality"]), float(meta["encode_s"])) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, point: Point, digest: str, stream: Stream) -> None:
        """Keep a file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        meta = {"quality": stream.quality, "encode_s": stream.encode_s, "sha256": sha256(stream.data).hexdigest()}
        head = json.dumps(meta).encode() + b"\n"
        write_atomically(self._path(point, digest), head + stream.data, verb="keep")
