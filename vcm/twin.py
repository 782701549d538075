"""Pixel twins: the base layer's detector without the codec, trained and run on pixels.

A twin is the codec's base analysis (trunk, merge, projection) and its detection head at quality 1, with quantiser and
entropy model left out. It is the ceiling of what the base can reach, and the fair detector for the decoded pixels of
any other codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcm.api.arguments import Backend, backend_of, device_of, whole_number
from vcm.api.engines import tensor_of
from vcm.api.sources import one_or_many
from vcm.bitstream import coded_size
from vcm.codecs.scalable.model import base_latents, default_base_scale, picture_array
from vcm.io.pictures import SourceImage, load_image
from vcm.limits import DEFAULT_BYTES, DEFAULT_PIXELS
from vcm.requirements import needing
from vcm.runtime.networks import Array, Networks
from vcm.structures import DEFAULT_SCORE, Classes, Detections, Latents
from vcm.tasks.array_heads import ArrayDetection
from vcm.tasks.postprocessing import MAX_DETECTIONS, NMS_IOU
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.weights.onnx_twin import OnnxTwin, read_onnx_twin
from vcm.weights.registry import find_twin

if TYPE_CHECKING:
    import torch

    from vcm.io.pictures import ImageSource
    from vcm.weights.twin_file import LoadedTwin

__all__ = ["PixelTwin", "load_twin"]


def load_twin(
    name: str | Path = "vcm-s-twin",
    device: str | torch.device = "cpu",
    *,
    trunk: str | Path | None = None,
    backend: Backend = "auto",
    threads: int | None = None,
) -> PixelTwin:
    """Load a shipped pixel twin by name, or a twin's file by path.

    Args:
        name: ``vcm-s-twin``, ``vcm-s-twin-degraded`` or a path to a ``.safetensors`` file.
        device: where it runs.
        trunk: the codec whose trunk it takes, by name or path. By default the one that the file names: looked for
            beside the file, then among the shipped ones.
        backend, threads: what runs its networks, as of :func:`vcm.load`. Boxes differ by 0.05 pixels at most.

    Raises:
        OptionError: there is no such device or backend, or no such pair; or ``threads`` is below 1.
        ModelNotFoundError: no such twin, or the codec whose trunk it takes is not there.
        TrunkError: that codec has another trunk than the twin was trained with.
        WeightsError: the file is no twin, or is inconsistent.
        MissingDependencyError: the backend is not installed.
    """
    count = None if threads is None else whole_number("threads", threads, 1, None)
    if backend_of(backend, device) == "onnx":
        return PixelTwin(read_onnx_twin(find_twin(name), trunk, threads=count))
    with needing("backend torch"):
        from vcm.weights.twin_file import read_twin

    return PixelTwin(read_twin(find_twin(name), trunk), device)


class PixelTwin:
    """A loaded pixel twin. Immutable, and safe to share between threads.

    Args:
        loaded: networks from :func:`vcm.weights.twin_file.read_twin`, which torch runs and which are not changed, or
            from :func:`vcm.weights.onnx_twin.read_onnx_twin`, which onnxruntime runs.
        device: where torch runs them.

    Attributes:
        name, trunk, trained: as of :class:`vcm.TwinInfo`.
        backend: ``torch`` or ``onnx``.
        fingerprint: over all weights, the trunk's included; 16 hexadecimal digits.
    """

    def __init__(self, loaded: LoadedTwin | OnnxTwin, device: str | torch.device = "cpu") -> None:
        stored = loaded.stored
        self.name, self.trunk, self.trained = stored.name, stored.trunk, stored.trained
        self.fingerprint = stored.fingerprint()
        self._spec = stored.architecture.latents
        self._networks: Networks
        self._detect: Callable[..., Detections]
        self._shown: Callable[[Array], Any] = tensor_of
        if isinstance(loaded, OnnxTwin):
            self.backend = "onnx"
            self._networks = loaded.networks
            classes = SHIPPED_HEADS[stored.architecture.name].detect.classes
            self._detect = ArrayDetection(loaded.networks, self._spec, Classes.numbered(classes))
            return
        from vcm.codecs.scalable.torch_networks import analysis_networks, on_device

        self.backend, there = "torch", device_of(device)
        self._networks = analysis_networks(on_device(loaded.analysis, there), there)
        self._detect = on_device(loaded.detect, there).detect
        self._shown = lambda array: tensor_of(array).to(there)

    @one_or_many
    def latents(
        self, image: ImageSource, *, max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES
    ) -> Latents:
        """The twin's features, where a codec has base latents; unquantised, of the size that a codec's default has.

        A tensor has them, an array where torch is missing.

        Args:
            image: path, PIL image, uint8 HWC array or CHW tensor; or a list or batch of these.
            max_pixels, max_bytes: most pixels of the picture, most bytes of its file.

        Raises:
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
        """
        source = load_image(image, max_pixels=max_pixels, max_bytes=max_bytes)
        return self._latents(source, self._shown(self._features(source)))

    @one_or_many
    def detect(
        self,
        image: ImageSource,
        *,
        score: float = DEFAULT_SCORE,
        iou: float = NMS_IOU,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        classes: Iterable[str | int] | None = None,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Detections:
        """Objects in a picture, from its pixels; ``bytes_read`` is 0.

        Args:
            image: path, PIL image, uint8 HWC array or CHW tensor; or a list or batch of these.
            score, iou, agnostic, max_det, classes: as of :meth:`vcm.Codec.detect`.
            max_pixels, max_bytes: as for :meth:`latents`.

        Raises:
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
            OptionError: an option is out of range, or there is no such class.
        """
        source = load_image(image, max_pixels=max_pixels, max_bytes=max_bytes)
        y = self._features(source)
        latents = self._latents(source, y if self.backend == "onnx" else self._shown(y))
        return self._detect(latents, score, iou, agnostic=agnostic, max_det=max_det, classes=classes)

    def _features(self, source: SourceImage) -> Array:
        return base_latents(
            self._networks, picture_array(source.pixels), default_base_scale(source.width, source.height)
        )

    def _latents(self, source: SourceImage, y: Any) -> Latents:
        size = source.width, source.height
        coded = coded_size(*size, default_base_scale(*size))
        return Latents(y, replace(self._spec, fingerprint=self.fingerprint), coded, size, 100.0)
