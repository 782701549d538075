"""Hypothesis strategies: everything that the container, the entropy coder and a codec may be given.

    >>> from hypothesis import HealthCheck, given, settings
    >>> from vcm.bitstream import parse
    >>> from vcm.testing.strategies import bitstreams
    >>> @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
    ... @given(bitstreams())
    ... def test_my_proxy_keeps_files(file):
    ...     assert parse(file.to_bytes()) == file
    >>> test_my_proxy_keeps_files()

All are functions, so that a test narrows what it needs: ``bitstreams(max_side=64, max_layers=1)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from vcm.bitstream import (
    MAX_PIXELS,
    MAX_QUALITY,
    MAX_SIDE,
    MAX_TILE_LOG2,
    MIN_TILE_LOG2,
    Bitstream,
    Chunk,
    ChunkKind,
    Header,
    Layer,
    Metadata,
    SourceKind,
    tile_grid,
)
from vcm.entropy import MAX_SYMBOL, NUM_SCALES, SKIP_INDEX, scales
from vcm.structures import Detections

__all__ = [
    "bitstreams", "damaged", "detections", "headers", "layers", "metadata", "pictures", "source_kinds", "symbols",
    "unknown_chunks",
]  # fmt: skip

_UNKNOWN_KINDS = (3, 4, 6, 15, 19, 20, 21, 22, 112, 127)
"""Chunk kinds that version 1 does not know, reserved ones included."""


def source_kinds() -> st.SearchStrategy[SourceKind]:
    """Every kind of source picture: 8 or 16 bits, grey or colour, with or without alpha."""
    return st.builds(SourceKind, st.sampled_from([8, 16]), st.booleans(), st.booleans())


@st.composite
def headers(draw: st.DrawFn, *, max_side: int = 3000) -> Header:
    """Headers of any size up to ``max_side`` pixels a side, tile borders (1,024 and beside it) drawn often."""
    sides = st.integers(1, max_side) | st.sampled_from([n for n in (1, 1023, 1024, 1025, max_side) if n <= max_side])
    width = draw(sides)
    height = min(draw(sides), MAX_PIXELS // width, MAX_SIDE)
    enlarged = max(width, height) <= MAX_SIDE // 2 and width * height <= MAX_PIXELS // 4
    scales = st.integers(1, 16 if enlarged else 8) | st.integers(129, 255)
    return Header(draw(st.integers(0, 255)), width, height, draw(source_kinds()), draw(scales))


def metadata() -> st.SearchStrategy[Metadata]:
    """EXIF and ICC of any bytes, or none, and up to three entries."""
    keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
    entries = st.lists(st.tuples(keys, st.binary(max_size=20)), max_size=3, unique_by=lambda entry: entry[0])
    block = st.none() | st.binary(max_size=40)
    return st.builds(Metadata, block, block, entries.map(tuple))


def unknown_chunks() -> st.SearchStrategy[Chunk]:
    """Optional chunks of kinds that version 1 does not know: a reader keeps them."""
    return st.builds(Chunk, st.sampled_from(_UNKNOWN_KINDS), st.binary(max_size=30))


def layers(kind: ChunkKind, header: Header, *, max_stream: int = 20) -> st.SearchStrategy[Layer]:
    """Layers of ``kind`` whose tiles fit the picture of ``header``; streams are up to ``max_stream`` bytes, any."""

    def of_size(log2: int) -> st.SearchStrategy[Layer]:
        columns, rows = tile_grid(*header.coded_size(kind), log2)
        streams = st.lists(st.binary(max_size=max_stream), min_size=columns * rows, max_size=columns * rows).map(tuple)
        fingerprints = st.binary(min_size=8, max_size=8)
        return st.builds(Layer, st.just(kind), st.integers(0, MAX_QUALITY), fingerprints, st.just(log2), streams)

    return st.integers(MIN_TILE_LOG2, MAX_TILE_LOG2).flatmap(of_size)


@st.composite
def bitstreams(draw: st.DrawFn, *, max_side: int = 3000, max_layers: int = 3) -> Bitstream:
    """Well-formed files: a base, up to ``max_layers - 1`` enhancements, metadata, chunks of unknown kinds."""
    header = draw(headers(max_side=max_side))
    base = draw(layers(ChunkKind.BASE, header))
    more = draw(st.lists(layers(ChunkKind.ENHANCEMENT, header), max_size=max_layers - 1))
    return Bitstream.build(
        width=header.width,
        height=header.height,
        codec_id=header.codec_id,
        source=header.source,
        base_scale=header.base_scale,
        layers=[base, *more],
        metadata=draw(metadata()),
        extra=draw(st.lists(unknown_chunks(), max_size=2)),
    )


@st.composite
def damaged(draw: st.DrawFn, data: bytes, *, max_edits: int = 4) -> bytes:
    """``data`` with one to ``max_edits`` runs of up to 12 bytes replaced, removed or inserted; it may come out whole.

    A reader must answer it with what it held before, or with an error of its own, and with nothing else.
    """
    out = bytearray(data)
    for _ in range(draw(st.integers(1, max_edits))):
        start = draw(st.integers(0, len(out)))
        end = draw(st.integers(start, min(len(out), start + 12)))
        out[start:end] = draw(st.binary(max_size=12))
    return bytes(out)


@st.composite
def _symbol(draw: st.DrawFn) -> tuple[int, int]:
    index = draw(st.integers(0, NUM_SCALES - 1))
    if index < SKIP_INDEX:
        return 0, index
    reach = 4 * int(scales()[index]) + 2
    near, far = st.integers(-reach, reach), st.integers(-MAX_SYMBOL, MAX_SYMBOL)
    return draw(near | far | st.sampled_from([MAX_SYMBOL, -MAX_SYMBOL, 0])), index


def symbols(*, max_size: int = 200) -> st.SearchStrategy[tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]]:
    """What an entropy coder is given: symbols int32 ``(n,)`` and their scale indexes uint8 ``(n,)``.

    Near their Gaussian, far out in its tail (coded by escape), and at the limits; 0 where the index says "skipped".
    """

    def arrays(mix: list[tuple[int, int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        return np.array([s for s, _ in mix], np.int32), np.array([i for _, i in mix], np.uint8)

    return st.lists(_symbol(), max_size=max_size).map(arrays)


@st.composite
def pictures(draw: st.DrawFn, *, min_side: int = 1, max_side: int = 96) -> npt.NDArray[np.uint8]:
    """RGB pictures, uint8 ``(H, W, 3)``: one colour, a ramp, noise, or a ramp with noise in one half."""
    height, width = draw(st.integers(min_side, max_side)), draw(st.integers(min_side, max_side))
    kind = draw(st.sampled_from(["flat", "ramp", "noise", "both"]))
    colour = np.array(draw(st.tuples(*[st.integers(0, 255)] * 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    y, x = np.mgrid[:height, :width]
    ramp = (x[:, :, None] * 255 // width + y[:, :, None] * colour // height) % 256
    noise = rng.integers(0, 256, (height, width, 3))
    content = {
        "flat": np.broadcast_to(colour, (height, width, 3)),
        "ramp": ramp,
        "noise": noise,
        "both": np.where(x[:, :, None] < width // 2, ramp, noise),
    }
    return np.ascontiguousarray(content[kind], dtype=np.uint8)


@st.composite
def detections(draw: st.DrawFn, *, max_count: int = 20, max_side: int = 3000) -> Detections:
    """Detected objects, best first: boxes inside the picture (some without area), COCO's classes, any scores."""
    width, height = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    count = draw(st.integers(0, max_count))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x, y = (np.sort(rng.integers(0, side + 1, (count, 2)), axis=1) for side in (width, height))
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32)
    scores = np.sort(rng.random(count, dtype=np.float32))[::-1].copy()
    return Detections(boxes, scores, rng.integers(0, 80, count), width, height)
