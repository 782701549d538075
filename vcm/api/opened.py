"""Open a file with the weights that it wants, found by the fingerprints in it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcm.api.arguments import Backend, backend_of
from vcm.api.codec import Codec
from vcm.api.decoding import PictureRows, Region
from vcm.api.engines import loaded_for
from vcm.api.sources import StreamSource, base_of, partial_of, whole_of
from vcm.bitstream import Bitstream, PartialBitstream
from vcm.errors import FingerprintError
from vcm.io.remote import address_of
from vcm.limits import DEFAULT_BYTES, DEFAULT_PIXELS, USUAL, Limits
from vcm.structures import DEFAULT_SCORE
from vcm.tasks.postprocessing import MAX_DETECTIONS, NMS_IOU
from vcm.weights.registry import Folders, find_model

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from vcm.structures import Classification, Detections, Latents
    from vcm.weights.codec_file import LoadedModel
    from vcm.weights.onnx_file import OnnxCodec

__all__ = ["OpenFile", "find_codec", "open"]


class OpenFile:
    """A file and the codec that reads it: each part of the file is read once. What :func:`open` gives.

    Attributes:
        codec: reads the base layer.
        base: header and base layer.
    """

    def __init__(
        self,
        source: StreamSource,
        folders: Folders,
        device: str | torch.device,
        backend: Backend,
        limits: Limits = USUAL,
    ) -> None:
        self._limits = limits
        self._options = {"max_pixels": limits.pixels, "max_bytes": limits.bytes}
        self._source, self._folders, self._device, self._backend = source, folders, device, backend
        # A path is read again when more than the base is wanted, an object that is read from cannot be.
        if not isinstance(source, str | os.PathLike | bytes | Bitstream):
            self._source = whole_of(source, limits)
        self.base = base_of(self._source, limits)[0]
        self.codec = find_codec(self.base, folders, device, backend)

    @cached_property
    def stream(self) -> Bitstream:
        """The whole file; read when first asked for."""
        return whole_of(self._source, self._limits)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture, pixels."""
        return self.base.width, self.base.height

    def latents(self) -> Latents:
        """As :meth:`vcm.Codec.latents`."""
        return self.codec.latents(self.base, **self._options)

    def detect(
        self,
        *,
        score: float = DEFAULT_SCORE,
        iou: float = NMS_IOU,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        classes: Iterable[str | int] | None = None,
    ) -> Detections:
        """As :meth:`vcm.Codec.detect`."""
        return self.codec.detect(
            self.base, score=score, iou=iou, agnostic=agnostic, max_det=max_det, classes=classes, **self._options
        )

    def classify(self) -> Classification:
        """As :meth:`vcm.Codec.classify`."""
        return self.codec.classify(self.base, **self._options)

    def run(self, name: str, **options: Any) -> Any:
        """As :meth:`vcm.Codec.run`; heads are added to ``codec``."""
        return self.codec.run(name, self.base, **self._options, **options)

    def decode(self, *, layers: int | None = None, region: Region | None = None) -> Image.Image:
        """As :meth:`vcm.Codec.decode`; the base alone (``layers=1``) is decoded from what was read at first.

        Raises:
            FingerprintError: no weights at hand read the enhancement layer.
        """
        if layers == 1:
            return self.codec.decode(self.base, layers=1, region=region, **self._options)
        if region is None or "stream" in self.__dict__:
            return self._codec_of(self.stream).decode(self.stream, layers=layers, region=region, **self._options)
        with partial_of(self._source, self._limits) as file:
            return self._codec_of(file).decode(file, layers=layers, region=region, **self._options)

    def decode_rows(self) -> PictureRows:
        """As :meth:`vcm.Codec.decode_rows`.

        Raises:
            FingerprintError: no weights at hand read the enhancement layer.
        """
        return self._codec_of(self.stream).decode_rows(self.stream, **self._options)

    def _codec_of(self, file: Bitstream | PartialBitstream) -> Codec:
        """The codec that reads the enhancement as well."""
        enhancement = file.enhancement
        if enhancement is None or enhancement.fingerprint.hex() == self.codec.fingerprint_enhancement:
            return self.codec
        return find_codec(file, self._folders, self._device, self._backend)

    def __repr__(self) -> str:
        return f"<OpenFile {self.base.width}x{self.base.height}, codec {self.codec.name}>"


def open(
    file: StreamSource,
    *,
    weights: Folders = (),
    device: str | torch.device = "cpu",
    backend: Backend = "auto",
    max_pixels: int = DEFAULT_PIXELS,
    max_bytes: int = DEFAULT_BYTES,
) -> OpenFile:
    """Open a file with the weights that wrote it: by fingerprint, nothing needs to be named.

    They are looked for in the folders of ``weights``, in the file's own, in those of the environment variable
    ``VCM_WEIGHTS``, and among the shipped ones, in this order.

    Args:
        file: path, bytes, binary file object or :class:`Bitstream`.
        weights: folders of weights files, or weights files.
        device: where the codec runs.
        backend: what runs its networks, as for :func:`vcm.load`.
        max_pixels, max_bytes: as for the methods of :class:`vcm.Codec`, for all that is done with the file.

    Raises:
        FingerprintError: no weights at hand read this file; its text names the fingerprint that they must have.
        FormatError: the file is damaged or no VCM file.
        InputError: the file, or something in ``weights``, cannot be read.
        OptionError: there is no such device or backend, or no such pair.
        MissingDependencyError: the backend is not installed.
    """
    beside = [Path(file).parent] if isinstance(file, str | os.PathLike) and address_of(file) is None else []
    named = [weights] if isinstance(weights, str | os.PathLike) else weights
    return OpenFile(file, (*named, *beside), device, backend, Limits(max_pixels, max_bytes))


def find_codec(
    stream: Bitstream | PartialBitstream,
    folders: Folders = (),
    device: str | torch.device = "cpu",
    backend: Backend = "auto",
) -> Codec:
    """The codec that reads a file.

    Args:
        stream: the file; where it has an enhancement, the codec reads that as well.
        folders: where to look beside the shipped ones and ``VCM_WEIGHTS``.
        device: where it runs.
        backend: as for :func:`open`.

    Raises:
        FingerprintError: there is none.
    """
    enhancement = stream.enhancement
    base = stream.coded_base.fingerprint.hex()
    found = find_model(base, None if enhancement is None else enhancement.fingerprint.hex(), folders)
    codec = Codec(_loaded(found.path, found.path.stat().st_mtime_ns, backend_of(backend, device)), device)
    if codec.fingerprint != base:
        what = f"{found.path} is not what its metadata says"
        raise FingerprintError(what, expected=base, found=codec.fingerprint)
    return codec


@lru_cache(maxsize=4)
def _loaded(path: Path, changed: int, backend: str) -> LoadedModel | OnnxCodec:
    """Weights, kept for the next file; ``changed`` is the file's time, so that a newer one is read."""
    return loaded_for(path, backend)
