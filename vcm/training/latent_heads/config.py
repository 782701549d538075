"""Configuration of a head that trains on a bank of latents: YAML, validated; an unknown key is an error."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, field_validator, model_validator

from vcm.errors import ConfigError, OptionError
from vcm.tasks.shapes import EmbeddingShape, SegmentationShape, SingleLabelShape, TorchvisionShape
from vcm.training.bank import Features, Variety
from vcm.training.config_file import Strict, read_config

__all__ = ["DETECTORS", "KINDS", "SHAPES", "LatentHeadConfig", "kind_in", "load_latent_head_config"]

Kind = Literal["fcos", "retinanet", "faster_rcnn", "mask_rcnn", "single-label", "segmentation", "embedding"]
KINDS: tuple[str, ...] = get_args(Kind)
DETECTORS: tuple[str, ...] = ("fcos", "retinanet", "faster_rcnn", "mask_rcnn")
SHAPES: dict[str, type[Any]] = {
    **dict.fromkeys(DETECTORS, TorchvisionShape), "single-label": SingleLabelShape, "segmentation": SegmentationShape,
    "embedding": EmbeddingShape,
}  # fmt: skip
_Quality = Field(ge=0, le=100)


class ViewsConfig(Strict):
    """Views of each picture that are coded into the bank: see :class:`vcm.training.bank.Variety`."""

    views: int = Field(2, ge=1, le=64)
    mirror: bool = True
    crop: float = Field(1.0, gt=0, le=1)
    colour: float = Field(0.0, ge=0, le=1)
    jpeg: int = Field(100, ge=1, le=100)
    smaller: float = Field(1.0, gt=0, le=1)
    qualities: tuple[float, ...] = Field((100.0, 75.0, 50.0, 25.0), min_length=1)

    @field_validator("qualities")
    @classmethod
    def _in_range(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= quality <= 100 for quality in value):
            raise ValueError("qualities are 0 to 100")
        return value

    @property
    def variety(self) -> Variety:
        """As the bank takes it."""
        return Variety(**self.model_dump())


class LatentHeadConfig(Strict):
    """A head on a bank of base latents.

    Attributes:
        kind: of the head.
        name: of the head; its files begin with it.
        seed: all randomness follows from it.
        root: folder that ``data`` and ``test`` are below.
        data: folders to learn from: COCO's ``instances.json`` and pictures (detectors), one folder a class
            (``single-label``), pictures with masks (``segmentation``), or pictures (``embedding``).
        test: a folder to test on; ``null``: a share of ``data``, by a hash of each file's name.
        test_share: that share.
        out: where weights, report and bank go.
        weights: the codec, a shipped model's name or a weights file.
        features: which to train on, one head each: ``base``, and ``twin`` for the ceiling.
        twin: the pixel twin; needed for ``twin``.
        classes: of a detector: names to learn; empty: all that have a box (COCO's 80 where all are COCO's).
        pseudo_score: pictures without annotations are taken with the boxes of their folder's ``pseudo.json`` of at
            least
            this score; ``null`` leaves them out.
        start: a detector's pyramid begins as that of the codec's own detection head; otherwise at random.
        shape: sizes of the head: fields of its class in :mod:`vcm.tasks.shapes`, but for the number of classes.
        views: what the bank holds of each picture.
        qualities: of the files that are tested.
        epochs: times that each view is seen; training may stop before by ``--minutes``.
        batch: views a step.
        lr: peak learning rate of AdamW after ``warmup`` steps; a cosine to 0 follows.
        ema: decay of the weight average that is kept.
        half: a detector's convolutions in bfloat16, its losses in float32: nearly twice as fast where the CPU has
            AVX512-BF16.
        limit: at most so many pictures to learn from; ``null``: all.
    """

    kind: Kind
    name: str = Field(pattern=r"^[\w.-]{1,90}$")
    seed: int = Field(0, ge=0)
    root: Path = Path()
    data: tuple[str, ...] = Field(min_length=1)
    test: str | None = None
    test_share: float = Field(0.2, gt=0, lt=1)
    out: Path
    weights: str = "vcm-s"
    features: tuple[Features, ...] = Field(("base",), min_length=1)
    twin: str | None = "vcm-s-twin"
    classes: tuple[str, ...] = ()
    pseudo_score: float | None = Field(None, ge=0, le=1)
    start: bool = True
    shape: dict[str, float] = Field(default_factory=dict)
    views: ViewsConfig = Field(default_factory=lambda: ViewsConfig.model_validate({}))
    qualities: tuple[float, ...] = Field((100.0, 50.0), min_length=1)
    epochs: int = Field(10, ge=1)
    batch: int = Field(16, ge=2)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(100, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    half: bool = False
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _shape_fits(self) -> LatentHeadConfig:
        self.shape_of(**({"classes": 1} if self.kind in DETECTORS else {}))
        if "twin" in self.features and self.twin is None:
            raise ValueError("features: twin needs a twin")
        return self

    def shape_of(self, **more: Any) -> Any:
        """The shape, of the kind's class.

        Raises:
            ValueError: a field that there is not, or a number out of its range.
        """
        known = {f.name: f.type for f in fields(SHAPES[self.kind]) if f.name != "classes"}
        unknown = sorted(self.shape.keys() - known.keys())
        if unknown:
            raise ValueError(f"shape has no {', '.join(unknown)}; it has {', '.join(known)}")
        whole = {k: v if known[k] in (float, "float") else int(v) for k, v in self.shape.items()}
        try:
            return SHAPES[self.kind](**whole, **more)
        except OptionError as error:
            raise ValueError(str(error)) from error


def kind_in(path: str | Path) -> str:
    """The kind of head that a configuration is of: what it says, ``keypoints`` where it does not.

    Raises:
        ConfigError: unreadable, not YAML, or of a kind that there is not.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError("the configuration cannot be read", found=f"{path} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("the configuration is not YAML", found=str(error).splitlines()[0]) from error
    kind = content.get("kind", "keypoints") if isinstance(content, dict) else "keypoints"
    if kind not in ("keypoints", *KINDS):
        raise ConfigError("no such kind of head", expected=", ".join(("keypoints", *KINDS)), found=kind)
    return str(kind)


def load_latent_head_config(path: str | Path, overrides: tuple[str, ...] = ()) -> LatentHeadConfig:
    """Read and validate a configuration; ``root`` and ``out`` are relative to the current folder.

    Raises:
        ConfigError: unreadable, not YAML, unknown key, wrong type, value out of range.
    """
    return read_config(path, overrides, LatentHeadConfig)
