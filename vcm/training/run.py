"""Run a recipe from its configuration, stage by stage, and write the weights that ship."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vcm.codecs.scalable.build import base_analysis
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.errors import ConfigError, TrunkError
from vcm.io.files import whole_file, write_atomically
from vcm.nn.seeding import own_randomness
from vcm.tasks.build import head_modules
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.training import engine
from vcm.training.checkpoint import forget_checkpoint, has_checkpoint
from vcm.training.config import StageConfig, TrainConfig, load_config
from vcm.training.data import PictureStore
from vcm.training.distributed import barrier, pick_device, processes, rank
from vcm.training.export import export
from vcm.training.export_twin import write_twin
from vcm.training.plan import Plan, Shipment, Source, StagePlan, resolve
from vcm.training.progress import bar
from vcm.training.stages import BottleneckStage, FrozenBaseStage, JointStage, PictureStage, Stage, TwinStage
from vcm.training.stages.networks import train_only
from vcm.training.teacher import Teacher, TeacherLike
from vcm.training.thaw import recentre_norms, thaw
from vcm.weights.tensors import load_tensors, save_tensors

__all__ = ["StageResult", "TrainResult", "load_recipe", "read_holdout", "run_stage", "train"]

_MARKER = "finished"
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

    def stage(self, plan: StagePlan, *, fresh: bool = True) -> Stage:
        """The stage with the weights that it starts from, on the run's device.

        Args:
            plan: the stage's.
            fresh: no checkpoint will replace those weights: thawed BatchNorms need statistics.
        """
        stage = self._new(plan.config)
        if plan.config.kind != "heads":
            train_only(stage.modules, plan.config.train)
        if plan.base is not None and isinstance(stage, PictureStage):
            stage.load_base(load_tensors(plan.base.path))
        _load(stage.modules, plan.parts)
        stage.to(self.device)
        if fresh and plan.thawed:
            recentre_norms(stage.modules, lambda: self._look(stage, plan.index))
        return stage

    def _new(self, config: StageConfig) -> Stage:
        """The stage with first weights."""
        store = self.store(config)
        match config.kind:
            case "twin":
                return TwinStage(config, self.recipe, store, self.teacher())
            case "bottleneck":
                return BottleneckStage(config, self.recipe, store, self.teacher())
            case "heads":
                return FrozenBaseStage(config, self.recipe, store, self.teacher())
            case "picture":
                return PictureStage(config, self.recipe, store)
            case "joint":
                return JointStage(config, self.recipe, store, self.teacher())

    @torch.no_grad()
    def _look(self, stage: Stage, index: int) -> None:
        """Show ``stage`` some batches of its own."""
        for step in range(_LOOKS):
            rng = np.random.default_rng([self.recipe.seed, index, step])
            torch.manual_seed(int(rng.integers(2**62)))
            stage.loss(step, rng)


def _load(modules: nn.ModuleDict, parts: Mapping[str, Source | None]) -> None:
    """Give each part the weights that the plan says; a part without a source keeps its own."""
    files = {source.path: load_tensors(source.path) for source in dict.fromkeys(parts.values()) if source is not None}
    for part, source in parts.items():
        if source is not None:
            prefix = f"{part}."
            own = {k.removeprefix(prefix): v for k, v in files[source.path].items() if k.startswith(prefix)}
            modules[part].load_state_dict(own)


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
    recipe = load_recipe(path, overrides, start)
    plan = resolve(recipe)
    with processes(pick_device(recipe.device)), own_randomness():
        return _train(recipe, plan, _Run(recipe, teacher), resume, minutes, quiet)


def load_recipe(path: str | Path, overrides: tuple[str, ...] = (), start: str | None = None) -> TrainConfig:
    """The recipe at ``path`` with changes; arguments and errors as of :func:`train`."""
    recipe = load_config(path, overrides)
    return recipe if start is None else recipe.model_copy(update={"from_": start})


def _train(recipe: TrainConfig, plan: Plan, run: _Run, resume: bool, minutes: float | None, quiet: bool) -> TrainResult:
    first = rank() == 0  # the process that writes
    results: list[StageResult] = []
    began = time.monotonic()
    if first:
        _thaw(plan)
        if not resume:
            _forget(plan)
    barrier()  # before any process reads what is left
    for stage in plan.stages:
        left = None if minutes is None else max(0.0, minutes - (time.monotonic() - began) / 60)
        results.append(_finished(recipe, stage, resume) or _run_one(recipe, stage, run, resume, left, quiet))
        if not results[-1].finished:
            return TrainResult(tuple(results), None)
        if first:
            for shipment in stage.ships:
                _ship(recipe, shipment)
    barrier()
    return TrainResult(tuple(results), plan.codec)


def _forget(plan: Plan) -> None:
    """What an earlier run left must not be taken for this one's when this one is resumed."""
    for stage in plan.stages:
        folder = stage.result.path.parent
        forget_checkpoint(folder)
        for name in (_MARKER, "settings.json"):
            (folder / name).unlink(missing_ok=True)


def _finished(recipe: TrainConfig, stage: StagePlan, resume: bool) -> StageResult | None:
    """What a former run left of a stage that it finished."""
    _remember(recipe, stage.config, write=rank() == 0)
    weights = stage.result.path
    if not resume or not (weights.parent / _MARKER).is_file() or not weights.is_file():
        return None
    return StageResult(weights, stage.config.steps, True)


def _run_one(
    recipe: TrainConfig, plan: StagePlan, run: _Run, resume: bool, minutes: float | None, quiet: bool
) -> StageResult:
    folder = plan.result.path.parent
    torch.manual_seed(recipe.seed * 1000 + plan.index)  # for the first weights; steps are seeded one by one
    stage = run.stage(plan, fresh=not (resume and has_checkpoint(folder)))
    result = run_stage(stage, recipe, plan.index, resume=resume, minutes=minutes, quiet=quiet)
    if result.finished and rank() == 0:
        write_atomically(folder / _MARKER, f"{result.step} steps\n")
    return result


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


def _thaw(plan: Plan) -> None:
    """Bring the models that the recipe starts from into training form.

    Raises:
        ModelNotFoundError, WeightsError, TrunkError: as of :func:`vcm.training.thaw.thaw`.
    """
    for source in plan.models:
        source.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(source.path) as part:
            save_tensors(part, thaw(source.model))


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


def _ship(recipe: TrainConfig, shipment: Shipment) -> None:
    """Write what is ready. A twin borrows the codec's trunk where it is the same."""
    name, own = shipment.path.stem, shipment.own.path
    if shipment.base is not None:
        weights = {"bottleneck": shipment.base.path, "picture": own}
        export(weights, recipe.architecture, name, shipment.path, shipment.trained, shipment.blind)
        return
    architecture = ARCHITECTURES[recipe.architecture]

    def modules() -> nn.ModuleDict:
        heads = head_modules(SHIPPED_HEADS[architecture.name], architecture.latents)
        parts = nn.ModuleDict({"analysis": base_analysis(architecture), **heads})
        parts.load_state_dict(load_tensors(own))
        return parts.eval()

    try:
        write_twin(shipment.path, modules(), architecture, name, shipment.trained, shipment.trunk_of)
    except TrunkError:
        write_twin(shipment.path, modules(), architecture, name, shipment.trained, None)
