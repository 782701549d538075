"""A bank of base latents: views of pictures, coded once, kept on disk and in memory, so that a head sees thousands a
minute.

:mod:`vcm.training.features` keeps each picture and its mirror image at one quality. A bank has any number of views of a
picture, each with its own quality, crop and scale, and no padding: what the other heads train on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from vcm.api import load
from vcm.bitstream import coded_size
from vcm.codecs.scalable.model import default_base_scale
from vcm.errors import OptionError, WeightsError
from vcm.io.files import whole_file
from vcm.io.pictures import load_image
from vcm.structures import Latents, LatentSpec
from vcm.twin import load_twin
from vcm.weights.registry import find_twin, find_weights
from vcm.weights.tensors import save_tensors

__all__ = ["LatentBank", "Variety", "View", "cached_bank", "plan_view", "view_pixels"]

Features = Literal["base", "twin"]
_LEAST_SIDE = 32
"""Of a crop, source pixels."""


@dataclass(frozen=True, slots=True)
class Variety:
    """How the views of one picture differ. The first is the whole picture, as it stands.

    Attributes:
        views: how many.
        mirror: half of the others are mirrored.
        crop: least share of each side that the others show, 0 … 1.
        colour: greatest relative change of brightness and contrast of the others.
        jpeg: least JPEG quality that some of the others go through, 100: none does.
        smaller: least size of the coded picture, a share of its default's sides.
        qualities: of the base layer; views take one each, at random.
    """

    views: int = 2
    mirror: bool = True
    crop: float = 1.0
    colour: float = 0.0
    jpeg: int = 100
    smaller: float = 1.0
    qualities: tuple[float, ...] = (50.0,)


@dataclass(frozen=True, slots=True)
class View:
    """One view of a picture.

    Attributes:
        window: x, y, width and height of what is shown, source pixels.
        size: width and height that it is brought to before it is coded.
        mirrored: left and right are exchanged, of what is shown.
        quality: of the base layer, 0 … 100.
        colour: gain and shift of all values.
        jpeg: quality of JPEG that it goes through first; 100: none.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool
    quality: float
    colour: tuple[float, float] = (1.0, 0.0)
    jpeg: int = 100


def plan_view(number: int, size: tuple[int, int], variety: Variety, rng: np.random.Generator) -> View:
    """View ``number`` of a picture of ``size`` (width, height)."""
    quality = float(variety.qualities[int(rng.integers(len(variety.qualities)))])
    width, height = size
    if number == 0:
        return View((0, 0, width, height), _brought(width, height, 1.0), False, quality)
    shares = rng.uniform(variety.crop, 1.0, 2)
    w, h = (min(side, max(_LEAST_SIDE, round(side * share))) for side, share in zip(size, shares, strict=True))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    shrunk = _brought(w, h, float(rng.uniform(variety.smaller, 1.0)))
    gain, shift = 1 + variety.colour * (2 * rng.random() - 1), 128 * variety.colour * (2 * rng.random() - 1)
    jpeg = int(rng.integers(variety.jpeg, 101)) if variety.jpeg < 100 else 100
    return View((x, y, w, h), shrunk, bool(variety.mirror and rng.random() < 0.5), quality, (gain, shift), jpeg)


def _brought(width: int, height: int, share: float) -> tuple[int, int]:
    """The size that a base would be coded at, and a share of it; at least 32 pixels a side."""
    coded = coded_size(width, height, default_base_scale(width, height))
    w, h = (max(_LEAST_SIDE, round(side * share)) for side in coded)
    return w, h


def view_pixels(pixels: npt.NDArray[np.uint8], view: View) -> npt.NDArray[np.uint8]:
    """The view of a picture: uint8 (h, w, 3)."""
    x, y, w, h = view.window
    part = Image.fromarray(np.ascontiguousarray(pixels[y : y + h, x : x + w]))
    if part.size != view.size:
        part = part.resize(view.size, Image.Resampling.LANCZOS)
    out = np.asarray(part)
    gain, shift = view.colour
    if view.colour != (1.0, 0.0):
        out = (out.astype(np.float32) * gain + shift).clip(0, 255).round().astype(np.uint8)
    if view.mirrored:
        out = np.ascontiguousarray(out[:, ::-1])
    if view.jpeg < 100:
        buffer = BytesIO()
        Image.fromarray(out).save(buffer, "JPEG", quality=view.jpeg)
        out = np.asarray(Image.open(buffer).convert("RGB"))
    return out


@dataclass(frozen=True, slots=True, eq=False)
class LatentBank:
    """Latents of views, one after the other.

    Attributes:
        spec: channels, stride and base layer.
        values: float16 (T,): the latents of all views, each (C, h, w).
        starts: int64 (M + 1,): where each begins.
        grids: int32 (M, 2): h and w of each.
        sizes: int32 (M, 2): width and height that each was coded at, pixels.
        windows: int32 (M, 4): of each, as :attr:`View.window`.
        mirrored: bool (M,).
        qualities: float32 (M,), 0 … 100.
        pictures: int32 (M,): which picture each shows.
        file_bytes: int32 (M,), bytes that each took; 0 for a twin's.
    """

    spec: LatentSpec
    values: Tensor
    starts: Tensor
    grids: Tensor
    sizes: Tensor
    windows: Tensor
    mirrored: Tensor
    qualities: Tensor
    pictures: Tensor
    file_bytes: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def y_hat(self, row: int) -> Tensor:
        """float32 (C, h, w)."""
        height, width = (int(n) for n in self.grids[row])
        part = self.values[int(self.starts[row]) : int(self.starts[row + 1])]
        return part.view(self.spec.channels, height, width).float()

    def batch(self, rows: Sequence[int], multiple: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Some views, padded with zeros to one size.

        Args:
            rows: which.
            multiple: height and width are multiples of it.

        Returns:
            latents float32 (N, C, h, w), qualities (N,) in 0 … 1, and bool (N, h, w): which positions are a view's own.
        """
        parts = [self.y_hat(row) for row in rows]
        height, width = (-(-max(p.shape[axis] for p in parts) // multiple) * multiple for axis in (1, 2))
        y = torch.zeros(len(parts), self.spec.channels, height, width)
        inside = torch.zeros(len(parts), height, width, dtype=torch.bool)
        for i, part in enumerate(parts):
            y[i, :, : part.shape[1], : part.shape[2]] = part
            inside[i, : part.shape[1], : part.shape[2]] = True
        return y, self.qualities[list(rows)] / 100, inside

    def on_view(self, row: int, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (n, 4) x1 y1 x2 y2 of the source picture in pixels of a view, not clipped."""
        x, y, w, h = (int(v) for v in self.windows[row])
        width, height = (int(v) for v in self.sizes[row])
        scale = np.array([width / w, height / h] * 2, np.float32)
        moved = (boxes - np.array([x, y] * 2, np.float32)) * scale
        if bool(self.mirrored[row]):
            moved = np.stack([width - moved[:, 2], moved[:, 1], width - moved[:, 0], moved[:, 3]], axis=1)
        return moved

    def map_on_view(self, row: int, labels: npt.NDArray[np.uint8], cells: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """A map of the source picture, (H, W) or any size that covers it, on ``cells`` (rows, columns) of a view: the
        value
        at each cell's centre."""
        x, y, w, h = (int(v) for v in self.windows[row])
        return _sampled(labels, (x, y, w, h), cells, bool(self.mirrored[row]))


def _sampled(
    labels: npt.NDArray[np.uint8], window: tuple[int, int, int, int], cells: tuple[int, int], mirrored: bool
) -> npt.NDArray[np.uint8]:
    x, y, w, h = window
    rows = np.minimum((y + (np.arange(cells[0]) + 0.5) * h / cells[0]).astype(np.int64), labels.shape[0] - 1)
    columns = np.minimum((x + (np.arange(cells[1]) + 0.5) * w / cells[1]).astype(np.int64), labels.shape[1] - 1)
    out = labels[rows[:, None], columns]
    return np.ascontiguousarray(out[:, ::-1]) if mirrored else out


_TENSORS = tuple(f.name for f in fields(LatentBank) if f.name != "spec")


def cached_bank(
    folder: Path,
    features: Features,
    weights: str | Path,
    paths: Sequence[Path],
    variety: Variety,
    *,
    twin: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LatentBank:
    """The bank of some pictures, from ``folder`` if it was computed before.

    The file's name is a digest of all that it follows from: features, weights, pictures (name, size, time), variety,
    seed. A folder keeps the last bank of each kind of features.

    Args:
        folder: where it is kept.
        features: ``base``: each view is coded to a base-only file, and its latents decoded; ``twin``: the pixel twin's.
        weights: shipped codec or weights file.
        paths: pictures.
        variety: their views.
        twin: shipped twin or its file; for ``twin``.
        seed: of the views.
        progress: told how many pictures are done, and of how many.

    Raises:
        OptionError: no picture.
        ImageError: a picture cannot be read.
        ModelNotFoundError, WeightsError: as of :func:`vcm.load` and :func:`vcm.load_twin`.
    """
    if not paths:
        raise OptionError("no pictures to compute latents of", expected="at least one")
    digest = blake2b(digest_size=8)
    digest.update(json.dumps([features, seed, str(variety)]).encode())
    digest.update(find_weights(weights).read_bytes())
    if features == "twin" and twin is not None:
        digest.update(find_twin(twin).read_bytes())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.parent.name}/{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    target = folder / f"bank-{features}-{digest.hexdigest()}.safetensors"
    if target.is_file():
        return _read(target)
    found = _compute(features, weights, paths, variety, twin, seed, progress)
    folder.mkdir(parents=True, exist_ok=True)
    spec = found.spec
    meta = {"channels": str(spec.channels), "stride": str(spec.stride), "fingerprint": spec.fingerprint}
    with whole_file(target) as part:
        save_tensors(part, {name: getattr(found, name) for name in _TENSORS}, meta)
    for old in folder.glob(f"bank-{features}-*.safetensors"):
        if old != target:
            old.unlink()
    return found


def _read(path: Path) -> LatentBank:
    with safe_open(str(path), "pt") as file:
        meta = file.metadata() or {}
        if set(file.keys()) != set(_TENSORS):
            raise WeightsError(f"{path} is no bank of latents", expected=", ".join(_TENSORS))
        spec = LatentSpec(int(meta["channels"]), int(meta["stride"]), meta["fingerprint"])
        return LatentBank(spec, **{name: file.get_tensor(name) for name in _TENSORS})


def _compute(
    features: Features,
    weights: str | Path,
    paths: Sequence[Path],
    variety: Variety,
    twin: str | Path | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> LatentBank:
    extract = _extractor(features, weights, twin)
    parts: list[Tensor] = []
    rows: list[tuple[View, Latents, int, int]] = []
    for index, path in enumerate(paths):
        if progress is not None:
            progress(index, len(paths))
        pixels = load_image(path, quiet=True).pixels
        for view in _views(pixels.shape[1], pixels.shape[0], variety, np.random.default_rng([seed, index])):
            latents, count = extract(view_pixels(pixels, view), view.quality)
            limit = torch.finfo(torch.float16).max
            parts.append(latents.y_hat[0].clamp(-limit, limit).half())
            rows.append((view, latents, index, count))
    sizes = torch.tensor([0, *(p.numel() for p in parts)], dtype=torch.int64)
    return LatentBank(
        rows[0][1].spec, torch.cat([p.reshape(-1) for p in parts]), sizes.cumsum(0),
        torch.tensor([p.shape[1:] for p in parts], dtype=torch.int32),
        torch.tensor([latents.coded_size for _, latents, _, _ in rows], dtype=torch.int32),
        torch.tensor([view.window for view, _, _, _ in rows], dtype=torch.int32),
        torch.tensor([view.mirrored for view, _, _, _ in rows]),
        torch.tensor([latents.quality for _, latents, _, _ in rows], dtype=torch.float32),
        torch.tensor([index for _, _, index, _ in rows], dtype=torch.int32),
        torch.tensor([count for _, _, _, count in rows], dtype=torch.int32),
    )  # fmt: skip


def _views(width: int, height: int, variety: Variety, rng: np.random.Generator) -> Iterator[View]:
    return (plan_view(number, (width, height), variety, rng) for number in range(variety.views))


def _extractor(
    features: Features, weights: str | Path, twin: str | Path | None
) -> Callable[[npt.NDArray[np.uint8], float], tuple[Latents, int]]:
    if features == "twin":
        if twin is None:
            raise OptionError("a twin's features need a twin", expected="twin: NAME or file", found=None)
        pixel_twin = load_twin(twin, trunk=weights)
        return lambda pixels, _: (pixel_twin.latents(pixels), 0)
    codec = load(weights)

    def through_a_file(pixels: npt.NDArray[np.uint8], quality: float) -> tuple[Latents, int]:
        file = codec.encode(pixels, base_only=True, base_quality=quality, base_scale=8).base
        return codec.latents(file), len(file)

    return through_a_file
