"""The detection head: boxes by hand, suppression, thresholds, coordinates of the source picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vcm.errors import HeadError, OptionError
from vcm.nn.blocks import ConvNormAct, FiLM, fuse_batchnorm
from vcm.structures import Latents, LatentSpec
from vcm.tasks.detection import DetectionHead, DetectorOutput, decode_boxes
from vcm.tasks.postprocessing import BINS, MAX_DETECTIONS, STRIDES

SPEC = LatentSpec(8, 16)


def latents(coded: tuple[int, int] = (64, 64), source: tuple[int, int] | None = None, quality: float = 50) -> Latents:
    h, w = -(-coded[1] // 16), -(-coded[0] // 16)
    y = torch.randn(1, 8, h, w, generator=torch.manual_seed(0))
    return Latents(y, SPEC, coded, source or coded, quality)


@pytest.fixture(scope="module")
def head() -> DetectionHead:
    torch.manual_seed(0)
    head = DetectionHead(SPEC, classes=5, width=16, feature=8)
    fuse_batchnorm(head)
    return head.eval()


def quiet(classes: int = 5, size: int = 64) -> DetectorOutput:
    """Predictions of nothing, on a square picture."""
    sides = [size // s for s in STRIDES]
    return DetectorOutput(
        tuple(torch.full((1, classes, n, n), -20.0) for n in sides),
        tuple(torch.zeros(1, 4 * BINS, n, n) for n in sides),
        (),
        torch.zeros(0),
    )


def put(
    out: DetectorOutput, level: int, row: int, column: int, label: int, score: float, sides: tuple[int, ...]
) -> None:
    """One object: its score, and its four distances in whole strides."""
    out.logits[level][0, label, row, column] = float(np.log(score / (1 - score)))
    for side, bin_ in enumerate(sides):
        out.bins[level][0, side * BINS + bin_, row, column] = 100.0


def test_boxes_by_hand() -> None:
    rng = np.random.default_rng(0)
    bins = rng.normal(size=(2, 4 * BINS, 3, 5)).astype(np.float32)
    found = decode_boxes(torch.from_numpy(bins), 8).numpy()
    assert found.shape == (2, 15, 4)
    for n in range(2):
        for row in range(3):
            for column in range(5):
                logits = bins[n, :, row, column].astype(np.float64).reshape(4, BINS)
                weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                left, top, right, bottom = (weights * np.arange(BINS)).sum(1) * 8
                x, y = column * 8, row * 8
                wanted = [x - left, y - top, x + right, y + bottom]
                assert found[n, row * 5 + column] == pytest.approx(wanted, abs=1e-3)


def test_one_object_of_each_stride(head: DetectionHead) -> None:
    out = quiet()
    put(out, 0, 3, 2, 1, 0.9, (1, 2, 3, 4))  # at (16, 24): 8 left, 16 up, 24 right, 32 down
    put(out, 1, 2, 1, 2, 0.8, (1, 1, 2, 1))  # at (16, 32)
    put(out, 2, 1, 1, 3, 0.7, (1, 0, 0, 1))  # at (32, 32)
    put(out, 3, 0, 0, 4, 0.6, (0, 0, 1, 1))  # at (0, 0)
    found = head.postprocess(out, latents(), 0.5)
    assert found.boxes.tolist() == pytest.approx(
        np.array([[8, 8, 40, 56], [0, 16, 48, 48], [0, 32, 32, 64], [0, 0, 64, 64]])
    )
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert found.labels.tolist() == [1, 2, 3, 4]
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("source", [(128, 64), (100, 90), (64, 64), (640, 480)])
def test_boxes_are_in_source_pixels(head: DetectionHead, source: tuple[int, int]) -> None:
    out = quiet()
    put(out, 0, 3, 2, 1, 0.9, (1, 2, 3, 4))
    found = head.postprocess(out, latents((64, 64), source), 0.5)
    sx, sy = source[0] / 64, source[1] / 64
    assert found.boxes[0].tolist() == pytest.approx([8 * sx, 8 * sy, 40 * sx, 56 * sy], rel=1e-5)
    assert (found.width, found.height) == source


def test_boxes_are_clipped_to_the_picture_and_not_to_its_padding(head: DetectionHead) -> None:
    out = quiet()
    put(out, 2, 1, 1, 0, 0.9, (7, 7, 7, 7))
    put(out, 0, 7, 7, 1, 0.8, (0, 0, 2, 2))  # at (56, 56), wholly in the padding
    found = head.postprocess(out, latents((50, 40), (100, 80)), 0.5)
    assert found.boxes.tolist() == [[0, 0, 100, 80]]


def test_overlaps_are_suppressed_within_a_class_only(head: DetectionHead) -> None:
    out = quiet()
    put(out, 0, 3, 3, 1, 0.9, (2, 2, 2, 2))
    put(out, 0, 3, 4, 1, 0.8, (3, 2, 1, 2))  # the same box from the next position
    put(out, 0, 4, 3, 2, 0.7, (2, 3, 2, 1))  # the same box, another class
    put(out, 0, 6, 6, 1, 0.6, (1, 1, 1, 1))  # elsewhere
    found = head.postprocess(out, latents(), 0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found.labels.tolist() == [1, 2, 1]
    assert len(head.postprocess(out, latents(), 0.5, nms_iou=1.0)) == 4


@pytest.mark.parametrize(("right", "kept"), [(1, 1), (2, 2)])  # overlaps of 12 / 20 and of 8 / 24
def test_boxes_that_overlap_by_more_than_half_are_one_object(head: DetectionHead, right: int, kept: int) -> None:
    out = quiet()
    put(out, 0, 3, 3, 1, 0.9, (2, 2, 2, 2))
    put(out, 0, 3, 3 + right, 1, 0.8, (2, 2, 2, 2))
    assert len(head.postprocess(out, latents(), 0.5)) == kept


def test_the_threshold_keeps_what_reaches_it(head: DetectionHead) -> None:
    out = quiet()
    for column, logit in enumerate((0.0, 1.0, -1.0)):
        put(out, 0, 0, 2 * column, 0, 0.5, (0, 0, 1, 1))
        out.logits[0][0, 0, 0, 2 * column] = logit
    assert head.postprocess(out, latents(), 0.5).scores.tolist() == pytest.approx([0.7310586, 0.5])
    assert len(head.postprocess(out, latents(), 0.2)) == 3
    assert len(head.postprocess(out, latents(), 1.0)) == 0


def test_detections_are_sorted_and_bounded(head: DetectionHead) -> None:
    out = quiet(size=256)
    gen = torch.manual_seed(0)
    for logits in out.logits:
        logits.copy_(torch.randn(logits.shape, generator=gen))
    found = head.postprocess(out, latents((256, 256)), 0.01)
    assert len(found) == MAX_DETECTIONS
    assert (np.diff(found.scores) <= 0).all()


def test_nothing_found_is_an_empty_result(head: DetectionHead) -> None:
    found = head.postprocess(quiet(), latents(), 0.5)
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert found.to_json() == []


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (100, 33)])
def test_any_size(head: DetectionHead, size: tuple[int, int]) -> None:
    found = head.detect(latents(size), score=0.0)
    assert len(found) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([*size, *size])).all()


def test_quality_modulates_the_head(head: DetectionHead) -> None:
    with torch.no_grad():
        for p in head.film.parameters():
            p.normal_()
    low, high = head.detect(latents(quality=0), score=0), head.detect(latents(quality=100), score=0)
    assert not np.array_equal(low.scores, high.scores)


def test_what_a_head_refuses(head: DetectionHead) -> None:
    for stride in (8, 32):
        with pytest.raises(HeadError, match=f"latents of stride 16: expected 16, found {stride}"):
            DetectionHead(LatentSpec(8, stride))
    wrong = Latents(torch.zeros(1, 9, 4, 4), LatentSpec(9, 16), (64, 64), (64, 64), 50)
    with pytest.raises(HeadError, match="latents are of another kind"):
        head.detect(wrong)
    for score in (-0.01, 1.01, float("nan")):
        with pytest.raises(OptionError, match="score is out of range"):
            head.detect(latents(), score)


def test_folding_batchnorm_changes_nothing_but_rounding() -> None:
    torch.manual_seed(0)
    block = ConvNormAct(6, 9, 3, 2)
    norm = block.norm
    assert isinstance(norm, torch.nn.BatchNorm2d)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 3)
        norm.weight.normal_()
        norm.bias.normal_()
    block = block.eval().double()
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    before = block(x)
    assert fuse_batchnorm(block) is block
    assert isinstance(block.norm, torch.nn.Identity)
    assert torch.allclose(block(x), before, rtol=1e-12, atol=1e-12)


def test_modulation_starts_as_the_identity() -> None:
    x = torch.randn(2, 4, 3, 3)
    film: FiLM = FiLM(4)
    out: Tensor = film(x, torch.tensor([0.0, 1.0]))
    assert torch.equal(out, x)
