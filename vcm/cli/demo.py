"""``vcm demo``: three photographs that scikit-image ships, through real files, into one picture and one table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from vcm.cli import files, output
from vcm.cli.models import Models
from vcm.io.draw import PanelRow, panel
from vcm.io.save import save_picture
from vcm.io.text import three_digits

if TYPE_CHECKING:
    from vcm.api import Codec
    from vcm.bitstream import Bitstream

__all__ = ["run_demo"]


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """Name and picture of each photograph. All lie in scikit-image's package: nothing is downloaded."""
    import skimage.data

    for name, load in (
        ("cat", skimage.data.chelsea),
        ("astronaut", skimage.data.astronaut),
        ("coffee", skimage.data.coffee),
    ):
        yield name, Image.fromarray(load())


def run_demo(target: Path, model: str, quality: float) -> None:
    """Writes the figure to ``target`` and prints a table.

    Raises:
        OutputError: ``target`` cannot be written; found out before any work.
        VcmError: as loading, coding and detecting say.
    """
    files.plan_outputs([target.with_suffix(".photograph")], str(target), target.suffix, force=True)
    codec = Models(model).default()
    rows: list[PanelRow] = []
    with tempfile.TemporaryDirectory(prefix="vcm-demo-") as folder:
        for name, picture in photographs():
            with output.working(f"{name}: encoding, detecting, decoding"):
                rows.append(_one(codec, name, picture, Path(folder) / f"{name}.vcm", quality))
    note = f"vcm demo, model {codec.name}, quality {quality:g}; photographs from scikit-image; bpp counts every byte"
    title = "One file: detected from its first bytes, decoded when a person looks"
    figure = panel(rows, title=title, note=note)
    save_picture(figure, target)
    _print(rows)
    output.say(f"wrote {target}")


def _one(codec: Codec, name: str, picture: Image.Image, file: Path, quality: float) -> PanelRow:
    stream = codec.encode(picture, quality=quality)
    stream.save(file)
    decoded = codec.decode(file)
    return PanelRow(
        title=name,
        original=picture,
        detections=codec.detect(file),
        decoded=decoded,
        preview=codec.decode(file, layers=1),
        psnr_db=psnr(np.asarray(picture), np.asarray(decoded.convert("RGB"))),
        bpp=stream.bpp,
        layers=tuple(_parts(stream)),
    )


def _parts(stream: Bitstream) -> Iterator[tuple[str, int]]:
    """Name and bytes of each part of a file; the base's are all that a detector reads, header included."""
    base = len(stream.base)
    yield "base", base
    rest = stream.total_bytes - base
    for span in stream.layout[1:]:
        yield span.name, span.bytes
        rest -= span.bytes
    if rest:
        yield "metadata", rest


def psnr(x: npt.NDArray[np.uint8], x_hat: npt.NDArray[np.uint8]) -> float:
    """PSNR of two uint8 pictures of one shape, dB; infinite where they are equal."""
    mse = float(np.mean((x.astype(np.float64) - x_hat.astype(np.float64)) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))


def _print(rows: list[PanelRow]) -> None:
    table = []
    for row in rows:
        pixels = row.original.width * row.original.height
        base, total = row.layers[0][1], sum(count for _, count in row.layers)
        best = ", ".join(
            f"{label} {score:.2f}"
            for label, score in list(zip(row.detections.label_names(), row.detections.scores.tolist(), strict=True))[:3]
        )
        table.append(
            (
                row.title,
                f"{row.original.width}x{row.original.height}",
                f"{base:,}",
                three_digits(base * 8 / pixels),
                f"{total:,}",
                three_digits(row.bpp),
                f"{row.psnr_db:.1f}",
                best or "nothing",
            )
        )
    columns = ("photograph", "size", "base bytes", "base bpp", "file bytes", "bpp", "PSNR dB", "detected from the base")
    output.print_table(columns, table, left=(0, 7))
