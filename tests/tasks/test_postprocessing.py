"""Post-processing in numpy against torch and torchvision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms

from vcm.errors import OptionError
from vcm.tasks.detection import decode_boxes
from vcm.tasks.postprocessing import (
    AVERAGE_SHARE,
    BINS,
    LARGE_IOU,
    LARGE_SIDE,
    MAX_DETECTIONS,
    STRIDES,
    average,
    boxes_from_arrays,
    check_options,
    suppress,
)

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
    """The whole way again in torch: all boxes decoded, all scores compared, torchvision's suppression, averages."""
    logits, bins = raw(seed)
    boxes = torch.cat([decode_boxes(torch.from_numpy(b)[None], s)[0] for b, s in zip(bins, STRIDES, strict=True)])
    scores = torch.cat([torch.from_numpy(x).flatten(1).t() for x in logits]).sigmoid()
    found = (scores >= score / 2).nonzero()
    values = scores[found[:, 0], found[:, 1]]
    order = values.argsort(descending=True, stable=True)[:1000]
    found, values = found[order], values[order]
    picked = torch.minimum(boxes[found[:, 0]].clamp(min=0), torch.tensor([120.0, 100.0, 120.0, 100.0]))
    kept = []
    for label in range(5):
        members = (found[:, 1] == label).nonzero()[:, 0]
        kept += members[nms(picked[members], values[members], 0.5)].tolist()
    area = (picked[:, 2] - picked[:, 0]) * (picked[:, 3] - picked[:, 1])
    kept = [i for i in sorted(kept) if area[i] > 0 and values[i] >= score][:MAX_DETECTIONS]
    overlaps = box_iou(picked, picked).nan_to_num()
    same = found[:, 1, None] == found[None, :, 1]
    counts = same & (values >= AVERAGE_SHARE * values[:, None]) & (overlaps > 0.5)
    weights = counts * values * overlaps**2
    places = (weights @ picked / weights.sum(1, keepdim=True))[kept]

    mine = boxes_from_arrays(logits, bins, coded_size=(120, 100), source_size=(240, 200), score=score)
    assert mine[0].dtype == mine[1].dtype == np.float32
    assert mine[2].tolist() == found[kept, 1].tolist()
    np.testing.assert_allclose(mine[1], values[kept].numpy(), rtol=1e-6)
    np.testing.assert_allclose(mine[0], 2 * places.numpy(), atol=1e-3)
    assert len(kept) > 10


def test_a_higher_score_gives_the_first_of_the_same_boxes() -> None:
    sizes = {"coded_size": (120, 100), "source_size": (240, 200)}
    some, fewer = (boxes_from_arrays(*raw(7), score=score, **sizes) for score in (0.85, 0.9))
    assert 5 < len(fewer[1]) < len(some[1]) < MAX_DETECTIONS
    for a, b in zip(fewer, some, strict=True):
        np.testing.assert_array_equal(a, b[: len(a)])


@pytest.mark.parametrize(("length", "shift", "kept"), [(300, 0.45, 1), (300, 0.6, 2), (250, 0.45, 2), (250, 0.3, 1)])
def test_large_boxes_of_one_object_overlap_by_less(length: float, shift: float, kept: int) -> None:
    """A shift by a share s of the length is an overlap of (1 - s) / (1 + s): 0.38, 0.25, 0.54."""
    left = shift * length
    boxes = np.array([[0, 0, length, 40], [left, 0, left + length, 40]], dtype=np.float32)
    scores, labels = np.array([0.9, 0.8], dtype=np.float32), np.zeros(2, dtype=np.int64)
    assert len(suppress(boxes, scores, labels, 0.5, 10, large=(LARGE_SIDE, LARGE_IOU))) == kept


def test_both_boxes_must_be_large() -> None:
    boxes = np.array([[0, 0, 300, 40], [0, 0, 120, 40]], dtype=np.float32)
    scores, labels = np.array([0.9, 0.8], dtype=np.float32), np.zeros(2, dtype=np.int64)
    assert len(suppress(boxes, scores, labels, 0.5, 10, large=(LARGE_SIDE, LARGE_IOU))) == 2


def test_two_halves_of_an_object_beyond_the_reach_of_a_stride_are_one() -> None:
    """Positions of stride 32 at (96, 192) and (352, 192) see a box from 0 to 448; each reaches 224 px to a side."""
    logits = [np.full((2, 512 // s, 512 // s), -20, dtype=np.float32) for s in STRIDES]
    bins = [np.zeros((4 * BINS, 512 // s, 512 // s), dtype=np.float32) for s in STRIDES]
    for column, logit, left, right in ((3, 1.0, 3, 7), (11, 0.5, 7, 3)):
        logits[2][1, 6, column] = logit
        for side, distance in enumerate((left, 4, right, 4)):
            bins[2][side * BINS + distance, 6, column] = 100
    boxes, _, classes = boxes_from_arrays(logits, bins, coded_size=(512, 512), source_size=(512, 512), score=0.3)
    assert boxes.tolist() == [[0, 64, 320, 320]]
    assert classes.tolist() == [1]


@pytest.mark.parametrize(("score", "kept"), [(0.8, [0, 0, 448, 448]), (0.7, [0, 64, 320, 320])])
def test_of_large_boxes_with_nearly_equal_scores_the_longer_is_kept(score: float, kept: list[float]) -> None:
    """Against 0.9 at 320 px: 0.8 counts as 0.8 · √(448 / 320) = 0.95, and 0.7 as 0.83. They overlap by 0.41."""
    logits = [np.full((2, 512 // s, 512 // s), -20, dtype=np.float32) for s in STRIDES]
    bins = [np.zeros((4 * BINS, 512 // s, 512 // s), dtype=np.float32) for s in STRIDES]
    for level, row, column, value, sides in (
        (2, 6, 3, 0.9, (3, 4, 7, 4)),  # at (96, 192), whose right side is at the end of its reach
        (3, 3, 3, score, (3, 3, 4, 4)),  # at (192, 192)
    ):
        logits[level][1, row, column] = np.log(value / (1 - value))
        for side, distance in enumerate(sides):
            bins[level][side * BINS + distance, row, column] = 100
    boxes, scores, _ = boxes_from_arrays(logits, bins, coded_size=(512, 512), source_size=(512, 512), score=0.3)
    assert boxes.tolist() == [kept]
    assert scores.tolist() == pytest.approx([score if kept[2] == 448 else 0.9])


def test_average_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 6]], dtype=np.float32)
    scores = np.array(
        [0.8, 0.6, 0.3, 0.7, 0.8], dtype=np.float32
    )  # the third has too little, the fourth's is below 0.5
    labels = np.array([0, 0, 0, 0, 1])
    found = average(boxes, scores, labels, np.array([0]), 0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 0, 10, (0.8 * 10 + 0.6 * 0.64 * 8) / (0.8 + 0.6 * 0.64)]], rtol=1e-6)
    alone = average(boxes, np.zeros(5, dtype=np.float32), labels, np.array([4]), 1.0)
    np.testing.assert_allclose(alone, boxes[[4]])


def test_suppression_may_end_where_nothing_wanted_is_left() -> None:
    rng = np.random.default_rng(5)
    corner = rng.uniform(0, 600, (300, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(20, 400, (300, 2)).astype(np.float32)], axis=1)
    scores, labels = rng.uniform(0, 1, 300).astype(np.float32), rng.integers(0, 3, 300)
    wanted = scores * rng.uniform(0.8, 1, 300) > 0.6
    every = suppress(boxes, scores, labels, 0.5, 100, large=(256, 0.3))
    some = suppress(boxes, scores, labels, 0.5, 100, large=(256, 0.3), wanted=wanted)
    assert len(some) < len(every)
    assert np.array_equal(some, every[: len(some)])
    assert not wanted[every[len(some) :]].any()


def test_only_some_classes_and_only_so_many() -> None:
    logits, bins = raw(7)
    sizes = {"coded_size": (120, 100), "source_size": (240, 200), "score": 0.5}
    boxes, scores, classes = boxes_from_arrays(logits, bins, max_det=1000, **sizes)
    assert len(boxes) > MAX_DETECTIONS
    for part, few in zip(boxes_from_arrays(logits, bins, max_det=7, **sizes), (boxes, scores, classes), strict=True):
        np.testing.assert_array_equal(part, few[:7])
    mine = boxes_from_arrays(logits, bins, max_det=1000, only=[4, 1], **sizes)
    wanted = np.isin(classes, [1, 4])
    # More candidates of the wanted classes may be among the best now, so that a few more may come.
    np.testing.assert_array_equal(mine[2][:50], classes[wanted][:50])
    assert set(mine[2].tolist()) == {1, 4}
    assert len(boxes_from_arrays(logits, bins, only=[], **sizes)[0]) == 0


def test_classes_that_drop_each_other() -> None:
    """One position, two classes: two boxes at one place, or the better one."""
    logits = [np.full((2, 512 // s, 512 // s), -20, dtype=np.float32) for s in STRIDES]
    bins = [np.zeros((4 * BINS, 512 // s, 512 // s), dtype=np.float32) for s in STRIDES]
    logits[1][:, 6, 6] = 1, 2
    sizes = {"coded_size": (512, 512), "source_size": (512, 512), "score": 0.3}
    assert boxes_from_arrays(logits, bins, **sizes)[2].tolist() == [1, 0]
    assert boxes_from_arrays(logits, bins, agnostic=True, **sizes)[2].tolist() == [1]


@pytest.mark.parametrize(
    "options", [(1.1, 0.5, 1), (float("nan"), 0.5, 1), (0.5, -0.1, 1), (0, 1, 0), (0, 1, 1001), (0, 1, 2.0)]
)
def test_options_out_of_range(options: tuple[float, float, int]) -> None:
    with pytest.raises(OptionError, match="out of range"):
        check_options(*options)
    check_options(0, 1, 1000)
