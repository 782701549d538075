"""What a recipe will do, known before anything is read: where each stage's weights come from, what is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcm.errors import ConfigError, ModelNotFoundError
from vcm.training.config import StageConfig, TrainConfig
from vcm.training.engine import AVERAGE
from vcm.weights.registry import find_twin, find_weights, read_metadata

__all__ = ["Plan", "Shipment", "Source", "StagePlan", "resolve"]

# Names of networks, as in :mod:`vcm.codecs.scalable.build` and :mod:`vcm.tasks.build`.
BASE = ("analysis", "base", "detect", "classify")
PICTURE = ("picture_analysis", "picture", "synthesis", "preview")
_TWIN = ("analysis", "detect", "classify")
_PARTS = {"twin": _TWIN, "bottleneck": BASE, "heads": BASE, "picture": PICTURE, "joint": BASE + PICTURE}


@dataclass(frozen=True, slots=True)
class Source:
    """Averaged weights of a stage, or weights that ship, in training form.

    Attributes:
        name: ``stage NAME``, or ``weights of MODEL``.
        path: where they will be.
        parts: networks that they hold.
        through: what they went through, a few words for each stage.
        model: the shipped model's name or path; empty for a stage.
    """

    name: str
    path: Path
    parts: tuple[str, ...]
    through: tuple[str, ...]
    model: str = ""


@dataclass(frozen=True, slots=True)
class Shipment:
    """A file that is written once a stage has finished.

    Attributes:
        path: the file.
        kind: ``codec`` or ``twin``.
        own: the stage's weights: of a twin, or of a codec's picture path.
        base: of a codec: weights of its base and heads.
        blind: the codec's picture path ignores the base.
        trunk_of: of a twin: the codec whose trunk it takes where it is the same.
    """

    path: Path
    kind: str
    own: Source
    base: Source | None = None
    blind: bool = False
    trunk_of: Path | None = None

    @property
    def trained(self) -> str:
        """One line on the training."""
        sources = [self.own] if self.base is None else [self.base, self.own]
        return ", ".join(dict.fromkeys(stage for source in sources for stage in source.through))


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage.

    Attributes:
        index: its place in the recipe.
        config: its settings.
        parts: what each of its networks starts from; ``None``: anew.
        base: the frozen base that a picture stage is trained on.
        result: its own weights.
        ships: what is written after it.
    """

    index: int
    config: StageConfig
    parts: Mapping[str, Source | None]
    base: Source | None
    result: Source
    ships: tuple[Shipment, ...]

    @property
    def thawed(self) -> bool:
        """Whether it starts from weights that ship."""
        first = next((source for source in self.parts.values() if source is not None), None)
        return first is not None and bool(first.model)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole recipe.

    Attributes:
        models: weights that ship and are brought into training form first.
        stages: in order.
        codec: the codec that ships, once all stages have finished.
    """

    models: tuple[Source, ...]
    stages: tuple[StagePlan, ...]
    codec: Path | None


def resolve(recipe: TrainConfig) -> Plan:
    """The plan of ``recipe``.

    Raises:
        ConfigError: a stage comes before what it needs, or starts from weights that do not fit.
        ModelNotFoundError: it starts from a model that is not there.
    """
    return _Resolver(recipe).plan()


class _Resolver:
    """Walks through a recipe and remembers what there is by then."""

    def __init__(self, recipe: TrainConfig) -> None:
        self.recipe = recipe
        wanted = dict.fromkeys(s for s in (recipe.from_, *(c.from_ for c in recipe.stages)) if s is not None)
        self.models = {model: self._model(model, i) for i, model in enumerate(wanted)}
        self.named: dict[str, Source] = {}
        self.bases: dict[str, Source] = {}
        self.latest: dict[str, Source] = {}
        if recipe.from_ is not None:
            self.latest = dict.fromkeys(("twin", "bottleneck", "picture"), self.models[recipe.from_])
        self.codec: Path | None = None

    def _model(self, model: str, index: int) -> Source:
        parts: tuple[str, ...] = BASE + PICTURE
        try:
            path = find_weights(model)
        except ModelNotFoundError as error:
            try:
                path = find_twin(model)
            except ModelNotFoundError:
                raise error from None
            parts = ("analysis", "detect")
        name = f"weights of {model}"
        # What ships says what it went through; what it gives rise to went through that as well.
        through = tuple(read_metadata(path).get("trained", name).split(", "))
        return Source(name, self.recipe.out / "from" / f"{index}.safetensors", parts, through, model)

    def plan(self) -> Plan:
        """See :func:`resolve`."""
        stages = tuple(self._stage(index, config) for index, config in enumerate(self.recipe.stages))
        return Plan(tuple(self.models.values()), stages, self.codec)

    def _stage(self, index: int, config: StageConfig) -> StagePlan:
        base = None
        if config.kind == "picture":
            base = self.latest.get("bottleneck")
            if base is None:
                raise ConfigError("a picture stage comes after a bottleneck stage", found=config.name)
        wanted = _PARTS[config.kind]
        candidates = {part: self._candidates(config, part) for part in wanted}
        parts = {part: next((s for s in known if part in s.parts), None) for part, known in candidates.items()}
        self._check(config, parts, any(candidates.values()))
        origins = tuple(dict.fromkeys(source for source in parts.values() if source is not None))
        through = dict.fromkeys(stage for source in origins for stage in source.through)
        words = f"{config.name} {config.steps} steps of {config.batch}"
        path = self.recipe.out / config.name / AVERAGE
        result = Source(f"stage {config.name}", path, wanted, (*through, words))
        self._finish(config, result, base)
        return StagePlan(index, config, parts, base, result, tuple(self._ships(config)))

    def _candidates(self, config: StageConfig, part: str) -> Sequence[Source]:
        """Weights of which the first that has ``part`` gives it to the stage."""
        own: Sequence[Source | None]
        if config.from_ is not None:
            own = (self.models[config.from_],)
        elif config.start is not None:
            own = (self.named[config.start],)
        elif config.kind == "joint":
            if not {"bottleneck", "picture"} <= self.latest.keys():
                raise ConfigError("a joint stage comes after bottleneck and picture stages", found=config.name)
            own = (self.latest["bottleneck" if part in BASE else "picture"],)
        elif config.kind == "picture":
            own = (self.latest.get("picture"),)
        elif config.kind == "heads":
            if "bottleneck" not in self.latest:
                raise ConfigError("a heads stage comes after a bottleneck stage", found=config.name)
            own = (self.latest["bottleneck"],)
        else:
            own = (self.latest.get(config.kind) or self.latest.get("twin"),)
        # A twin has no classifier and no entropy model: those are the recipe's model's.
        fill = None
        if self.recipe.from_ is not None and config.kind in ("twin", "bottleneck", "heads"):
            fill = self.models[self.recipe.from_]
        return tuple(source for source in (*own, fill) if source is not None)

    @staticmethod
    def _check(config: StageConfig, parts: Mapping[str, Source | None], starts: bool) -> None:
        missing = {part for part, source in parts.items() if source is None}
        if config.kind in ("twin", "bottleneck", "heads"):
            missing -= {"base"}
        if config.from_ is not None:
            missing -= {"classify"}  # a twin's file has none
        if starts and missing:
            raise ConfigError(
                f"the weights that {config.name} starts from do not fit", found=", ".join(sorted(missing))
            )

    def _finish(self, config: StageConfig, result: Source, base: Source | None) -> None:
        self.named[config.name] = result
        if base is not None:
            self.bases[config.name] = base
        if config.aside:
            return
        bottleneck = self.latest.get("bottleneck")
        if config.kind == "twin" and bottleneck is not None and bottleneck.model:
            del self.latest["bottleneck"]  # the base that shipped is not this twin's: a bottleneck stage comes next
        replaced = {"joint": ("bottleneck", "picture"), "heads": ("bottleneck",)}.get(config.kind, (config.kind,))
        self.latest |= dict.fromkeys(replaced, result)

    def _ships(self, config: StageConfig) -> Iterator[Shipment]:
        """What is ready now: the codec, and with it the twins that take its trunk; or what this stage gives itself."""
        blind = config.kind in ("picture", "joint") and config.blind
        done = self.recipe.stages[: self.recipe.stages.index(config) + 1]
        ready: Sequence[StageConfig] = ()
        if not (config.aside or blind) and {"bottleneck", "picture"} <= self.latest.keys():
            self.codec = self.recipe.out / f"{self.recipe.name}.safetensors"
            yield Shipment(self.codec, "codec", self.latest["picture"], self.latest["bottleneck"])
            ready = done
        elif self.codec is not None:
            ready = (config,)
        elif config is self.recipe.stages[-1]:
            ready = done
        for part in ready:
            if part.kind == "bottleneck" or part.kind == "heads" or part.ship is None:
                continue
            path, own = self.recipe.out / f"{part.ship}.safetensors", self.named[part.name]
            if part.kind == "twin":
                yield Shipment(path, "twin", own, trunk_of=self.codec)
            else:  # a joint stage's file has its own base
                yield Shipment(path, "codec", own, self.bases.get(part.name, own), part.blind)
