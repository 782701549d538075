"""``vcm encode`` of video files: each frame is a picture of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vcm.cli.files import STREAM
from vcm.errors import OutputError, UsageError, VcmError
from vcm.io.remote import address_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vcm.bitstream import Bitstream
    from vcm.cli.output import Row

__all__ = ["encode_videos", "is_video"]

_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"})


def is_video(path: Path) -> bool:
    """By the extension."""
    return path.suffix.lower() in _SUFFIXES and path != STREAM and address_of(path) is None


@dataclass(frozen=True, slots=True)
class _Item:
    """A frame of a video."""

    video: Path
    number: int
    seconds: float
    pixels: npt.NDArray[np.uint8]
    target: Path

    def __str__(self) -> str:
        return f"{self.video}, frame {self.number}"


@dataclass(frozen=True, slots=True)
class _End:
    """Why there are no more frames of a video."""

    video: Path
    failure: VcmError

    def __str__(self) -> str:
        return str(self.video)


def encode_videos(
    videos: Sequence[Path],
    output: str | None,
    every: int,
    encode: Callable[[npt.NDArray[np.uint8]], Bitstream],
    row_of: Callable[[Bitstream, Path, Path], Row],
    show: Callable[[Row], None] | None,
    *,
    ndjson: bool,
    jobs: int,
) -> int:
    """Writes NAME.000120.vcm for frame 120 of each NAME into a folder.

    Args:
        videos: files.
        output: the folder; by default NAME.frames beside each.
        every: take each so many'th frame.
        encode: a frame to a file.
        row_of: saves a file and gives what there is to say of it: called with the file, its source and its target.
        show, ndjson, jobs: as for :func:`vcm.cli.output.each`.

    Returns:
        The exit status.

    Raises:
        UsageError: the output is no folder, or two videos have one name.
        MissingDependencyError: PyAV is not installed.
        OutputError: a folder cannot be made.
    """
    from vcm.cli import output as out

    folders = [video.with_suffix(".frames") if output is None else Path(output) for video in videos]
    for folder in folders:
        if output == str(STREAM) or (folder.exists() and not folder.is_dir()):
            raise UsageError("--output with a video", expected="a folder", found=output or str(folder))
    if len({(folder, video.stem) for folder, video in zip(folders, videos, strict=True)}) < len(videos):
        raise UsageError("two videos would be written to the same files", expected="different names")
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: the folder cannot be made", found=error.strerror) from error

    def work(item: _Item | _End) -> Row:
        if isinstance(item, _End):
            raise item.failure
        row = row_of(encode(item.pixels), item.video, item.target)
        return {**row, "frame": item.number, "seconds": item.seconds}

    return out.each(_items(videos, folders, every), "encoding", work, show, ndjson=ndjson, jobs=jobs, total=0)


def _items(videos: Sequence[Path], folders: Sequence[Path], every: int) -> Iterator[_Item | _End]:
    from vcm.io.video import read_frames

    for video, folder in zip(videos, folders, strict=True):
        try:
            for frame in read_frames(video, every):
                target = folder / f"{video.stem}.{frame.index:06d}.vcm"
                yield _Item(video, frame.index, frame.seconds, frame.pixels, target)
        except VcmError as failure:  # one line for it, and the next video follows
            yield _End(video, failure)
