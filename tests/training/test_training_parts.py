"""Views and losses, against hand computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vcm.errors import ConfigError
from vcm.tasks.detection import DetectorOutput
from vcm.training.data import PictureStore, ViewSpec, class_weights, plan_views, render_views
from vcm.training.losses import distill_boxes, distill_features, distill_scores, teacher_labels
from vcm.training.teacher import Teacher, TeacherOutput


def cut_views(store, chosen, spec, rng):
    return render_views(store, plan_views(store, chosen, spec, rng))


@pytest.fixture
def store(tmp_path: Path) -> PictureStore:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for i, size in enumerate([(120, 80), (500, 300), (20, 30)]):
        ramp = np.linspace(0, 255, size[0], dtype=np.uint8)
        Image.fromarray(np.broadcast_to(ramp[None, :, None], (size[1], size[0], 3)).copy()).save(
            folder / "images" / f"{i}.png"
        )
    (folder / "instances.json").write_text(
        json.dumps({"images": [{"id": 10 + i, "file_name": f"{i}.png"} for i in range(3)]})
    )
    results = [
        {"image_id": 10, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.9},
        {"image_id": 11, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.4},
        {"image_id": 11, "category_id": 90, "bbox": [0, 0, 5, 5], "score": 0.8},
    ]
    (folder / "pseudo.json").write_text(json.dumps(results))
    return PictureStore([folder], longest=200)


def test_store_shrinks_names_and_reads_pseudo_labels(store: PictureStore) -> None:
    assert [tuple(p.shape) for p in store.pictures] == [(3, 80, 120), (3, 120, 200), (3, 30, 20)]
    assert store.names == ["set/0.png", "set/1.png", "set/2.png"]
    assert store.pseudo == [{0: 0.9}, {0: 0.4, 79: 0.8}, {}]
    weights = class_weights(store, pivot=2)
    assert weights[0] == pytest.approx(1.0)
    assert weights[79] == pytest.approx(2**0.5)
    rare = store.sampling_weights(1.0)
    assert rare[1] > rare[0] > rare[2] == 1


def test_holdout_leaves_pictures_out(tmp_path: Path, store: PictureStore) -> None:
    kept = PictureStore([tmp_path / "set"], holdout=frozenset({"set/1.png"}))
    assert kept.names == ["set/0.png", "set/2.png"]


def test_views_have_the_right_size_range_and_repeat(store: PictureStore) -> None:
    spec = ViewSpec(size=64, reference=100, mosaic=0.5, mixup=0.5)
    one = cut_views(store, [0, 1, 2, 1], spec, np.random.default_rng(5))
    two = cut_views(store, [0, 1, 2, 1], spec, np.random.default_rng(5))
    assert one.shape == (4, 3, 64, 64)
    assert one.min() >= 0
    assert one.max() <= 255
    assert torch.equal(one, two)
    assert not torch.equal(one, cut_views(store, [0, 1, 2, 1], spec, np.random.default_rng(6)))


def test_scale_is_what_it_says(store: PictureStore) -> None:
    # A ramp of 0..255 over 120 px, brought to a longest side of 240 px: 64 px of it span 255 * 64 / 240.
    spec = ViewSpec(size=64, reference=240, scale=(1.0, 1.0), mosaic=0, mixup=0, colour=0)
    view = cut_views(store, [0], spec, np.random.default_rng(0))[0, 0, 32]
    span = float((view[62] - view[1]).abs())
    assert span == pytest.approx(255 * 61 / 240, abs=4)


def test_score_loss_by_hand() -> None:
    logits = torch.tensor([0.3, -2.0]).view(1, 2, 1, 1)
    target = torch.tensor([0.8, 0.1]).view(1, 2, 1, 1)
    p = torch.sigmoid(torch.tensor([0.3, -2.0]))
    t = torch.tensor([0.8, 0.1])
    bce = -(t * p.log() + (1 - t) * (1 - p).log())
    wanted = ((p - t) ** 2 * bce).sum() / 1.0  # the mass, 0.8, is below the floor of 1
    assert float(distill_scores([logits], [target])) == pytest.approx(float(wanted), rel=1e-5)
    weighted = ((p - t) ** 2 * bce * torch.tensor([2.0, 3.0])).sum()
    assert float(distill_scores([logits], [target], torch.tensor([2.0, 3.0]))) == pytest.approx(
        float(weighted), rel=1e-5
    )


def _outputs(bins: torch.Tensor, scores: torch.Tensor) -> tuple[DetectorOutput, TeacherOutput]:
    sizes = ((4, 4), (2, 2), (1, 1), (1, 1))
    b = tuple(bins.view(1, 32, 1, 1).repeat(1, 1, *s) for s in sizes)
    s = tuple(torch.full((1, 80, *n), float(scores)) for n in sizes)
    f = tuple(torch.zeros(1, 4, *n) for n in sizes)
    return DetectorOutput(s, b, f, f[1]), TeacherOutput(s, b, f)


def test_box_losses_vanish_for_equal_boxes_and_grow_with_distance() -> None:
    bins = torch.zeros(32)
    bins[2::8] = 8.0  # two strides to each side
    same, teacher = _outputs(bins, torch.tensor(0.5))
    giou, kl = distill_boxes(same, teacher)
    assert float(giou) == pytest.approx(0, abs=1e-5)
    assert float(kl) == pytest.approx(0, abs=1e-6)
    worse = torch.zeros(32)
    worse[4::8] = 8.0
    other, _ = _outputs(worse, torch.tensor(0.5))
    giou, kl = distill_boxes(other, teacher)
    # Boxes of side 4 strides inside boxes of side 8 strides (the expectation is a little softer): 1 - IoU = 0.75.
    assert float(giou) == pytest.approx(0.75, abs=0.02)
    assert float(kl) > 1


def test_box_losses_ignore_what_the_teacher_does_not_see() -> None:
    bins = torch.zeros(32)
    out, teacher = _outputs(bins, torch.tensor(0.05))
    assert [float(v) for v in distill_boxes(out, teacher)] == [0.0, 0.0]


def test_feature_loss_is_one_for_zero_features() -> None:
    teacher = [torch.randn(2, 4, 3, 3)]
    assert float(distill_features([torch.zeros(2, 4, 3, 3)], teacher)) == pytest.approx(1, rel=1e-5)
    assert float(distill_features(teacher, teacher)) == 0


def test_labels_are_the_best_score_of_each_class() -> None:
    a, b = torch.zeros(1, 80, 2, 2), torch.zeros(1, 80, 1, 1)
    a[0, 3, 1, 0], b[0, 3, 0, 0], b[0, 7, 0, 0] = 0.4, 0.6, 0.2
    labels = teacher_labels(TeacherOutput((a, b), (), ()))
    assert labels.shape == (1, 80)
    assert labels[0, 3] == pytest.approx(0.6)
    assert labels[0, 7] == pytest.approx(0.2)
    assert F.relu(labels).sum() == pytest.approx(0.8)


def test_a_file_that_is_no_teacher_is_refused_and_a_gpu_that_would_wait_is_told(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    with pytest.raises(ConfigError, match="not there"):
        Teacher(tmp_path / "none.onnx")
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"\xffjunk")
    with pytest.raises(ConfigError, match="not an ONNX file"):
        Teacher(path)
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        with pytest.warns(UserWarning, match="pip install onnxruntime-gpu"), pytest.raises(ConfigError):
            Teacher(path, device=torch.device("cuda"))
