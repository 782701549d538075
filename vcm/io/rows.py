"""Pictures out by rows, for those that do not fit into memory: PNG and PPM. :mod:`vcm.io.save` writes all others."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vcm.io.files import whole_file

__all__ = ["ROW_FORMATS", "picture_pieces", "save_rows"]

ROW_FORMATS = ("PNG", "PPM")
"""Pillow's names of the formats that can be written so."""

_Pixels = npt.NDArray[np.uint8]
_PAETH = 4
_PIECE_BYTES = 1 << 20


def save_rows(
    path: str | os.PathLike[str],
    kind: str,
    size: tuple[int, int],
    mode: str,
    bands: Iterable[_Pixels],
    exif: bytes | None = None,
    icc: bytes | None = None,
) -> None:
    """Write a picture whole or not at all, band by band.

    Args:
        path: where to.
        kind, size, mode, bands, exif, icc: as for :func:`picture_pieces`.

    Raises:
        OutputError: the folder is not there or not writable, the disk is full, or the target is not a plain file.
    """
    with whole_file(path) as part, part.open("wb") as file:
        for piece in picture_pieces(kind, size, mode, bands, exif, icc):
            file.write(piece)


def picture_pieces(
    kind: str,
    size: tuple[int, int],
    mode: str,
    bands: Iterable[_Pixels],
    exif: bytes | None = None,
    icc: bytes | None = None,
) -> Iterator[bytes]:
    """A picture's file in pieces, each when its rows are there.

    Args:
        kind: of :data:`ROW_FORMATS`.
        size: (width, height) in pixels, what the bands add up to.
        mode: ``RGB`` or ``L``.
        bands: uint8 (rows, width, 3), or (rows, width) for ``L``, from the top down.
        exif: ``b"Exif\\0\\0"`` and a TIFF block; PPM has no place for it.
        icc: profile; likewise.

    Source: Portable Network Graphics (PNG) Specification (Third Edition), W3C; ppm(5).
    """
    if kind == "PPM":
        yield b"%s\n%d %d\n255\n" % (b"P6" if mode == "RGB" else b"P5", *size)
        for band in bands:
            yield band.tobytes()
        return
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2 if mode == "RGB" else 0, 0, 0, 0))
    if icc is not None:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif is not None:
        yield _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    deflate, held = zlib.compressobj(6), b""
    above = np.zeros((1, size[0] * (3 if mode == "RGB" else 1)), dtype=np.uint8)
    for band in bands:
        rows = band.reshape(len(band), -1)
        held += deflate.compress(_filtered(rows, above, 3 if mode == "RGB" else 1))
        above = rows[-1:]
        while len(held) >= _PIECE_BYTES:
            yield _chunk(b"IDAT", held[:_PIECE_BYTES])
            held = held[_PIECE_BYTES:]
    yield _chunk(b"IDAT", held + deflate.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _filtered(rows: _Pixels, above: _Pixels, step: int) -> bytes:
    """Rows as differences from Paeth's predictor, which suits photographs; each begins with the filter's number.

    Args:
        rows: uint8 (n, width · step).
        above: the row before them, (1, width · step).
        step: bytes of a pixel.
    """
    out = np.empty((len(rows), 1 + rows.shape[1]), dtype=np.uint8)
    out[:, 0] = _PAETH
    before = above
    for at, row in enumerate(rows):  # one at a time: in 16 bits a band takes six times what it takes in 8
        b = before.reshape(-1).astype(np.int16)
        a, c = np.zeros_like(b), np.zeros_like(b)
        a[step:], c[step:] = row[:-step], b[:-step]
        to_a, to_b = np.abs(b - c), np.abs(a - c)
        to_c = np.abs(a + b - 2 * c)
        best = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
        out[at, 1:] = row - best.astype(np.uint8)
        before = row
    return out.tobytes()
