"""Run a recipe from its configuration, stage by stage, and write the weights that ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from vcm.errors import ConfigError
from vcm.training.config import StageConfig, TrainConfig, load_config
from vcm.training.data import PictureStore
from vcm.training.export import export
from vcm.training.loop import Stage, StageResult, run_stage
from vcm.training.stages import BottleneckStage, PictureStage, TwinStage
from vcm.training.teacher import Teacher, TeacherLike

__all__ = ["TrainResult", "read_holdout", "train"]


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
        self._stores: dict[tuple[tuple[str, ...], int], PictureStore] = {}

    def teacher(self) -> TeacherLike:
        if self._teacher is None:
            if self.recipe.teacher is None:
                raise ConfigError("this stage distils a teacher", expected="teacher: a path")
            self._teacher = Teacher(self.recipe.teacher)
        return self._teacher

    def store(self, config: StageConfig) -> PictureStore:
        key = (config.data.folders, config.data.longest)
        if key not in self._stores:
            folders = [self.recipe.root / f for f in config.data.folders]
            self._stores[key] = PictureStore(folders, config.data.longest, read_holdout(self.recipe.holdout))
        return self._stores[key]

    @staticmethod
    def _before(config: StageConfig, done: dict[str, Path]) -> Path | None:
        if config.start is None:
            return done.get(config.kind)
        if config.start not in done:
            raise ConfigError("no such earlier stage", expected=", ".join(done), found=config.start)
        return done[config.start]

    def stage(self, config: StageConfig, done: dict[str, Path]) -> Stage:
        store = self.store(config)
        if config.kind == "picture":
            if "bottleneck" not in done:
                raise ConfigError("a picture stage comes after a bottleneck stage", found=config.name)
            picture = PictureStage(config, self.recipe, store)
            picture.load_base(load_file(done["bottleneck"]))
            before = self._before(config, done)
            if before is not None:
                picture.modules.load_state_dict(load_file(before))
            return picture
        kind = TwinStage if config.kind == "twin" else BottleneckStage
        stage = kind(config, self.recipe, store, self.teacher())
        before = self._before(config, done) or done.get("twin")
        if before is not None:
            found = load_file(before)
            missing = stage.modules.load_state_dict(found, strict=False)
            new = {n.split(".")[0] for n in missing.missing_keys} - {"base"}
            if new or missing.unexpected_keys:
                raise ConfigError(
                    "the previous stage's weights do not fit", found=sorted(new) + missing.unexpected_keys
                )
        return stage


def train(
    path: str | Path,
    *,
    overrides: tuple[str, ...] = (),
    resume: bool = False,
    minutes: float | None = None,
    quiet: bool = False,
    teacher: TeacherLike | None = None,
) -> TrainResult:
    """Run every stage of the recipe at ``path`` and write ``out/<name>.safetensors``.

    Args:
        path: YAML configuration.
        overrides: ``a.b=c`` changes.
        resume: skip finished stages and continue the unfinished one from its checkpoint.
        minutes: stop cleanly with a checkpoint after this long.
        quiet: no progress bar.
        teacher: stands in for the configured one.

    Raises:
        ConfigError: the configuration is wrong, or data or teacher are not there.
        MissingDependencyError: an extra is not installed.
    """
    recipe = load_config(path, overrides)
    run = _Run(recipe, teacher)
    results: list[StageResult] = []
    done: dict[str, Path] = {}
    for index, config in enumerate(recipe.stages):
        finished = recipe.out / config.name / "ema.safetensors"
        marker = recipe.out / config.name / "finished"
        if resume and marker.is_file() and finished.is_file():
            results.append(StageResult(finished, config.steps, True))
        else:
            torch.manual_seed(recipe.seed * 1000 + index)  # for the first weights; steps are seeded one by one
            result = run_stage(run.stage(config, done), recipe, index, resume=resume, minutes=minutes, quiet=quiet)
            results.append(result)
            if not result.finished:
                return TrainResult(tuple(results), None)
            marker.write_text(f"{result.step} steps\n")
        done[config.kind] = done[config.name] = results[-1].weights
    weights = None
    if {"bottleneck", "picture"} <= done.keys():
        weights = recipe.out / f"{recipe.name}.safetensors"
        steps = ", ".join(f"{c.name} {c.steps} steps of {c.batch}" for c in recipe.stages)
        export({k: done[k] for k in ("bottleneck", "picture")}, recipe.architecture, recipe.name, weights, steps)
    return TrainResult(tuple(results), weights)
