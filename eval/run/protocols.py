"""Evaluation protocols: which points of which codecs are measured by what; YAML files in ``configs/protocols/``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
import yaml

from vcm.codecs.protocol import QualityRange
from vcm.errors import ConfigError, ModelNotFoundError
from vcm.eval.metrics.distortion import metrics

__all__ = ["Accuracy", "Interval", "Point", "Protocol", "Reference", "Resampled", "list_protocols", "load_protocol"]

Accuracy = Literal["ap", "ap50", "person_ap50", "ap50_frequent"]
"""Fields of :class:`vcm.eval.metrics.detection.DetectionAccuracy` that are curves."""

_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
# configs/ stands beside eval/ in a checkout and in an installed package alike.
_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "protocols"


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Point(_Strict):
    """One operating point: a quality, or a rate that each picture's quality is searched for.

    Attributes:
        quality: of the codec, or ``None`` with ``target_bpp``.
        target_bpp: bits per source pixel, or ``None`` with ``quality``.
    """

    quality: float | None = None
    target_bpp: float | None = None

    @property
    def label(self) -> str:
        """``q=37`` or ``bpp=0.25``."""
        return f"q={self.quality:g}" if self.quality is not None else f"bpp={self.target_bpp:g}"


class Resampled(_Strict):
    """Codecs that also run on a smaller picture.

    Attributes:
        codecs: the first of these that is evaluated is resampled.
        percent: scales of each side.
    """

    codecs: tuple[str, ...]
    percent: tuple[int, ...]

    @pydantic.field_validator("percent")
    @classmethod
    def _in_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 7 <= percent <= 99 for percent in value):
            raise ValueError("a scale is 7 to 99 percent")
        return value


class Interval(_Strict):
    """Accuracies over which BD-rates are taken as well, in shares of the ceiling.

    The ceiling is what the twins' first member, or where there are no twins the machine itself, has on uncompressed
    pictures.

    Attributes:
        low, high: shares of the ceiling, 0 … 1.
        accuracy: which accuracies.
    """

    low: float = pydantic.Field(ge=0, lt=1)
    high: float = pydantic.Field(gt=0, le=1)
    accuracy: tuple[Accuracy, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _not_empty(self) -> Interval:
        if not self.low < self.high:
            raise ValueError("an interval needs low < high")
        return self


class Reference(_Strict):
    """A published curve that is not run here.

    Attributes:
        name: name in reports.
        rate: bits per pixel, ascending.
        values: by metric name, as many as there are rates.
        pictures: the set that the numbers are of, where it is one that can be recognised. On other pictures, or on a
            part of that set, the curve is left out: it would say nothing.
    """

    name: str
    pictures: Literal["kodak"] | None = None
    rate: tuple[pydantic.PositiveFloat, ...]
    values: dict[str, tuple[float, ...]]

    @pydantic.model_validator(mode="after")
    def _same_length(self) -> Reference:
        if any(len(values) != len(self.rate) for values in self.values.values()):
            raise ValueError("a reference needs as many values as rates")
        return self


class Protocol(_Strict):
    """What is measured and how it is compared.

    Attributes:
        name, title: in reports.
        task: ``detection`` needs boxes and a machine; ``distortion`` needs pictures only.
        anchors: curves are compared with the first of these that was run.
        resampled: codecs that also run on smaller pictures.
        points: qualities by codec name. A codec that is not named gets five, spread over its range.
        rate_targets: bits per pixel in place of ``points``, for every codec.
        rate_tolerance: relative distance from a target from which a picture counts as off target.
        metrics: distortion metrics, names of :func:`vcm.eval.metrics.distortion.metrics`.
        bd_mean_of: metrics whose BD-rates are averaged.
        accuracy: accuracies that are curves.
        main: the quantity that the report answers first with; by default the first of ``interval``, ``accuracy`` or
            ``metrics``.
        interval: accuracies over which BD-rates are taken as well.
        frequent_boxes: boxes that a class needs for ``ap50_frequent``.
        bootstrap: resamples of the pictures for confidence intervals.
        seed: of the resamples.
        references: published curves.
        departures: where this departs from the standard that it follows; printed in every report.
    """

    name: str = pydantic.Field(pattern=r"^[\w.-]+$")
    title: str
    task: Literal["detection", "distortion"]
    anchors: tuple[str, ...] = pydantic.Field(min_length=1)
    resampled: Resampled | None = None
    points: dict[str, tuple[float, ...]] = {}
    rate_targets: tuple[pydantic.PositiveFloat, ...] = ()
    rate_tolerance: float = pydantic.Field(default=0.1, gt=0, lt=1)
    metrics: tuple[str, ...] = ()
    bd_mean_of: tuple[str, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    main: str | None = None
    interval: Interval | None = None
    frequent_boxes: int = pydantic.Field(default=30, ge=1)
    bootstrap: int = pydantic.Field(default=500, ge=10, le=10_000)
    seed: int = 0
    references: tuple[Reference, ...] = ()
    departures: tuple[str, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Protocol:
        used = [*self.metrics, *(name for reference in self.references for name in reference.values)]
        unknown = sorted(set(used) - metrics().keys())
        if unknown:
            raise ValueError(f"unknown metrics {', '.join(unknown)}; known are {', '.join(sorted(metrics()))}")
        if not set(self.bd_mean_of) <= set(self.metrics):
            raise ValueError("bd_mean_of names a metric that is not in metrics")
        if bool(self.accuracy) != (self.task == "detection"):
            raise ValueError("accuracy belongs to a detection protocol, and such a protocol needs it")
        if self.interval is not None and not set(self.interval.accuracy) <= set(self.accuracy):
            raise ValueError("interval names an accuracy that is not in accuracy")
        if not self.accuracy and not self.metrics:
            raise ValueError("nothing to measure: no accuracy and no metrics")
        if self.main is not None and self.main not in (self.accuracy or self.metrics):
            raise ValueError("main is not among what curves show")
        return self

    @property
    def main_quantity(self) -> str:
        """What the report answers first with."""
        first = self.interval.accuracy if self.interval else self.accuracy or self.metrics
        return self.main or first[0]

    def points_of(self, name: str, quality: QualityRange, *, family: str = "") -> tuple[Point, ...]:
        """Operating points of a codec.

        Args:
            name: of the codec, such as ``vvc@50``.
            quality: the values that its quality may take.
            family: the codec whose points it has where it is not named itself, such as ``vvc``.

        Raises:
            OptionError: the protocol asks for a quality that the codec does not have.
        """
        if self.rate_targets:
            return tuple(Point(target_bpp=rate) for rate in self.rate_targets)
        if quality.low == quality.high:
            return (Point(quality=quality.low),)
        qualities = self.points.get(name) or self.points.get(family)
        if qualities is None:
            qualities = tuple(dict.fromkeys(quality.at(fraction) for fraction in _FRACTIONS))
        return tuple(Point(quality=quality.check(q)) for q in qualities)


def list_protocols() -> tuple[str, ...]:
    """Names of the shipped protocols."""
    return tuple(path.stem for path in sorted(_FOLDER.glob("*.yaml")))


def load_protocol(name: str | Path) -> Protocol:
    """A shipped protocol by name, or a YAML file by path.

    Raises:
        ModelNotFoundError: neither.
        ConfigError: the file does not validate; the message names the key.
    """
    path = Path(name)
    if not path.is_file():
        path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(list_protocols())
        raise ModelNotFoundError("no such protocol", expected=f"a YAML file or {known}", found=name)
    try:
        return Protocol.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}", found=str(error).replace("\n", " ")) from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{path}: {where}", expected=first["msg"], found=first.get("input")) from error
