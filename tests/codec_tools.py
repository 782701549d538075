"""What tests of the codec share: symbols recorded and replayed, fixed-point latents of files, numeric settings."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcm.api import Codec
from vcm.bitstream import Bitstream
from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.model import ScalableModel, _tile_slices
from vcm.entropy import SKIP_INDEX, Decoder, Encoder
from vcm.nn.integer import IntConv2d


def noise(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A picture with smooth and rough parts, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
    smooth = smooth[:, :, rng.permutation(3)] ^ int(rng.integers(0, 256))
    return np.clip(smooth + rng.integers(-40, 41, (height, width, 3)) * (x > width // 2)[:, :, None], 0, 255).astype(
        np.uint8
    )


def model_of(codec: Codec) -> ScalableModel:
    """The networks of a codec."""
    return codec._model


def copy_of(codec: Codec) -> Codec:
    """A codec with networks of its own, for tests that change them."""
    other = copy.copy(codec)
    other._model, other._detect, other._classify = (
        copy.deepcopy(codec._model),
        copy.deepcopy(codec._detect),
        copy.deepcopy(codec._classify),
    )
    return other


def picture_fixed(model: ScalableModel, file: Bitstream) -> Tensor:
    """Enhancement latents of a file: int64 (1, C, h, w) in 1/1024."""
    base, layer = model.decode_base(file.header, file.base_layer), file.enhancement
    assert layer is not None
    with torch.inference_mode():
        features = model.picture.base_features(base.fixed)
        rows, columns = -(-file.height // 16), -(-file.width // 16)
        out = torch.zeros(1, model.architecture.picture.channels, rows, columns, dtype=torch.int64)
        for stream, (r, c) in zip(layer.tiles, _tile_slices(file.width, file.height, layer.tile_log2), strict=True):
            shape = r.stop - r.start, c.stop - c.start
            at = model._base_features(base, r, c, features)
            out[:, :, r, c] = model.picture.decode_tile(stream, shape, layer.quality, at)
    return out


def fixed_latents(model: ScalableModel, file: Bitstream) -> tuple[Tensor, Tensor]:
    """Base and enhancement latents of a file, int64 in 1/1024."""
    return model.decode_base(file.header, file.base_layer).fixed, picture_fixed(model, file)


def digest(fixed: Tensor) -> str:
    """blake2b of int64 latents, little-endian, channel by channel."""
    return blake2b(fixed.cpu().contiguous().numpy().astype("<i8").tobytes(), digest_size=16).hexdigest()


class Recorder:
    """Reads a stream and remembers what was read."""

    def __init__(self, stream: bytes) -> None:
        self.decoder = Decoder(stream)
        self.symbols: list[Tensor] = []
        self.indexes: list[Tensor] = []

    def __call__(self, target: Tensor | None, mean: Tensor, index: Tensor, gain: Tensor) -> Tensor:
        symbols = torch.from_numpy(self.decoder.pull(index.cpu().numpy().astype(np.uint8))).long().to(index.device)
        self.symbols.append(symbols)
        self.indexes.append(index)
        return symbols


class Replay:
    """Writes given symbols, whatever the latents."""

    def __init__(self, symbols: list[Tensor]) -> None:
        self.left, self.encoder = list(symbols), Encoder()

    def __call__(self, target: Tensor | None, mean: Tensor, index: Tensor, gain: Tensor) -> Tensor:
        symbols = self.left.pop(0).to(index.device)
        self.encoder.push(symbols.cpu().numpy().astype(np.int32), index.cpu().numpy().astype(np.uint8))
        return symbols


class Drawn:
    """Writes symbols drawn from the Gaussians that the networks predict; ``far`` of them anywhere. Or zeros only."""

    def __init__(self, seed: int, far: float = 0.002, *, zero: bool = False) -> None:
        self.rng, self.encoder, self.far, self.zero = np.random.default_rng(seed), Encoder(), far, zero
        self.symbols: list[Tensor] = []

    def __call__(self, target: Tensor | None, mean: Tensor, index: Tensor, gain: Tensor) -> Tensor:
        at = index.cpu().numpy()
        drawn = np.rint(self.rng.normal(size=at.shape) * 2.0 ** (at / 8 - 4))
        drawn = np.where(self.rng.random(at.shape) < self.far, self.rng.integers(-32767, 32768, at.shape), drawn)
        symbols = np.where((at < SKIP_INDEX) | self.zero, 0, drawn).astype(np.int32)
        self.encoder.push(symbols, at.astype(np.uint8))
        self.symbols.append(torch.from_numpy(symbols).long().to(index.device))
        return self.symbols[-1]


def wild_coder(spec: LayerSpec, seed: int) -> LatentCoder:
    """A coder whose integer networks use their whole range: weights to ±63, saturated features, scales at both ends."""
    rng = torch.Generator().manual_seed(seed)
    coder = LatentCoder(spec)

    def draw(low: int, high: int, like: Tensor) -> Tensor:
        return torch.randint(low, high + 1, like.shape, generator=rng).to(like.dtype)

    for layer in coder.net.modules():
        if isinstance(layer, IntConv2d):
            layer.weight.copy_(draw(-63, 63, layer.weight))
            spread = 36 * 130 * layer.weight[0].numel() ** 0.5
            wanted = 150 if layer.low == 0 else 400
            layer.multiplier.copy_(draw(int(0.5 * wanted / spread * 2**24), int(wanted / spread * 2**24), layer.bias))
            layer.bias.copy_(draw(-int(spread), int(spread), layer.bias))
    coder.gain_y.copy_(draw(-2 * 32 * 256, 5 * 32 * 256, coder.gain_y))
    coder.gain_z.copy_(draw(-2 * 32 * 256, 3 * 32 * 256, coder.gain_z))
    coder.prior_mean.copy_(draw(-1000, 1000, coder.prior_mean))
    coder.prior_scale.copy_(draw(0, 448, coder.prior_scale))
    coder.check()
    return coder.eval()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads inside torch's operators."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Another default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def without_onednn() -> Iterator[None]:
    """Convolutions without oneDNN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about Intel GPUs
        with torch.backends.mkldnn.flags(enabled=False):
            yield


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "one thread": lambda: threads(1),
    "two threads": lambda: threads(2),
    "oneDNN off": without_onednn,
    "float64 by default": lambda: default_dtype(torch.float64),
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
"""Name to a context manager, under each of which integers must come out the same."""
