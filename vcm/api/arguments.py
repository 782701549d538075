"""Arguments of the front, checked before any work is done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, cast

from vcm.bitstream.limits import MAX_QUALITY
from vcm.errors import OptionError, reason

if TYPE_CHECKING:
    import torch

    from vcm.io.colours import ProfileUse

__all__ = [
    "KEEP", "Backend", "Kept", "Precision", "backend_of", "base_scale_of", "check_target", "device_of", "kept_of",
    "precision_of", "quality_index", "whole_number",
]  # fmt: skip


Backend = Literal["auto", "torch", "onnx"]
"""What runs networks: torch, onnxruntime (on CPUs only), or what fits the device."""


Precision = Literal["float32", "int8", "bfloat16"]
"""See :func:`vcm.load`."""
_PRECISIONS: dict[str, str | None] = {"float32": None, "int8": "onnx", "bfloat16": "torch"}


def backend_of(backend: Any, device: str | torch.device) -> Literal["torch", "onnx"]:
    """``torch`` or ``onnx``; ``auto`` is onnxruntime on a CPU.

    Raises:
        OptionError: there is none of that name, or onnxruntime is asked for on another device than a CPU.
    """
    if backend not in ("auto", "torch", "onnx"):
        raise OptionError("no such backend", expected="auto, torch or onnx", found=backend)
    if backend == "auto":
        return "onnx" if str(device) == "cpu" else "torch"
    if backend == "onnx" and str(device) != "cpu":
        raise OptionError("onnxruntime runs on the CPU here", expected="device cpu", found=str(device))
    return "onnx" if backend == "onnx" else "torch"


def precision_of(precision: Any, backend: str) -> Precision:
    """What the picture's networks compute in.

    Raises:
        OptionError: there is none of that name, the backend lacks it, or this machine's processor does not multiply
            bytes.
    """
    if precision not in _PRECISIONS:
        raise OptionError("no such precision", expected=", ".join(_PRECISIONS), found=precision)
    wanted = _PRECISIONS[precision]
    if wanted not in (None, backend):
        raise OptionError(f"precision {precision} needs another backend", expected=wanted, found=backend)
    if precision == "int8":
        from vcm.runtime.onnx.narrow import bytes_are_fast

        if not bytes_are_fast():
            what = "precision int8 needs a processor that multiplies bytes"
            raise OptionError(what, expected="AVX-512 VNNI, AVX-VNNI or ARM's dot products", found="none of them")
    return cast(Precision, precision)


KEEP = ("metadata", "icc", "gps")
"""What of a picture's file can be kept beside its pixels."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a coded file keeps beside the pixels.

    Attributes:
        exif: the EXIF block, without orientation.
        gps: the position in it as well.
        profile: what becomes of the colour profile.
    """

    exif: bool
    gps: bool
    profile: ProfileUse


def kept_of(keep: Collection[str] | None, base_only: bool) -> Kept:
    """What ``keep`` of :meth:`vcm.Codec.encode` means.

    Raises:
        OptionError: it holds something else than the names in :data:`KEEP`, or is a string.
    """
    if keep is None:
        return Kept(exif=not base_only, gps=False, profile="apply" if base_only else "lean")
    unknown = [keep] if isinstance(keep, str) else sorted(set(map(str, keep)) - set(KEEP))
    if unknown:
        raise OptionError("cannot keep this", expected=f"a list of {', '.join(KEEP)}", found=", ".join(unknown))
    return Kept("metadata" in keep or "gps" in keep, "gps" in keep, "keep" if "icc" in keep else "apply")


def quality_index(name: str, quality: object) -> int:
    """Index 0 … 1023 of a quality 0 … 100; ``name`` is what the caller calls it.

    Raises:
        OptionError: it is no number from 0 to 100.
    """
    if not (isinstance(quality, Real) and 0 <= float(quality) <= 100):
        raise OptionError(f"{name} is out of range", expected="0 to 100", found=quality)
    return round(float(quality) * MAX_QUALITY / 100)


def whole_number(name: str, value: object, low: int, high: int | None, unit: str = "") -> int:
    """``value`` as an int.

    Raises:
        OptionError: it is no whole number from ``low`` to ``high``.
    """
    if not (isinstance(value, Integral) and low <= int(value) and (high is None or int(value) <= high)):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise OptionError(f"{name} is out of range", expected=f"{expected}{unit}", found=value)
    return int(value)


def base_scale_of(eighths: object) -> int:
    """A base's scale as a file's header has it (:func:`vcm.bitstream.scale_ratio`).

    Args:
        eighths: of the picture's size: 1, 2 … 16, or less than one, of which the nearest of 1/128 … 127/128 is taken.

    Raises:
        OptionError: it is no such number.
    """
    value = float(eighths) if isinstance(eighths, Real) else 0.0
    if not (1 / 128 <= value <= 16 and (value < 1 or value.is_integer())):
        expected = "1 to 16 eighths, whole, or a part of one from 1/128 on"
        raise OptionError("base_scale is out of range", expected=expected, found=eighths)
    return int(value) if value >= 1 else 128 + min(127, round(value * 128))


def check_target(target_bpp: object) -> None:
    """Checks a rate in bits per pixel.

    Raises:
        OptionError: it is neither ``None`` nor a number above 0 and below 1000.
    """
    if target_bpp is not None and not (isinstance(target_bpp, Real) and 0 < float(target_bpp) < 1000):
        raise OptionError("target_bpp is out of range", expected="above 0, below 1000", found=target_bpp)


def device_of(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        OptionError: torch knows no such device; or it is not there, has no driver, or no float64.
    """
    import torch

    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise OptionError("no such device", expected="cpu, cuda, cuda:1 …", found=device) from error
    try:
        torch.empty(0, dtype=torch.float64, device=found)
    except Exception as error:  # AssertionError without CUDA, RuntimeError without a driver, TypeError without float64
        raise OptionError(f"device {found} cannot be used", found=reason(error).partition(". ")[0]) from error
    return found
