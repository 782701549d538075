"""The SDK's front: load a codec, encode pictures, run tasks on base layers, decode pictures for people."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vcm.bitstream import Bitstream, Layer, Metadata, SourceKind, read, read_base
from vcm.codecs.scalable.latent_coder import MAX_QUALITY
from vcm.codecs.scalable.model import CODEC_ID, BaseLatents, default_base_scale, picture_tensor
from vcm.errors import FingerprintError, HeadError, ImageError, LayerError, OptionError
from vcm.io.metadata import without_orientation
from vcm.io.pictures import SourceImage, load_image
from vcm.structures import Classification, Detections, Keypoints, Latents
from vcm.weights.codec_file import LoadedModel, load_weights
from vcm.weights.registry import ModelInfo, find_weights, list_models

if TYPE_CHECKING:
    from vcm.io.pictures import ImageSource

__all__ = ["Codec", "Cost", "ModelInfo", "RateWarning", "default_base_scale", "list_models", "load"]

StreamSource = str | os.PathLike[str] | bytes | BinaryIO | Bitstream
Head = Callable[[Latents], Any]
_T = TypeVar("_T")
_LAYERS = 2
RATE_TOLERANCE = 0.03


class RateWarning(UserWarning):
    """``target_bpp`` cannot be met within 3 %; the nearest reachable rate was written."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply–accumulates of one call.

    Attributes:
        stage: what was called.
        kmac_per_px: thousand multiply–accumulates per source pixel, padding and integer networks included.
        budget: what it may cost at most.
    """

    stage: str
    kmac_per_px: float
    budget: float


def load(name: str | Path = "vcm-s", device: str | torch.device = "cpu") -> Codec:
    """Load a shipped model by name, or a weights file by path.

    Args:
        name: ``vcm-s`` or a path to a ``.safetensors`` file.
        device: where it runs; it must have float64 (Apple's ``mps`` has not). Files decode to the same symbols on
            every device.

    Raises:
        OptionError: torch knows no such device.
        ModelNotFoundError: no such model.
        WeightsError: the file is not a model of ours or is inconsistent.
    """
    return Codec(load_weights(find_weights(name)), device)


class Codec:
    """A loaded model. Immutable but for :meth:`add_head`, and safe to share between threads.

    Every method that takes one picture or file takes a list as well and then gives a list.

    Args:
        loaded: networks from :func:`vcm.weights.codec_file.load_weights`.
        device: where they run.
    """

    def __init__(self, loaded: LoadedModel, device: str | torch.device = "cpu") -> None:
        try:
            self._device = torch.device(device)
        except RuntimeError as error:
            raise OptionError("no such device", expected="cpu, cuda, cuda:1 …", found=device) from error
        self._model = loaded.model.to(self._device)
        self._detect = loaded.detect.to(self._device)
        self._classify = loaded.classify.to(self._device)
        self.name = loaded.name
        self.fingerprint = self._model.base_fingerprint()
        self.fingerprint_enhancement = self._model.picture_fingerprint()
        self._heads: dict[str, Head] = {"detect": self._detect.detect, "classify": self._classify.classify}
        self._lock = threading.Lock()

    # -- writing ------------------------------------------------------------------------------------------------------

    @overload
    def encode(
        self, image: list[ImageSource], *, quality: float = ..., base_quality: float = ..., base_only: bool = ...,
        target_bpp: float | None = ..., base_scale: int | None = ..., keep_gps: bool = ...,
    ) -> list[Bitstream]: ...  # fmt: skip
    @overload
    def encode(
        self, image: ImageSource, *, quality: float = ..., base_quality: float = ..., base_only: bool = ...,
        target_bpp: float | None = ..., base_scale: int | None = ..., keep_gps: bool = ...,
    ) -> Bitstream: ...  # fmt: skip
    def encode(
        self,
        image: ImageSource | list[ImageSource],
        *,
        quality: float = 50,
        base_quality: float = 50,
        base_only: bool = False,
        target_bpp: float | None = None,
        base_scale: int | None = None,
        keep_gps: bool = False,
    ) -> Bitstream | list[Bitstream]:
        """Encode a picture.

        Args:
            image: path, PIL image, uint8 HWC array or CHW tensor; or a list of these.
            quality: of the enhancement layer, 0 … 100.
            base_quality: of the base layer, 0 … 100.
            base_only: write the base layer only; the picture path does not run.
            target_bpp: bits per source pixel of the whole file (of the base with ``base_only``); replaces the quality
                of the layer that is searched. Met within 3 %, or a :class:`RateWarning` reports the nearest reachable
                rate.
            base_scale: eighths of the picture's size that the base is coded at, 1 … 8; by default such that its
                longest side is near 480.
            keep_gps: keep the position in the EXIF block.

        Raises:
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
            OptionError: an option is out of range.
        """
        if isinstance(image, list | tuple):
            return [
                self.encode(i, quality=quality, base_quality=base_quality, base_only=base_only, target_bpp=target_bpp,
                            base_scale=base_scale, keep_gps=keep_gps) for i in image
            ]  # fmt: skip
        q, base_q = _quality_index("quality", quality), _quality_index("base_quality", base_quality)
        _check_target(target_bpp)
        if base_scale is not None and not _whole(base_scale, 1, 8):
            raise OptionError("base_scale is out of range", expected="1 to 8 eighths", found=base_scale)
        source = load_image(image, keep_gps=keep_gps)
        x = picture_tensor(source.pixels, self._device)
        scale = int(base_scale) if base_scale else default_base_scale(source.width, source.height)
        y_base = self._model.analyse_base(x, scale)

        def with_base(index: int) -> tuple[Bitstream, BaseLatents]:
            layer, latents = self._model.encode_base(y_base, (source.width, source.height), scale, index)
            return self._wrap(source, scale, [layer]), latents

        if base_only:
            if target_bpp is None:
                return with_base(base_q)[0]
            return _search(lambda i: with_base(i)[0], target_bpp, lambda s: s.base_bpp, 3)
        file, latents = with_base(base_q)
        y = self._model.analyse_picture(x)
        return self._add_picture(file, y, latents, q, target_bpp)

    @overload
    def enhance(self, source: list[StreamSource], image: list[ImageSource], *, quality: float = ...,
                target_bpp: float | None = ...) -> list[Bitstream]: ...  # fmt: skip
    @overload
    def enhance(self, source: StreamSource, image: ImageSource, *, quality: float = ...,
                target_bpp: float | None = ...) -> Bitstream: ...  # fmt: skip
    def enhance(
        self,
        source: StreamSource | list[StreamSource],
        image: ImageSource | list[ImageSource],
        *,
        quality: float = 50,
        target_bpp: float | None = None,
    ) -> Bitstream | list[Bitstream]:
        """Append the enhancement layer to a base-only file.

        Args:
            source: the file, or a list.
            image: the picture that it was encoded from, or a list of as many.
            quality: of the enhancement layer, 0 … 100.
            target_bpp: of the whole file.

        Raises:
            LayerError: the file has an enhancement layer already.
            ImageError: the picture has another size than the file says.
            FingerprintError: the base was written by other weights.
            OptionError: an option is out of range, or the lists differ in length.
        """
        if isinstance(source, list | tuple) or isinstance(image, list | tuple):
            if not (isinstance(source, list | tuple) and isinstance(image, list | tuple)) or len(source) != len(image):
                raise OptionError("files and pictures come as two lists of one length")
            return [
                self.enhance(s, i, quality=quality, target_bpp=target_bpp) for s, i in zip(source, image, strict=True)
            ]
        q = _quality_index("quality", quality)
        _check_target(target_bpp)
        file = source if isinstance(source, Bitstream) else read(source)
        if file.enhancement is not None:
            raise LayerError(
                "the file has an enhancement layer already",
                expected="a base-only file",
                found=", ".join(file.layer_names),
            )
        picture = load_image(image)
        if (picture.width, picture.height) != (file.width, file.height):
            raise ImageError(
                "the picture is not the one that the file was made from",
                expected=f"{file.width}x{file.height}", found=f"{picture.width}x{picture.height}",
            )  # fmt: skip
        latents = self._base(file)
        y = self._model.analyse_picture(picture_tensor(picture.pixels, self._device))
        return self._add_picture(file, y, latents, q, target_bpp)

    def _add_picture(
        self, file: Bitstream, y: Tensor, latents: BaseLatents, quality: int, target: float | None
    ) -> Bitstream:
        def at(index: int) -> Bitstream:
            return file.with_layer(self._model.encode_picture(y, latents, index))

        return at(quality) if target is None else _search(at, target, lambda s: s.bpp, 4)

    def _wrap(self, source: SourceImage, scale: int, layers: Sequence[Layer]) -> Bitstream:
        return Bitstream.build(
            width=source.width, height=source.height, codec_id=CODEC_ID,
            source=SourceKind(source.bit_depth, source.grey, source.alpha), base_scale=scale, layers=layers,
            metadata=Metadata(exif=source.exif, icc=source.icc),
        )  # fmt: skip

    # -- reading ------------------------------------------------------------------------------------------------------

    def _base(self, file: Bitstream) -> BaseLatents:
        if file.codec_id != CODEC_ID:
            raise FingerprintError("the file was written by another codec", expected=CODEC_ID, found=file.codec_id)
        return self._model.decode_base(file.header, file.base_layer)

    def _latents(self, source: StreamSource) -> tuple[Latents, int]:
        if isinstance(source, Bitstream):
            file, count = source, len(source.base)
        else:
            got = read_base(source)
            file, count = got.bitstream, got.bytes_read
        base = self._base(file)
        spec = self._model.architecture.latents
        y_hat = base.y_hat(self._model.analysis.project.weight.dtype)
        return Latents(y_hat, spec, base.coded_size, base.source_size, base.quality * 100 / MAX_QUALITY), count

    @overload
    def latents(self, source: list[StreamSource]) -> list[Latents]: ...
    @overload
    def latents(self, source: StreamSource) -> Latents: ...
    def latents(self, source: StreamSource | list[StreamSource]) -> Latents | list[Latents]:
        """Base latents of a file; only its base prefix is read.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; or a list of these.

        Raises:
            FormatError: the file is damaged or no VCM file.
            FingerprintError: the base was written by other weights.
        """
        return _each(lambda s: self._latents(s)[0], source)

    @overload
    def detect(self, source: list[StreamSource], *, score: float = ...) -> list[Detections]: ...
    @overload
    def detect(self, source: StreamSource, *, score: float = ...) -> Detections: ...
    def detect(
        self, source: StreamSource | list[StreamSource], *, score: float = 0.05
    ) -> Detections | list[Detections]:
        """Objects in a file's picture, from its base layer; pixels are not decoded.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; or a list of these.
            score: least score kept, 0 … 1.

        Raises:
            FormatError, FingerprintError: as for :meth:`latents`.
            OptionError: ``score`` is out of range.
        """

        def one(s: StreamSource) -> Detections:
            latents, count = self._latents(s)
            return replace(self._detect.detect(latents, score), bytes_read=count)

        return _each(one, source)

    @overload
    def classify(self, source: list[StreamSource]) -> list[Classification]: ...
    @overload
    def classify(self, source: StreamSource) -> Classification: ...
    def classify(self, source: StreamSource | list[StreamSource]) -> Classification | list[Classification]:
        """Class probabilities of a file's picture, from its base layer."""

        def one(s: StreamSource) -> Classification:
            latents, count = self._latents(s)
            return replace(self._classify.classify(latents), bytes_read=count)

        return _each(one, source)

    def add_head(self, name: str, head: Head) -> Codec:
        """Register a task of your own: ``head(latents)`` is what :meth:`run` calls. Returns the codec.

        Raises:
            HeadError: the name is taken, or ``head`` cannot be called.
        """
        if not callable(head):
            raise HeadError("a head is called with latents", expected="a callable", found=type(head).__name__)
        with self._lock:
            if name in self._heads:
                raise HeadError("a head of that name exists", found=name)
            self._heads = {**self._heads, name: head}
        return self

    @property
    def heads(self) -> tuple[str, ...]:
        """Names that :meth:`run` knows."""
        return tuple(self._heads)

    def head(self, name: str) -> Head:
        """A head by its name, called with latents: for heads that are built on others (boxes first, then their parts).

        Raises:
            HeadError: no head of that name.
        """
        head = self._heads.get(name)
        if head is None:
            raise HeadError("no head of that name", expected=", ".join(self._heads), found=name)
        return head

    def run(self, name: str, source: StreamSource | list[StreamSource]) -> Any:
        """Run a head on a file's base latents.

        Args:
            name: ``detect``, ``classify``, or one that :meth:`add_head` registered.
            source: path, bytes, binary file object or :class:`Bitstream`; or a list of these.

        Returns:
            what the head gives; in :class:`Detections`, :class:`Classification` and :class:`Keypoints` with the bytes
            that were read.

        Raises:
            HeadError: no head of that name.
        """
        head = self.head(name)

        def one(s: StreamSource) -> Any:
            latents, count = self._latents(s)
            found = head(latents)
            typed = isinstance(found, Detections | Classification | Keypoints)
            return replace(found, bytes_read=count) if typed else found

        return _each(one, source)

    @overload
    def decode(self, source: list[StreamSource], *, layers: int | None = ...) -> list[Image.Image]: ...
    @overload
    def decode(self, source: StreamSource, *, layers: int | None = ...) -> Image.Image: ...
    def decode(
        self, source: StreamSource | list[StreamSource], *, layers: int | None = None
    ) -> Image.Image | list[Image.Image]:
        """The picture, upright, for a person.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; or a list of these.
            layers: how many layers to use, the base being the first; all by default. The base alone gives a rough
                preview (``picture.info["vcm_preview"]`` is true).

        Raises:
            FormatError: the file is damaged or no VCM file.
            FingerprintError: a layer was written by other weights.
            LayerError: the file has fewer layers.
            LimitError: the header claims a picture or tiles that would take too much memory.
            OptionError: ``layers`` is out of range.
        """

        if layers is not None and not _whole(layers, 1, float("inf")):
            raise OptionError("layers is out of range", expected="at least 1", found=layers)

        def one(s: StreamSource) -> Image.Image:
            file = s if isinstance(s, Bitstream) else read(s)
            present = min(len(file.layers), _LAYERS)  # what a later version appended is not for this one
            wanted = present if layers is None else layers
            if wanted > present:
                raise LayerError("the file has fewer layers", expected=wanted, found=present)
            base = self._base(file)
            if wanted == 1 or file.enhancement is None:
                pixels = self._model.decode_preview(base)
            else:
                pixels = self._model.decode_picture(file.enhancement, base)
            picture = Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy()))
            if file.header.source.grey:
                picture = picture.convert("L")
            if wanted == 1:
                picture.info["vcm_preview"] = True
            if file.metadata.icc is not None:
                picture.info["icc_profile"] = file.metadata.icc
            exif = None if file.metadata.exif is None else without_orientation(file.metadata.exif)
            if exif is not None:
                picture.info["exif"] = exif
            return picture

        return _each(one, source)

    # -- cost ---------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """Learned numbers of the codec, both layers, integer networks included; heads are not counted."""
        return sum(t.numel() for t in self._model.state_dict().values())

    def complexity(self, width: int = 768, height: int = 512) -> tuple[Cost, ...]:
        """Multiply–accumulates of whole calls on a noise picture, counted by torch's FlopCounterMode."""
        from torch.utils.flop_counter import FlopCounterMode

        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        file = self.encode(noise)
        calls: tuple[tuple[str, float, Callable[[], object]], ...] = (
            ("base-only encode", 8.0, lambda: self.encode(noise, base_only=True)),
            ("full encode", 25.0, lambda: self.encode(noise)),
            ("base decode + detect", 8.0, lambda: self.detect(file)),
            ("full decode", 25.0, lambda: self.decode(file)),
        )
        costs = []
        for stage, budget, call in calls:
            with FlopCounterMode(display=False) as counter:
                call()
            costs.append(Cost(stage, counter.get_total_flops() / 2 / (width * height) / 1000, budget))
        return tuple(costs)


def _quality_index(name: str, quality: object) -> int:
    if not (isinstance(quality, Real) and 0 <= float(quality) <= 100):
        raise OptionError(f"{name} is out of range", expected="0 to 100", found=quality)
    return round(float(quality) * MAX_QUALITY / 100)


def _whole(value: object, low: int, high: float) -> bool:
    return isinstance(value, Integral) and low <= int(value) <= high


def _check_target(target_bpp: object) -> None:
    if target_bpp is not None and not (isinstance(target_bpp, Real) and 0 < float(target_bpp) < 1000):
        raise OptionError("target_bpp is out of range", expected="above 0, below 1000", found=target_bpp)


def _each(call: Callable[[Any], _T], source: Any) -> _T | list[_T]:
    return [call(s) for s in source] if isinstance(source, list | tuple) else call(source)


def _search(
    encode: Callable[[int], Bitstream], target: float, rate: Callable[[Bitstream], float], stacklevel: int
) -> Bitstream:
    """The quality index whose ``rate`` is nearest to ``target`` bpp, by bisection (the rate rises with quality).

    ``stacklevel`` is that of ``warnings.warn``: whom a :class:`RateWarning` names.
    """
    tried: dict[int, Bitstream] = {}

    def at(index: int) -> float:
        if index not in tried:
            tried[index] = encode(index)
        return rate(tried[index])

    low, high = 0, MAX_QUALITY
    if at(low) < target < at(high):
        while high - low > 1:
            middle = (low + high) // 2
            if at(middle) <= target:
                low = middle
            else:
                high = middle
            if abs(at(middle) / target - 1) < RATE_TOLERANCE / 10:
                break
    best = min(tried.values(), key=lambda s: abs(rate(s) - target))
    if abs(rate(best) / target - 1) > RATE_TOLERANCE:
        warnings.warn(
            f"target_bpp {target:g} is out of reach: the nearest rate is {rate(best):.4f} bpp", RateWarning, stacklevel
        )
    return best
