"""CompressAI's image models as anchors: real streams in a small file of our own, for CompressAI defines none.

The file: quality index (1 byte), width, height, height and width of z (2 bytes each), number of streams (1 byte), then
each stream after its length (unsigned LEB128). Architectures and papers: https://interdigitalinc.github.io/CompressAI/zoo.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcm.codecs.families import Builder, CodecFamily
from vcm.codecs.protocol import CodecInfo, Complexity, Image, QualityRange, check_image, check_size
from vcm.errors import ImageError, MissingDependencyError, ModelNotFoundError, OptionError, VcmError, WeightsError

if TYPE_CHECKING:
    import torch

__all__ = ["ARCHITECTURES", "FAMILY", "CompressAiCodec"]

ARCHITECTURES = {
    "bmshj2018-factorized": 8,
    "bmshj2018-hyperprior": 8,
    "mbt2018-mean": 8,
    "mbt2018": 8,
    "cheng2020-anchor": 6,
    "cheng2020-attn": 6,
}
"""Names in CompressAI's zoo, and the number of quality indices of each."""

_HEADER = struct.Struct("<BHHHHB")
_PAD = 64  # g_a and h_a together shrink by 64


@dataclass(frozen=True)
class CompressAiCodec:
    """A model of CompressAI's zoo, on the CPU. ``quality`` is its index, 1 … 6 or 8: one set of weights each.

    Attributes:
        architecture: one of :data:`ARCHITECTURES`.
        weights: ``"zoo"`` to let CompressAI download its own; a path with ``{quality}`` in it (``.safetensors`` or a
            torch checkpoint, loaded without running code from it); ``None`` for initialised weights (seed: the
            index), which compress nothing and serve tests and timings.
        metric: what the zoo's weights were trained for, ``mse`` or ``ms-ssim``.

    Raises:
        MissingDependencyError: compressai is not installed (it needs numpy below 2).
        OptionError: an option is out of its range.
    """

    architecture: str
    weights: str | None = "zoo"
    metric: str = "mse"
    _networks: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise OptionError("CompressAI architecture", expected=", ".join(ARCHITECTURES), found=self.architecture)
        if self.metric not in ("mse", "ms-ssim"):
            raise OptionError("CompressAI metric", expected="mse or ms-ssim", found=self.metric)
        if self.weights not in (None, "zoo") and "{quality}" not in str(self.weights):
            raise OptionError("CompressAI weights", expected="a path with {quality} in it, or zoo", found=self.weights)
        _compressai()

    def __reduce__(self) -> tuple[Any, ...]:
        # Networks are loaded anew in each process.
        return CompressAiCodec, (self.architecture, self.weights, self.metric)

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.architecture

    @property
    def quality_range(self) -> QualityRange:
        """The quality indices of the architecture."""
        return QualityRange(1, ARCHITECTURES[self.architecture], unit="index")

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        import torch
        from torch.nn import functional

        image = check_image(image)
        index = int(self.quality_range.check(quality))
        height, width = image.shape[:2]
        if max(height, width) > 65535:
            raise ImageError(f"too large for {self.name}", expected="sides to 65535", found=f"{width} × {height}")
        x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255
        # Zeros around the picture, as CompressAI's own evaluation pads, would cost bits: the edge is repeated.
        x = functional.pad(x, (0, -width % _PAD, 0, -height % _PAD), mode="replicate")
        with torch.inference_mode():
            out = self._network(index).compress(x)
        rows, columns = (int(v) for v in out["shape"])
        streams = [stream for group in out["strings"] for stream in group]
        head = _HEADER.pack(index, width, height, rows, columns, len(streams))
        return head + b"".join(_leb128(len(stream)) + stream for stream in streams)

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        import torch

        if len(data) < _HEADER.size:
            raise ImageError(f"{self.name} cannot decode the file", expected="a header", found=f"{len(data)} bytes")
        index, width, height, rows, columns, count = _HEADER.unpack_from(data)
        check_size(width, height)
        self.quality_range.check(index)
        streams = _streams(data[_HEADER.size :], count)
        try:
            with torch.inference_mode():
                out = self._network(index).decompress([[stream] for stream in streams], (rows, columns))
        except VcmError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            raise ImageError(f"{self.name} cannot decode the file", found=str(error).splitlines()[0]) from error
        x_hat = out["x_hat"][0, :, :height, :width].clamp(0, 1)
        if x_hat.shape[1:] != (height, width):
            raise ImageError(f"{self.name}: decoded size", expected=(height, width), found=tuple(x_hat.shape[1:]))
        return np.ascontiguousarray((x_hat * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())

    def describe(self) -> CodecInfo:
        """compressai's version, where the weights come from, and the cost of the largest index."""
        version = f"compressai {_compressai().__version__}"
        settings = (("metric", self.metric), ("weights", self._weights_id()))
        return CodecInfo(self.name, version, settings, self._complexity())

    def _weights_id(self) -> str:
        if self.weights is None:
            return "initialised, seed = index"
        if self.weights == "zoo":
            return "zoo"
        digest = sha256()
        for index in range(1, ARCHITECTURES[self.architecture] + 1):
            path = Path(self.weights.format(quality=index))
            digest.update(path.read_bytes() if path.is_file() else b"none")
        return f"sha256 {digest.hexdigest()[:12]}"

    def _network(self, index: int) -> Any:
        if index not in self._networks:
            self._networks[index] = self._load(index)
        return self._networks[index]

    def _load(self, index: int) -> Any:
        from compressai.zoo import image_models, load_state_dict

        from vcm.nn.seeding import own_randomness

        build = image_models[self.architecture]
        try:
            with own_randomness(index):
                network = build(quality=index, metric=self.metric, pretrained=self.weights == "zoo")
        except OSError as error:
            expected = "a connection, or weights by path"
            raise ModelNotFoundError(
                "CompressAI's weights cannot be had", expected=expected, found=str(error)
            ) from error
        if self.weights not in (None, "zoo"):
            path = Path(str(self.weights).format(quality=index))
            try:
                network.load_state_dict(load_state_dict(_read_state(path)))
            except (RuntimeError, KeyError) as error:
                found = str(error).splitlines()[0]
                raise WeightsError(f"{path} does not fit {self.architecture}", found=found) from error
        network.eval().requires_grad_(False)
        network.update()
        return network

    def _complexity(self) -> Complexity:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        network = self._network(ARCHITECTURES[self.architecture])
        height, width = 512, 768
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, height, width))
        macs = {name: sum(ops.values()) / 2 for name, ops in counter.get_flop_counts().items()}
        top = type(network).__name__
        g_s, encoder = macs[f"{top}.g_s"], macs[f"{top}.g_a"] + macs.get(f"{top}.h_a", 0.0)
        per_px = 1000 * height * width
        # Both sides run everything between the two transforms; only the encoder runs h_a.
        middle = macs["Global"] - g_s - encoder
        count = sum(p.numel() for p in network.parameters())
        return Complexity((encoder + middle) / per_px, (g_s + middle) / per_px, count)


def _builder(architecture: str) -> Builder:
    def build(options: dict[str, str]) -> CompressAiCodec:
        weights = options.pop("weights", "zoo")
        return CompressAiCodec(architecture, None if weights == "none" else weights, options.pop("metric", "mse"))

    return build


FAMILY = CodecFamily("compressai", builders={name: _builder(name) for name in ARCHITECTURES})


def _leb128(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def _streams(data: bytes, count: int) -> list[bytes]:
    """``count`` streams, each after its LEB128 length; they must end where the data ends."""
    streams, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(data) or shift > 28:
                raise ImageError("CompressAI file: stream length", expected="a number of at most 5 bytes", found="none")
            byte = data[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        streams.append(data[position : position + length])
        position += length
    if position != len(data):
        raise ImageError("CompressAI file: length", expected=position, found=len(data))
    return streams


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    # torch is imported with it, and listing the codecs must not wait for torch.
    from vcm.weights.state import read_state

    if not path.is_file():
        raise ModelNotFoundError("no such weights", found=path)
    return read_state(path, "state_dict")


def _compressai() -> Any:
    try:
        import compressai
    except ImportError as error:
        raise MissingDependencyError("CompressAI's models need: pip install 'vcm[compressai]'") from error
    return compressai
