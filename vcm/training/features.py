"""Frozen features for new heads: latents of every picture and of its mirror image, computed once and kept in memory.

A head that trains on frozen latents needs no trunk in its loop, so minutes on a CPU are enough. An *extractor* is a
function from a picture to :class:`~vcm.structures.Latents`; three kinds are ready (:func:`extractor`), any other works.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vcm.api import load
from vcm.bitstream import coded_size
from vcm.codecs.scalable.build import ShippedNetworks
from vcm.codecs.scalable.model import BASE_SIDE, base_latents, default_base_scale, picture_array
from vcm.codecs.scalable.torch_networks import analysis_networks
from vcm.errors import OptionError
from vcm.io.files import whole_file
from vcm.io.pictures import load_image
from vcm.structures import Latents, LatentSpec
from vcm.twin import load_twin
from vcm.weights.codec_file import load_weights
from vcm.weights.registry import find_twin, find_weights
from vcm.weights.tensors import save_tensors

__all__ = ["Extractor", "FeatureKind", "FrozenFeatures", "cached_features", "compute_features", "extractor"]

FeatureKind = Literal["base", "twin", "random"]
Extractor = Callable[[npt.NDArray[np.uint8]], tuple[Latents, int]]
"""A picture, uint8 (H, W, 3) RGB, to its latents and the bytes that they take (0: none were written)."""

_TENSORS = ("plain", "mirrored", "source_sizes", "coded_sizes", "file_bytes")


@dataclass(frozen=True, slots=True, eq=False)
class FrozenFeatures:
    """Latents of a list of pictures.

    Attributes:
        spec: channels and stride.
        plain, mirrored: float16 (P, C, h, w): latents of each picture and of its mirror image (left and right
            exchanged before coding), zeros below and right of each picture's own positions.
        source_sizes: int32 (P, 2), width and height of each source picture, pixels.
        coded_sizes: int32 (P, 2), width and height that the latents were computed at, pixels.
        file_bytes: int32 (P,), bytes that each picture's own latents took.
        quality: base quality, 0 … 100.
    """

    spec: LatentSpec
    plain: Tensor
    mirrored: Tensor
    source_sizes: Tensor
    coded_sizes: Tensor
    file_bytes: Tensor
    quality: float

    def __len__(self) -> int:
        return len(self.plain)

    @property
    def scales(self) -> Tensor:
        """float32 (P, 2): latent positions per source pixel along x and y."""
        return self.coded_sizes / self.source_sizes / self.spec.stride

    @property
    def bpp(self) -> float:
        """Bits per source pixel, all bits over all pixels."""
        return 8 * float(self.file_bytes.sum()) / float(self.source_sizes.double().prod(1).sum())

    def latents(self, index: int) -> Latents:
        """Latents of one picture, as a codec would give them."""
        width, height = (int(v) for v in self.coded_sizes[index])
        stride = self.spec.stride
        y = self.plain[index : index + 1, :, : -(-height // stride), : -(-width // stride)].float()
        source = int(self.source_sizes[index, 0]), int(self.source_sizes[index, 1])
        return Latents(y, self.spec, (width, height), source, self.quality)

    def inside(self) -> Tensor:
        """bool (P, 1, h, w): which positions are of the picture, and not padding."""
        last = (self.coded_sizes + self.spec.stride - 1) // self.spec.stride
        rows, columns = torch.arange(self.plain.shape[2]), torch.arange(self.plain.shape[3])
        within = (rows < last[:, 1:2])[:, :, None] & (columns < last[:, 0:1])[:, None, :]
        return within[:, None]

    def statistics(self, pictures: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float32 (C,) each, over the positions of some pictures."""
        inside = self.inside()[list(pictures)]
        values = self.plain[list(pictures)].float()
        count = inside.sum()
        mean = (values * inside).sum((0, 2, 3)) / count
        variance = (((values - mean[:, None, None]) ** 2) * inside).sum((0, 2, 3)) / count
        return mean, variance.sqrt().clamp(min=1e-4)

    def padded_with(self, value: Tensor) -> FrozenFeatures:
        """The same with ``value`` (C,) at the positions beyond each picture."""
        inside, fill = self.inside(), value.to(self.plain.dtype)[:, None, None]
        return replace(
            self, plain=torch.where(inside, self.plain, fill), mirrored=torch.where(inside, self.mirrored, fill)
        )


def extractor(
    kind: FeatureKind, weights: str | Path, *, twin: str | Path | None = None, quality: float = 50, seed: int = 0
) -> Extractor:
    """What turns a picture into features.

    Args:
        kind: ``base``: the picture is encoded to a base-only file and that file's latents are decoded; ``twin``: what
            the pixel twin makes of it, no bits spent; ``random``: the codec's analysis with random weights (every
            convolution's output scaled to unit variance), a floor that any trained feature must clear.
        weights: shipped model or weights file.
        twin: shipped pixel twin or its file; ``None`` takes the codec's own analysis, unquantised, in its place.
        quality: of the base layer, 0 … 100; ``base`` only.
        seed: of the random weights; ``random`` only.

    Raises:
        ModelNotFoundError: no such model or twin.
        WeightsError: the file is not a model of ours or is inconsistent.
    """
    if kind == "twin" and twin is not None:
        pixel_twin = load_twin(twin, trunk=weights)
        return lambda image: (pixel_twin.latents(image), 0)
    if kind == "base":
        codec = load(weights)

        def through_a_file(image: npt.NDArray[np.uint8]) -> tuple[Latents, int]:
            file = codec.encode(image, base_only=True, base_quality=quality).base
            return codec.latents(file), len(file)

        return through_a_file
    model = load_weights(find_weights(weights)).model
    if kind == "twin":
        return lambda image: (_unquantised(model, image), 0)
    shuffled = copy.deepcopy(model)
    _randomise(shuffled.analysis, seed)
    scaled = False

    def extract(image: npt.NDArray[np.uint8]) -> tuple[Latents, int]:
        nonlocal scaled
        if not scaled:  # by the first picture; which one hardly matters
            with _unit_variance(shuffled.analysis):
                _unquantised(shuffled, image)
            scaled = True
        return _unquantised(shuffled, image), 0

    return extract


def _unquantised(model: ShippedNetworks, image: npt.NDArray[np.uint8]) -> Latents:
    height, width = image.shape[:2]
    scale = default_base_scale(width, height)
    networks = analysis_networks(model.analysis, torch.device("cpu"))
    y = torch.from_numpy(base_latents(networks, picture_array(image), scale))
    return Latents(y, model.architecture.latents, coded_size(width, height, scale), (width, height), 100.0)


@torch.no_grad()
def _randomise(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.normal_(generator=generator)
            if part.bias is not None:
                part.bias.zero_()


class _unit_variance:
    """While entered, each convolution rescales its weights to an output of unit variance when it first runs
    (Mishkin & Matas 2016, "All you need is a good init"): without it a random deep network forgets the picture."""

    def __init__(self, module: nn.Module) -> None:
        self._convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]

    def __enter__(self) -> None:
        self._hooks = [m.register_forward_hook(self._rescale) for m in self._convolutions]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @staticmethod
    def _rescale(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not isinstance(module, nn.Conv2d):
            raise OptionError("only convolutions are rescaled", found=type(module).__name__)
        spread = output.std().clamp(min=1e-6)
        module.weight.div_(spread)
        return output / spread


def compute_features(
    paths: Sequence[Path], extract: Extractor, progress: Callable[[int, int], None] | None = None
) -> FrozenFeatures:
    """Run ``extract`` on each picture and on its mirror image.

    Args:
        paths: pictures.
        extract: what gives latents.
        progress: called with how many pictures are done, and of how many.

    Raises:
        OptionError: there is no picture.
        ImageError: a picture cannot be read.
    """
    if not paths:
        raise OptionError("no pictures to compute features of", expected="at least one")
    plain: list[Latents] = []
    mirrored: list[Tensor] = []
    file_bytes: list[int] = []
    for done, path in enumerate(paths):
        if progress is not None:
            progress(done, len(paths))
        pixels = load_image(path).pixels
        latents, count = extract(pixels)
        plain.append(replace(latents, y_hat=_half(latents.y_hat)))
        mirrored.append(_half(extract(np.ascontiguousarray(pixels[:, ::-1]))[0].y_hat[0]))
        file_bytes.append(count)
    return FrozenFeatures(
        plain[0].spec, _stack([x.y_hat[0] for x in plain]), _stack(mirrored),
        torch.tensor([x.source_size for x in plain], dtype=torch.int32),
        torch.tensor([x.coded_size for x in plain], dtype=torch.int32),
        torch.tensor(file_bytes, dtype=torch.int32), plain[0].quality,
    )  # fmt: skip


def _half(y: Tensor) -> Tensor:
    limit = torch.finfo(torch.float16).max
    return y.clamp(-limit, limit).half()


def _stack(features: list[Tensor]) -> Tensor:
    height, width = max(f.shape[1] for f in features), max(f.shape[2] for f in features)
    out = torch.zeros(len(features), features[0].shape[0], height, width, dtype=torch.float16)
    for row, f in zip(out, features, strict=True):
        row[:, : f.shape[1], : f.shape[2]] = f
    return out


def cached_features(
    folder: Path,
    kind: FeatureKind,
    weights: str | Path,
    paths: Sequence[Path],
    *,
    twin: str | Path | None = None,
    quality: float = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FrozenFeatures:
    """:func:`compute_features` of one of the ready kinds, kept in ``folder`` for the next run.

    The file's name is a digest of everything that the features follow from: the kind with its setting, the size
    that a base is coded at, the bytes of the weights, and name, size and time of each picture. A folder keeps the last
    ones of each kind.

    Raises:
        OptionError, ImageError, ModelNotFoundError, WeightsError: as for :func:`extractor`, :func:`compute_features`.
    """
    digest = blake2b(digest_size=8)
    setting = {"base": quality, "twin": 0, "random": seed}[kind]
    digest.update(json.dumps([kind, setting, BASE_SIDE]).encode())
    digest.update(find_weights(weights).read_bytes())
    if kind == "twin" and twin is not None:
        digest.update(find_twin(twin).read_bytes())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    target = folder / f"features-{kind}-{digest.hexdigest()}.safetensors"
    if target.is_file():
        with safe_open(str(target), "pt") as file:
            meta = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        spec = LatentSpec(int(meta["channels"]), int(meta["stride"]), meta.get("fingerprint", ""))
        return FrozenFeatures(spec=spec, quality=float(meta["quality"]), **tensors)
    found = compute_features(paths, extractor(kind, weights, twin=twin, quality=quality, seed=seed), progress)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(found, name) for name in _TENSORS}
    spec = found.spec
    meta = {
        "channels": str(spec.channels), "stride": str(spec.stride), "fingerprint": spec.fingerprint,
        "quality": str(found.quality),
    }  # fmt: skip
    with whole_file(target) as part:
        save_tensors(part, tensors, meta)
    for old in folder.glob(f"features-{kind}-*.safetensors"):
        if old != target:
            old.unlink()
    return found
