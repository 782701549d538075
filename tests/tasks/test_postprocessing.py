"""Post-processing in numpy against torch and torchvision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import nms

from vcm.tasks.detection import decode_boxes
from vcm.tasks.postprocessing import BINS, MAX_DETECTIONS, STRIDES, boxes_from_arrays, suppress

Arrays = list[npt.NDArray[np.float32]]


def some_boxes(seed: int, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Crowded boxes on a grid, so that some touch, coincide or have no area, and scores with ties."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 7, (count, 2))], axis=1) * 4
    return boxes.astype(np.float32), rng.integers(1, 30, count).astype(np.float32) / 30


@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0]))
def test_suppression_is_that_of_torchvision(seed: int, count: int, iou: float) -> None:
    boxes, scores = some_boxes(seed, count)
    labels = np.random.default_rng(seed).integers(0, 3, count)
    wanted = set()
    for label in range(3):
        members = np.flatnonzero(labels == label)
        kept = nms(torch.from_numpy(boxes[members]), torch.from_numpy(scores[members]), iou).numpy()
        wanted |= set(members[kept].tolist())
    found = suppress(boxes, scores, labels, iou, count)
    assert set(found.tolist()) == wanted
    assert len(found) == len(wanted)
    assert (np.diff(scores[found]) <= 0).all()
    best = suppress(boxes, scores, labels, iou, 2)
    assert best.tolist() == found[:2].tolist()


def raw(seed: int, classes: int = 5, side: int = 128) -> tuple[Arrays, Arrays]:
    rng = np.random.default_rng(seed)
    grids = [side // stride for stride in STRIDES]
    logits = [rng.normal(-2, 2, (classes, n, n)).astype(np.float32) for n in grids]
    return logits, [rng.normal(0, 3, (4 * BINS, n, n)).astype(np.float32) for n in grids]


@pytest.mark.parametrize("score", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_those_of_torch(seed: int, score: float) -> None:
    """The whole way again in torch: all boxes decoded, all scores compared, torchvision's suppression."""
    logits, bins = raw(seed)
    boxes = torch.cat([decode_boxes(torch.from_numpy(b)[None], s)[0] for b, s in zip(bins, STRIDES, strict=True)])
    scores = torch.cat([torch.from_numpy(x).flatten(1).t() for x in logits]).sigmoid()
    found = (scores >= score).nonzero()
    values = scores[found[:, 0], found[:, 1]]
    order = values.argsort(descending=True, stable=True)[:1000]
    found, values = found[order], values[order]
    picked = torch.minimum(boxes[found[:, 0]].clamp(min=0), torch.tensor([120.0, 100.0, 120.0, 100.0]))
    kept = []
    for label in range(5):
        members = (found[:, 1] == label).nonzero()[:, 0]
        kept += members[nms(picked[members], values[members], 0.5)].tolist()
    kept = [i for i in sorted(kept) if picked[i, 2] > picked[i, 0] and picked[i, 3] > picked[i, 1]][:MAX_DETECTIONS]

    mine = boxes_from_arrays(logits, bins, coded_size=(120, 100), source_size=(240, 200), score=score)
    assert mine[0].dtype == mine[1].dtype == np.float32
    assert mine[2].tolist() == found[kept, 1].tolist()
    np.testing.assert_allclose(mine[1], values[kept].numpy(), rtol=1e-6)
    np.testing.assert_allclose(mine[0], 2 * picked[kept].numpy(), atol=1e-3)
    assert len(kept) > 10
