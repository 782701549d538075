"""The scalable codec at work, in numpy: pictures to layers and back. Networks run behind :mod:`vcm.runtime`.

:mod:`vcm.api` puts weights, heads and files together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcm.bitstream import BaseLayer, ChunkKind, Layer, TiledLayer, coded_size, tiles
from vcm.codecs.families import family_name
from vcm.codecs.scalable.config import CODEC_ID, Architecture
from vcm.codecs.scalable.fixed_point import FIXED_BITS
from vcm.codecs.scalable.latent_coder import LatentCoder
from vcm.codecs.scalable.resize import resized
from vcm.codecs.scalable.sampling import nearest_rows
from vcm.codecs.scalable.synthesis import (
    PICTURE_HALO,
    WINDOW,
    Box,
    LatentGrid,
    LatentTiles,
    Pixels,
    picture_bands,
    preview_picture,
)  # fmt: skip
from vcm.codecs.scalable.tables import LayerTables
from vcm.codecs.scalable.windows import analyse, padded
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
_BASE_HALO = 32
BASE_SIDE = 480
"""Longest side that a base is coded near by default, pixels: chosen on held-out pictures (docs/training-log.md)."""


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


def picture_array(pixels: Pixels) -> Array:
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
    y = analyse(networks, "base.analysis", padded(small, 32), window=WINDOW, halo=_BASE_HALO)
    return y[:, :, : -(-height // 16), : -(-width // 16)]


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

    def decode_base(self, layer: BaseLayer, box: Box | None = None) -> BaseLatents:
        """Latents of the base layer.

        Args:
            layer: the base.
            box: where in the source picture they are wanted; all by default. Tiles that it does not touch stay 0.

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
        grid = -(-size[1] // 16), -(-size[0] // 16)
        x0, y0, x1, y1 = box or (0, 0, layer.width, layer.height)
        wanted = _base_span(y0, y1, layer.height, size[1]), _base_span(x0, x1, layer.width, size[0])
        fixed = np.zeros((1, self.base.spec.channels, *grid), dtype=np.int64)
        for stream, (rows, columns) in zip(layer.tiles, slices, strict=True):
            if _meet(rows, wanted[0]) and _meet(columns, wanted[1]):
                shape = rows.stop - rows.start, columns.stop - columns.start
                fixed[:, :, rows, columns] = self.base.decode_tile(stream, shape, layer.quality_index)
        return BaseLatents(fixed, size, (layer.width, layer.height), layer.quality_index)

    # -- enhancement --------------------------------------------------------------------------------------------------

    def analyse_picture(self, x: Array) -> Array:
        """Enhancement latents, float32 (1, C, h, w), of ``x`` (1, 3, H, W) in 0 … 255."""
        return analyse(self.networks, "picture.analysis", x, window=WINDOW, halo=PICTURE_HALO)

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

    def decode(self, base: BaseLatents, enhancements: Sequence[TiledLayer], box: Box | None = None) -> Pixels:
        """The best picture from some layers: a rough preview where there is no enhancement.

        Args:
            base: the decoded base layer.
            enhancements: what follows it, in the file's order; those beyond :attr:`layers` are not looked at.
            box: the part that is wanted; all by default.

        Returns:
            uint8 (height, width, 3) of the part; a preview has the size that :func:`preview_size` says.

        Raises:
            FingerprintError: a layer was written by other weights.
            EntropyError: a stream is inconsistent.
        """
        return self.decode_picture(enhancements[0], base, box) if enhancements else self.decode_preview(base, box)

    def decode_picture(self, layer: TiledLayer, base: BaseLatents, box: Box | None = None) -> Pixels:
        """The full picture or a part of it: uint8 (height, width, 3).

        Raises:
            FingerprintError: the layer was written by other weights.
            EntropyError: a stream is inconsistent.
        """
        x0, y0, x1, y1 = box or (0, 0, *base.source_size)
        out = np.empty((y1 - y0, x1 - x0, 3), dtype=np.uint8)
        top = 0
        for band in self.picture_bands(layer, base, box):
            out[top : top + len(band)] = band
            top += len(band)
        return out

    def picture_bands(self, layer: TiledLayer, base: BaseLatents, box: Box | None = None) -> Iterator[Pixels]:
        """The same from the top down: uint8 (rows, width, 3) at a time. Tiles are read when their band is reached.

        Raises:
            FingerprintError, EntropyError: as :meth:`decode_picture`.
        """
        self._check("enhancement", layer.fingerprint, self.picture_fingerprint)
        slices = tile_slices(*base.source_size, layer.tile_log2)
        features = self.picture.base_features(base.fixed)

        def decode_tile(index: int) -> Array:
            rows, columns = slices[index]
            shape = rows.stop - rows.start, columns.stop - columns.start
            at = self.base_features(base, rows, columns, features)
            return _real(self.picture.decode_tile(layer.tiles[index], shape, layer.quality_index, at))

        latents = LatentTiles(self.picture.spec.channels, slices, decode_tile)
        return self._bands(latents, base, layer.quality_index, box)

    def _bands(self, latents: LatentGrid, base: BaseLatents, quality_index: int, box: Box | None) -> Iterator[Pixels]:
        whole = (0, 0, *base.source_size)
        sizes = base.source_size, base.coded_size
        return picture_bands(self.networks, latents, base.y_hat(), sizes, quality_index, box or whole)

    def decode_preview(self, base: BaseLatents, box: Box | None = None) -> Pixels:
        """A rough picture from the base alone: uint8 (h, w, 3), of the size that :func:`preview_size` says."""
        sizes = base.source_size, base.coded_size
        return preview_picture(self.networks, base.y_hat(), sizes, box or (0, 0, *base.source_size))

    @staticmethod
    def _check(layer: str, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise FingerprintError(
                f"the {layer} layer was written by other weights", expected=expected.hex(), found=found.hex()
            )


def _part(y: Array, rows: slice, columns: slice) -> Array:
    """Latents of some positions, contiguous."""
    return np.ascontiguousarray(y[:, :, rows, columns])


def _base_span(start: int, stop: int, source: int, coded: int) -> slice:
    """Base positions that the picture's networks see of source pixels ``start`` … ``stop``: two more to each side."""
    return slice(start * coded // (source * 16) - 2, -(-stop * coded // (source * 16)) + 2)


def _meet(a: slice, b: slice) -> bool:
    return bool(a.start < b.stop and b.start < a.stop)


def tile_slices(width: int, height: int, tile_log2: int = TILE_LOG2) -> list[tuple[slice, slice]]:
    """(rows, columns) of latent positions of each tile, in file order."""
    return [
        (slice(y0 // 16, -(-y1 // 16)), slice(x0 // 16, -(-x1 // 16)))
        for x0, y0, x1, y1 in tiles(width, height, tile_log2)
    ]
