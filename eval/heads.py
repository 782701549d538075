"""The rate–accuracy curve of any head: real files at several qualities, the head on their latents, the metric of its
task.

The ceiling is the same on what costs no bits: the pixel twin, for a detection head; the same kind of head trained on
the twin's features, on those features, for any other.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vcm.api import Codec
from vcm.errors import HeadError, OptionError
from vcm.eval.metrics.detection import evaluate_detections
from vcm.eval.metrics.whole import confusion, label_accuracy, retrieval_accuracy, segmentation_accuracy
from vcm.io.coco import CocoGroundTruth
from vcm.io.labelled import PICTURE_SUFFIXES, ImageFolder, MaskFolder, read_mask
from vcm.io.pictures import load_image
from vcm.requirements import needing
from vcm.structures import Classification, Detections, Embedding, InstanceMasks, Latents, Segmentation
from vcm.tasks.protocol import Head
from vcm.twin import PixelTwin

__all__ = ["HeadCurve", "HeadPoint", "HeadTest", "draw_curve", "head_curve", "head_test", "twin_ceiling"]

SCORE = 0.001
"""Least score of detections."""
_COPIES = 3
"""Near-duplicates of each picture that a descriptor has to find."""

Progress = Callable[[str, int, int], None]
Chosen = Callable[[Path], bool]
"""Whether a picture is tested on."""


@dataclass(frozen=True, slots=True)
class HeadPoint:
    """One operating point.

    Attributes:
        quality: of the base layer, 0 … 100; ``None`` for the ceiling.
        bpp: all bits of all files over all source pixels; 0 for the ceiling.
        accuracy: percent, by name; the first is the task's main one.
    """

    quality: float | None
    bpp: float
    accuracy: dict[str, float]


@dataclass(frozen=True, slots=True)
class HeadCurve:
    """The curve of a head.

    Attributes:
        head, codec: names.
        data: name of the data.
        pictures: tested.
        points: by quality, in the order asked for.
        ceiling: without bits, or ``None`` where there was nothing to take it from.
    """

    head: str
    codec: str
    data: str
    pictures: int
    points: tuple[HeadPoint, ...]
    ceiling: HeadPoint | None

    def share(self, point: HeadPoint) -> float | None:
        """Main accuracy of a point, percent of the ceiling's."""
        if self.ceiling is None:
            return None
        name = next(iter(point.accuracy))
        top = self.ceiling.accuracy.get(name, 0.0)
        return 100 * point.accuracy[name] / top if top else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the shares."""
        return {**asdict(self), "share_of_ceiling": [self.share(point) for point in self.points]}


class HeadTest(ABC):
    """Pictures with their truth, and the metric.

    Attributes:
        name: of the data.
        pictures: what is coded, one after the other; arrays (H, W, 3) uint8 where they are made, else paths.
    """

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def pictures(self) -> Iterator[Path | npt.NDArray[np.uint8]]:
        """What is coded, in order."""

    @abstractmethod
    def accuracy(self, found: Sequence[Any]) -> dict[str, float]:
        """Percent by name, from the head's result for each picture; the main one first."""


class _Files(HeadTest):
    """Pictures that are files."""

    _paths: list[Path]

    def __len__(self) -> int:
        return len(self._paths)

    def pictures(self) -> Iterator[Path | npt.NDArray[np.uint8]]:
        yield from self._paths


class _Boxes(_Files):
    def __init__(self, folder: Path, chosen: Chosen, names: tuple[str, ...]) -> None:
        path = folder / "instances.json"
        marked = CocoGroundTruth.from_json(path)
        inner = folder / "images" if (folder / "images").is_dir() else folder
        kept = [image for image in marked.images if chosen(Path(image.file_name))]
        there = {c.name for c in marked.categories}
        if not kept or not there & set(names):
            raise OptionError(
                f"{folder} has nothing that this head finds", expected=", ".join(names[:5]), found=len(kept)
            )
        self.name = folder.name
        self._truth = marked.select([image.id for image in kept])
        self._ids = {c.name: c.id for c in marked.categories}
        self._paths = [inner / image.file_name for image in self._truth.images]

    def accuracy(self, found: Sequence[Any]) -> dict[str, float]:
        rows = [
            row
            for image, one in zip(self._truth.images, found, strict=True)
            for row in self._rows(image.id, one.detections if isinstance(one, InstanceMasks) else one)
        ]
        got = evaluate_detections(self._truth, rows)
        main = {} if got.person_ap50 is None or got.person_ap is None else {
            "person_ap50": got.person_ap50, "person_ap": got.person_ap
        }  # fmt: skip
        return {**main, "ap50": got.ap50, "ap": got.ap}

    def _rows(self, image_id: int, found: Detections) -> list[dict[str, Any]]:
        """COCO results, in the data's ids by the classes' names."""
        rows = zip(found.to_coco(image_id), found.label_names(), strict=True)
        return [{**row, "category_id": self._ids[name]} for row, name in rows if name in self._ids]


class _Labels(_Files):
    def __init__(self, folder: Path, chosen: Chosen, names: tuple[str, ...]) -> None:
        read = ImageFolder.read(folder)
        if set(read.names) != set(names):
            raise HeadError("the head has other classes than the data", expected=read.names[:5], found=names[:5])
        self.name = folder.name
        kept = [i for i, path in enumerate(read.paths) if chosen(path)]
        self._paths = [read.paths[i] for i in kept]
        self._labels = [names.index(read.names[read.labels[i]]) for i in kept]

    def accuracy(self, found: Sequence[Any]) -> dict[str, float]:
        got = label_accuracy(np.stack([one.scores for one in found]), self._labels)
        return {"top1": got.top1, "top5": got.top5}


class _Maps(_Files):
    def __init__(self, folder: Path, chosen: Chosen, names: tuple[str, ...]) -> None:
        read = MaskFolder.read(folder)
        if read.names != names:
            raise HeadError("the head has other classes than the data", expected=read.names[:5], found=names[:5])
        self.name, self._classes = folder.name, len(names)
        kept = [i for i, path in enumerate(read.paths) if chosen(path)]
        self._paths, self._masks = [read.paths[i] for i in kept], [read.masks[i] for i in kept]

    def accuracy(self, found: Sequence[Any]) -> dict[str, float]:
        got = segmentation_accuracy([
            confusion(read_mask(path, self._classes), one.full(), self._classes)
            for path, one in zip(self._masks, found, strict=True)
        ])  # fmt: skip
        return {"miou": got.miou, "pixels": got.pixels}


class _Copies(HeadTest):
    """Near-duplicates: each picture and copies of it, cropped, shrunk, brightened and through JPEG, by fixed draws."""

    def __init__(self, folder: Path, chosen: Chosen, names: tuple[str, ...]) -> None:
        self.name = folder.name
        self._paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURE_SUFFIXES and chosen(p)]

    def __len__(self) -> int:
        return len(self._paths) * (1 + _COPIES)

    def pictures(self) -> Iterator[Path | npt.NDArray[np.uint8]]:
        from vcm.io.copies import near_duplicate

        for index, path in enumerate(self._paths):
            pixels = load_image(path, quiet=True).pixels
            yield pixels
            for copy in range(_COPIES):
                yield near_duplicate(pixels, np.random.default_rng([index, copy]))

    def accuracy(self, found: Sequence[Any]) -> dict[str, float]:
        groups = [i // (1 + _COPIES) for i in range(len(found))]
        queries = list(range(0, len(found), 1 + _COPIES))
        got = retrieval_accuracy(np.stack([one.vector for one in found]), groups, queries, k=10)
        return {"map_at_10": got.map_at_k, "recall_at_1": got.recall_at_1}


_TESTS: dict[type, type[Any]] = {
    Detections: _Boxes, InstanceMasks: _Boxes, Classification: _Labels, Segmentation: _Maps, Embedding: _Copies,
}  # fmt: skip


def head_test(head: Head, folder: Path, chosen: Chosen = lambda path: True) -> HeadTest:
    """What a head is tested on.

    Args:
        head: its result says which metric.
        folder: COCO's (detection), an ImageFolder (classification), pictures with masks (segmentation), or pictures
            (descriptors).
        chosen: which pictures of it.

    Raises:
        HeadError: a head whose results have no metric here, or of other classes than the data.
        OptionError: no picture is left, or none of the head's classes is there.
        ConfigError, AnnotationError: the folder does not validate.
    """
    made = _TESTS.get(head.spec.result)
    if made is None:
        expected = ", ".join(kind.__name__ for kind in _TESTS)
        raise HeadError("no metric for such a head", expected=expected, found=head.spec.result.__name__)
    test: HeadTest = made(folder, chosen, head.spec.names)
    if not len(test):
        raise OptionError("no picture to test on", expected="at least one", found=folder)
    return test


def head_curve(
    codec: Codec,
    head: str,
    test: HeadTest,
    qualities: Sequence[float],
    *,
    ceiling: Callable[[Any], Any] | None = None,
    progress: Progress | None = None,
) -> HeadCurve:
    """Measure a head.

    Args:
        codec: with the head under a name.
        head: that name.
        test: data and metric.
        qualities: of the base layer.
        ceiling: from a picture to a result without bits; see :func:`twin_ceiling`.
        progress: told along the way.

    Raises:
        OptionError: no quality, or one out of its range.
        HeadError: the codec has no such head.
    """
    if not qualities:
        raise OptionError("no quality to measure at", expected="at least one")
    task: Any = codec.head(head)
    options = _options(task)
    points = []
    for quality in qualities:
        found, size, pixels = [], 0, 0
        for done, picture in enumerate(test.pictures()):
            if progress is not None:
                progress(f"quality {quality:g}", done, len(test))
            file = codec.encode(picture, base_only=True, base_quality=quality)
            found.append(codec.run(head, file, **options))
            size, pixels = size + len(file.base), pixels + file.width * file.height
        points.append(HeadPoint(quality, 8 * size / pixels, test.accuracy(found)))
    top = None
    if ceiling is not None:
        answers = []
        for done, picture in enumerate(test.pictures()):
            if progress is not None:
                progress("ceiling", done, len(test))
            answers.append(ceiling(picture))
        top = HeadPoint(None, 0.0, test.accuracy(answers))
    return HeadCurve(head, codec.name, test.name, len(test), tuple(points), top)


def _options(head: Head) -> dict[str, Any]:
    """What a head is asked for: average precision wants unlikely objects, too."""
    return {"score": SCORE} if head.spec.result in (Detections, InstanceMasks) else {}


def twin_ceiling(twin: PixelTwin, head: Head | None) -> Callable[[Any], Any]:
    """What a twin makes of a picture, without bits: by its own detector, or by a head that was trained on its
    features."""
    if head is None:
        return lambda picture: twin.detect(picture, score=SCORE)
    options = _options(head)

    def run(picture: Any) -> Any:
        latents: Latents = twin.latents(picture)
        return head(latents, **options)

    return run


def draw_curve(curve: HeadCurve) -> str:
    """The curve as SVG: main accuracy over bits per pixel, the ceiling as a line.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with needing("a curve's drawing"):
        from matplotlib.figure import Figure
    name = next(iter(curve.points[0].accuracy))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    points = sorted((point.bpp, point.accuracy[name]) for point in curve.points)
    axes.plot([rate for rate, _ in points], [value for _, value in points], "o-", color="#111111", label=curve.head)
    if curve.ceiling is not None:
        axes.axhline(curve.ceiling.accuracy[name], color="#7f7f7f", linestyle="--", label="twin, no bits")
    axes.set_xlabel("bits per pixel of the base layer")
    axes.set_ylabel(f"{name}, percent")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(title=f"{curve.data}, {curve.pictures} pictures")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()
