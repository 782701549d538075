"""The tables: one row for each object, or one without a label for a picture in which a head found none.

Parts lie in ``detections/camera=C/day=D/HEAD-HASH.parquet``, a partitioning that every reader of Parquet knows. A
part's name is made of what is in it, so that the same rows twice are one part.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vcm.archive.folders import Folder
from vcm.errors import InputError, reason
from vcm.requirements import needing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DETECT", "FOLDER", "Found", "Record", "known", "schema", "write_parts"]

FOLDER = "detections"
DETECT = "detect"
"""Name, in the column ``head``, of the codec's own detection head."""
VERSION = "1"


@dataclass(frozen=True, slots=True)
class Found:
    """One object.

    Attributes:
        label: class name.
        score: 0 … 1.
        box: x1 y1 x2 y2 in source pixels; ``None`` of a class of the whole picture.
        category_id: the data set's id of the class.
        head: which head found it.
    """

    label: str
    score: float
    box: tuple[float, float, float, float] | None
    category_id: int
    head: str = DETECT


@dataclass(frozen=True, slots=True)
class Record:
    """A picture of an archive, and what one head found in it.

    Attributes:
        picture: 32 hexadecimal digits, of the source's content.
        source: path or address that it was taken from; of a video with ``#`` and the frame's number.
        time: UTC, without a zone.
        camera: its name.
        width, height: pixels.
        source_bytes: of the picture that was taken in; 0 of a frame.
        bytes: stored, all layers.
        base_bytes: of them, those that heads read.
        file: the VCM file, or its base prefix; relative to the archive, or absolute.
        rest: what follows the base prefix, where that is a file of its own.
        head: what found ``objects``.
        objects: best first.
    """

    picture: str
    source: str
    time: datetime
    camera: str
    width: int
    height: int
    source_bytes: int
    bytes: int
    base_bytes: int
    file: str
    rest: str | None = None
    head: str = DETECT
    objects: tuple[Found, ...] = field(default=(), repr=False)


def schema() -> pa.Schema:
    """Columns of a part; camera and day are in its path.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    with needing("an archive"):
        import pyarrow as pa
    text = pa.string()
    return pa.schema(
        [
            pa.field("picture", text, nullable=False), pa.field("source", text, nullable=False),
            pa.field("time", pa.timestamp("us"), nullable=False),
            pa.field("width", pa.int32(), nullable=False), pa.field("height", pa.int32(), nullable=False),
            pa.field("source_bytes", pa.int64(), nullable=False), pa.field("bytes", pa.int64(), nullable=False),
            pa.field("base_bytes", pa.int64(), nullable=False), pa.field("file", text, nullable=False),
            pa.field("rest", text), pa.field("head", text, nullable=False), pa.field("label", text),
            pa.field("category_id", pa.int32()), pa.field("score", pa.float32()),
            *(pa.field(name, pa.float32()) for name in ("x1", "y1", "x2", "y2")),
        ],
        metadata={"vcm-archive": VERSION},
    )  # fmt: skip


def _rows(record: Record) -> list[dict[str, Any]]:
    r = record
    picture = {
        "picture": r.picture, "source": r.source, "time": r.time, "width": r.width, "height": r.height,
        "source_bytes": r.source_bytes, "bytes": r.bytes, "base_bytes": r.base_bytes, "file": r.file, "rest": r.rest,
        "head": r.head,
    }  # fmt: skip
    if not r.objects:
        return [picture]
    rows = []
    for one in r.objects:
        x1, y1, x2, y2 = one.box or (None, None, None, None)
        found = {"label": one.label, "score": one.score, "category_id": one.category_id}
        rows.append({**picture, **found, "x1": x1, "y1": y1, "x2": x2, "y2": y2})
    return rows


def write_parts(folder: Folder, records: Sequence[Record]) -> list[str]:
    """Write rows, a part for each camera, day and head. Gives the names of the parts.

    Raises:
        OutputError: a part cannot be written.
    """
    columns = schema()
    import pyarrow as pa
    import pyarrow.parquet as pq

    def of(record: Record) -> tuple[str, str, str]:
        return record.camera, record.time.date().isoformat(), record.head

    names = []
    for (camera, day, head), group in groupby(sorted(records, key=of), of):
        part = list(group)
        rows = [row for record in part for row in _rows(record)]
        data = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=columns), data, compression="zstd")
        content = hashlib.sha256("\n".join(record.picture for record in part).encode()).hexdigest()[:16]
        place = f"{FOLDER}/camera={quote(camera, safe='')}/day={day}"
        names.append(f"{place}/{quote(head, safe='')}-{content}.parquet")
        folder.write(names[-1], data.getvalue())
    return names


def known(folder: Folder, head: str = DETECT) -> set[str]:
    """Pictures that a head has seen, from the rows themselves.

    Raises:
        InputError: a part cannot be read.
    """
    schema()  # says what is missing
    import pyarrow.parquet as pq

    from vcm.archive.folders import read_bytes

    pictures: set[str] = set()
    # The name says whose rows a part has.
    start = f"{quote(head, safe='')}-"
    for name in folder.names(FOLDER, ".parquet"):
        if not name.rpartition("/")[2].startswith(start):
            continue
        try:
            part = pq.read_table(io.BytesIO(read_bytes(folder.at(name))), columns=["picture"])
        except (OSError, ValueError) as error:
            raise InputError(f"{folder.at(name)}: not a table of an archive", found=reason(error)) from error
        pictures.update(part["picture"].to_pylist())
    return pictures


def utc(seconds: float) -> datetime:
    """A time since 1970 as it stands in the tables."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
