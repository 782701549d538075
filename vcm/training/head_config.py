"""Configuration of a head that trains on frozen features: YAML, validated; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vcm.training.config_file import Strict, read_config
from vcm.training.features import FeatureKind

__all__ = ["HeadConfig", "ShapeConfig", "ViewConfig", "load_head_config"]


class ShapeConfig(Strict):
    """Size of the head: the fields of :class:`vcm.tasks.shapes.KeypointShape`."""

    grid: int = Field(default=12, ge=2, le=64)
    width: int = Field(default=96, ge=1, le=1024)
    depth: int = Field(default=2, ge=1, le=32)
    up: int = Field(default=2, ge=1, le=8)
    margin: float = Field(default=1.25, ge=1, le=4)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class ViewConfig(Strict):
    """How boxes are varied while training; latents themselves are fixed.

    Attributes:
        scale: a box's sides are multiplied by 2^±scale, each on its own by a quarter of that.
        shift: its centre is moved by up to this share of its sides.
        noise: standard deviation of Gaussian noise on the normalised latents.
    """

    scale: float = Field(default=0.3, ge=0, le=2)
    shift: float = Field(default=0.1, ge=0, le=1)
    noise: float = Field(default=0.1, ge=0, le=4)


class HeadConfig(Strict):
    """A keypoint head on frozen features.

    Attributes:
        name: of the head; its files begin with it.
        seed: all randomness follows from it.
        data: folder with ``instances.json`` (COCO keypoints) and the pictures, in ``images`` or beside it.
        out: where weights, report and computed features go.
        weights: the codec, a shipped model's name or a weights file.
        twin: the pixel twin, likewise; ``null`` takes the codec's unquantised latents in its place.
        quality: of the base layer, 0 … 100.
        features: which features to train on, one head each.
        test_share: share of pictures that are tested on, never trained on; by a hash of the file's name.
        shape: size of the head.
        views: variation of the boxes.
        epochs: times that each object is seen.
        batch: objects a step.
        lr: peak learning rate of AdamW, after ``warmup`` steps; a cosine to 0 follows.
        ema: decay of the weight average that is kept.
        smooth: standard deviation of the target around a keypoint, heatmap cells.
        visibility: weight of the loss on which points are labelled.
        sigmas: OKS standard deviation of each keypoint by name, a share of the object's size.
        resamples: bootstrap draws of the test pictures.
    """

    name: str = Field(pattern=r"^[\w.-]{1,100}$")
    seed: int = 0
    data: Path
    out: Path
    weights: str = "vcm-s"
    twin: str | None = None
    quality: float = Field(100, ge=0, le=100)
    features: tuple[FeatureKind, ...] = ("base", "twin", "random")
    test_share: float = Field(0.2, gt=0, lt=1)
    shape: ShapeConfig = ShapeConfig()
    views: ViewConfig = ViewConfig()
    epochs: int = Field(30, ge=1)
    batch: int = Field(32, ge=2)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(50, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    smooth: float = Field(1.0, gt=0)
    visibility: float = Field(0.1, ge=0)
    sigmas: dict[str, float] = Field(min_length=1)
    resamples: int = Field(1000, ge=1)


def load_head_config(path: str | Path, overrides: tuple[str, ...] = ()) -> HeadConfig:
    """Read and validate a head's configuration.

    Args:
        path: YAML file; ``data`` and ``out`` are taken relative to the current folder.
        overrides: ``a.b=c`` strings; values are parsed as YAML.

    Raises:
        ConfigError: unreadable, not YAML, unknown key, wrong type, value out of range.
    """
    return read_config(path, overrides, HeadConfig)
