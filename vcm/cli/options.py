"""Options that several commands share, and the checks that typer cannot do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vcm.io.remote import place

__all__ = [
    "MODEL",
    "Backend",
    "Device",
    "FileModel",
    "Files",
    "Force",
    "Jobs",
    "Json",
    "Keep",
    "Model",
    "Ndjson",
    "Output",
    "Picture",
    "Recursive",
    "Region",
    "Score",
    "Threads",
    "bpp_option",
    "in_range",
    "quality_option",
]

MODEL = "vcm-s"
"""What is used when nothing says otherwise."""


def in_range(low: float, high: float) -> Callable[[float | None], float | None]:
    """A callback that refuses what is outside ``low`` … ``high``, NaN too, and says what was expected and found.

    Typer's own ``min`` and ``max`` let NaN through in some versions and do not name the value in others.
    """

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"expected {low:g} to {high:g}, found {value:g}")
        return value

    return check


def _positive(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"expected a rate greater than 0, found {value:g}")
    return value


def quality_option(*names: str, help: str) -> Any:
    """An option that takes a quality, 0 … 100."""
    return typer.Option(*names, callback=in_range(0, 100), help=f"{help}, 0 to 100.", show_default="50")


def bpp_option(help: str) -> Any:
    """The option ``--bpp``, which takes a rate in bits per source pixel."""
    return typer.Option("--bpp", callback=_positive, help=help, show_default=False)


def _names_to_keep(value: str | None) -> str | None:
    if value is not None and value != "none" and not set(value.split(",")) <= {"metadata", "icc", "gps"}:
        raise typer.BadParameter(f"expected metadata, icc and gps, with commas, or none, found {value}")
    return value


def _four_numbers(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\d{1,6}(,\d{1,6}){3}", value):
        raise typer.BadParameter(f"expected four whole numbers of pixels, X0,Y0,X1,Y1, found {value}")
    return value


def _picture_codec(value: str | None) -> str | None:
    if value is not None and value not in ("avif", "webp", "jxl", "jpeg"):
        raise typer.BadParameter(f"expected avif, webp, jxl or jpeg, found {value}")
    return value


_MODEL_HELP = "Shipped model or path of weights."

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="VCM files, or quoted patterns; - is stdin.", show_default=False, parser=place),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep", metavar="LIST", callback=_names_to_keep,
        help="Of metadata, icc, gps, with commas; or none: what to keep beside the pixels, which are sRGB without icc.",
        show_default="none with --base-only, else metadata and a profile that is not sRGB's",
    ),
]  # fmt: skip
Force = Annotated[bool, typer.Option("--force", "-f", help="Write over a file that is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Ndjson = Annotated[bool, typer.Option("--ndjson", help="Print a line of JSON as soon as each input is done.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Take all that is in folders, and in theirs.")]
Model = Annotated[str, typer.Option("--model", "-m", help=_MODEL_HELP)]
FileModel = Annotated[
    str | None, typer.Option("--model", "-m", help=_MODEL_HELP, show_default="the one that wrote the file")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT|DIR",
        help="A file, an address, or - for stdout; a folder for several, or with -r.",
        show_default="beside FILE",
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region", metavar="X0,Y0,X1,Y1", callback=_four_numbers, show_default="all",
        help="The part of the picture between these pixels, ends exclusive.",
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        callback=in_range(1, 256),
        help="Of each network under onnxruntime.",
        show_default="one a core, at most 8",
    ),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", callback=in_range(1, 256), help="Files at once, each on one thread unless --threads."),
]
Device = Annotated[str, typer.Option("--device", help="Where networks run: cpu, or cuda, cuda:1 … with torch.")]
Backend = Annotated[
    str,
    typer.Option("--backend", metavar="NAME", help="What runs networks: torch, onnx, or auto, which is onnx on a CPU."),
]
Picture = Annotated[
    str | None,
    typer.Option(
        "--picture", metavar="CODEC", callback=_picture_codec, show_default="our own",
        help="Code the picture by avif, webp, jxl or jpeg.",
    ),
]  # fmt: skip
Score = Annotated[
    float | None,
    # The number is in vcm.structures, which takes numpy: too slow to import for the help. A test holds them together.
    typer.Option(
        "--score", "-s", callback=in_range(0, 1), help="Leave out what scores less, 0 to 1.", show_default="0.3"
    ),
]
