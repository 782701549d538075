"""Torchvision's detectors on a bank of latents: boxes of COCO folders, and a pyramid that starts as the codec's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vcm.errors import AnnotationError, ConfigError
from vcm.io.coco import COCO_CATEGORIES, CocoGroundTruth, read_results
from vcm.io.coco_masks import Shape, draw_shape, read_shapes
from vcm.structures import COCO_CLASSES, Classes, LatentSpec
from vcm.tasks.kinds import head_kinds
from vcm.tasks.torchvision import LatentBackbone, LatentPicture
from vcm.training.bank import LatentBank
from vcm.training.data.annotations import read_annotations
from vcm.training.data.keypoints import is_test
from vcm.training.data.store import picture_folder, picture_paths
from vcm.training.latent_heads.config import LatentHeadConfig
from vcm.training.latent_heads.lessons import Lesson
from vcm.training.thaw import thaw

__all__ = ["Boxes", "classes_of", "start_from_codec"]

_LEAST_SHARE, _LEAST_SIDE = 0.3, 4.0
"""Of a box that a crop leaves: its area, and its sides in pixels of the coded view."""


_IN_FLOAT = ("backbone", "head", "rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor")
"""Parts of detectors after which numbers are float32 again."""


def _float(out: Any) -> Any:
    """Tensors in any containers, in float32."""
    if isinstance(out, Tensor):
        return out.float()
    if isinstance(out, dict):
        return type(out)((key, _float(value)) for key, value in out.items())
    return type(out)(_float(value) for value in out)


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """One picture's: boxes float32 (K, 4) in source pixels of ``size`` (width, height), labels int64 (K,), maybe
    shapes."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    size: tuple[float, float]
    shapes: tuple[Shape, ...] | None = None


class Boxes(Lesson):
    """Objects of COCO folders.

    Args:
        config: of the head.
        folders: the data.
        share: that is tested on, and not learned from.

    Raises:
        ConfigError: there is nothing to learn from.
        AnnotationError: a file does not validate, or has no masks for a head that learns them.
    """

    def __init__(self, config: LatentHeadConfig, folders: Sequence[Path], share: float) -> None:
        self._config = config
        self.names = classes_of(folders, config.classes)
        self._with_masks = config.kind == "mask_rcnn"
        self.paths, self._objects = [], []
        for folder in folders:
            for path, objects in _read(folder, self.names, config.pseudo_score, self._with_masks):
                if not (share and is_test(path.name, share)):
                    self.paths.append(path)
                    self._objects.append(objects)
        if not sum(len(o.boxes) for o in self._objects):
            expected = f"boxes of {', '.join(self.names.names[:5])} …, or pseudo_score and a pseudo.json"
            raise ConfigError("nothing to learn from", expected=expected, found=", ".join(map(str, folders)))

    def network(self, spec: LatentSpec) -> nn.Module:
        """See :class:`Lesson`; with ``start``, its pyramid begins as the codec's own."""
        config = self._config
        network = head_kinds()[config.kind].build(spec, self.names, config.shape_of(classes=len(self.names)))
        own: Any = network
        if config.start:
            start_from_codec(own.model.backbone, config.weights)
        if config.half:
            for name, part in own.model.named_modules():
                if name in _IN_FLOAT:
                    part.register_forward_hook(lambda module, inputs, out: _float(out))
        return network

    def loss(self, network: nn.Module, bank: LatentBank, rows: Sequence[int]) -> Tensor:
        """The sum of the detector's losses."""
        pictures, targets = [], []
        for row in rows:
            width, height = (int(v) for v in bank.sizes[row])
            quality = float(bank.qualities[row])
            pictures.append(LatentPicture(bank.y_hat(row), (width, height), (width, height), quality, bank.spec))
            targets.append(self._target(bank, row, width, height))
        with torch.autocast("cpu", torch.bfloat16, enabled=self._config.half):
            losses: dict[str, Tensor] = network(pictures, targets)
        return torch.stack([loss.float() for loss in losses.values()]).sum()

    def _target(self, bank: LatentBank, row: int, width: int, height: int) -> dict[str, Tensor]:
        objects = self._objects[int(bank.pictures[row])]
        # Boxes are of the stated size; what was coded is a window of the file's own.
        first = int((bank.pictures == bank.pictures[row]).nonzero()[0])
        real = bank.windows[first, 2:].tolist()
        factor = np.array([real[0] / objects.size[0], real[1] / objects.size[1]] * 2, np.float32)
        moved = bank.on_view(row, objects.boxes * factor)
        clipped = moved.clip(0, np.array([width, height] * 2, np.float32))
        sides = clipped[:, 2:] - clipped[:, :2]
        share = sides.prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1).clip(min=1e-6)
        keep = (share >= _LEAST_SHARE) & (sides.min(1, initial=np.inf) >= _LEAST_SIDE)
        target = {"boxes": torch.from_numpy(clipped[keep]), "labels": torch.from_numpy(objects.labels[keep])}
        if objects.shapes is not None:
            stated = tuple(round(side) for side in objects.size)
            if list(stated) != real:
                path = self.paths[int(bank.pictures[row])]
                raise AnnotationError(f"the masks of {path} are of another size", expected=tuple(real), found=stated)
            drawn = [draw_shape(objects.shapes[k], stated[0], stated[1]) for k in np.flatnonzero(keep)]
            shown = [bank.map_on_view(row, mask.astype(np.uint8), (height, width)) for mask in drawn]
            target["masks"] = torch.from_numpy(np.stack(shown) if shown else np.zeros((0, height, width), np.uint8))
        return target


def classes_of(folders: Sequence[Path], wanted: tuple[str, ...]) -> Classes:
    """What is learned: the classes that are wanted, else all that have a box; COCO's 80 where all of those are COCO's.

    Raises:
        ConfigError: no folder has annotations, or one of the classes has no box.
    """
    there: dict[str, int] = {}
    official = {c.id: c.name for c in COCO_CATEGORIES}
    coco = True
    for folder in folders:
        if not (folder / "instances.json").is_file():
            continue
        marked = CocoGroundTruth.from_json(folder / "instances.json", partial=True)
        with_boxes = set(marked.box_categories[~marked.crowd].tolist())
        there |= {c.name: c.id for c in marked.categories if c.id in with_boxes}
        coco = coco and all(official.get(c.id) == c.name for c in marked.categories if c.id in with_boxes)
    missing = [name for name in wanted if name not in there]
    if missing or (not there and not all((folder / "pseudo.json").is_file() for folder in folders)):
        expected = ", ".join(there) or "instances.json"
        raise ConfigError("no boxes of these classes", expected=expected, found=", ".join(missing) or "no annotations")
    if coco and not wanted:
        return COCO_CLASSES
    names = wanted or tuple(there)
    return Classes(names, tuple(there[name] for name in names))


def _read(folder: Path, names: Classes, pseudo_score: float | None, masks: bool) -> list[tuple[Path, _Objects]]:
    """Pictures of a folder that something is known of."""
    truth = read_annotations(folder, names).truth
    guessed = {} if pseudo_score is None else _guessed(folder, names, pseudo_score)
    inner = picture_folder(folder)
    drawn = read_shapes(folder / "instances.json", names) if masks else {}
    out = []
    for name in picture_paths(folder):
        found = truth.get(name)
        if found is not None:
            own, size = found
            shapes = drawn.get(name)
            if masks and (shapes is None or len(shapes) != len(own.boxes)):
                raise AnnotationError(f"{folder / name} has no masks", expected="segmentation in instances.json")
            out.append((inner / name, _Objects(own.boxes, own.labels, size, shapes)))
        elif name in guessed and not masks:
            boxes, labels = guessed[name]
            out.append((inner / name, _Objects(boxes, labels, _size(inner / name))))
    return out


def _guessed(
    folder: Path, names: Classes, least: float
) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Boxes that a teacher is sure enough of, of pictures that nobody annotated."""
    path = folder / "pseudo.json"
    if names != COCO_CLASSES or not path.is_file() or (folder / "instances.json").is_file():
        return {}
    found = read_results(path)
    index = {category: i for i, category in enumerate(names.category_ids)}
    out = {}
    for name, rows in found.rows().items():
        sure = rows[found.scores[rows] >= least]
        labels = np.array([index[int(c)] for c in found.box_categories[sure]], np.int64)
        out[name] = found.corners[sure].astype(np.float32), labels
    return out


def _size(path: Path) -> tuple[float, float]:
    from PIL import Image

    with Image.open(path) as picture:
        return float(picture.width), float(picture.height)


def start_from_codec(backbone: LatentBackbone, weights: str | Path) -> tuple[str, ...]:
    """Give a backbone the pyramid of a codec's own detection head, as far as both have the same layers.

    Args:
        backbone: it is changed.
        weights: shipped codec or weights file.

    Returns:
        names of the tensors that were taken; maybe none.

    Raises:
        ModelNotFoundError, WeightsError: as of :func:`vcm.load`.
    """
    theirs = {k.removeprefix("detect."): v for k, v in thaw(weights).items() if k.startswith("detect.")}
    own = backbone.state_dict()
    taken = {k: v for k, v in theirs.items() if k in own and own[k].shape == v.shape}
    # A layer is taken as a whole or not at all; without those at stride 16 the levels mean nothing.
    other = {k.partition(".")[0] for k in own if k not in taken}
    if other & {"inp", "film", "stem"}:
        return ()
    taken = {k: v for k, v in taken.items() if k.partition(".")[0] not in other}
    backbone.load_state_dict(taken, strict=False)
    return tuple(taken)
