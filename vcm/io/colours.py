"""Every mode of Pillow's as 8-bit RGB: depth, palettes, alpha, profiles of other colour spaces."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from vcm.errors import ImageError

__all__ = ["DEEP_MODES", "GREY_MODES", "ProfileUse", "rgb_profile", "to_rgb", "use_profile"]

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

ProfileUse = Literal["keep", "lean", "apply"]
"""What becomes of an RGB picture's colour profile: kept as it is; kept if it says something, that is if its colours are
not sRGB's; or applied, which gives sRGB pixels without a profile."""

# Levels of 255 by which colours may differ that are the same to whoever looks; profiles of sRGB differ among themselves
# by rounding.
_SAME_LEVELS = 2


def to_rgb(image: Image.Image, sixteen: bool) -> tuple[Image.Image, bool, bytes | None]:
    """Pixels of any mode as 8-bit RGB.

    Args:
        image: loaded.
        sixteen: its samples have 16 bits, of which Pillow may have dropped eight.

    Returns:
        RGB pixels on white, whether there was alpha, and the RGB profile that still holds.

    Raises:
        ImageError: the values are not all finite.
    """
    profile = image.info.get("icc_profile") or None
    alpha = image.mode in _ALPHA_MODES or "transparency" in image.info or _palette_has_alpha(image)
    if image.mode in DEEP_MODES:
        return _eight_bits(image, sixteen).convert("RGB"), False, rgb_profile(profile)
    if alpha:
        premultiplied = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        rgba = (image.convert(premultiplied) if premultiplied else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB"), True, rgb_profile(profile)
    if profile and rgb_profile(profile) is None:
        applied = _apply_profile(image, profile)
        if applied is not None:
            return applied, False, None
    return image.convert("RGB"), False, rgb_profile(profile)


def use_profile(image: Image.Image, profile: bytes | None, use: ProfileUse) -> tuple[Image.Image, bytes | None]:
    """An RGB picture and the profile to go with it.

    Args:
        image: mode ``RGB``.
        profile: about RGB, or ``None``.
        use: what to do with it; a profile that cannot be read is as good as none unless it is kept.

    """
    if profile is None or use == "keep":
        return image, profile
    if _like_srgb(profile):
        return image, None
    if use == "lean":
        return image, profile
    return _to_srgb(image, profile), None


@lru_cache(maxsize=32)
def _like_srgb(profile: bytes) -> bool:
    """Whether colours stay as they are on the way to sRGB, or nobody can say because the profile is damaged."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(27, 27, 3)
    try:
        there: npt.NDArray[np.uint8] = np.asarray(_to_srgb(Image.fromarray(grid), profile))
    except Exception:  # profiles are a format of their own, and the library has its own ways to say no
        return True
    return int(np.abs(there.astype(np.int16) - grid).max()) <= _SAME_LEVELS


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms

    there = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB",
    )  # fmt: skip
    return cast(Image.Image, there)  # nothing only where it is done in place


def _palette_has_alpha(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")


def rgb_profile(profile: bytes | None) -> bytes | None:
    """The profile, if its header says that it is about RGB (bytes 16 to 20)."""
    return profile if profile and profile[16:20] == b"RGB " else None


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """sRGB through the picture's own CMYK, grey or Lab profile; ``None`` if the profile does not fit or is damaged."""
    try:
        from PIL import ImageCms

        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except Exception:  # a damaged profile must not cost the picture; Pillow's own conversion follows
        return None


def _eight_bits(image: Image.Image, sixteen: bool) -> Image.Image:
    """Mode ``L`` of a deeper picture, scaled and rounded, never clipped.

    16-bit samples: 0 … 65535. ``I`` and ``F`` do not say their range, so the smallest of these that holds every value
    is taken: 0 … 1 (``F`` only), 0 … 255, 0 … 65535; values outside all of them are stretched from least to greatest.
    """
    values: npt.NDArray[Any] = np.asarray(image).astype(np.float32 if image.mode.startswith("I;16") else np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("values cannot be scaled", expected="finite numbers", found="NaN or infinity")
    if low >= 0 and (sixteen or high <= 65535):
        if sixteen:
            full = 65535.0
        elif image.mode == "F" and high <= 1:
            full = 1.0
        else:
            full = 255.0 if high <= 255 else 65535.0
        scaled = values * (255.0 / full)
    else:
        scaled = (values - low) * (255.0 / ((high - low) or 1.0))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
