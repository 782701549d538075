"""The scalable model at work: pictures to layers and back. :mod:`vcm.api` puts weights, heads and files together."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.bitstream import ChunkKind, Header, Layer, coded_size, tiles
from vcm.codecs.scalable.analysis import BaseAnalysis
from vcm.codecs.scalable.build import shipped_modules
from vcm.codecs.scalable.config import Architecture
from vcm.codecs.scalable.latent_coder import FIXED_BITS, MAX_QUALITY, LatentCoder
from vcm.codecs.scalable.picture import (
    PictureAnalysis,
    PictureSynthesis,
    Preview,
    base_positions,
    nearest_rows,
    sample_base,
)
from vcm.codecs.scalable.windows import analyse, windows
from vcm.entropy import TABLE_DIGEST
from vcm.errors import FingerprintError, LimitError, OptionError

__all__ = [
    "BASE_SIDE",
    "CODEC_ID",
    "MAX_BASE_PIXELS",
    "BaseLatents",
    "ScalableModel",
    "base_latents",
    "default_base_scale",
    "picture_tensor",
]

CODEC_ID = 1
"""Codec id of the scalable family in the file header."""
MAX_BASE_PIXELS = 1 << 23
"""Largest picture that a base is coded from: heads see it in one piece, and a file of 200 bytes can claim any size."""
TILE_LOG2 = 10
MAX_TILE_LOG2 = 12
"""Largest tile that is decoded: the networks see a tile in one piece."""
_BAND_PIXELS = 1 << 21
_WINDOW = 96
_BASE_HALO = 32
BASE_SIDE = 480
"""Longest side that a base is coded near by default, pixels: chosen on held-out pictures (docs/training.md)."""
_PICTURE_HALO = 8


def default_base_scale(width: int, height: int) -> int:
    """Eighths at which the base's longest side is nearest to :data:`BASE_SIDE`."""
    return min(8, max(1, round(8 * BASE_SIDE / max(width, height))))


def picture_tensor(pixels: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 (H, W, 3) to float (1, 3, H, W) in 0 … 255."""
    return torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float()


def base_latents(analysis: nn.Module, x: Tensor, scale: int) -> Tensor:
    """Unquantised base latents (1, C, h, w) of ``x`` (1, 3, H, W) in 0 … 255, at ``scale`` eighths of its size.

    Args:
        analysis: a :class:`BaseAnalysis`, of a codec or of a pixel twin.
        x: the picture.
        scale: eighths, 1 … 8.

    Raises:
        OptionError: the base picture would have over :data:`MAX_BASE_PIXELS`.
    """
    width, height = coded_size(x.shape[3], x.shape[2], scale)
    if width * height > MAX_BASE_PIXELS:
        raise OptionError(
            "the base picture is too large, choose a smaller base_scale",
            expected=f"at most {MAX_BASE_PIXELS} pixels", found=f"{width}x{height}",
        )  # fmt: skip
    small = x
    if scale != 8:
        small = F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)
    small = F.pad(small, (0, -width % 32, 0, -height % 32), mode="replicate")
    y = analyse(analysis, small, window=_WINDOW, halo=_BASE_HALO)
    return y[:, :, : -(-height // 16), : -(-width // 16)]


@dataclass(frozen=True, slots=True)
class BaseLatents:
    """Decoded base layer.

    Attributes:
        fixed: int64 (1, C, h, w) in 1/1024, the same on every machine.
        coded_size: (width, height) of the base picture, pixels.
        source_size: (width, height) of the source, pixels.
        quality: index 0 … 1023.
    """

    fixed: Tensor
    coded_size: tuple[int, int]
    source_size: tuple[int, int]
    quality: int

    def y_hat(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The latents as real numbers, (1, C, h, w)."""
        return (self.fixed.double() / (1 << FIXED_BITS)).to(dtype)


class ScalableModel(nn.Module):
    """Base and picture path of one architecture.

    Args:
        architecture: the widths.
        base_id, picture_id: names for the meaning of the latents; part of the layers' fingerprints.
    """

    analysis: BaseAnalysis
    base: LatentCoder
    picture_analysis: PictureAnalysis
    picture: LatentCoder
    synthesis: PictureSynthesis
    preview: Preview

    def __init__(self, architecture: Architecture, base_id: str, picture_id: str) -> None:
        super().__init__()
        self.architecture = architecture
        self.base_id, self.picture_id = base_id, picture_id
        for name, module in shipped_modules(architecture).items():
            self.add_module(name, module)

    def _fingerprint(self, coder: LatentCoder, identity: str) -> bytes:
        digest = blake2b(f"{identity}\0{TABLE_DIGEST}".encode(), digest_size=8)
        for name, tensor in sorted(coder.state_dict().items()):
            if not tensor.is_floating_point():
                digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
                digest.update(tensor.cpu().numpy().tobytes())
        return digest.digest()

    def base_fingerprint(self) -> bytes:
        """8 bytes over the base's integer tensors, the CDF tables and its latents' meaning; not heads, not encoders."""
        return self._fingerprint(self.base, self.base_id)

    def picture_fingerprint(self) -> bytes:
        """8 bytes over the enhancement's integer tensors and the fingerprint of the base, which conditions it."""
        return self._fingerprint(self.picture, f"{self.picture_id}\0{self.base_fingerprint().hex()}")

    # -- base ---------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def analyse_base(self, x: Tensor, scale: int) -> Tensor:
        """Base latents, float: see :func:`base_latents`."""
        return base_latents(self.analysis, x, scale)

    @torch.inference_mode()
    def encode_base(
        self, y: Tensor, header_size: tuple[int, int], scale: int, quality: int
    ) -> tuple[Layer, BaseLatents]:
        """Code base latents.

        Args:
            y: from :meth:`analyse_base`.
            header_size: (width, height) of the source.
            scale: eighths.
            quality: index 0 … 1023.

        Returns:
            the layer, and what a decoder of it will have.
        """
        size = coded_size(*header_size, scale)
        fixed = torch.zeros(y.shape, dtype=torch.int64, device=y.device)
        streams = []
        for rows, columns in _tile_slices(*size):
            tile = self.base.encode_tile(y[:, :, rows, columns], quality)
            streams.append(tile.stream)
            fixed[:, :, rows, columns] = tile.y_fixed
        layer = Layer(ChunkKind.BASE, quality, self.base_fingerprint(), TILE_LOG2, tuple(streams))
        return layer, BaseLatents(fixed, size, header_size, quality)

    @torch.inference_mode()
    def decode_base(self, header: Header, layer: Layer) -> BaseLatents:
        """Latents of the base layer.

        Raises:
            FingerprintError: the layer was written by other weights.
            EntropyError: a stream is inconsistent.
            LimitError: the base picture or a tile is too large.
        """
        self._check("base", layer.fingerprint, self.base_fingerprint())
        size = coded_size(header.width, header.height, header.base_scale)
        if size[0] * size[1] > MAX_BASE_PIXELS:
            expected = f"at most {MAX_BASE_PIXELS} pixels"
            raise LimitError("the base picture is too large", expected=expected, found=f"{size[0]}x{size[1]}")
        device = self.base.gain_y.device
        fixed = torch.zeros(
            1, self.architecture.base.channels, -(-size[1] // 16), -(-size[0] // 16), dtype=torch.int64, device=device
        )
        for stream, (rows, columns) in zip(layer.tiles, _tile_slices(*size, layer.tile_log2), strict=True):
            shape = rows.stop - rows.start, columns.stop - columns.start
            fixed[:, :, rows, columns] = self.base.decode_tile(stream, shape, layer.quality)
        return BaseLatents(fixed, size, (header.width, header.height), layer.quality)

    # -- enhancement --------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def analyse_picture(self, x: Tensor) -> Tensor:
        """Enhancement latents (1, C, h, w), float, of ``x`` (1, 3, H, W) in 0 … 255."""
        padded = F.pad(x, (0, -x.shape[3] % 16, 0, -x.shape[2] % 16), mode="replicate")
        return analyse(self.picture_analysis, padded, window=_WINDOW, halo=_PICTURE_HALO)

    def _base_features(self, base: BaseLatents, rows: slice, columns: slice, features: Tensor) -> Tensor:
        """Base features at the enhancement positions of one tile."""
        (width, height), (bw, bh) = base.source_size, base.coded_size
        r = nearest_rows(rows.stop - rows.start, rows.start, height, bh, features.shape[2]).to(features.device)
        c = nearest_rows(columns.stop - columns.start, columns.start, width, bw, features.shape[3]).to(features.device)
        return features[:, :, r][:, :, :, c]

    @torch.inference_mode()
    def encode_picture(self, y: Tensor, base: BaseLatents, quality: int) -> Layer:
        """Code enhancement latents conditionally on the decoded base.

        Args:
            y: from :meth:`analyse_picture`.
            base: what :meth:`decode_base` gives for the file's base layer.
            quality: index 0 … 1023.
        """
        features = self.picture.base_features(base.fixed)
        streams = [
            self.picture.encode_tile(
                y[:, :, rows, columns], quality, self._base_features(base, rows, columns, features)
            ).stream
            for rows, columns in _tile_slices(*base.source_size)
        ]
        return Layer(ChunkKind.ENHANCEMENT, quality, self.picture_fingerprint(), TILE_LOG2, tuple(streams))

    @torch.inference_mode()
    def decode_picture(self, layer: Layer, base: BaseLatents) -> Tensor:
        """The full picture: uint8 (H, W, 3).

        Raises:
            FingerprintError: the layer was written by other weights.
            EntropyError: a stream is inconsistent.
            LimitError: a tile is too large.
        """
        self._check("enhancement", layer.fingerprint, self.picture_fingerprint())
        width, height = base.source_size
        rows_all, columns_all = -(-height // 16), -(-width // 16)
        device = self.picture.gain_y.device
        features = self.picture.base_features(base.fixed)
        dtype = self.synthesis.out.weight.dtype
        y_hat = torch.zeros(1, self.architecture.picture.channels, rows_all, columns_all, dtype=dtype, device=device)
        for stream, (rows, columns) in zip(layer.tiles, _tile_slices(width, height, layer.tile_log2), strict=True):
            shape = rows.stop - rows.start, columns.stop - columns.start
            fixed = self.picture.decode_tile(
                stream, shape, layer.quality, self._base_features(base, rows, columns, features)
            )
            y_hat[:, :, rows, columns] = (fixed.double() / (1 << FIXED_BITS)).to(dtype)
        return self._synthesise(y_hat, base, layer.quality)

    def _synthesise(self, y_hat: Tensor, base: BaseLatents, quality: int) -> Tensor:
        (width, height), (bw, bh) = base.source_size, base.coded_size
        y_base = base.y_hat(y_hat.dtype)
        q = torch.full((1,), quality / MAX_QUALITY, dtype=y_hat.dtype, device=y_hat.device)
        out = torch.empty(height, width, 3, dtype=torch.uint8, device=y_hat.device)
        halo = _PICTURE_HALO if max(y_hat.shape[2:]) > _WINDOW else 0
        for w in windows(y_hat.shape[2], y_hat.shape[3], _WINDOW, halo):
            at = (
                base_positions(w.R1 - w.R0, w.R0, height, bh).to(y_hat.device),
                base_positions(w.C1 - w.C0, w.C0, width, bw).to(y_hat.device),
            )
            x = self.synthesis(y_hat[:, :, w.R0 : w.R1, w.C0 : w.C1], sample_base(y_base, at), q)[0]
            top, left = (w.r0 - w.R0) * 16, (w.c0 - w.C0) * 16
            bottom, right = min(w.r1 * 16, height), min(w.c1 * 16, width)
            part = x[:, top : top + bottom - w.r0 * 16, left : left + right - w.c0 * 16]
            out[w.r0 * 16 : bottom, w.c0 * 16 : right] = part.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        return out

    @torch.inference_mode()
    def decode_preview(self, base: BaseLatents) -> Tensor:
        """A rough picture from the base alone, at source size: uint8 (H, W, 3)."""
        (width, height), (bw, bh) = base.source_size, base.coded_size
        small = self.preview(base.y_hat(self.preview.out.weight.dtype))
        # The last position may reach over the coded picture's edge; what is shown is the part inside.
        small = small[:, :, : max(1, -(-bh // 4)), : max(1, -(-bw // 4))].clamp(0, 255)
        out = torch.empty(height, width, 3, dtype=torch.uint8, device=small.device)
        columns = base_positions(width, 0, 4 * width, bw).to(small.device)
        # By bands of rows: in floating point the whole picture would take a dozen times what it takes as bytes.
        band = max(1, _BAND_PIXELS // width)
        for top in range(0, height, band):
            bottom = min(top + band, height)
            rows = base_positions(bottom - top, top, 4 * height, bh).to(small.device)
            x = sample_base(small, (rows, columns))[0]
            out[top:bottom] = x.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        return out

    @staticmethod
    def _check(layer: str, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise FingerprintError(
                f"the {layer} layer was written by other weights", expected=expected.hex(), found=found.hex()
            )


def _tile_slices(width: int, height: int, tile_log2: int = TILE_LOG2) -> list[tuple[slice, slice]]:
    """(rows, columns) of latent positions of each tile, in file order.

    Raises:
        LimitError: the tiles are too large.
    """
    if tile_log2 > MAX_TILE_LOG2:
        raise LimitError("tiles are too large", expected=f"at most {1 << MAX_TILE_LOG2} px", found=1 << tile_log2)
    return [
        (slice(y0 // 16, -(-y1 // 16)), slice(x0 // 16, -(-x1 // 16)))
        for x0, y0, x1, y1 in tiles(width, height, tile_log2)
    ]
