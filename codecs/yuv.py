"""RGB to planar YUV 4:2:0 and back, and the Y4M files in which video codecs take and give it.

BT.709, full range. Chroma is the mean of 2×2 pixels (sited at their centre) and comes back by bilinear interpolation.
Odd sizes are padded by repeating the last row and column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcm.codecs.protocol import Image, check_image, check_size
from vcm.errors import ImageError, OptionError

__all__ = ["Planes", "from_y4m", "rgb_to_yuv420", "to_y4m", "yuv420_to_rgb"]

_KR, _KB = 0.2126, 0.0722
_KG = 1.0 - _KR - _KB

_Plane = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """One 4:2:0 picture.

    Attributes:
        y: uint16 ``(H, W)``, both sides even.
        u, v: uint16 ``(H/2, W/2)``.
        bit_depth: 8 or 10; values are 0 … 2**bit_depth − 1.
    """

    y: npt.NDArray[np.uint16]
    u: npt.NDArray[np.uint16]
    v: npt.NDArray[np.uint16]
    bit_depth: int


def rgb_to_yuv420(image: Image, bit_depth: int) -> Planes:
    """Convert; an odd side grows by one.

    Raises:
        OptionError: not an RGB picture, or ``bit_depth`` is neither 8 nor 10.
    """
    image = check_image(image)
    if bit_depth not in (8, 10):
        raise OptionError("bit depth", expected="8 or 10", found=bit_depth)
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    r, g, b = (padded[..., i].astype(np.float32) * np.float32(1 / 255) for i in range(3))
    y = _KR * r + _KG * g + _KB * b
    u, v = (b - y) / (2 * (1 - _KB)), (r - y) / (2 * (1 - _KR))
    top = float((1 << bit_depth) - 1)

    def halved(plane: _Plane) -> npt.NDArray[np.uint16]:
        rows, columns = plane.shape
        return _quantise(plane.reshape(rows // 2, 2, columns // 2, 2).mean((1, 3)) * top + _middle(bit_depth), top)

    return Planes(_quantise(y * top, top), halved(u), halved(v), bit_depth)


def yuv420_to_rgb(planes: Planes, width: int, height: int) -> Image:
    """Convert back and crop to ``width`` × ``height``.

    Raises:
        ImageError: the planes are smaller than that, or do not belong together.
    """
    rows, columns = planes.y.shape
    half = (rows // 2, columns // 2)
    if rows % 2 or columns % 2 or planes.u.shape != half or planes.v.shape != half or rows < height or columns < width:
        raise ImageError("decoded planes", expected=f"at least {width} × {height}, 4:2:0", found=f"{columns} × {rows}")
    top = float((1 << planes.bit_depth) - 1)
    y = planes.y.astype(np.float32) / top
    u, v = (_doubled((p.astype(np.float32) - _middle(planes.bit_depth)) / top) for p in (planes.u, planes.v))
    r, b = y + 2 * (1 - _KR) * v, y + 2 * (1 - _KB) * u
    g = (y - _KR * r - _KB * b) / _KG
    rgb = np.stack([r, g, b], -1)[:height, :width]
    return np.asarray(np.clip(np.rint(rgb * 255), 0, 255), np.uint8)


def _middle(bit_depth: int) -> float:
    return float(1 << (bit_depth - 1))


def _quantise(plane: _Plane, top: float) -> npt.NDArray[np.uint16]:
    return np.clip(np.rint(plane), 0, top).astype(np.uint16)


def _doubled(plane: _Plane) -> _Plane:
    """Bilinear ×2 for samples at the centres of 2×2 blocks: weights ¾ and ¼, borders repeated."""
    for axis in (0, 1):
        padded = np.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        count = plane.shape[axis]
        before, after = padded.take(range(count), axis), padded.take(range(2, count + 2), axis)
        pair = np.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis + 1)
        shape = list(plane.shape)
        shape[axis] *= 2
        plane = pair.reshape(shape).astype(np.float32)
    return plane


def to_y4m(planes: Planes) -> bytes:
    """One frame as a YUV4MPEG2 file."""
    height, width = planes.y.shape
    kind, dtype = ("420p10", "<u2") if planes.bit_depth == 10 else ("420", "u1")
    header = f"YUV4MPEG2 W{width} H{height} F1:1 Ip A1:1 C{kind}\nFRAME\n".encode("ascii")
    return header + b"".join(plane.astype(dtype).tobytes() for plane in (planes.y, planes.u, planes.v))


_HEADER = re.compile(rb"YUV4MPEG2((?: [A-Za-z][^ \n]*)*)\nFRAME[^\n]*\n")


def from_y4m(data: bytes) -> Planes:
    """The first frame of a YUV4MPEG2 file.

    Raises:
        ImageError: not such a file, not 4:2:0 of 8 or 10 bits, or too short for its size.
        LimitError: the header claims too large a picture.
    """
    match = _HEADER.match(data[:1024])
    if match is None:
        raise ImageError("not a Y4M file", expected="YUV4MPEG2", found=data[:9])
    fields = {field[:1]: field[1:] for field in match[1].decode("ascii", "replace").split()}
    try:
        width, height = int(fields["W"]), int(fields["H"])
    except (KeyError, ValueError) as error:
        raise ImageError("Y4M header without a size", found=match[1]) from error
    check_size(width, height)
    kind = fields.get("C", "420")
    if not re.fullmatch(r"420(jpeg|mpeg2|paldv)?(p10)?", kind) or width % 2 or height % 2:
        raise ImageError(
            "Y4M format", expected="4:2:0 of 8 or 10 bits, even sides", found=f"C{kind} {width} × {height}"
        )
    depth = 10 if kind.endswith("p10") else 8
    dtype = np.dtype("<u2" if depth == 10 else "u1")
    count = width * height * 3 // 2
    samples = data[match.end() : match.end() + count * dtype.itemsize]
    if len(samples) < count * dtype.itemsize:
        raise ImageError("Y4M frame is too short", expected=count * dtype.itemsize, found=len(samples))
    values = np.frombuffer(samples, dtype).astype(np.uint16)
    luma, chroma = width * height, width * height // 4
    half = (height // 2, width // 2)
    return Planes(
        values[:luma].reshape(height, width),
        values[luma : luma + chroma].reshape(half),
        values[luma + chroma :].reshape(half),
        depth,
    )
