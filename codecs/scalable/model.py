"""The scalable codec at work, in numpy: pictures to layers and back. Networks run behind :mod:`vcm.runtime`.

:mod:`vcm.api` puts weights, heads and files together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcm.bitstream import MAX_QUALITY, BaseLayer, ChunkKind, Layer, coded_size, tiles
from vcm.codecs.families import family_name
from vcm.codecs.scalable.config import CODEC_ID, Architecture
from vcm.codecs.scalable.fixed_point import FIXED_BITS
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.resize import resized
from vcm.codecs.scalable.sampling import base_positions, nearest_rows, sample_grid
from vcm.codecs.scalable.tables import LayerTables
from vcm.codecs.scalable.windows import analyse, windows
from vcm.errors import FingerprintError, LimitError, OptionError
from vcm.runtime.networks import Array, Networks

__all__ = [
    "BASE_SIDE",
    "MAX_BASE_PIXELS",
    "BaseLatents",
    "ScalableModel",
    "base_latents",
    "default_base_scale",
    "picture_array",
]

MAX_BASE_PIXELS = 1 << 23
"""Largest picture that a base is coded from: heads see it in one piece, and a file of 200 bytes can claim any size."""
TILE_LOG2 = 10
_BAND_PIXELS = 1 << 21
_WINDOW = 96
_BASE_HALO = 32
BASE_SIDE = 480
"""Longest side that a base is coded near by default, pixels: chosen on held-out pictures (docs/training-log.md)."""
_PICTURE_HALO = 8

_Pixels = npt.NDArray[np.uint8]


def default_base_scale(width: int, height: int) -> int:
    """The scale, at most the picture's own size, at which the base's longest side is nearest to :data:`BASE_SIDE`.

    Returns:
        as in a file's header: eighths, and 1/1024 steps beyond 128 where not even one eighth is as small.
    """
    side = max(width, height)
    if side <= 8 * BASE_SIDE:
        return min(8, round(8 * BASE_SIDE / side))
    fine = max(1, round(1024 * BASE_SIDE / side))
    return 128 + fine if fine < 128 else 1


def picture_array(pixels: _Pixels) -> Array:
    """uint8 (H, W, 3) to float32 (1, 3, H, W) in 0 … 255."""
    out = np.empty((1, 3, *pixels.shape[:2]), dtype=np.float32)
    for channel in range(3):
        out[0, channel] = pixels[:, :, channel]
    return out


def base_latents(networks: Networks, x: Array, scale: int) -> Array:
    """Unquantised base latents of a picture.

    Args:
        networks: with ``base.analysis``, of a codec or of a pixel twin.
        x: float32 (1, 3, H, W) in 0 … 255.
        scale: that the base is coded at, as in a file's header: :func:`vcm.bitstream.scale_ratio`.

    Returns:
        float32 (1, C, h, w).

    Raises:
        OptionError: the base picture would have over :data:`MAX_BASE_PIXELS`.
        LimitError: an enlarged one would have more pixels than any picture may.
    """
    width, height = coded_size(x.shape[3], x.shape[2], scale)
    if width * height > MAX_BASE_PIXELS:
        raise OptionError(
            "the base picture is too large, choose a smaller base_scale",
            expected=f"at most {MAX_BASE_PIXELS} pixels", found=f"{width}x{height}",
        )  # fmt: skip
    small = x if scale == 8 else resized(x[0], width, height)[None]
    y = analyse(networks, "base.analysis", _padded(small, 32), window=_WINDOW, halo=_BASE_HALO)
    return y[:, :, : -(-height // 16), : -(-width // 16)]


def _padded(x: Array, multiple: int) -> Array:
    """``x`` (1, C, H, W) with its last row and column repeated up to a multiple of ``multiple``."""
    down, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    return np.pad(x, ((0, 0), (0, 0), (0, down), (0, right)), mode="edge") if down or right else x


@dataclass(frozen=True, slots=True, eq=False)
class BaseLatents:
    """Decoded base layer.

    Attributes:
        fixed: int64 (1, C, h, w) in 1/1024, the same on every machine.
        coded_size: (width, height) of the base picture, pixels.
        source_size: (width, height) of the source, pixels.
        quality_index: 0 … 1023.
    """

    fixed: npt.NDArray[np.int64]
    coded_size: tuple[int, int]
    source_size: tuple[int, int]
    quality_index: int

    def y_hat(self) -> Array:
        """The latents as real numbers, float32 (1, C, h, w)."""
        return _real(self.fixed)


def _real(fixed: npt.NDArray[np.int64]) -> Array:
    """Fixed point as float32: one rounding, then a power of two."""
    out = fixed.astype(np.float32)
    out *= np.float32(2.0**-FIXED_BITS)
    return out


class ScalableModel:
    """Base and picture path of one model.

    Args:
        architecture: the widths.
        networks: those of :mod:`vcm.runtime.networks`, in any runtime.
        base, picture: integers of the two layers.
    """

    def __init__(self, architecture: Architecture, networks: Networks, base: LayerTables, picture: LayerTables) -> None:
        self.architecture, self.networks = architecture, networks
        self.base = LatentCoder("base", architecture.base, base, networks)
        self.picture = LatentCoder("picture", architecture.picture, picture, networks)
        self.layers = (self.base, self.picture)
        """The layers that it reads, base first. What a later version appended to a file is not for this one."""

    @property
    def base_fingerprint(self) -> bytes:
        """8 bytes over the base's integer tensors, the CDF tables and its latents' meaning; not heads, not encoders."""
        return self.base.tables.fingerprint

    @property
    def picture_fingerprint(self) -> bytes:
        """8 bytes over the enhancement's integer tensors and the fingerprint of the base, which conditions it."""
        return self.picture.tables.fingerprint

    # -- base ---------------------------------------------------------------------------------------------------------

    def analyse_base(self, x: Array, scale: int) -> Array:
        """Base latents, float: see :func:`base_latents`."""
        return base_latents(self.networks, x, scale)

    def encode_base(
        self, y: Array, source_size: tuple[int, int], scale: int, quality_index: int
    ) -> tuple[BaseLayer, BaseLatents]:
        """Code base latents.

        Args:
            y: from :meth:`analyse_base`.
            source_size: (width, height) of the source.
            scale: as of :func:`base_latents`.
            quality_index: 0 … 1023.

        Returns:
            the layer, and what a decoder of it will have.

        Raises:
            LatentError: a latent is not finite.
        """
        size = coded_size(*source_size, scale)
        fixed = np.empty(y.shape, dtype=np.int64)
        streams = []
        for rows, columns in tile_slices(*size):
            tile = self.base.encode_tile(_part(y, rows, columns), quality_index)
            streams.append(tile.stream)
            fixed[:, :, rows, columns] = tile.y_fixed
        layer = BaseLayer(
            CODEC_ID, *source_size, scale, quality_index, self.base_fingerprint, TILE_LOG2, tuple(streams)
        )
        return layer, BaseLatents(fixed, size, source_size, quality_index)

    def decode_base(self, layer: BaseLayer) -> BaseLatents:
        """Latents of the base layer.

        Raises:
            FingerprintError: the layer was written by another codec or other weights.
            EntropyError: a stream is inconsistent.
            LimitError: the base picture is too large.
        """
        if layer.codec_id != CODEC_ID:
            expected, found = family_name(CODEC_ID), family_name(layer.codec_id)
            raise FingerprintError("the file was written by another codec", expected=expected, found=found)
        self._check("base", layer.fingerprint, self.base_fingerprint)
        size = layer.coded_size
        if size[0] * size[1] > MAX_BASE_PIXELS:
            expected = f"at most {MAX_BASE_PIXELS} pixels"
            raise LimitError("the base picture is too large", expected=expected, found=f"{size[0]}x{size[1]}")
        slices = tile_slices(*size, layer.tile_log2)
        fixed = np.empty((1, self.base.spec.channels, -(-size[1] // 16), -(-size[0] // 16)), dtype=np.int64)
        for stream, (rows, columns) in zip(layer.tiles, slices, strict=True):
            shape = rows.stop - rows.start, columns.stop - columns.start
            fixed[:, :, rows, columns] = self.base.decode_tile(stream, shape, layer.quality_index)
        return BaseLatents(fixed, size, (layer.width, layer.height), layer.quality_index)

    # -- enhancement --------------------------------------------------------------------------------------------------

    def analyse_picture(self, x: Array) -> Array:
        """Enhancement latents, float32 (1, C, h, w), of ``x`` (1, 3, H, W) in 0 … 255."""
        return analyse(self.networks, "picture.analysis", _padded(x, 16), window=_WINDOW, halo=_PICTURE_HALO)

    def base_features(self, base: BaseLatents, rows: slice, columns: slice, features: Array) -> Array:
        """Base features at the enhancement positions of one tile.

        Args:
            base: the base.
            rows, columns: latent positions of the tile.
            features: of the whole base, from :meth:`LatentCoder.base_features`.
        """
        (width, height), (bw, bh) = base.source_size, base.coded_size
        r = nearest_rows(rows.stop - rows.start, rows.start, height, bh, features.shape[2])
        c = nearest_rows(columns.stop - columns.start, columns.start, width, bw, features.shape[3])
        return features.take(r, axis=2).take(c, axis=3)

    def encode_picture(self, y: Array, base: BaseLatents, quality_index: int) -> Layer:
        """Code enhancement latents conditionally on the decoded base.

        Args:
            y: from :meth:`analyse_picture`.
            base: what :meth:`decode_base` gives for the file's base layer.
            quality_index: 0 … 1023.

        Raises:
            LatentError: a latent is not finite.
        """
        features = self.picture.base_features(base.fixed)
        streams = [
            self.picture.encode_tile(
                _part(y, rows, columns), quality_index, self.base_features(base, rows, columns, features)
            ).stream
            for rows, columns in tile_slices(*base.source_size)
        ]
        return Layer(ChunkKind.ENHANCEMENT, quality_index, self.picture_fingerprint, TILE_LOG2, tuple(streams))

    def decode(self, base: BaseLatents, enhancements: Sequence[Layer]) -> _Pixels:
        """The best picture from some layers, uint8 (H, W, 3): a rough preview where there is no enhancement.

        Args:
            base: the decoded base layer.
            enhancements: what follows it, in the file's order; those beyond :attr:`layers` are not looked at.

        Raises:
            FingerprintError: a layer was written by other weights.
            EntropyError: a stream is inconsistent.
        """
        return self.decode_picture(enhancements[0], base) if enhancements else self.decode_preview(base)

    def decode_picture(self, layer: Layer, base: BaseLatents) -> _Pixels:
        """The full picture: uint8 (H, W, 3).

        Raises:
            FingerprintError: the layer was written by other weights.
            EntropyError: a stream is inconsistent.
        """
        self._check("enhancement", layer.fingerprint, self.picture_fingerprint)
        width, height = base.source_size
        slices = tile_slices(width, height, layer.tile_log2)
        features = self.picture.base_features(base.fixed)
        y_hat = np.empty((1, self.picture.spec.channels, -(-height // 16), -(-width // 16)), dtype=np.float32)
        for stream, (rows, columns) in zip(layer.tiles, slices, strict=True):
            shape = rows.stop - rows.start, columns.stop - columns.start
            at = self.base_features(base, rows, columns, features)
            y_hat[:, :, rows, columns] = _real(self.picture.decode_tile(stream, shape, layer.quality_index, at))
        return self._synthesise(y_hat, base, layer.quality_index)

    def _synthesise(self, y_hat: Array, base: BaseLatents, quality_index: int) -> _Pixels:
        (width, height), (bw, bh) = base.source_size, base.coded_size
        y_base = base.y_hat()
        quality = np.array([quality_index / MAX_QUALITY], dtype=np.float32)
        out = np.empty((height, width, 3), dtype=np.uint8)
        halo = _PICTURE_HALO if max(y_hat.shape[2:]) > _WINDOW else 0
        for w in windows(y_hat.shape[2], y_hat.shape[3], _WINDOW, halo):
            at = base_positions(w.R1 - w.R0, w.R0, height, bh), base_positions(w.C1 - w.C0, w.C0, width, bw)
            part = _part(y_hat, slice(w.R0, w.R1), slice(w.C0, w.C1))
            (x,) = self.networks.run("picture.synthesis", part, sample_grid(y_base, at), quality)
            top, left = (w.r0 - w.R0) * 16, (w.c0 - w.C0) * 16
            bottom, right = min(w.r1 * 16, height), min(w.c1 * 16, width)
            shown = x[0, :, top : top + bottom - w.r0 * 16, left : left + right - w.c0 * 16]
            _write(shown, out[w.r0 * 16 : bottom, w.c0 * 16 : right])
        return out

    def decode_preview(self, base: BaseLatents) -> _Pixels:
        """A rough picture from the base alone, at source size: uint8 (H, W, 3)."""
        (width, height), (bw, bh) = base.source_size, base.coded_size
        (small,) = self.networks.run("preview", base.y_hat())
        # The last position may reach over the coded picture's edge; what is shown is the part inside.
        small = np.clip(small[:, :, : max(1, -(-bh // 4)), : max(1, -(-bw // 4))], 0, 255)
        out = np.empty((height, width, 3), dtype=np.uint8)
        columns = base_positions(width, 0, 4 * width, bw)
        # By bands of rows: in floating point the whole picture would take a dozen times what it takes as bytes.
        band = max(1, _BAND_PIXELS // width)
        for top in range(0, height, band):
            bottom = min(top + band, height)
            rows = base_positions(bottom - top, top, 4 * height, bh)
            _write(sample_grid(small, (rows, columns))[0], out[top:bottom])
        return out

    @staticmethod
    def _check(layer: str, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise FingerprintError(
                f"the {layer} layer was written by other weights", expected=expected.hex(), found=found.hex()
            )


def _part(y: Array, rows: slice, columns: slice) -> Array:
    """Latents of some positions, contiguous."""
    return np.ascontiguousarray(y[:, :, rows, columns])


def _write(x: Array, out: _Pixels) -> None:
    """Round ``x`` (3, h, w) to whole grey levels into ``out`` (h, w, 3); ``x`` is changed."""
    np.rint(x, out=x)
    np.clip(x, 0, 255, out=x)
    for channel in range(3):
        out[:, :, channel] = x[channel]


def tile_slices(width: int, height: int, tile_log2: int = TILE_LOG2) -> list[tuple[slice, slice]]:
    """(rows, columns) of latent positions of each tile, in file order."""
    return [
        (slice(y0 // 16, -(-y1 // 16)), slice(x0 // 16, -(-x1 // 16)))
        for x0, y0, x1, y1 in tiles(width, height, tile_log2)
    ]
