"""Machines: detectors that read decoded pixels, and so turn an image codec into a point of a rate–accuracy curve.

An ONNX detector is described by a small YAML file (:class:`OnnxDescriptor`); torchvision's and Detectron2's detectors
come by name. Heads that read a codec's own base latents are not machines in this sense: see
:class:`vcm.codecs.protocol.LatentTaskCodec`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pydantic
import yaml

from vcm.codecs.protocol import Image, check_image
from vcm.errors import ConfigError, MissingDependencyError, ModelNotFoundError, OptionError, WeightsError
from vcm.structures import COCO_NAMES, Detections

__all__ = [
    "DESCRIPTORS", "InputDescriptor", "Machine", "MachineInfo", "OnnxDescriptor", "OnnxDetector", "OutputDescriptor",
    "keep_best", "load_machine", "load_machines",
]  # fmt: skip

DESCRIPTORS = Path(__file__).parent / "descriptors"
"""Folder of the shipped descriptors."""

_Floats = npt.NDArray[np.float32]
_Candidates = tuple[_Floats, _Floats, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """What identifies a machine's numbers: name, weights and settings.

    Attributes:
        name: name in reports.
        version: library and digest of the weights.
        settings: (key, value) pairs.
        group: machines of one group stand for one reader: at each point the better one is taken. Empty: of no group.
    """

    name: str
    version: str
    settings: tuple[tuple[str, str], ...] = ()
    group: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        group = {"group": self.group} if self.group else {}
        return {"name": self.name, "version": self.version, "settings": dict(self.settings), **group}

    @property
    def fingerprint(self) -> str:
        """12 hex digits over everything above."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]


@runtime_checkable
class Machine(Protocol):
    """A detector of the 80 COCO classes on pixels. Instances are picklable: each worker has its own."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def detect(self, image: Image) -> Detections:
        """Objects, best first, down to the low scores that average precision needs.

        Args:
            image: uint8 ``(H, W, 3)`` RGB.

        Raises:
            OptionError: not such an array.
        """
        ...

    def describe(self) -> MachineInfo:
        """Weights and settings."""
        ...


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class InputDescriptor(_Strict):
    """How a picture becomes the network's input tensor: resize, pad, order, ``(pixel − mean) / std``, NCHW float32.

    Attributes:
        width, height: of the input tensor.
        channels: order of the colour planes.
        mean, std: per plane, in that order, on the 0–255 scale.
        letterbox: where the picture lies after resizing both sides by one factor; ``stretch`` resizes each side alone.
        pad: value around the picture, 0–255, before mean and std.
        interpolation: ``bilinear`` (as OpenCV's INTER_LINEAR) or ``bilinear-antialias`` (as Pillow's).
    """

    width: int = pydantic.Field(ge=16, le=8192)
    height: int = pydantic.Field(ge=16, le=8192)
    channels: Literal["rgb", "bgr"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    letterbox: Literal["top-left", "centre", "stretch"]
    pad: float = pydantic.Field(default=0.0, ge=0, le=255)
    interpolation: Literal["bilinear", "bilinear-antialias"] = "bilinear"


class OutputDescriptor(_Strict):
    """How the network's output becomes boxes.

    Attributes:
        decode: ``yolox``: 1 × N × (4 + 1 + classes), ``xy = (p + grid)·stride``, ``wh = exp(p)·stride``, score =
            objectness × class. ``nanodet``: 1 × (4 + classes) × N, corners in input pixels.
        strides: grid strides of ``yolox``, in the order of the rows.
    """

    decode: Literal["yolox", "nanodet"]
    strides: tuple[int, ...] = (8, 16, 32)


class OnnxDescriptor(_Strict):
    """An ONNX detector, as its YAML file describes it.

    Attributes:
        name: name in reports.
        weights: ONNX file: absolute, or relative to the descriptor or to one of the weights folders.
        sha256: expected digest of that file, or ``None`` for any.
        nms_iou: boxes of one class that overlap a better one by more are dropped.
        score_threshold: candidates below are dropped before that.
        max_detections: best ones kept per picture, all classes together. COCO's limit of 100 is per class, so 100 here
            would lower the accuracy of crowded pictures.
    """

    name: str = pydantic.Field(min_length=1, pattern=r"^[\w.+-]+$")
    kind: Literal["onnx"]
    weights: str
    sha256: str | None = pydantic.Field(default=None, pattern=r"^[0-9a-f]{64}$")
    input: InputDescriptor
    output: OutputDescriptor
    nms_iou: float = pydantic.Field(gt=0, le=1)
    score_threshold: float = pydantic.Field(default=0.001, gt=0, lt=1)
    max_detections: int = pydantic.Field(default=300, ge=1, le=1000)

    @classmethod
    def load(cls, path: Path) -> OnnxDescriptor:
        """Read and validate a YAML descriptor.

        Raises:
            ConfigError: not readable, not YAML, or a key is missing, unknown or out of range.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(
                f"cannot read the machine descriptor {path}", found=str(error).replace("\n", " ")
            ) from error
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ConfigError(f"{path}: {where}", expected=first["msg"], found=first.get("input")) from error


class OnnxDetector:
    """A detector in an ONNX file, run by onnxruntime with one thread.

    Args:
        descriptor: what the network expects and gives.
        weights: the ONNX file.

    Raises:
        MissingDependencyError: no onnxruntime.
        WeightsError: the file is not the one that the descriptor names, or its input or output has another shape.
    """

    def __init__(self, descriptor: OnnxDescriptor, weights: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError("ONNX detectors need onnxruntime: pip install 'vcm[eval]'") from error
        self._descriptor, self._path = descriptor, weights
        try:
            data = weights.read_bytes()
        except OSError as error:
            raise WeightsError(f"cannot read {weights}", found=error.strerror) from error
        self._digest = sha256(data).hexdigest()
        if descriptor.sha256 not in (None, self._digest):
            raise WeightsError(f"{weights} is another file", expected=f"sha256 {descriptor.sha256}", found=self._digest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise WeightsError(f"{weights} is no ONNX model", found=str(error).splitlines()[0]) from error
        self._version = f"onnxruntime {onnxruntime.__version__}, sha256 {self._digest[:12]}"
        inputs = self._session.get_inputs()
        want = [1, 3, descriptor.input.height, descriptor.input.width]
        shape = inputs[0].shape if len(inputs) == 1 else []
        # A dimension that the file leaves open is a name, not a number.
        if len(shape) != 4 or any(isinstance(g, int) and g != w for g, w in zip(shape, want, strict=True)):
            raise WeightsError(f"{weights} takes another input", expected=want, found=[i.shape for i in inputs])
        self._input_name = inputs[0].name

    def __reduce__(self) -> tuple[Any, ...]:
        # A session does not pickle: a worker opens its own.
        return OnnxDetector, (self._descriptor, self._path)

    @property
    def name(self) -> str:
        """Name in reports."""
        return self._descriptor.name

    def describe(self) -> MachineInfo:
        """Digest of the weights, and the descriptor."""
        d = self._descriptor
        values = d.model_dump(exclude={"name", "weights", "sha256"})
        settings = tuple((key, json.dumps(value)) for key, value in sorted(values.items()))
        return MachineInfo(d.name, self._version, settings)

    def detect(self, image: Image) -> Detections:
        """See :meth:`Machine.detect`."""
        tensor, scale, offset = prepare(check_image(image), self._descriptor.input)
        output = np.asarray(self._session.run(None, {self._input_name: tensor})[0], dtype=np.float32)
        if self._descriptor.output.decode == "yolox":
            boxes, scores, labels = self._yolox(output)
        else:
            boxes, scores, labels = self._nanodet(output)
        shift, factor = (np.tile(np.asarray(pair, np.float32), 2) for pair in (offset, scale))
        d, (height, width) = self._descriptor, image.shape[:2]
        boxes = ((boxes - shift) / factor).astype(np.float32)
        return keep_best(
            boxes, scores, labels, width, height, iou=d.nms_iou, score=d.score_threshold, limit=d.max_detections
        )

    def _yolox(self, output: _Floats) -> _Candidates:
        grid, strides = _grid(self._descriptor)
        rows = self._checked(output, (1, len(grid), 5 + len(COCO_NAMES)))[0]
        centre = (rows[:, :2] + grid) * strides
        # exp of a wild prediction overflows to inf, which clipping to the picture mends.
        with np.errstate(over="ignore"):
            half = np.exp(rows[:, 2:4]) * strides * np.float32(0.5)
        return self._by_class(np.concatenate([centre - half, centre + half], 1), rows[:, 4:5] * rows[:, 5:])

    def _nanodet(self, output: _Floats) -> _Candidates:
        rows = self._checked(output, (1, 4 + len(COCO_NAMES), None))[0].T
        return self._by_class(rows[:, :4], rows[:, 4:])

    def _by_class(self, boxes: _Floats, scores: _Floats) -> _Candidates:
        """Each class of an anchor above the threshold is a candidate of its own: mAP on coco-dev is 0.3 higher than
        with the best class alone."""
        anchor, labels = np.nonzero(scores >= self._descriptor.score_threshold)
        return boxes[anchor], scores[anchor, labels], labels

    def _checked(self, output: _Floats, shape: tuple[int | None, ...]) -> _Floats:
        if output.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, output.shape, strict=True)):
            raise WeightsError(f"{self._path} gives another output", expected=shape, found=output.shape)
        return output


def _grid(descriptor: OnnxDescriptor) -> tuple[_Floats, _Floats]:
    """Cell coordinates ``(N, 2)`` as x, y and strides ``(N, 1)`` of all levels."""
    cells, strides = [], []
    for stride in descriptor.output.strides:
        y, x = np.mgrid[: descriptor.input.height // stride, : descriptor.input.width // stride]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def prepare(image: Image, spec: InputDescriptor) -> tuple[_Floats, tuple[float, float], tuple[float, float]]:
    """The network's input for a picture.

    Returns:
        float32 ``(1, 3, spec.height, spec.width)``; input pixels per source pixel, (x, y); position of the picture's
        top-left corner in the input, (x, y).
    """
    import torch
    from torch.nn import functional

    height, width = image.shape[:2]
    if spec.letterbox == "stretch":
        new_w, new_h = spec.width, spec.height
        scale = (new_w / width, new_h / height)
    else:
        ratio = min(spec.width / width, spec.height / height)
        new_w, new_h = max(1, int(width * ratio)), max(1, int(height * ratio))
        scale = (ratio, ratio)
    plane = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).float()
    resized = functional.interpolate(
        plane, (new_h, new_w), mode="bilinear", align_corners=False, antialias=spec.interpolation.endswith("antialias")
    )
    # Detectors were trained on resized pictures of whole grey levels.
    resized = resized.round().clamp_(0, 255)[0]
    x, y = ((spec.width - new_w) // 2, (spec.height - new_h) // 2) if spec.letterbox == "centre" else (0, 0)
    out = np.full((1, 3, spec.height, spec.width), spec.pad, np.float32)
    planes = resized.numpy()
    out[0, :, y : y + new_h, x : x + new_w] = planes[::-1] if spec.channels == "bgr" else planes
    out -= np.asarray(spec.mean, np.float32).reshape(1, 3, 1, 1)
    out /= np.asarray(spec.std, np.float32).reshape(1, 3, 1, 1)
    return out, scale, (float(x), float(y))


def keep_best(
    boxes: _Floats,
    scores: _Floats,
    labels: npt.NDArray[np.int64],
    width: int,
    height: int,
    *,
    iou: float,
    score: float,
    limit: int,
) -> Detections:
    """Clip candidates to the picture, drop weak and empty ones, suppress overlaps within each class, and keep the best.

    Args:
        boxes: float32 ``(N, 4)`` x1 y1 x2 y2 in source pixels.
        scores: float32 ``(N,)``.
        labels: int64 ``(N,)``.
        width, height: of the picture.
        iou: boxes of one class that overlap a better one by more are dropped.
        score: least score kept.
        limit: most boxes kept.
    """
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    good = (scores >= score) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & np.isfinite(scores)
    boxes, scores, labels = (
        boxes[good].astype(np.float32),
        scores[good].astype(np.float32),
        labels[good].astype(np.int64),
    )
    kept = _suppress(boxes, scores, labels, iou, limit)
    return Detections(boxes[kept], scores[kept], labels[kept], width, height)


def _suppress(boxes: _Floats, scores: _Floats, labels: npt.NDArray[np.int64], iou: float, limit: int) -> list[int]:
    """Greedy non-maximum suppression within each class, best first. Numpy: importing torchvision takes seconds."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        corner = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = corner.clip(0).prod(1)
        overlaps = shared > iou * (areas[best] + areas[rest] - shared)
        order = rest[~(overlaps & (labels[rest] == labels[best]))]
    return kept


def load_machine(spec: str, *, weights: Sequence[Path] = ()) -> Machine:
    """A machine by what a person types.

    Args:
        spec: a YAML descriptor by path or shipped name (``yolox_nano.yaml``, ``yolox_nano``);
            ``torchvision:NAME[:WEIGHTS]``; ``detectron2:CONFIG[:WEIGHTS]``.
        weights: folders (or files) in which ONNX weights are looked for, after the descriptor's own folder.

    Raises:
        ConfigError: the descriptor does not validate.
        ModelNotFoundError: no such machine, or its weights are in none of the folders.
        WeightsError: the weights do not fit.
    """
    if spec.startswith(("torchvision:", "detectron2:")):
        from vcm.eval.machines_torch import Detectron2Detector, TorchvisionDetector

        library, name, *rest = spec.split(":", 2)
        if not name:
            raise OptionError("a detector's name is missing", expected=f"{library}:NAME", found=spec)
        path = Path(rest[0]) if rest else None
        return TorchvisionDetector(name, path) if library == "torchvision" else Detectron2Detector(name, path)
    descriptor_path = _find_descriptor(spec)
    descriptor = OnnxDescriptor.load(descriptor_path)
    return OnnxDetector(descriptor, _find_weights(descriptor.weights, [descriptor_path.parent, *weights]))


def load_machines(specs: Sequence[str], *, weights: Sequence[Path] = ()) -> list[Machine]:
    """Machines by what a person types: as :func:`load_machine`, and ``twin`` or ``twin:PATH[,PATH]`` for pixel twins.

    Raises:
        ConfigError, ModelNotFoundError, OptionError, WeightsError: as of :func:`load_machine` and
            :func:`vcm.eval.machines_twin.load_twins`.
    """
    machines: list[Machine] = []
    for spec in specs:
        if spec.partition(":")[0] == "twin":
            from vcm.eval.machines_twin import load_twins

            machines += load_twins(spec)
        else:
            machines.append(load_machine(spec, weights=weights))
    return machines


def _find_descriptor(spec: str) -> Path:
    shipped = DESCRIPTORS / f"{Path(spec).stem if spec.endswith('.yaml') else spec}.yaml"
    for path in (Path(spec), shipped):
        if path.is_file():
            return path
    names = sorted(path.stem for path in DESCRIPTORS.glob("*.yaml"))
    expected = f"twin, a YAML file, torchvision:NAME, detectron2:CONFIG, or one of {', '.join(names)}"
    raise ModelNotFoundError("no such machine", expected=expected, found=spec)


def _find_weights(name: str, places: Sequence[Path]) -> Path:
    folders = [*places, *(Path(part) for part in os.environ.get("VCM_WEIGHTS", "").split(os.pathsep) if part)]
    for place in folders:
        for path in (place, place / name):
            if path.is_file() and path.name == Path(name).name:
                return path
    what = f"the machine's weights {name} were not found"
    expected = "their folder, by --weights or VCM_WEIGHTS"
    raise ModelNotFoundError(what, expected=expected, found=f"not in {', '.join(str(place) for place in folders)}")
