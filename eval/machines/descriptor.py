"""YAML files that describe an ONNX detector: its input, its output, its thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
import yaml

from vcm.errors import ConfigError

__all__ = ["DESCRIPTORS", "InputDescriptor", "OnnxDescriptor", "OutputDescriptor"]

DESCRIPTORS = Path(__file__).parent / "descriptors"
"""Folder of the shipped descriptors."""


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
