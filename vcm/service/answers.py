"""Forms of answers: JSON by pydantic, bytes by range, and the choice of a picture's format."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from fastapi import Request, Response
from pydantic import BaseModel, Field

from vcm.archive.archive import Hit
from vcm.structures import Detections

__all__ = [
    "FORMATS",
    "Added",
    "Box",
    "DetectionsOut",
    "Health",
    "Labels",
    "Page",
    "PictureOut",
    "Problem",
    "boxes_of",
    "bytes_answer",
    "chosen_format",
    "end_of_range",
    "picture_out",
]  # fmt: skip

FORMATS = {"image/avif": "AVIF", "image/webp": "WEBP", "image/jpeg": "JPEG", "image/png": "PNG"}
"""Media types of pictures to Pillow's names; of equal wishes the first that we prefer: see :data:`_ORDER`."""
_ORDER = ("image/jpeg", "image/webp", "image/png", "image/avif")  # coding an AVIF takes seconds
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Problem(BaseModel):
    """What went wrong."""

    error: str = Field(description="one line")


class Box(BaseModel):
    """An object."""

    label: str
    score: float = Field(ge=0, le=1)
    box: tuple[float, float, float, float] | None = Field(description="x1 y1 x2 y2 in source pixels")


class PictureOut(BaseModel):
    """A picture of the archive."""

    picture: str = Field(pattern="^[0-9a-f]{32}$", description="of its content")
    source: str
    time: datetime = Field(description="UTC")
    camera: str
    width: int
    height: int
    bytes: int = Field(description="stored")
    base_bytes: int = Field(description="of them, those that detection reads")
    objects: list[Box] = Field(description="as found when it was taken in")


class Added(PictureOut):
    """A picture that was sent."""

    new: bool


class Page(BaseModel):
    """Pictures that a query is true of, newest first."""

    total: int
    stored: int = Field(description="pictures in the archive")
    stored_bytes: int
    pictures: list[PictureOut]


class DetectionsOut(BaseModel):
    """Objects, from the base layer."""

    picture: str
    width: int
    height: int
    bytes_read: int = Field(description="of the archive for this answer; 0 where they were kept")
    detections: list[Box]


class Labels(BaseModel):
    """Classes that were found in any picture."""

    labels: list[str]


class Health(BaseModel):
    """The service works."""

    status: str
    pictures: int
    version: str


def picture_out(hit: Hit) -> PictureOut:
    """A picture of a query."""
    objects = [Box(label=one.label, score=round(min(1.0, one.score), 4), box=one.box) for one in hit.objects]
    return PictureOut(
        picture=hit.picture, source=hit.source, time=hit.time.replace(tzinfo=UTC), camera=hit.camera,
        width=hit.width, height=hit.height,
        bytes=hit.bytes, base_bytes=hit.base_bytes, objects=objects,
    )  # fmt: skip


def boxes_of(found: Detections) -> list[Box]:
    """Detections."""
    return [Box(label=one.name, score=round(min(1.0, float(one.score)), 4), box=one.box) for one in found]


def chosen_format(accept: str) -> str | None:
    """The media type to send for an ``Accept`` header; ``None`` if it admits none of ours."""
    best: tuple[float, int] | None = None
    wishes: dict[str, float] = {}
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        wishes[name] = weight
    for index, media in enumerate(_ORDER):
        weight = wishes.get(media, wishes.get("image/*", wishes.get("*/*", 0.0)))
        # What is named is meant more than what a star admits.
        rank = (weight + (0.0001 if media in wishes else 0), -index)
        if weight > 0 and (best is None or rank > best):
            best = rank
    return None if best is None else _ORDER[-best[1]]


def _range_of(request: Request, tag: str) -> re.Match[str] | None:
    """The range that a request asks for, if it is one that we know and of this content."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    condition = request.headers.get("if-range")
    return found if condition is None or condition == f'"{tag}"' else None


def end_of_range(request: Request, size: int, tag: str) -> int | None:
    """How many bytes from the start a request's range needs; ``None``: all."""
    found = _range_of(request, tag)
    return min(size, int(found[2]) + 1) if found and found[1] and found[2] and len(found[2]) < 16 else None


def bytes_answer(
    request: Request, data: bytes, size: int, media: str, tag: str, headers: dict[str, str] | None = None
) -> Response:
    """A file or a range of it.

    Args:
        request: may ask for one range.
        data: the file, or as much of its start as the range needs.
        size: of the whole file.
        media: type.
        tag: of the content, without quotes.
        headers: further ones.
    """
    head = {"ETag": f'"{tag}"', "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache", **(headers or {})}
    found = _range_of(request, tag)
    if found is None or (found[1], found[2]) == ("", ""):
        return Response(data, media_type=media, headers=head)
    first, last = found[1][:16], found[2][:16]
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1 if first and last else size)
    if start >= end:
        return Response(status_code=416, headers={**head, "Content-Range": f"bytes */{size}"})
    head["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Response(data[start:end], 206, media_type=media, headers=head)
