"""A training recipe: its stages, and what each of them can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vcm.training.config_file import Strict, read_config

__all__ = [
    "BottleneckConfig",
    "DataConfig",
    "HeadsConfig",
    "JointConfig",
    "PictureConfig",
    "PictureLoss",
    "StageConfig",
    "TaskDataConfig",
    "TaskLoss",
    "TrainConfig",
    "TwinConfig",
    "load_config",
]

TaskLoss = Literal["scores", "giou", "kl", "features", "classify", "logits", "ground_truth"]
PictureLoss = Literal["preview", "ms_ssim"]


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


class TaskDataConfig(DataConfig):
    """Data of a stage that trains only heads and what they read.

    Attributes:
        degrade: share of views that the student sees through JPEG, WebP or a smaller size; the teacher sees them clean.
    """

    degrade: float = Field(0.0, ge=0, le=1)


class _Stage(Strict):
    """What every stage has.

    Attributes:
        name: folder of its outputs.
        start: the stage whose weights this one starts from; by default the last of its kind, else the last twin.
        from_ (``from`` in YAML): a shipped model or a weights file that it starts from instead.
        aside: an experiment beside the recipe: the codec that ships, and later stages that do not name it, ignore it.
        steps, batch: length and batch size.
        lr: peak learning rate of AdamW.
        warmup: steps of linear warm-up; a cosine to 2 % follows.
        ema: decay of the weight average that is kept.
        half: bfloat16 (faster where the CPU has AVX512-BF16) for the heads, and for the picture path's convolutions but
            not its block transforms; on a GPU trunk, merge and heads always are.
    """

    name: str
    start: str | None = None
    from_: str | None = Field(None, alias="from")
    aside: bool = False
    steps: int = Field(ge=1)
    batch: int = Field(16, ge=1)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(50, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    half: bool = False


class _Selective(Strict):
    """A stage that may train a part of its networks only (Chamain et al. 2021).

    Attributes:
        train: ``all``; ``encoder``: what only an encoder runs (analysis, hyper-analysis); ``decoder``: what is run on
            decoded latents (heads; synthesis and preview); ``both`` of these. But for ``all`` the entropy model stays
            as it is, and with it the layer's fingerprint: new files are read by former weights, and former files by new
            ones.
    """

    train: Literal["all", "encoder", "decoder", "both"] = "all"


class _Heads(Strict):
    """A stage that trains the heads.

    Attributes:
        trunk_lr: multiplies ``lr`` for the ImageNet trunk.
        frozen_blocks: trunk blocks (and the stem) that are not trained; 15 is the whole trunk.
        ground_truth_from: share of the stage after which the loss ``ground_truth`` counts.
    """

    trunk_lr: float = Field(0.1, ge=0)
    frozen_blocks: int = Field(5, ge=0)
    ground_truth_from: float = Field(0.7, ge=0, le=1)


class _Echoed(_Stage):
    """A stage that trains only heads and what they read: its batches are used more than once.

    Attributes:
        echo: how often each batch is used ("data echoing", Choi et al. 2019): views, frozen features and the teacher's
            answers are computed once and used again ``reserve`` steps later.
        reserve: batches kept in memory for that.
        weights: loss weights by name.
    """

    data: TaskDataConfig
    echo: int = Field(1, ge=1)
    reserve: int = Field(64, ge=1)
    weights: dict[TaskLoss, float] = Field(default_factory=dict)


class _Task(_Echoed, _Heads, _Selective):
    """A stage that trains heads and the base's analysis.

    Attributes:
        trunk_every: the rest of the trunk gets a gradient every so many steps (its backward pass is a third of a step).
    """

    trunk_every: int = Field(1, ge=1)


class _Rate(Strict):
    """A stage in which bits have a price.

    Attributes:
        lambda_low, lambda_high: range of the rate–task or rate–distortion weight (log-uniform with quality).
    """

    lambda_low: float = Field(0.5, gt=0)
    lambda_high: float = Field(20.0, gt=0)


class _Base(Strict):
    """A stage that codes the base layer.

    Attributes:
        quality_power: base qualities are drawn as ``u ** quality_power``, u uniform in 0 … 1; below 1 the high ones,
            which have the smaller gradients, come more often.
    """

    quality_power: float = Field(1.0, gt=0)


class _Enhancement(Strict):
    """A stage that codes the enhancement.

    Attributes:
        blind: the picture path is trained without seeing the base (what layers cost is measured against it).
        quality_low, quality_high: range of the enhancement qualities that are trained.
    """

    data: DataConfig
    blind: bool = False
    quality_low: float = Field(0.0, ge=0, le=1)
    quality_high: float = Field(1.0, ge=0, le=1)


class TwinConfig(_Task):
    """Heads without a bottleneck.

    Attributes:
        ship: also write the result under this name, as a pixel twin.
    """

    kind: Literal["twin"]
    ship: str | None = None


class BottleneckConfig(_Task, _Rate, _Base):
    """Quantiser, rate and heads: the base layer."""

    kind: Literal["bottleneck"]


class HeadsConfig(_Echoed, _Base):
    """Heads alone, on the latents of a base that stays as it is: files that were written with it stay readable.

    Attributes:
        ground_truth_from: share of the stage after which the loss ``ground_truth`` counts.
    """

    kind: Literal["heads"]
    ground_truth_from: float = Field(0.7, ge=0, le=1)


class PictureConfig(_Stage, _Rate, _Enhancement, _Selective):
    """Enhancement and preview on a frozen base.

    Attributes:
        ship: also write the result under this name, as a codec.
        weights: loss weights by name; ``ms_ssim`` is the squared error that 1 - MS-SSIM stands for.
    """

    kind: Literal["picture"]
    ship: str | None = None
    weights: dict[PictureLoss, float] = Field(default_factory=dict)


class JointConfig(_Stage, _Heads, _Rate, _Base, _Enhancement, _Selective):
    """Both layers, started from the last bottleneck and picture stages; replaces both.

    Attributes:
        ship: also write the result under this name, as a codec.
        base_lambda_low, base_lambda_high: range of the rate–task weight.
        weights: loss weights by name; ``picture`` weighs the picture's part as a whole.
    """

    kind: Literal["joint"]
    ship: str | None = None
    base_lambda_low: float = Field(0.5, gt=0)
    base_lambda_high: float = Field(20.0, gt=0)
    weights: dict[TaskLoss | PictureLoss | Literal["picture"], float] = Field(default_factory=dict)


StageConfig = TwinConfig | BottleneckConfig | HeadsConfig | PictureConfig | JointConfig


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
    stages: tuple[Annotated[StageConfig, Field(discriminator="kind")], ...]

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
