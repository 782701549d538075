"""Fine-tuning of a shipped codec on a COCO folder of one's own: its detection head, or head and base layer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from vcm.api import Codec, load
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.model import BASE_SIDE
from vcm.errors import ConfigError
from vcm.io.coco import Category, CocoGroundTruth
from vcm.io.files import write_atomically
from vcm.nn.seeding import own_randomness
from vcm.structures import COCO_NAMES, Classes, Detections, Latents
from vcm.tasks.detection import DetectionHead, DetectionTask
from vcm.training import engine
from vcm.training.checkpoint import forget_checkpoint
from vcm.training.data import PictureStore
from vcm.training.data.keypoints import is_test
from vcm.training.data.store import picture_folder, picture_paths
from vcm.training.distributed import pick_device
from vcm.training.export import training_modules, write_weights
from vcm.training.stages.truth import TruthStage
from vcm.training.thaw import thaw
from vcm.weights.head_file import load_head, save_head
from vcm.weights.registry import find_weights, read_metadata

__all__ = ["Finetuned", "Tested", "Told", "finetune"]

_SCORE = 0.05
_TRIES = 3
"""Steps that are timed."""
_SHARE_OF_TIME = 0.9
"""Of the minutes that are planned; the rest is for checkpoints and for a machine that others use too."""
_NOT_A_NAME = re.compile(r"[^\w.+-]")

Told = Callable[[str, int, int], None]
"""What is being done, how many of it are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Tested:
    """A head on base-only files of held-out pictures.

    Attributes:
        found: by picture id; only classes of the data, with its ids.
        bpp: bits per pixel of the files, all bits over all pixels.
    """

    found: Mapping[int, Detections]
    bpp: float


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What fine-tuning gave.

    Attributes:
        head: file of the detection head, with its classes' names.
        codec: the codec's weights file where the base layer was trained too, else ``None``.
        classes: of the head.
        truth: objects of the pictures that were held out, of these classes only.
        before, after: what the shipped head and the new one find in files of them.
        known: classes that the shipped head has by name.
        pictures, objects: that were trained on.
        steps, finished: how long it was trained, and whether that was to the end.
    """

    head: Path
    codec: Path | None
    classes: Classes
    truth: CocoGroundTruth
    before: Tested
    after: Tested
    known: tuple[str, ...]
    pictures: int
    objects: int
    steps: int
    finished: bool


@own_randomness()
def finetune(
    data: str | Path,
    *,
    model: str = "vcm-s",
    classes: tuple[str, ...] = (),
    minutes: float = 10.0,
    base: bool = False,
    out: str | Path = "runs/finetune",
    quality: float = 50.0,
    held_out: float = 0.2,
    batch: int = 8,
    lr: float = 2e-4,
    seed: int = 1,
    device: str = "auto",
    resume: bool = False,
    told: Told | None = None,
) -> Finetuned:
    """Fine-tune ``model`` on a folder of pictures with true boxes.

    A picture is held out, and never trained on, by a hash of its name. Weights and checkpoints go to ``out``.

    Args:
        data: folder with ``instances.json`` (COCO) and the pictures, in ``images`` or beside it.
        model: shipped codec or weights file to start from.
        classes: names of the classes to learn; by default all that have a box.
        minutes: how long to train. As many steps as fit are planned after a few were timed.
        base: train the base layer too. Files that were written before are then read by the old weights only.
        out: where everything goes.
        quality: of the base layer of the files that are tested, 0 … 100.
        held_out: share of the pictures that are tested on.
        batch: views a step.
        lr: peak learning rate.
        seed: all randomness follows from it.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: go on from ``out``'s last checkpoint.
        told: called along the way.

    Raises:
        ConfigError: no data, no such class, nothing to train or test on, or another run's checkpoint.
        AnnotationError, ImageError: the folder does not validate.
        ModelNotFoundError, WeightsError: as of :func:`vcm.load`.
        TrainingError: a loss is not finite.
    """
    data, out = Path(data), Path(out)
    marked = _annotations(data)
    chosen = _classes(marked, classes)
    test, others = _split(data, marked, chosen, held_out)
    # Every picture is looked at before the training begins.
    store = PictureStore([data], BASE_SIDE, others, classes=chosen)
    objects = sum(len(truth.boxes) for truth in store.truth if truth is not None)
    if not objects:
        raise ConfigError("nothing to train on", expected=f"boxes of {', '.join(chosen.names)}", found=data)
    shipped = load(model)
    latents, bpp = _coded(shipped, data, test, quality, told)
    ids = dict(zip(chosen.names, chosen.category_ids, strict=True))
    detect = cast(DetectionTask, shipped.head("detect"))
    before = Tested({i: _in_ids_of(detect(own, _SCORE), ids) for i, own in latents.items()}, bpp)

    settings = {
        "data": str(data), "model": model, "classes": list(chosen.names), "base": base, "batch": batch, "lr": lr,
        "seed": seed, "held_out": held_out,
    }  # fmt: skip
    torch.manual_seed(seed)
    learner = TruthStage(
        ARCHITECTURES[read_metadata(find_weights(model))["architecture"]], thaw(model), store, chosen, base=base,
        batch=batch, lr=lr, seed=seed,
    )  # fmt: skip
    learner.to(pick_device(device))
    steps = _plan(learner, out, settings, minutes, resume)
    plan = engine.Settings(steps, lr, warmup=min(50, steps // 5), batch=batch, ema=0.995, seed=(seed, 1))
    tell = None if told is None else lambda done, total, _: told("training", done, total)
    left = engine.run(learner, plan, folder=out, resume=resume, minutes=minutes, progress=tell)

    learner.modules.load_state_dict(left.averaged)
    name = _NOT_A_NAME.sub("-", data.resolve().name)[:80]
    trained = f"weights of {shipped.name}, {left.step} steps of {batch} on {name}"
    codec = _write_codec(out / f"{name}-codec.safetensors", learner, model, trained) if base else None
    ours = shipped if codec is None else load(codec)
    head = out / f"{name}.safetensors"
    save_head(head, learner.modules["detect"], fingerprint=ours.fingerprint, name=name, trained=trained)
    if codec is not None:
        latents, bpp = _coded(ours, data, test, quality, told)
    network: DetectionHead = load_head(head).network
    after = Tested({i: network.detect(own, _SCORE) for i, own in latents.items()}, bpp)
    known = tuple(n for n in chosen.names if n in COCO_NAMES)
    return Finetuned(head, codec, chosen, test, before, after, known, len(store), objects, left.step, left.finished)


def _annotations(data: Path) -> CocoGroundTruth:
    path = data / "instances.json"
    if not path.is_file():
        raise ConfigError("no annotations in COCO's format", expected=path)
    return CocoGroundTruth.from_json(path)


def _classes(marked: CocoGroundTruth, wanted: tuple[str, ...]) -> Classes:
    """The classes to learn, with the data set's ids."""
    with_boxes = set(marked.box_categories[~marked.crowd].tolist())
    there = {c.name: c.id for c in marked.categories if c.id in with_boxes}
    unknown = [name for name in wanted if name not in there]
    if unknown or not there:
        expected = ", ".join(there) or "at least one box"
        raise ConfigError(f"no boxes of these classes in {marked.name}", expected=expected, found=", ".join(unknown))
    names = tuple(dict.fromkeys(wanted)) or tuple(there)
    return Classes(names, tuple(there[name] for name in names))


def _split(
    data: Path, marked: CocoGroundTruth, classes: Classes, held_out: float
) -> tuple[CocoGroundTruth, frozenset[str]]:
    """What is tested on, and the names of all pictures that are not trained on: those, and those without annotation."""
    listed = {image.file_name: image for image in marked.images}
    paths = picture_paths(data)
    test = [listed[path] for path in paths if path in listed and is_test(path, held_out)]
    others = {path for path in paths if path not in listed} | {image.file_name for image in test}
    if not test or len(others) == len(paths):
        found = f"{len(test)} of {len(listed)} annotated pictures held out"
        raise ConfigError("nothing to test on or to train on", expected="pictures on both sides", found=found)
    index = dict(zip(classes.category_ids, classes.names, strict=True))
    boxes: dict[int, tuple[npt.ArrayLike, Sequence[int]]] = {}
    crowd: dict[int, Sequence[bool]] = {}
    rows, corners = marked.rows(), marked.corners
    for image in test:
        own = [k for k in rows[image.file_name] if int(marked.box_categories[k]) in index]
        boxes[image.id] = corners[own], marked.box_categories[own].tolist()
        crowd[image.id] = marked.crowd[own].tolist()
    truth = CocoGroundTruth.from_boxes(
        marked.name, test, [Category(k, name) for k, name in index.items()], boxes, crowd=crowd
    )
    if not sum(truth.boxes_per_category()):
        raise ConfigError(
            "nothing to test on", expected=f"boxes of {', '.join(classes.names)}", found=f"{len(test)} pictures"
        )
    return truth, frozenset(f"{data.name}/{path}" for path in others)


def _coded(
    codec: Codec, data: Path, truth: CocoGroundTruth, quality: float, told: Told | None
) -> tuple[dict[int, Latents], float]:
    """By picture id: latents of a base-only file of it; and the bits per pixel of those files."""
    latents, size, pixels = {}, 0, 0
    for done, image in enumerate(truth.images):
        file = codec.encode(picture_folder(data) / image.file_name, base_only=True, base_quality=quality)
        found = latents[image.id] = codec.latents(file)
        size, pixels = size + len(file.base), pixels + found.source_size[0] * found.source_size[1]
        if told is not None:
            told("test files", done + 1, len(truth.images))
    return latents, 8 * size / pixels


def _in_ids_of(found: Detections, wanted: Mapping[str, int]) -> Detections:
    """Only the classes that ``wanted`` names, with its category ids."""
    names = tuple(wanted)
    index = np.array([names.index(name) if name in wanted else -1 for name in found.names])
    labels = index[found.labels]
    keep = labels >= 0
    return replace(
        found, boxes=found.boxes[keep], scores=found.scores[keep], labels=labels[keep].astype(np.int64), names=names,
        category_ids=tuple(wanted.values()),
    )  # fmt: skip


def _plan(learner: TruthStage, out: Path, settings: Mapping[str, object], minutes: float, resume: bool) -> int:
    """How many steps to do: those of the run that is resumed, or as many as fit; written down for the next time."""
    path = out / "finetune.json"
    if resume and path.is_file():
        began = json.loads(path.read_text())
        for key, value in settings.items():
            if began.get(key) != value:
                raise ConfigError(f"{out} began with another {key}", expected=began.get(key), found=value)
        return int(began["steps"])
    forget_checkpoint(out)
    steps = max(1, int(_SHARE_OF_TIME * minutes * 60 / _seconds_a_step(learner)))
    write_atomically(path, json.dumps({**settings, "steps": steps}, indent=1))
    return steps


def _seconds_a_step(learner: TruthStage) -> float:
    """Of a few steps after one that warms up; nothing is learned."""
    began = 0.0
    for step in range(_TRIES + 1):
        if step == 1:
            began = time.monotonic()
        learner.loss(step, np.random.default_rng([1, step]))[0].backward()
        learner.modules.zero_grad(set_to_none=True)
    return (time.monotonic() - began) / _TRIES * learner.cost


def _write_codec(path: Path, learner: TruthStage, model: str, trained: str) -> Path:
    """The codec with the base layer that was trained; picture path and its own heads stay as they were."""
    architecture = ARCHITECTURES[read_metadata(find_weights(model))["architecture"]]
    modules = training_modules(architecture)
    state = {k: v.cpu() for k, v in learner.modules.state_dict().items() if not k.startswith("detect.")}
    modules.load_state_dict(thaw(model) | state)
    write_weights(path, modules.eval(), architecture, path.stem, trained)
    return path
