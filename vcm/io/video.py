"""Frames of video files, by PyAV (FFmpeg's libraries): https://pyav.basswood-io.com."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike, fspath
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.errors import InputError, reason
from vcm.io.remote import address_of, file_system
from vcm.requirements import needing

__all__ = ["Frame", "read_frames", "started_at"]

_QUARTERS = {90: 1, 180: 2, 270: 3, -90: 3, -180: 2, -270: 1}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a video.

    Attributes:
        index: its number in the video, from 0.
        seconds: since the first frame.
        pixels: uint8 ``(height, width, 3)``, RGB, upright.
    """

    index: int
    seconds: float
    pixels: npt.NDArray[np.uint8]


def read_frames(name: str | PathLike[str], every: int = 1) -> Iterator[Frame]:
    """Each ``every``-th frame of a video's first video stream, the first one included.

    Args:
        name: path or address.
        every: at least 1.

    Raises:
        InputError: the file cannot be read, is no video, or is damaged; frames before that were given.
        MissingDependencyError: PyAV is not installed.
    """
    with _opened(name) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        first: float | None = None
        for index, frame in enumerate(container.decode(stream)):
            seconds = float(frame.time) if frame.time is not None else index / float(stream.average_rate or 25)
            first = seconds if first is None else first
            if index % every == 0:
                pixels = frame.to_ndarray(format="rgb24")
                turned = np.rot90(pixels, _QUARTERS.get(round(frame.rotation), 0))
                yield Frame(index, seconds - first, np.ascontiguousarray(turned))


def started_at(name: str | PathLike[str]) -> datetime | None:
    """When a video was begun, UTC without a zone, by its metadata; ``None`` where they do not say.

    Raises:
        InputError, MissingDependencyError: as of :func:`read_frames`.
    """
    with _opened(name) as container:
        text = container.metadata.get("creation_time", "")
    with suppress(ValueError):
        when = datetime.fromisoformat(text)
        when = when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
        return when if when.year > 1970 else None  # cameras without a clock say 1904 or 1970
    return None


class _opened:
    """A container with a video stream; what goes wrong in it is one kind of error."""

    def __init__(self, name: str | PathLike[str]) -> None:
        with needing("a video"):
            import av
        self._failures: tuple[type[Exception], ...] = (av.FFmpegError, OSError, ValueError)
        self._name = address_of(name) or fspath(name)
        self._file: Any = None
        try:
            if address_of(name) is not None:
                system, path = file_system(self._name)
                self._file = system.open(path, "rb")
            self._container = av.open(self._file or self._name)
        except self._failures as error:
            raise self._failed(error) from error
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{self._name}: not a video", expected="a video stream", found="none")

    def _failed(self, error: BaseException) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(f"{self._name}: no such file")
        return InputError(f"cannot read {self._name}", found=reason(error))

    def __enter__(self) -> Any:
        return self._container

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._container.close()
        if self._file is not None:
            self._file.close()
        if isinstance(error, self._failures):
            raise self._failed(error) from error
