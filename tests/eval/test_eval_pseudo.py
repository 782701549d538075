"""Ground truth that is a detector's own output on the uncompressed pictures."""

from __future__ import annotations

import numpy as np
import pytest

from vcm.errors import OptionError
from vcm.eval.data.pseudo import pseudo_ground_truth
from vcm.eval.metrics.detection import evaluate_detections
from vcm.io.coco import CocoImage
from vcm.structures import COCO_CATEGORY_IDS, COCO_NAMES, Detections


def detections(rng, width, height, n=12):
    corner = rng.uniform(0, 200, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 90, (n, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.05, 0.95, n)).astype(np.float32)
    return Detections(boxes, scores, rng.integers(0, 80, n).astype(np.int64), width, height)


def test_pseudo_ground_truth():
    rng = np.random.default_rng(0)
    images = [CocoImage(k, f"{k}.png", 300, 310) for k in (2, 5)]
    found = {i.id: detections(rng, 300, 310) for i in images}
    truth = pseudo_ground_truth(images, found, machine="yolox_nano", score=0.5)
    assert (truth.name, truth.pseudo) == ("pseudo:yolox_nano@0.5", True)
    assert len(truth.boxes) == sum(int((d.scores >= 0.5).sum()) for d in found.values()) == 12
    assert truth.category_ids == COCO_CATEGORY_IDS
    assert tuple(c.name for c in truth.categories) == COCO_NAMES
    # Its own detections score 100, for all that lie below the threshold rank behind; others do not.
    own = evaluate_detections(truth, found)
    assert own.ap == pytest.approx(100)
    assert (own.ground_truth, own.pseudo) == ("pseudo:yolox_nano@0.5", True)
    assert evaluate_detections(truth, {i.id: detections(rng, 300, 310) for i in images}).ap < 50


def test_pseudo_ground_truth_refusals():
    rng = np.random.default_rng(0)
    images = [CocoImage(2, "2.png", 300, 310)]
    with pytest.raises(OptionError, match="found 2"):
        pseudo_ground_truth(images, {}, machine="m")
    with pytest.raises(OptionError, match="expected 300x310, found 310x300"):
        pseudo_ground_truth(images, {2: detections(rng, 310, 300)}, machine="m")
    with pytest.raises(OptionError, match="score"):
        pseudo_ground_truth(images, {2: detections(rng, 300, 310)}, machine="m", score=1.5)
