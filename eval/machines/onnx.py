"""Detectors in ONNX files, run by onnxruntime."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from vcm.codecs.protocol import Image, check_image
from vcm.errors import WeightsError
from vcm.eval.machines.boxes import keep_best
from vcm.eval.machines.descriptor import InputDescriptor, OnnxDescriptor
from vcm.eval.machines.protocol import MachineInfo
from vcm.runtime.onnx.sessions import onnxruntime_module
from vcm.structures import COCO_NAMES, Detections

__all__ = ["OnnxDetector", "prepare"]

_Floats = npt.NDArray[np.float32]
_RESIZING = "numpy"
"""Told in reports; torch, which was used before, gave some pixels in a million another grey level."""

_Candidates = tuple[_Floats, _Floats, npt.NDArray[np.int64]]


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
        onnxruntime = onnxruntime_module("a detector in an ONNX file")
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
        return MachineInfo(d.name, self._version, (*settings, ("resizing", _RESIZING)))

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


def _bilinear(image: Image, width: int, height: int) -> _Floats:
    """Whole grey levels, on which detectors were trained, float32 ``(3, height, width)``."""
    x0, x1, x = _between(image.shape[1], width)
    y0, y1, y = _between(image.shape[0], height)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    rows = planes[:, :, x0] * (1 - x) + planes[:, :, x1] * x
    y = y[:, None]
    return np.asarray(np.rint(rows[:, y0] * (1 - y) + rows[:, y1] * y), np.float32)


def _between(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], _Floats]:
    """For each new sample the old ones before and after it, and how near it is to the second; centres at halves."""
    # Rounded to float32 where torch rounds: halves decide grey levels, and 640 to 416 pixels has many.
    scale = np.float64(np.float32(old) / np.float32(new))
    at = np.maximum(((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32), np.float32(0))
    before = np.minimum(at.astype(np.int64), old - 1)
    return before, np.minimum(before + 1, old - 1), (at - before.astype(np.float32)).clip(0, 1)


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
    height, width = image.shape[:2]
    if spec.letterbox == "stretch":
        new_w, new_h = spec.width, spec.height
        scale = (new_w / width, new_h / height)
    else:
        ratio = min(spec.width / width, spec.height / height)
        new_w, new_h = max(1, int(width * ratio)), max(1, int(height * ratio))
        scale = (ratio, ratio)
    if spec.interpolation == "bilinear-antialias":
        picture = PilImage.fromarray(image).resize((new_w, new_h), PilImage.Resampling.BILINEAR)
        planes = np.asarray(picture, np.float32).transpose(2, 0, 1)
    else:
        planes = _bilinear(image, new_w, new_h)
    x, y = ((spec.width - new_w) // 2, (spec.height - new_h) // 2) if spec.letterbox == "centre" else (0, 0)
    out = np.full((1, 3, spec.height, spec.width), spec.pad, np.float32)
    out[0, :, y : y + new_h, x : x + new_w] = planes[::-1] if spec.channels == "bgr" else planes
    out -= np.asarray(spec.mean, np.float32).reshape(1, 3, 1, 1)
    out /= np.asarray(spec.std, np.float32).reshape(1, 3, 1, 1)
    return out, scale, (float(x), float(y))
