"""ICC profiles of RGB colour spaces, which Pillow can make for sRGB only."""

from __future__ import annotations

import struct

from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Primaries = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
ADOBE_RGB: Primaries = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""X, Y, Z of red, green and blue under D50; its curve is a power of 2.2."""
SRGB_PRIMARIES: Primaries = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def rgb_profile(primaries: Primaries) -> bytes:
    """A matrix profile, version 2, with a curve of a power of 2.2, or sRGB's own for its primaries."""
    curve = struct.pack(">4sII2s", b"curv", 0, 1, b"\x02\x33")
    if primaries == SRGB_PRIMARIES:
        x = [i / 1023 for i in range(1024)]
        values = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in x]
        curve = struct.pack(">4sII1024H", b"curv", 0, 1024, *(round(v * 65535) for v in values))
    tags = {
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        b"desc": _desc(b"ours"),
        b"cprt": struct.pack(">4sI5s", b"text", 0, b"none\0"),
    }
    for name, xyz in zip("rgb", primaries, strict=True):
        tags[f"{name}XYZ".encode()] = _xyz(xyz)
        tags[f"{name}TRC".encode()] = curve
    table, data, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, block in tags.items():
        table += struct.pack(">4sII", name, offset + len(data), len(block))
        data += block + bytes(-len(block) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s", offset + len(data), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp"
    )
    head += bytes(28) + _numbers((0.9642, 1.0, 0.8249))
    return head.ljust(128, b"\0") + table + data


def _numbers(values: tuple[float, ...]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return struct.pack(">4sI", b"XYZ ", 0) + _numbers(values)


def _desc(text: bytes) -> bytes:
    return struct.pack(">4sII", b"desc", 0, len(text) + 1) + text + bytes(1 + 8 + 3 + 67)
