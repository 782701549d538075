"""What runs the networks of a :class:`vcm.Codec`: torch, or onnxruntime. Torch is imported where it is used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vcm.codecs.scalable.model import ScalableModel
from vcm.codecs.scalable.stored import codec_layout
from vcm.requirements import needing
from vcm.runtime.networks import Array
from vcm.runtime.onnx import OnnxNetworks
from vcm.structures import Classes, Classification, Detections, Latents
from vcm.tasks.array_heads import ArrayClassification, ArrayDetection, ArrayHead
from vcm.tasks.protocol import Head, OtherBase
from vcm.weights.onnx_file import OnnxCodec, load_onnx

if TYPE_CHECKING:
    import torch

    from vcm.api.arguments import Precision
    from vcm.api.codec import Codec
    from vcm.weights.codec_file import LoadedModel

__all__ = ["Engine", "OnnxEngine", "TorchEngine", "engine_of", "loaded_for", "tensor_of"]


class Engine(Protocol):
    """A model's networks at work.

    Attributes:
        name: ``torch`` or ``onnx``.
        device: where networks run, by torch's name.
        threads: of each network, where that is the engine's to choose.
        model: the codec.
        detect, classify: the heads that ship with it.
        parameters: learned numbers of the codec, heads not counted.
    """

    name: str
    device: str
    threads: int | None
    model: ScalableModel
    detect: Callable[..., Detections]
    classify: Callable[[Latents], Classification]
    parameters: int

    def y_hat(self, array: Array, head: object = None) -> Any:
        """Latents as ``head`` reads them; by default as those of others do."""
        ...

    def head(self, path: Path) -> Head:
        """The head of a file."""
        ...

    def in_torch(self, codec: Codec) -> Codec:
        """``codec``, whose engine this is, or the same run by torch."""
        ...

    def side_by_side(self, jobs: int | None) -> tuple[Engine, int]:
        """An engine to call from so many threads at once, and their number; by default what suits the machine."""
        ...


class TorchEngine:
    """Torch, on any device; see :class:`Engine`.

    Args:
        loaded: networks; they are not changed.
        device: where they run.

    Raises:
        OptionError: torch knows no such device, or cannot use it.
    """

    name = "torch"
    threads: int | None = None

    def __init__(self, loaded: LoadedModel, device: str | torch.device) -> None:
        from vcm.api.arguments import device_of
        from vcm.codecs.scalable.torch_networks import on_device, torch_model
        from vcm.tasks.classification import ClassificationTask
        from vcm.tasks.detection import DetectionTask

        self._device = device_of(device)
        self.device = str(self._device)
        self.model = torch_model(loaded.model, self._device, half=loaded.precision == "bfloat16")
        self.detect: Callable[..., Detections] = DetectionTask(on_device(loaded.detect, self._device))
        self.classify: Callable[[Latents], Classification]
        self.classify = ClassificationTask(on_device(loaded.classify, self._device))
        self.parameters = sum(t.numel() for t in loaded.model.state_dict().values())

    def y_hat(self, array: Array, head: object = None) -> Any:
        """See :class:`Engine`."""
        import torch

        return torch.from_numpy(array).to(self._device)

    def head(self, path: Path) -> Head:
        """See :class:`Engine`."""
        from vcm.codecs.scalable.torch_networks import on_device
        from vcm.weights.head_file import load_head

        loaded = load_head(path)
        return loaded.kind.task(on_device(loaded.network, self._device), self.detect)

    def in_torch(self, codec: Codec) -> Codec:
        """See :class:`Engine`."""
        return codec

    def side_by_side(self, jobs: int | None) -> tuple[Engine, int]:
        """See :class:`Engine`. Torch has threads of its own, so one call at a time suits it by default."""
        return self, jobs or 1


class OnnxEngine:
    """Onnxruntime, on a CPU; see :class:`Engine`. Torch is needed for heads of other packages only.

    Args:
        loaded: the codec.
    """

    name, device = "onnx", "cpu"

    def __init__(self, loaded: OnnxCodec) -> None:
        self.model, self._path = loaded.model, loaded.path
        self._loaded = loaded
        self.threads = loaded.threads
        self._single: OnnxEngine | None = None
        self._lock = threading.Lock()
        a = loaded.model.architecture
        networks, spec = loaded.model.networks, a.latents
        self.detect: Callable[..., Detections]
        self.detect = ArrayDetection(networks, spec, Classes.numbered(loaded.heads.detect.classes))
        self.classify: Callable[[Latents], Classification]
        self.classify = ArrayClassification(networks, spec, Classes.numbered(loaded.heads.classify.classes))
        self.parameters = sum(prod(shape) for _, shape in codec_layout(a).values())

    def y_hat(self, array: Array, head: object = None) -> Any:
        """See :class:`Engine`. Our own heads read arrays, those of others tensors, or arrays where torch is missing."""
        inner = head.head if isinstance(head, OtherBase) else head
        return array if isinstance(inner, ArrayHead) else tensor_of(array)

    def head(self, path: Path) -> Head:
        """See :class:`Engine`.

        Raises:
            MissingDependencyError: torch is not installed, and the head is of another package's kind.
        """
        from vcm.weights.onnx_head import load_onnx_head

        networks = self.model.networks
        threads = networks.threads if isinstance(networks, OnnxNetworks) else None
        ours = load_onnx_head(path, self.detect, threads=threads)
        if ours is not None:
            return ours
        with needing("a head of this kind"):
            import torch  # noqa: F401

            from vcm.weights.head_file import load_head

        loaded = load_head(path)
        return loaded.kind.task(loaded.network, self.detect)

    def in_torch(self, codec: Codec) -> Codec:
        """See :class:`Engine`.

        Raises:
            MissingDependencyError: torch is not installed.
        """
        with needing("a count of costs"):
            import torch  # noqa: F401

            from vcm.weights.codec_file import load_weights

        return type(codec)(load_weights(self._path))

    def side_by_side(self, jobs: int | None) -> tuple[Engine, int]:
        """See :class:`Engine`."""
        from vcm.runtime.onnx.sessions import default_threads

        count = jobs or default_threads()
        if count == 1:
            return self, 1
        with self._lock:
            if self._single is None:
                single = self._loaded.with_threads(1)
                self._single = self if single is self._loaded else OnnxEngine(single)
        return self._single, count


def loaded_for(
    path: Path, backend: str, threads: int | None = None, precision: Precision = "float32"
) -> LoadedModel | OnnxCodec:
    """A weights file for ``torch`` or ``onnx``; arguments and errors as of :func:`vcm.load`."""
    if backend == "onnx":
        return load_onnx(path, threads=threads, precision=precision)
    with needing("backend torch"):
        from vcm.weights.codec_file import load_weights

    return replace(load_weights(path), precision=precision)


def engine_of(loaded: LoadedModel | OnnxCodec, device: str | torch.device) -> Engine:
    """The engine for what was loaded."""
    return OnnxEngine(loaded) if isinstance(loaded, OnnxCodec) else TorchEngine(loaded, device)


def tensor_of(array: Array) -> Any:
    """``array`` as a tensor that shares its memory; itself where torch is not installed."""
    try:
        import torch
    except ImportError:
        return array
    return torch.from_numpy(array)
