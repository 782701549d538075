"""Run a recipe from its configuration, stage by stage, and write the weights that ship."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vcm.codecs.scalable.build import base_analysis
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.errors import ConfigError, TrunkError
from vcm.io.files import whole_file, write_atomically
from vcm.nn.seeding import own_randomness
from vcm.tasks.build import head_modules
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.training import engine
from vcm.training.checkpoint import forget_checkpoint, has_checkpoint
from vcm.training.config import JointConfig, PictureConfig, StageConfig, TrainConfig, TwinConfig, load_config
from vcm.training.data import PictureStore
from vcm.training.distributed import barrier, pick_device, processes, rank
from vcm.training.export import export, merged_weights
from vcm.training.export_twin import write_twin
from vcm.training.progress import bar
from vcm.training.stages import BottleneckStage, FrozenBaseStage, JointStage, PictureStage, Stage, TwinStage
from vcm.training.teacher import Teacher, TeacherLike
from vcm.training.thaw import recentre_norms, thaw
from vcm.weights.tensors import load_tensors, save_tensors

__all__ = ["TrainResult", "read_holdout", "train"]

_LOOKS = 8
"""Batches from which thawed BatchNorms get their statistics."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """``weights`` is the averaged model of the stage; ``finished`` is false where time ran out first."""

    weights: Path
    step: int
    finished: bool


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run left: its stages, and the shipping file once every stage has finished."""

    stages: tuple[StageResult, ...]
    weights: Path | None


def read_holdout(path: Path | None) -> frozenset[str]:
    """``folder/file`` names, one a line, ``#`` starts a comment.

    Raises:
        ConfigError: the file cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except OSError as error:
        raise ConfigError("the holdout list cannot be read", found=f"{path} ({error.strerror})") from error
    return frozenset(line for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class _Done:
    """Averaged weights of finished stages.

    Attributes:
        named: of every stage by name.
        latest: of the last stage of each kind that is not aside; a ``heads`` stage gives a new ``bottleneck``.
        bases: by name of a picture stage: the base that it was trained on.
        thawed: by name or path of a model that ships: its weights in training form.
        trained: by weights: the stages that they went through, a few words each.
    """

    named: dict[str, Path]
    latest: dict[str, Path]
    bases: dict[str, Path] = field(default_factory=dict)
    trained: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    thawed: dict[str, Path] = field(default_factory=dict)

    def finish(self, config: StageConfig, weights: Path) -> None:
        """Take a finished stage in."""
        if config.from_ is not None:
            origins = [self.thawed[config.from_]]
        elif config.start is not None:
            origins = [self.named[config.start]]
        elif config.kind in ("twin", "picture"):
            origins = [self.latest[kind] for kind in (config.kind,) if kind in self.latest]
        elif config.kind in ("bottleneck", "heads"):
            origins = [self.latest[kind] for kind in ("bottleneck", "twin") if kind in self.latest][:1]
        else:
            origins = [self.latest["bottleneck"], self.latest["picture"]]
        self.trained[weights] = (*self.through(*origins), f"{config.name} {config.steps} steps of {config.batch}")
        self.named[config.name] = weights
        if config.kind == "picture":
            self.bases[config.name] = self.latest["bottleneck"]
        if not config.aside:
            if config.kind == "twin" and self.latest.get("bottleneck") in self.thawed.values():
                del self.latest["bottleneck"]  # the base that shipped is not this twin's: a bottleneck stage comes next
            replaces = {"joint": ("bottleneck", "picture"), "heads": ("bottleneck",)}
            for kind in replaces.get(config.kind, (config.kind,)):
                self.latest[kind] = weights

    def through(self, *weights: Path) -> tuple[str, ...]:
        """What ``weights`` went through, each stage once."""
        return tuple(dict.fromkeys(stage for path in weights for stage in self.trained[path]))


class _Run:
    """Builds stages; pictures and teacher are read once and shared between them."""

    def __init__(self, recipe: TrainConfig, teacher: TeacherLike | None) -> None:
        self.recipe, self._teacher = recipe, teacher
        self.device = pick_device(recipe.device)
        self._stores: dict[tuple[tuple[str, ...], int], PictureStore] = {}

    def teacher(self) -> TeacherLike:
        if self._teacher is None:
            if self.recipe.teacher is None:
                raise ConfigError("this stage distils a teacher", expected="teacher: a path")
            self._teacher = Teacher(self.recipe.teacher, device=self.device)
        return self._teacher

    def store(self, config: StageConfig) -> PictureStore:
        key = (config.data.folders, config.data.longest)
        if key not in self._stores:
            folders = [self.recipe.root / f for f in config.data.folders]
            self._stores[key] = PictureStore(folders, config.data.longest, read_holdout(self.recipe.holdout))
            self._stores[key].to(self.device)
        return self._stores[key]

    @staticmethod
    def _before(config: StageConfig, done: _Done) -> Path | None:
        if config.from_ is not None:
            return done.thawed[config.from_]
        kind = "bottleneck" if config.kind == "heads" else config.kind
        return done.latest.get(kind) if config.start is None else done.named[config.start]

    def stage(self, config: StageConfig, done: _Done, *, fresh: bool = True) -> Stage:
        """The stage with the weights that it starts from, on the run's device.

        Args:
            config: the stage's.
            done: the stages before it.
            fresh: no checkpoint will replace those weights: thawed BatchNorms need statistics.
        """
        stage = self._stage(config, done)
        stage.to(self.device)
        if fresh and self._before(config, done) in done.thawed.values():
            recentre_norms(stage.modules, lambda: self._look(stage))
        return stage

    @torch.no_grad()
    def _look(self, stage: Stage) -> None:
        """Show ``stage`` some batches of its own."""
        index = self.recipe.stages.index(stage.config)
        for step in range(_LOOKS):
            rng = np.random.default_rng([self.recipe.seed, index, step])
            torch.manual_seed(int(rng.integers(2**62)))
            stage.loss(step, rng)

    def _stage(self, config: StageConfig, done: _Done) -> Stage:
        store = self.store(config)
        if config.kind == "joint":
            if not {"bottleneck", "picture"} <= done.latest.keys():
                raise ConfigError("a joint stage comes after bottleneck and picture stages", found=config.name)
            joint = JointStage(config, self.recipe, store, self.teacher())
            former = self._before(config, done)
            joint.modules.load_state_dict(merged_weights(done.latest) if former is None else load_tensors(former))
            return joint
        if config.kind == "picture":
            if "bottleneck" not in done.latest:
                raise ConfigError("a picture stage comes after a bottleneck stage", found=config.name)
            picture = PictureStage(config, self.recipe, store)
            picture.load_base(load_tensors(done.latest["bottleneck"]))
            before = self._before(config, done)
            if before is not None:
                picture.modules.load_state_dict(_of(picture.modules, before))
            return picture
        stage: TwinStage | BottleneckStage | FrozenBaseStage
        if config.kind == "heads":
            if self._before(config, done) is None:
                raise ConfigError("a heads stage comes after a bottleneck stage", found=config.name)
            stage = FrozenBaseStage(config, self.recipe, store, self.teacher())
        elif config.kind == "twin":
            stage = TwinStage(config, self.recipe, store, self.teacher())
        else:
            stage = BottleneckStage(config, self.recipe, store, self.teacher())
        before = self._before(config, done) or done.latest.get("twin")
        if before is not None:
            found = _of(stage.modules, before)
            if self.recipe.from_ is not None:  # a twin has no classifier and no entropy model
                found = _of(stage.modules, done.thawed[self.recipe.from_]) | found
            missing = stage.modules.load_state_dict(found, strict=False)
            new = {n.split(".")[0] for n in missing.missing_keys} - {"base"}
            if config.from_ is not None:
                new -= {"classify"}  # a twin's file has none
            if new or missing.unexpected_keys:
                raise ConfigError(
                    "the previous stage's weights do not fit", found=sorted(new) + missing.unexpected_keys
                )
        return stage


def _of(modules: nn.ModuleDict, path: Path) -> dict[str, Tensor]:
    """What a stage's weights file has of ``modules``; a joint stage's has more."""
    return {k: v for k, v in load_tensors(path).items() if k.split(".")[0] in modules}


def train(
    path: str | Path,
    *,
    overrides: tuple[str, ...] = (),
    start: str | None = None,
    resume: bool = False,
    minutes: float | None = None,
    quiet: bool = False,
    teacher: TeacherLike | None = None,
) -> TrainResult:
    """Run every stage of the recipe at ``path`` and write ``out/<name>.safetensors``.

    Args:
        path: YAML configuration.
        overrides: ``a.b=c`` changes.
        start: the shipped codec or weights file that stages without a predecessor start from, as ``from`` in a recipe.
        resume: skip finished stages and continue the unfinished one from its checkpoint.
        minutes: stop cleanly with a checkpoint after this long, all stages together.
        quiet: no progress bar.
        teacher: stands in for the configured one.

    Raises:
        ConfigError: the configuration is wrong, or data or teacher are not there, or a stage that is resumed began with
            other settings.
        ModelNotFoundError, WeightsError, TrunkError: what it starts from is not there or is inconsistent.
        MissingDependencyError: an extra is not installed.
    """
    recipe = load_config(path, overrides)
    if start is not None:
        recipe = recipe.model_copy(update={"from_": start})
    with processes(pick_device(recipe.device)), own_randomness():
        return _train(recipe, _Run(recipe, teacher), resume, minutes, quiet)


def _train(recipe: TrainConfig, run: _Run, resume: bool, minutes: float | None, quiet: bool) -> TrainResult:
    first = rank() == 0  # the process that writes
    results: list[StageResult] = []
    done = _Done({}, {})
    weights: Path | None = None
    began = time.monotonic()
    _thaw(recipe, done, write=first)
    if first and not resume:
        # What an earlier run left must not be taken for this one's when this one is resumed.
        for config in recipe.stages:
            forget_checkpoint(recipe.out / config.name)
            for name in ("finished", "settings.json"):
                (recipe.out / config.name / name).unlink(missing_ok=True)
    barrier()  # before any process reads what is left
    for index, config in enumerate(recipe.stages):
        finished = recipe.out / config.name / engine.AVERAGE
        marker = recipe.out / config.name / "finished"
        _remember(recipe, config, write=first)
        if resume and marker.is_file() and finished.is_file():
            results.append(StageResult(finished, config.steps, True))
        else:
            torch.manual_seed(recipe.seed * 1000 + index)  # for the first weights; steps are seeded one by one
            stage = run.stage(config, done, fresh=not (resume and has_checkpoint(recipe.out / config.name)))
            left = None if minutes is None else max(0.0, minutes - (time.monotonic() - began) / 60)
            result = run_stage(stage, recipe, index, resume=resume, minutes=left, quiet=quiet)
            results.append(result)
            if not result.finished:
                return TrainResult(tuple(results), None)
            if first:
                write_atomically(marker, f"{result.step} steps\n")
        done.finish(config, results[-1].weights)
        ready: list[StageConfig] = []
        blind = config.kind in ("picture", "joint") and config.blind
        if not (config.aside or blind) and {"bottleneck", "picture"} <= done.latest.keys():
            weights = recipe.out / f"{recipe.name}.safetensors"
            if first:
                trained = done.through(done.latest["bottleneck"], done.latest["picture"])
                export(done.latest, recipe.architecture, recipe.name, weights, ", ".join(trained))
            ready = [stage for stage in recipe.stages if stage.name in done.named]  # twins take this codec's trunk
        elif weights is not None:
            ready = [config]
        elif config is recipe.stages[-1]:
            ready = list(recipe.stages)
        if first:
            for part in ready:
                if part.kind != "bottleneck" and part.kind != "heads" and part.ship is not None:
                    _ship(recipe, part, part.ship, done, weights)
    barrier()
    return TrainResult(tuple(results), weights)


def run_stage(
    stage: Stage, recipe: TrainConfig, index: int, *, resume: bool, minutes: float | None, quiet: bool = False
) -> StageResult:
    """Run one stage from its start or its last checkpoint; its folder is ``out/<stage>``.

    Args:
        stage: the stage.
        recipe: the whole recipe; ``recipe.stages[index]`` is this stage's.
        index: position of the stage.
        resume: continue from the folder's checkpoint where there is one.
        minutes: stop cleanly with a checkpoint after this long.
        quiet: no progress bar.

    Raises:
        TrainingError: a loss or gradient is not finite.
    """
    c = stage.config
    settings = engine.Settings(
        c.steps, c.lr, c.warmup, c.batch, c.weight_decay, ema=c.ema, seed=(recipe.seed, index),
        checkpoint_minutes=recipe.checkpoint_minutes, shard_mib=recipe.shard_mib,
    )  # fmt: skip
    folder = recipe.out / c.name
    with bar(c.name, quiet=quiet) as progress:
        left = engine.run(stage, settings, folder=folder, resume=resume, minutes=minutes, progress=progress)
    return StageResult(folder / engine.AVERAGE, left.step, left.finished)


def _thaw(recipe: TrainConfig, done: _Done, *, write: bool) -> None:
    """Take in the models that the recipe starts from, in training form.

    Raises:
        ModelNotFoundError, WeightsError, TrunkError: as of :func:`vcm.training.thaw.thaw`.
    """
    for source in dict.fromkeys(s for s in (recipe.from_, *(c.from_ for c in recipe.stages)) if s is not None):
        path = recipe.out / "from" / f"{len(done.thawed)}.safetensors"
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                save_tensors(part, thaw(source))
        done.thawed[source] = path
        done.trained[path] = (f"weights of {source}",)
    if recipe.from_ is not None:
        for kind in ("twin", "bottleneck", "picture"):
            done.latest[kind] = done.thawed[recipe.from_]


def _remember(recipe: TrainConfig, config: StageConfig, *, write: bool) -> None:
    """Write down the settings of a stage; a resumed one must have those that it began with.

    Raises:
        ConfigError: it began with other settings.
    """
    path = recipe.out / config.name / "settings.json"
    settings: dict[str, object] = {}
    for key, value in json.loads(config.model_dump_json(exclude={"ship", "aside"}, exclude_defaults=True)).items():
        settings |= {f"{key}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {key: value}
    settings |= {
        "from": recipe.from_,
        "seed": recipe.seed,
        "architecture": recipe.architecture,
        "imagenet": recipe.imagenet,
    }
    if path.is_file():
        began = json.loads(path.read_text())
        for key in sorted(settings.keys() | began.keys()):
            if settings.get(key) != began.get(key):
                what = (
                    f"stage {config.name} of {recipe.out} began with another {key}: resume with that or train elsewhere"
                )
                raise ConfigError(what, expected=began.get(key, "the default"), found=settings.get(key, "the default"))
    elif write:
        write_atomically(path, json.dumps(settings, indent=1))


def _ship(
    recipe: TrainConfig, config: TwinConfig | PictureConfig | JointConfig, name: str, done: _Done, codec: Path | None
) -> None:
    """Write what a stage gives beside the codec. A twin borrows the codec's trunk where it is the same."""
    path = recipe.out / f"{name}.safetensors"
    own = done.named[config.name]
    if config.kind != "twin":
        base = done.bases.get(config.name, own)  # a joint stage's file has its own
        trained = ", ".join(done.through(base, own))
        export({"bottleneck": base, "picture": own}, recipe.architecture, name, path, trained, config.blind)
        return
    architecture = ARCHITECTURES[recipe.architecture]
    trained = ", ".join(done.through(own))

    def modules() -> nn.ModuleDict:
        heads = head_modules(SHIPPED_HEADS[architecture.name], architecture.latents)
        parts = nn.ModuleDict({"analysis": base_analysis(architecture), **heads})
        parts.load_state_dict(load_tensors(own))
        return parts.eval()

    try:
        write_twin(path, modules(), architecture, name, trained, codec)
    except TrunkError:
        write_twin(path, modules(), architecture, name, trained, None)
