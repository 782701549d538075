"""What is measured of one picture at one point of one codec, and the files that keep it between runs.

The cache is one JSON-lines file for each codec, settings, set of machines and set of metrics. Only the parent process
writes, a line at a time; a line that a kill has cut is ignored and measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from vcm.codecs.protocol import CodecInfo
from vcm.errors import OutputError
from vcm.eval.machines.protocol import MachineInfo
from vcm.structures import Detections

__all__ = ["Cache", "Found", "Key", "Record", "cache_path"]

_VERSION = 1
"""Raised when a stored number would come out differently: older caches are then left alone."""

Key = tuple[str, str, str]
"""Point label, picture name, SHA-256 of the picture's file."""


@dataclass(frozen=True, slots=True)
class Found:
    """Detections of one machine on one decoded picture, as they are stored.

    Attributes:
        seconds: of the machine alone.
        boxes: x1 y1 x2 y2 in source pixels, to 0.01 pixel.
        scores: to 0.00001.
        labels: class indices.
    """

    seconds: float
    boxes: list[list[float]]
    scores: list[float]
    labels: list[int]

    @classmethod
    def of(cls, found: Detections, seconds: float) -> Found:
        """Round what a machine gave."""
        boxes = [[round(float(v), 2) for v in box] for box in found.boxes]
        return cls(seconds, boxes, [round(float(s), 5) for s in found.scores], [int(v) for v in found.labels])

    def detections(self, width: int, height: int) -> Detections:
        """As arrays again."""
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        scores, labels = np.asarray(self.scores, np.float32), np.asarray(self.labels, np.int64)
        return Detections(boxes, scores, labels, width, height)


@dataclass(frozen=True, slots=True)
class Record:
    """One picture at one point of one codec.

    Attributes:
        point: label of the point.
        picture: name.
        digest: SHA-256 of the picture's file, empty where it could not be read.
        error: why there is nothing else, or ``None``.
        quality: what the codec was called with.
        width, height: of the source, pixels.
        bytes: length of the file.
        layers: bytes of each layer, for layered codecs.
        encode_s, decode_s: seconds of wall time, after a warm-up.
        peak_mib: memory that encoding and decoding took above what the process held before, MiB; external programs
            are not seen; ``None``: unknown, also where the file was kept from an earlier run.
        metrics: distortion by metric name; those that cannot be computed on this picture are not there.
        found: detections by machine name.
    """

    point: str
    picture: str
    digest: str
    error: str | None = None
    quality: float = 0.0
    width: int = 0
    height: int = 0
    bytes: int = 0
    layers: dict[str, int] = field(default_factory=dict)
    encode_s: float = 0.0
    decode_s: float = 0.0
    peak_mib: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Identity within a codec's cache."""
        return self.point, self.picture, self.digest

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The reverse.

        Raises:
            ValueError, TypeError, KeyError: the line is not one that :meth:`to_line` wrote.
        """
        data: dict[str, Any] = json.loads(line)
        data["found"] = {name: Found(**value) for name, value in data["found"].items()}
        return cls(**data)


def cache_path(folder: Path, codec: CodecInfo, machines: tuple[MachineInfo, ...], metrics: tuple[str, ...]) -> Path:
    """Where the records of a codec lie: its name, and a digest of everything that could change them."""
    identity = [_VERSION, codec.fingerprint, sorted(m.fingerprint for m in machines), sorted(metrics)]
    digest = sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return folder / f"{codec.name}-{digest}.jsonl"


class Cache:
    """Records of one codec, on disk.

    Args:
        path: the file; made when the first record is added.

    Raises:
        OutputError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[Key, Record] = {}
        self._file: TextIO | None = None
        if path.is_file():
            try:
                text = path.read_text("utf-8", errors="replace")
            except OSError as error:
                raise OutputError(f"cannot read the cache {path}", found=error.strerror) from error
            for line in text.splitlines():
                try:
                    record = Record.from_line(line)
                except (ValueError, TypeError, KeyError):
                    continue  # cut by a kill: measured again
                self._records[record.key] = record

    @property
    def records(self) -> Mapping[Key, Record]:
        """All that is there."""
        return self._records

    def add(self, record: Record) -> None:
        """Keep a record; one with an error is not kept, so that the next run tries again."""
        if record.error is not None:
            return
        self._records[record.key] = record
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                cut = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")
                self._file = self._path.open("a", encoding="utf-8")
                if cut:
                    self._file.write("\n")
            self._file.write(record.to_line())
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write the cache {self._path}", found=error.strerror) from error

    def close(self) -> None:
        """Flush to the disk and close."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
