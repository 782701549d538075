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
from vcm.codecs.scalable.build import ShippedNetworks
from vcm.codecs.scalable.config import LayerSpec
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.layer_networks import LayerNetworks
from vcm.codecs.scalable.model import ScalableModel, tile_slices
from vcm.codecs.scalable.tables import base_tables
from vcm.codecs.scalable.torch_networks import layer_functions, torch_model
from vcm.entropy import SKIP_INDEX, Decoder, Encoder
from vcm.nn.integer import IntConv2d
from vcm.runtime.torch_runtime import TorchNetworks


def noise(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A picture with smooth and rough parts, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
    smooth = smooth[:, :, rng.permutation(3)] ^ int(rng.integers(0, 256))
    return np.clip(smooth + rng.integers(-40, 41, (height, width, 3)) * (x > width // 2)[:, :, None], 0, 255).astype(
        np.uint8
    )


Fixed = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Indexes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def model_of(codec: Codec) -> ScalableModel:
    """The logic of a codec."""
    return codec._model


def networks_of(codec: Codec) -> ShippedNetworks:
    """The networks of a codec."""
    return codec._loaded.model


def copy_of(codec: Codec) -> Codec:
    """A codec with networks of its own, for tests that change them."""
    return Codec(copy.deepcopy(codec._loaded))


class DoubleNetworks:
    """A codec's networks in float64, so that only what is computed differently can differ."""

    def __init__(self, shipped: ShippedNetworks) -> None:
        self._modules = {
            "base.analysis": shipped.analysis, "picture.analysis": shipped.picture_analysis,
            "picture.synthesis": shipped.synthesis,
        }  # fmt: skip

    def run(self, name: str, /, *arrays: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], ...]:
        with torch.inference_mode():
            return (self._modules[name](*(torch.from_numpy(a).double() for a in arrays)).numpy(),)


def double_model(shipped: ShippedNetworks) -> ScalableModel:
    """The logic over networks in float64; ``shipped`` is changed to that."""
    model = torch_model(shipped, torch.device("cpu"))
    model.networks = DoubleNetworks(shipped.double())
    return model


def picture_fixed(model: ScalableModel, file: Bitstream) -> Fixed:
    """Enhancement latents of a file: int64 (1, C, h, w) in 1/1024."""
    base, layer = model.decode_base(file.coded_base), file.enhancement
    assert layer is not None
    features = model.picture.base_features(base.fixed)
    rows, columns = -(-file.height // 16), -(-file.width // 16)
    out = np.zeros((1, model.architecture.picture.channels, rows, columns), np.int64)
    for stream, (r, c) in zip(layer.tiles, tile_slices(file.width, file.height, layer.tile_log2), strict=True):
        shape = r.stop - r.start, c.stop - c.start
        at = model.base_features(base, r, c, features)
        out[:, :, r, c] = model.picture.decode_tile(stream, shape, layer.quality_index, at)
    return out


def fixed_latents(model: ScalableModel, file: Bitstream) -> tuple[Fixed, Fixed]:
    """Base and enhancement latents of a file, int64 in 1/1024."""
    return model.decode_base(file.coded_base).fixed, picture_fixed(model, file)


def digest(fixed: Fixed) -> str:
    """blake2b of int64 latents, little-endian, channel by channel."""
    return blake2b(fixed.astype("<i8").tobytes(), digest_size=16).hexdigest()


class Recorder:
    """Reads a stream and remembers what was read."""

    def __init__(self, stream: bytes) -> None:
        self.decoder = Decoder(stream)
        self.symbols: list[Ints] = []
        self.indexes: list[Indexes] = []

    def __call__(self, target: Floats | None, mean: Ints, index: Indexes, gain: Ints) -> Ints:
        symbols = self.decoder.pull(index.reshape(-1)).reshape(index.shape)
        self.symbols.append(symbols)
        self.indexes.append(index)
        return symbols


class Replay:
    """Writes given symbols, whatever the latents."""

    def __init__(self, symbols: list[Ints]) -> None:
        self.left, self.encoder = list(symbols), Encoder()

    def __call__(self, target: Floats | None, mean: Ints, index: Indexes, gain: Ints) -> Ints:
        symbols = self.left.pop(0)
        self.encoder.push(symbols.reshape(-1), index.reshape(-1))
        return symbols


class Drawn:
    """Writes symbols drawn from the Gaussians that the networks predict; ``far`` of them anywhere. Or zeros only."""

    def __init__(self, seed: int, far: float = 0.002, *, zero: bool = False) -> None:
        self.rng, self.encoder, self.far, self.zero = np.random.default_rng(seed), Encoder(), far, zero
        self.symbols: list[Ints] = []

    def __call__(self, target: Floats | None, mean: Ints, index: Indexes, gain: Ints) -> Ints:
        drawn = np.rint(self.rng.normal(size=index.shape) * 2.0 ** (index / 8 - 4))
        far = self.rng.integers(-32767, 32768, index.shape)
        drawn = np.where(self.rng.random(index.shape) < self.far, far, drawn)
        symbols = np.where((index < SKIP_INDEX) | self.zero, 0, drawn).astype(np.int32)
        self.encoder.push(symbols.reshape(-1), index.reshape(-1))
        self.symbols.append(symbols)
        return symbols


def coder_of(layer: LayerNetworks) -> LatentCoder:
    """The coder of a layer alone."""
    functions = {f"picture.{name}": function for name, function in layer_functions(layer).items()}
    networks = TorchNetworks(functions, torch.device("cpu"))
    return LatentCoder("picture", layer.spec, base_tables(layer.integers(), "test"), networks)


def wild_layer(spec: LayerSpec, seed: int) -> LayerNetworks:
    """A layer whose integer networks use their whole range: weights to ±63, saturated features, scales at both ends."""
    rng = torch.Generator().manual_seed(seed)
    made = LayerNetworks(spec)

    def draw(low: int, high: int, like: Tensor) -> Tensor:
        return torch.randint(low, high + 1, like.shape, generator=rng).to(like.dtype)

    for layer in made.net.modules():
        if isinstance(layer, IntConv2d):
            layer.weight.copy_(draw(-63, 63, layer.weight))
            spread = 36 * 130 * layer.weight[0].numel() ** 0.5
            wanted = 150 if layer.low == 0 else 400
            layer.multiplier.copy_(draw(int(0.5 * wanted / spread * 2**24), int(wanted / spread * 2**24), layer.bias))
            layer.bias.copy_(draw(-int(spread), int(spread), layer.bias))
    made.gain_y.copy_(draw(-2 * 32 * 256, 5 * 32 * 256, made.gain_y))
    made.gain_z.copy_(draw(-2 * 32 * 256, 3 * 32 * 256, made.gain_z))
    made.prior_mean.copy_(draw(-1000, 1000, made.prior_mean))
    made.prior_scale.copy_(draw(0, 448, made.prior_scale))
    made.check()
    return made.eval()


def wild_coder(spec: LayerSpec, seed: int) -> LatentCoder:
    """The coder of such a layer."""
    return coder_of(wild_layer(spec, seed))


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
