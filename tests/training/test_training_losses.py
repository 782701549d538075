"""MS-SSIM against piq, the detection loss by hand."""

from __future__ import annotations

import math

import numpy as np
import piq
import pytest
import torch
from skimage import data as pictures
from torch import Tensor

from vcm.errors import OptionError
from vcm.tasks.detection import DetectorOutput
from vcm.tasks.postprocessing import STRIDES
from vcm.training.losses_detection import assign, detection_loss
from vcm.training.losses_ssim import ms_ssim


@pytest.fixture(scope="module")
def photo() -> Tensor:
    part = pictures.astronaut()[:256, :256]
    return torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("noise", [2.0, 20.0, 120.0])
def test_ms_ssim_is_piqs(photo: Tensor, noise: float) -> None:
    other = photo + noise * torch.randn(photo.shape, generator=torch.Generator().manual_seed(1))
    batch, truth = torch.cat([photo, other.clamp(0, 255)]), torch.cat([photo, photo])
    reference = piq.multi_scale_ssim(batch, truth, data_range=255.0)
    assert float(ms_ssim(batch, truth).mean()) == pytest.approx(float(reference), abs=2e-5)


def test_ms_ssim_is_an_improvable_loss(photo: Tensor) -> None:
    assert float(ms_ssim(photo, photo)) == pytest.approx(1, abs=1e-6)
    other = (photo.flip(3)).requires_grad_()
    before = 1 - ms_ssim(other, photo).mean()
    before.backward()
    assert other.grad is not None
    assert torch.isfinite(other.grad).all()
    with torch.no_grad():
        better = other - 20 * other.grad / other.grad.abs().max()
    assert 1 - float(ms_ssim(better, photo)) < float(before.detach())


def test_ms_ssim_under_autocast_is_float32(photo: Tensor) -> None:
    other = photo * 0.9
    with torch.autocast("cpu", torch.bfloat16):
        inside = ms_ssim(other, photo)
    assert inside.dtype == torch.float32
    assert float(inside) == float(ms_ssim(other, photo))


def test_ms_ssim_refuses_small_or_unequal_pictures(photo: Tensor) -> None:
    with pytest.raises(OptionError, match="161"):
        ms_ssim(photo[:, :, :160], photo[:, :, :160])
    assert 0 < float(ms_ssim(photo[:, :, :161] * 0.9, photo[:, :, :161])) < 1
    with pytest.raises(OptionError, match="one size"):
        ms_ssim(photo[:, :, :200], photo)


def grid(n: int = 1, classes: int = 2, side: int = 64, logit: float = 0.0) -> DetectorOutput:
    """Equal logits and flat bins everywhere: each predicted box is 3.5 strides to each side of its point."""
    sizes = [-(-side // s) for s in STRIDES]
    logits = tuple(torch.full((n, classes, s, s), logit) for s in sizes)
    bins = tuple(torch.zeros(n, 32, s, s) for s in sizes)
    return DetectorOutput(logits, bins, logits, logits[0])


def items(*rows: list[list[float]]) -> list[Tensor]:
    return [torch.tensor(r, dtype=torch.float32).reshape(-1, 4) for r in rows]


def test_detection_loss_by_hand() -> None:
    # One box of 16 px around (16, 16). Every predicted box of stride 8 has a side of 56 px and holds it: overlap
    # 16²/56², equal for all, so one position is taken, and it is the nearest to the centre.
    out = grid(logit=0.4)
    labels = [torch.tensor([1])]
    loss = detection_loss(out, items([[8, 8, 24, 24]]), labels, items([]))
    t, p = 16**2 / 56**2, 1 / (1 + math.exp(-0.4))
    negative = -(p**2) * math.log(1 - p)
    positive = (p - t) ** 2 * -(t * math.log(p) + (1 - t) * math.log(1 - p))
    count = 2 * (64 + 16 + 4 + 1)
    assert float(loss.scores) == pytest.approx((count - 1) * negative + positive, rel=1e-5)
    assert float(loss.giou) == pytest.approx(t * (1 - t), rel=1e-5)
    assert float(loss.bins) == pytest.approx(t * math.log(8), rel=1e-5)
    weighted = detection_loss(out, items([[8, 8, 24, 24]]), labels, items([]), torch.tensor([2.0, 3.0]))
    assert float(weighted.scores) == pytest.approx(
        count / 2 * 2 * negative + (count / 2 - 1) * 3 * negative + 3 * positive, rel=1e-5
    )


def test_what_is_ignored_is_nobodys_background() -> None:
    out = grid(n=2, logit=0.4)
    none = [torch.zeros(0, dtype=torch.int64)] * 2
    whole = [[0.0, 0.0, 64.0, 64.0]]
    free = detection_loss(out, items([], []), none, items([], []))
    one = detection_loss(out, items([], []), none, items(whole, []))
    both = detection_loss(out, items([], []), none, items(whole, whole))
    assert float(one.scores) == pytest.approx(float(free.scores) / 2, rel=1e-5)
    assert [float(v) for v in (both.scores, both.giou, both.bins)] == [0, 0, 0]
    # The points of stride 8 at 8 and 16 (both ends count), of stride 16 at 16.
    corner = detection_loss(out, items([], []), none, items([[8, 8, 16, 16]], whole))
    assert float(corner.scores) == pytest.approx(float(one.scores) * (85 - 5) / 85, rel=1e-5)
    # A true box inside an ignored region still counts as a positive.
    labels = [torch.tensor([0]), torch.zeros(0, dtype=torch.int64)]
    inside = detection_loss(out, items([[8, 8, 24, 24]], []), labels, items(whole, whole))
    assert float(inside.giou) > 0
    assert float(inside.scores) > 0


def test_a_perfect_prediction_costs_nothing() -> None:
    out = grid(classes=3, logit=-12.0)
    for bins in out.bins:
        bins[:, 0::8] = 20  # empty boxes, but at stride 16 the point (32, 32): two strides to each side
    out.bins[1][0, :, 2, 2] = 0
    out.bins[1][0, 2::8, 2, 2] = 20
    out.logits[1][0, 2, 2, 2] = 12
    loss = detection_loss(out, items([[0, 0, 64, 64]]), [torch.tensor([2])], items([]))
    assert [float(v) for v in (loss.scores, loss.giou, loss.bins)] == pytest.approx([0, 0, 0], abs=1e-4)


def test_a_box_alone_gets_a_position_and_no_position_two_boxes() -> None:
    torch.manual_seed(0)
    corner, side = torch.rand(40, 2) * 200, torch.rand(40, 2) ** 2 * 150 + 1
    boxes = torch.cat([corner, (corner + side).clamp(max=256)], 1)
    points = torch.cat([torch.cartesian_prod(torch.arange(0, 256, s), torch.arange(0, 256, s)) for s in STRIDES])
    strides = torch.cat([torch.full(((256 // s) ** 2,), s) for s in STRIDES]).float()
    points = points.flip(1).float()
    predicted = torch.cat([points - 3 * strides[:, None], points + 3 * strides[:, None]], 1)
    for pictures_of_boxes in (torch.arange(40), torch.arange(40) // 20):
        n = int(pictures_of_boxes.max()) + 1
        labels, logits = torch.zeros(40, dtype=torch.int64), torch.zeros(n, len(points), 5)
        got = assign(boxes, labels, pictures_of_boxes, logits, predicted.repeat(n, 1, 1), points, strides)
        assert len(set(zip(got.picture.tolist(), got.position.tolist(), strict=True))) == len(got.position)
        assert len(set(got.box.tolist())) == 40 if n == 40 else 30 < len(set(got.box.tolist())) <= 40
        assert torch.equal(got.picture, pictures_of_boxes[got.box])
        # The distances of what was taken fit the bins.
        at, stride = points[got.position], strides[got.position]
        far = torch.cat([at - boxes[got.box, :2], boxes[got.box, 2:] - at], 1).amax(1)
        assert (far <= 7 * stride).all()


def test_descent_finds_the_boxes() -> None:
    logits = [torch.full((1, 4, 64 // s, 64 // s), -4.0, requires_grad=True) for s in STRIDES]
    bins = [torch.zeros(1, 32, 64 // s, 64 // s, requires_grad=True) for s in STRIDES]
    optimizer = torch.optim.Adam([*logits, *bins], lr=0.3)
    truth, labels = items([[3, 5, 30, 40], [30, 30, 60, 62]]), [torch.tensor([1, 3])]
    for _ in range(60):
        loss = detection_loss(DetectorOutput(tuple(logits), tuple(bins), (), logits[0]), truth, labels, items([]))
        optimizer.zero_grad()
        (loss.scores + 2 * loss.giou + 0.25 * loss.bins).backward()
        optimizer.step()
    assert float(loss.giou.detach()) < 0.1
    best = torch.cat([x.detach().sigmoid().flatten(2) for x in logits], 2).amax(2)[0]
    assert best[1] > 0.6
    assert best[3] > 0.6
    assert best[0] < 0.1


def test_ground_truth_is_one_item_a_picture() -> None:
    with pytest.raises(OptionError, match="one item per picture"):
        detection_loss(grid(2), items([]), [torch.zeros(0, dtype=torch.int64)], items([]))
