"""Training configuration: YAML, validated; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vcm.errors import ConfigError

__all__ = ["DataConfig", "LossName", "StageConfig", "Strict", "TrainConfig", "load_config", "read_config"]


LossName = Literal[
    "scores", "giou", "kl", "features", "classify", "logits", "ground_truth", "preview", "ms_ssim", "picture"
]


M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Fields are fixed and an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False, validate_by_alias=True)


class DataConfig(Strict):
    """Where training pictures come from and how views are cut.

    Attributes:
        folders: picture folders (relative to ``root``).
        longest: pictures are kept at this longest side at most, pixels.
        size: side of the training crop, pixels, a multiple of 64.
        reference: longest side at scale 1, pixels; 0 keeps the picture's own pixels.
        scale_low, scale_high: range of the random scale.
        mosaic, mixup: shares of views.
        colour: relative brightness and contrast jitter.
        balance: how much rarer classes are sampled more often (0: uniform).
        degrade: share of views that the student sees through JPEG, WebP or a smaller size; the teacher sees them clean.
    """

    folders: tuple[str, ...]
    longest: int = Field(448, ge=64, le=8192)
    size: int = Field(320, ge=64, le=1024, multiple_of=64)
    reference: int = Field(416, ge=0, le=4096)
    scale_low: float = Field(0.6, gt=0)
    scale_high: float = Field(1.6, gt=0)
    mosaic: float = Field(0.25, ge=0, le=1)
    mixup: float = Field(0.25, ge=0, le=1)
    colour: float = Field(0.2, ge=0, le=1)
    balance: float = Field(0.0, ge=0)
    degrade: float = Field(0.0, ge=0, le=1)


class StageConfig(Strict):
    """One stage of training.

    Attributes:
        name: folder of its outputs.
        kind: ``twin`` (heads, no bottleneck), ``bottleneck`` (quantiser, rate, heads), ``picture``
            (enhancement and preview), ``joint`` (both layers, started from the two former; replaces both).
        ship: also write the result under this name, as a pixel twin (``twin``) or as a codec (``picture``).
        aside: an experiment beside the recipe: the codec that ships, and later stages that do not name it, ignore it.
        blind: the picture path is trained without seeing the base (what layers cost is measured against it).
        start: the stage whose weights this one starts from; by default the last of its kind, else the last twin.
        from_ (``from`` in YAML): a shipped model or a weights file that it starts from instead.
        steps, batch: length and batch size.
        lr: peak learning rate of AdamW; ``trunk_lr`` multiplies it for the ImageNet trunk.
        warmup: steps of linear warm-up; a cosine to 2 % follows.
        ema: decay of the weight average that is kept.
        frozen_blocks: trunk blocks (and the stem) that are not trained; 15 is the whole trunk.
        trunk_every: the rest of the trunk gets a gradient every so many steps (its backward pass is a third of a step).
        echo: how often each batch is used ("data echoing", Choi et al. 2019): views, frozen features and the teacher's
            answers are computed once and used again ``reserve`` steps later.
        reserve: batches kept in memory for that.
        half: bfloat16 (faster where the CPU has AVX512-BF16) for the heads, and for the picture path's convolutions but
            not its block transforms; on a GPU trunk, merge and heads always are.
        lambda_low, lambda_high: range of the rate–task or rate–distortion weight (log-uniform with quality).
        quality_power: base qualities are drawn as ``u ** quality_power``, u uniform in 0 … 1; below 1 the high ones,
            which have the smaller gradients, come more often.
        quality_low, quality_high: range of the enhancement qualities that a picture stage trains.
        base_lambda_low, base_lambda_high: range of a ``joint`` stage's rate–task weight.
        weights: loss weights by name. Of the task: ``scores``, ``giou``, ``kl``, ``features``, ``classify``,
            ``logits``, ``ground_truth``; of the picture: ``preview``, ``ms_ssim`` (the squared error that 1 - MS-SSIM
            stands for), and in a joint stage all of it, ``picture``.
        ground_truth_from: share of the stage after which ``ground_truth`` counts.
    """

    name: str
    kind: Literal["twin", "bottleneck", "picture", "joint"]
    data: DataConfig
    start: str | None = None
    from_: str | None = Field(None, alias="from")
    ship: str | None = None
    aside: bool = False
    blind: bool = False
    steps: int = Field(ge=1)
    batch: int = Field(16, ge=1)
    lr: float = Field(2e-3, gt=0)
    trunk_lr: float = Field(0.1, ge=0)
    warmup: int = Field(50, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    frozen_blocks: int = Field(5, ge=0)
    trunk_every: int = Field(1, ge=1)
    echo: int = Field(1, ge=1)
    reserve: int = Field(64, ge=1)
    half: bool = False
    lambda_low: float = Field(0.5, gt=0)
    lambda_high: float = Field(20.0, gt=0)
    base_lambda_low: float = Field(0.5, gt=0)
    base_lambda_high: float = Field(20.0, gt=0)
    quality_power: float = Field(1.0, gt=0)
    quality_low: float = Field(0.0, ge=0, le=1)
    quality_high: float = Field(1.0, ge=0, le=1)
    weights: dict[LossName, float] = Field(default_factory=dict)
    ground_truth_from: float = Field(0.7, ge=0, le=1)

    @model_validator(mode="after")
    def _used(self) -> StageConfig:
        """A setting that a stage would ignore is a mistake."""
        task = {"echo", "reserve", "trunk_every"}
        unused = {
            "twin": {"lambda_low", "lambda_high", "quality_power"},
            "bottleneck": set[str](),
            "picture": task | {"frozen_blocks", "trunk_lr", "ground_truth_from", "quality_power"},
            "joint": task,
        }[self.kind]
        if self.kind != "joint":
            unused |= {"base_lambda_low", "base_lambda_high"}
        if self.kind in ("twin", "bottleneck"):
            unused |= {"quality_low", "quality_high", "blind"}
        ignored = sorted(unused & self.model_fields_set)
        if self.kind in ("picture", "joint") and self.data.degrade > 0:
            ignored.append("data.degrade")
        if ignored:
            raise ValueError(f"a {self.kind} stage has no use for {', '.join(ignored)}")
        return self


class TrainConfig(Strict):
    """A whole recipe: its stages run one after the other, each starting from the last one's weights.

    Attributes:
        name: model name.
        seed: all randomness follows from it and the step.
        root: folder of the data folders.
        teacher: the teacher's ONNX file, or ``null`` where no stage distils.
        out: folder for checkpoints and logs.
        architecture: ``small`` (what ships) or ``tiny`` (tests).
        imagenet: start the trunk from the ImageNet weights that a package ships.
        from_ (``from`` in YAML): a shipped codec or a codec's weights file that every stage without a predecessor
            starts from; what no stage trains is taken over.
        holdout: validation pictures left out: a text file of ``folder/file`` names.
        device: ``auto`` takes a GPU where there is one.
        checkpoint_minutes: how often a resumable checkpoint is written.
        shard_mib: checkpoints are split into files of at most this size.
        stages: the stages.
    """

    name: str
    seed: int = 0
    root: Path
    teacher: Path | None = None
    out: Path
    architecture: Literal["small", "tiny"] = "small"
    imagenet: bool = True
    from_: str | None = Field(None, alias="from")
    holdout: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_minutes: float = Field(4.0, gt=0)
    shard_mib: int = Field(14, ge=1)
    stages: tuple[StageConfig, ...]

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        """What would else be found out after hours of training."""
        names: list[str] = []
        for stage in self.stages:
            if stage.name in names:
                raise ValueError(f"two stages named {stage.name} would share a folder")
            if stage.start is not None and stage.start not in names:
                raise ValueError(f"no such earlier stage: {stage.name} starts from {stage.start}")
            if stage.start is not None and stage.from_ is not None:
                raise ValueError(f"{stage.name} starts from a stage or from a file, not from both")
            if stage.ship is not None and stage.kind == "bottleneck":
                raise ValueError(f"{stage.name} cannot ship: only twin, picture and joint stages do on their own")
            names.append(stage.name)
        return self


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read and validate a recipe.

    Args:
        path: YAML file. ``root``, ``teacher``, ``out`` and ``holdout`` are taken relative to the current folder.
        overrides: ``a.b=c`` strings; list items by index (``stages.0.steps=10``); values are parsed as YAML.

    Raises:
        ConfigError: unreadable, not YAML, unknown key, wrong type, value out of range.
    """
    return read_config(path, overrides, TrainConfig, whole="stages")


def read_config(path: str | Path, overrides: tuple[str, ...], model: type[M], whole: str = "configuration") -> M:
    """Read YAML, apply ``overrides`` and validate it as ``model``.

    Args:
        path: YAML file.
        overrides: as of :func:`override`.
        model: what it must be.
        whole: what to name where the error is of no single field.

    Raises:
        ConfigError: unreadable, not YAML, unknown key, wrong type, value out of range.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError("the configuration cannot be read", found=f"{path} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("the configuration is not YAML", found=str(error).splitlines()[0]) from error
    if not isinstance(content, dict):
        raise ConfigError("the configuration is not a mapping", found=type(content).__name__)
    content = _apart(content)
    for item in overrides:
        override(content, item)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or whole
        raise ConfigError(
            f"{path}: {where}: {first['msg']}", found=first.get("input") if first["loc"] else None
        ) from error


def _apart(node: Any) -> Any:
    """A copy in which what YAML's anchors share is shared no more: a change reaches the place it names only."""
    if isinstance(node, dict):
        return {key: _apart(value) for key, value in node.items()}
    return [_apart(value) for value in node] if isinstance(node, list) else node


def override(content: Any, item: str) -> None:
    """Apply one ``a.b=c`` change to parsed YAML; list items by index, the value is parsed as YAML.

    Raises:
        ConfigError: it is not key=value, or names nothing in ``content``.
    """
    key, sign, value = item.partition("=")
    if not sign:
        raise ConfigError("an override is key=value", found=item)
    *parents, last = key.split(".")
    node = content
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        parsed = yaml.safe_load(value)
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ConfigError("an override names nothing in the configuration", found=item) from error
