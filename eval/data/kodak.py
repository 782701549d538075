"""Kodak's 24 test pictures, known by their pixels: published numbers are of them, and of no other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from vcm.errors import ImageError
from vcm.eval.data.datasets import Picture
from vcm.io.pictures import load_image

__all__ = ["KODAK", "why_not_kodak"]

_SIZES = ((768, 512), (512, 768))

# fmt: off
KODAK: frozenset[str] = frozenset({
    "a002107433535944", "ae5a495df4ec40e0", "234e61f585503f2a", "e88e788fca00e6c7", "ed3d1ee770909d3b",
    "7f45158999fa297d", "4e3664bf6fe865b4", "889c3740e4ed54ca", "f8453140e63a4230", "fabe11b5c4f02839",
    "ab4dd9bf8431e717", "f412db2168e59994", "875703d56fb9396f", "2bd5029ee75ac169", "b5353e7511277009",
    "ed21745fd32fce95", "566bc866664e9b06", "3475af71066f3ca8", "7956408ef24222d3", "666ce8f2db5566a1",
    "2d6902daf7c4486b", "f430842120c108b6", "81992a83592267e6", "e3e3ccc3e795b82a",
})
# fmt: on
"""SHA-256, 16 hex digits, of the RGB bytes of kodim01 … kodim24, row by row (https://r0k.us/graphics/kodak/)."""


def why_not_kodak(pictures: Sequence[Picture]) -> str:
    """Why these are not Kodak's pictures, as a clause; empty where they are, all 24, in whatever order and format."""
    if len(pictures) != len(KODAK):
        return f"there are {len(pictures)} pictures here"
    found = set()
    for picture in pictures:
        try:
            pixels = load_image(picture.path, quiet=True).pixels
        except ImageError as error:
            return f"{picture.name}: {error}"
        if (pixels.shape[1], pixels.shape[0]) not in _SIZES:
            return f"{picture.name} has {pixels.shape[1]}x{pixels.shape[0]} pixels"
        digest = sha256(pixels.tobytes()).hexdigest()[:16]
        if digest not in KODAK:
            return f"{picture.name} has other pixels"
        found.add(digest)
    return "" if len(found) == len(KODAK) else "one is there twice"
