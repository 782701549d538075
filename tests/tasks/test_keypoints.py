"""The keypoint head: heatmaps and cut-outs by hand, source coordinates, its file, a codec's own boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TINY_WEIGHTS, golden_picture

import vcm
from vcm.errors import HeadError, OptionError
from vcm.structures import Keypoints, Latents, LatentSpec
from vcm.tasks.array_keypoints import read_heatmaps
from vcm.tasks.keypoints import KeypointHead, KeypointOutput, KeypointShape, KeypointTask

SPEC = LatentSpec(8, 16)
NAMES = ("left_eye", "right_eye", "tail")
SHAPE = KeypointShape(grid=4, width=8, depth=1, up=2, margin=1.5)


@pytest.fixture
def head() -> KeypointHead:
    torch.manual_seed(0)
    head = KeypointHead(SPEC, NAMES, SHAPE)
    head.mean.normal_()
    head.spread.uniform_(0.5, 2)
    return head.eval().requires_grad_(False)


def latents(coded: tuple[int, int] = (96, 64), source: tuple[int, int] | None = None) -> Latents:
    y = torch.randn(1, 8, -(-coded[1] // 16), -(-coded[0] // 16), generator=torch.manual_seed(1))
    return Latents(y, SPEC, coded, source or coded, 50)


def one_peak(row: int, column: int, cells: int = 8, value: float = 50.0) -> torch.Tensor:
    heat = torch.zeros(1, 1, cells, cells)
    heat[0, 0, row, column] = value
    return heat


def test_a_peak_is_read_at_its_cells_centre() -> None:
    points, whole = read_heatmaps(
        one_peak(2, 5).numpy(), np.full((1, 1), 30, np.float32), np.array([[10, 100, 90, 180]], np.float32)
    )
    assert points[0, 0].tolist() == pytest.approx([10 + 80 * 5.5 / 8, 100 + 80 * 2.5 / 8, 1.0], abs=1e-3)
    assert whole.item() == pytest.approx(1.0, abs=1e-3)


def test_two_peaks_are_not_averaged() -> None:
    heat = one_peak(4, 0, value=20.0)
    heat[0, 0, 4, 7] = 19.0
    points, _ = read_heatmaps(heat.numpy(), np.zeros((1, 1), np.float32), np.array([[0, 0, 8, 8]], np.float32))
    assert points[0, 0, 0].item() == pytest.approx(0.5, abs=1e-2)
    # What lies around the peak is e/(1 + e) of the whole, and the point shows with probability one half.
    assert points[0, 0, 2].item() == pytest.approx(np.e / (1 + np.e) / 2, abs=1e-3)


def test_a_peak_between_cells_is_their_mean() -> None:
    heat = one_peak(3, 3, value=20.0)
    heat[0, 0, 3, 4] = 20.0
    points, _ = read_heatmaps(heat.numpy(), np.zeros((1, 1), np.float32), np.array([[0, 0, 8, 8]], np.float32))
    assert points[0, 0, :2].tolist() == pytest.approx([4.0, 3.5], abs=1e-3)


def test_what_is_cut_out_lies_where_it_should() -> None:
    head = KeypointHead(SPEC, NAMES, SHAPE)
    ramp = torch.arange(10.0).expand(1, 8, 6, 10)  # a position's value is its column, its centre column + 1/2
    cut = head.cut(ramp, torch.tensor([[2.0, 1.0, 6.0, 5.0]]))
    assert cut.shape == (1, 8, 4, 4)
    assert cut[0, 0, 2].tolist() == pytest.approx([2.0, 3.0, 4.0, 5.0], abs=1e-5)
    down = torch.arange(6.0)[:, None].expand(1, 8, 6, 10)
    assert head.cut(down, torch.tensor([[2.0, 1.0, 6.0, 5.0]]))[0, 0, :, 1].tolist() == pytest.approx(
        [1, 2, 3, 4], abs=1e-5
    )


def test_beyond_the_picture_lies_the_average(head: KeypointHead) -> None:
    beyond = head.cut(latents().y_hat, torch.tensor([[20.0, 20.0, 30.0, 30.0]]))
    assert not beyond.any()
    full = head.mean[:, None, None].expand(1, 8, 4, 6)
    assert head.cut(full, torch.tensor([[0.0, 0.0, 6.0, 4.0]])).abs().max() < 1e-6


def test_padding_with_the_average_changes_nothing(head: KeypointHead) -> None:
    y = latents().y_hat
    padded = head.mean[:, None, None].expand(1, 8, 9, 11).clone()
    padded[:, :, :4, :6] = y
    regions = torch.tensor([[3.0, 1.0, 7.5, 5.0], [-1.0, -1.0, 2.0, 3.0]])
    torch.testing.assert_close(head.cut(y, regions), head.cut(padded, regions), atol=1e-5, rtol=1e-5)


def test_points_are_in_source_pixels(head: KeypointHead, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = np.array([[40, 20, 120, 100], [0, 0, 16, 16]], np.float32)
    seen: list[torch.Tensor] = []

    def forward(y: torch.Tensor, regions: torch.Tensor) -> KeypointOutput:
        seen.append(regions)
        return KeypointOutput(one_peak(0, 7).expand(2, 3, 8, 8), torch.full((2, 3), 30.0))

    monkeypatch.setattr(head, "forward", forward)
    found = head.estimate(latents((96, 64), (192, 128)), boxes, np.array([0.5, 1.0], np.float32))
    # The box is enlarged one and a half times: 20 … 140 and 0 … 120; the coded picture is half as large, the stride 16.
    assert seen[0][0].tolist() == pytest.approx([20 / 32, 0, 140 / 32, 120 / 32])
    assert found.points[0, 1].tolist() == pytest.approx([20 + 120 * 7.5 / 8, 120 * 0.5 / 8, 1.0], abs=1e-2)
    assert found.scores.tolist() == pytest.approx([0.5, 1.0], abs=1e-3)
    assert (found.width, found.height, found.names) == (192, 128, NAMES)
    assert np.array_equal(found.boxes, boxes)


def test_no_boxes_give_no_keypoints(head: KeypointHead) -> None:
    found = head.estimate(latents(), np.zeros((0, 4), np.float32))
    assert len(found) == 0
    assert found.points.shape == (0, 3, 3)


def test_wrong_latents_and_boxes_are_refused(head: KeypointHead) -> None:
    other = Latents(torch.zeros(1, 4, 4, 4), LatentSpec(4, 16), (64, 64), (64, 64), 50)
    with pytest.raises(HeadError, match="another kind"):
        head.estimate(other, np.zeros((1, 4), np.float32))
    with pytest.raises(OptionError, match="boxes and scores"):
        head.estimate(latents(), np.zeros((4,), np.float32))
    with pytest.raises(OptionError, match="boxes and scores"):
        head.estimate(latents(), np.zeros((2, 4), np.float32), np.zeros(1, np.float32))
    with pytest.raises(OptionError, match="finite"):
        head.estimate(latents(), np.full((1, 4), np.nan, np.float32))
    with pytest.raises(HeadError, match="names"):
        KeypointHead(SPEC, ("eye", "eye"))
    with pytest.raises(OptionError, match="depth"):
        KeypointShape(depth=0)


def test_a_codec_runs_the_head_on_its_own_boxes(head: KeypointHead) -> None:
    codec = vcm.load(TINY_WEIGHTS)
    file = codec.encode(golden_picture()[:, :200], base_only=True)
    boxes = codec.detect(file, score=0.1)
    assert len(boxes) > 0
    label = int(boxes.labels[0])
    codec.add_head("pose", KeypointTask(head, codec.head("detect"), labels=[label], score=0.1))
    found = codec.run("pose", file)
    assert isinstance(found, Keypoints)
    assert len(found) == int((boxes.labels == label).sum())
    np.testing.assert_array_equal(found.boxes, boxes.boxes[boxes.labels == label])
    assert found.bytes_read == len(file.base)
    codec.add_head("everything", KeypointTask(head, codec.head("detect"), score=0.1))
    assert len(codec.run("everything", file)) == len(boxes)
    with pytest.raises(HeadError, match="no head"):
        codec.head("posse")
    with pytest.raises(OptionError, match="score"):
        KeypointTask(head, codec.head("detect"), score=2)


def test_keypoints_convert() -> None:
    points = np.array([[[1, 2, 0.5], [3, 4, 1.0]]], np.float32)
    found = Keypoints(points, np.array([[0, 1, 10, 21]], np.float32), np.array([0.75], np.float32), ("a", "b"), 30, 40)
    assert found.to_coco(7, 3) == [
        {"image_id": 7, "category_id": 3, "bbox": [0, 1, 10, 20], "keypoints": [1, 2, 0.5, 3, 4, 1.0], "score": 0.75}
    ]
    assert found.to_json() == [
        {"box": [0, 1, 10, 21], "score": 0.75, "keypoints": {"a": [1, 2, 0.5], "b": [3, 4, 1.0]}}
    ]
    with pytest.raises(OptionError, match="points"):
        Keypoints(points, found.boxes, found.scores, ("a",), 30, 40)
