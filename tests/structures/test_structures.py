"""Results as sequences: equal by value, picked by index, slice and mask, filtered, shown on one line, converted."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vcm.errors import FingerprintError, HeadError, MissingDependencyError, OptionError
from vcm.structures import (
    COCO_NAMES,
    Classification,
    ClassScore,
    Detection,
    Detections,
    Keypoints,
    Latents,
    LatentSpec,
    Pose,
)


def detections(**changed: Any) -> Detections:
    boxes = np.array([[0, 1, 10, 21], [5, 5, 9, 9], [1, 1, 2, 2], [3, 3, 8, 8]], np.float32)
    scores, labels = np.array([0.9, 0.5, 0.4, 0.25], np.float32), np.array([0, 16, 0, 79])
    return replace(Detections(boxes, scores, labels, 640, 480, 100), **changed)


def keypoints(**changed: Any) -> Keypoints:
    points = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 10
    boxes = np.array([[0, 1, 10, 21], [5, 5, 9, 9]], np.float32)
    return replace(Keypoints(points, boxes, np.array([0.75, 0.2], np.float32), ("a", "b"), 30, 40), **changed)


def classification(**changed: Any) -> Classification:
    return replace(Classification(np.array([0.2, 0.75, 0.5], np.float32), ("ant", "bee", "cat"), 7), **changed)


def latents(**changed: Any) -> Latents:
    y = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
    return replace(Latents(y, LatentSpec(2, 16, "0" * 16), (60, 40), (120, 80), 50.0), **changed)


MAKE = {f.__name__: f for f in (detections, keypoints, classification, latents)}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("detections", {"scores": np.array([0.9, 0.5, 0.4, 0.3], np.float32)}),
        ("detections", {"boxes": detections().boxes.astype(np.float64)}),
        ("detections", {"bytes_read": 101}),
        ("detections", {"names": COCO_NAMES[::-1]}),
        ("keypoints", {"points": keypoints().points + 1}),
        ("keypoints", {"names": ("a", "c")}),
        ("classification", {"scores": np.array([0.2, 0.75, 0.25], np.float32)}),
        ("classification", {"names": ("ant", "bee", "cow")}),
        ("latents", {"y_hat": latents().y_hat + 1}),
        ("latents", {"y_hat": latents().y_hat[:, :, :2]}),
        ("latents", {"spec": LatentSpec(2, 16)}),
    ],
)
def test_equality_is_by_value(kind: str, changed: dict[str, Any]) -> None:
    one = MAKE[kind]()
    assert one == MAKE[kind]()
    assert one != MAKE[kind](**changed)
    assert one != "something else"
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_results_of_different_kinds_differ() -> None:
    assert detections() != keypoints()
    assert latents() != detections()


@pytest.mark.parametrize("kind", ["detections", "keypoints", "classification"])
def test_indexes_pick_what_numpy_picks(kind: str) -> None:
    one = MAKE[kind]()
    count = len(one)
    scores = one.scores
    mask = np.arange(count) % 2 == 0
    for index in (
        slice(None),
        slice(1, None),
        slice(None, None, -1),
        mask,
        mask.tolist(),
        [count - 1, 0],
        np.array([-1]),
    ):
        got = one[index]
        assert type(got) is type(one)
        assert np.array_equal(got.scores, scores[np.asarray(index) if isinstance(index, list) else index])
        assert got.bytes_read == one.bytes_read
        assert len(got) == len(got.scores)
    assert len(one[[]]) == len(one[:0]) == 0
    assert one[slice(None)] == one
    with pytest.raises(IndexError):
        one[count]
    with pytest.raises(IndexError):
        one[np.ones(count + 1, np.bool_)]


def test_detections_are_a_sequence() -> None:
    found = detections()
    assert found[1] == Detection((5, 5, 9, 9), 0.5, 16, "dog", 18)
    assert found[np.int64(-1)].name == "toothbrush"
    assert [one.name for one in found] == found.label_names() == ["person", "dog", "person", "toothbrush"]
    assert np.array_equal(found[1:3].boxes, found.boxes[1:3])
    assert np.array_equal(found[found.labels == 0].scores, found.scores[[0, 2]])


def test_keypoints_and_classes_are_sequences() -> None:
    first, second = keypoints()
    assert first == Pose((0, 1, 10, 21), 0.75, {"a": pytest.approx((0, 0.1, 0.2)), "b": pytest.approx((0.3, 0.4, 0.5))})
    assert second.score == pytest.approx(0.2)
    found = classification()
    assert list(found) == [ClassScore("ant", pytest.approx(0.2)), ClassScore("bee", 0.75), ClassScore("cat", 0.5)]
    assert found[1] == ("bee", 0.75)
    assert found[::-1].names == ("cat", "bee", "ant")
    assert found.top(2) == [("bee", 0.75), ("cat", 0.5)]


def test_filters() -> None:
    found = detections()
    assert found.filter() == found
    assert found.filter(score=0.4).scores.tolist() == pytest.approx([0.9, 0.5, 0.4])
    for person in ("person", 0, ["person"], np.array([0])):
        assert found.filter(classes=person).labels.tolist() == [0, 0]
    assert found.filter(score=0.5, classes=["dog", "toothbrush"]).label_names() == ["dog"]
    assert len(found.filter(classes=[])) == 0
    for unknown in ("dragon", 80, -1):
        with pytest.raises(OptionError, match=f"no such class: expected person, .*80 in all.*found {unknown}"):
            found.filter(classes=unknown)
    assert classification().filter(score=0.5).names == ("bee", "cat")
    assert classification().filter(classes="ant").names == ("ant",)
    assert keypoints().filter(score=0.5) == keypoints()[:1]
    assert keypoints().filter() == keypoints()


def test_shown_on_one_line() -> None:
    assert repr(detections()) == "<Detections 4 in 640x480: person 0.90, dog 0.50, person 0.40, …>"
    assert repr(detections()[:0]) == "<Detections 0 in 640x480: none>"
    assert repr(keypoints()) == "<Keypoints 2 objects of 2 points in 30x40>"
    assert repr(classification()) == "<Classification of 3: bee 0.75, cat 0.50, ant 0.20>"
    assert repr(latents()) == "<Latents 1x2x3x4 of 60x40 from 120x80, quality 50>"


def test_a_spec_refuses_what_it_was_not_made_for() -> None:
    spec, known = LatentSpec(2, 16), LatentSpec(2, 16, "0" * 16)
    spec.check(known)
    known.check(spec)
    known.check(known)
    with pytest.raises(HeadError, match="expected 2 channels at stride 16, found 2 channels at stride 8"):
        spec.check(LatentSpec(2, 8))
    with pytest.raises(FingerprintError, match=f"expected {'0' * 16}, found {'1' * 16}"):
        known.check(LatentSpec(2, 16, "1" * 16))


def test_supervision_gets_names() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # supervision's own, about OpenCV
        supervision = pytest.importorskip("supervision")
    for found in (detections(), detections()[:0]):
        got = found.to_supervision()
        assert isinstance(got, supervision.Detections)
        assert len(got) == len(found)
        assert np.array_equal(got.xyxy, found.boxes)
        assert np.array_equal(got.confidence, found.scores)
        assert np.array_equal(got.class_id, found.labels)
        assert list(got["class_name"]) == found.label_names()
    assert list(detections().to_supervision()[[1]]["class_name"]) == ["dog"]


def test_pandas_gets_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    found = detections()
    table = found.to_pandas()
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name", "category_id"]
    assert np.array_equal(table[["x1", "y1", "x2", "y2"]].to_numpy(), found.boxes)
    assert list(table["name"]) == found.label_names()
    assert [(row.score, row.label, row.category_id) for row in table.itertuples()] == [
        (one.score, one.label, one.category_id) for one in found
    ]
    assert isinstance(found[:0].to_pandas(), pandas.DataFrame)
    assert len(found[:0].to_pandas()) == 0


@pytest.mark.parametrize(("method", "package"), [("to_pandas", "pandas"), ("to_supervision", "supervision")])
def test_a_library_that_is_not_there_is_named(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"{package} is not installed: pip install {package}"):
        getattr(detections(), method)()


def test_detectron2_gets_instances() -> None:
    """Against Detectron2 itself, whose structures need no build; it is on no package index, so that CI skips this."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about scripting
        structures = pytest.importorskip("detectron2.structures")
    for found in (detections(), detections()[:0]):
        got = found.to_detectron2()
        assert isinstance(got, structures.Instances)
        assert got.image_size == (480, 640)
        assert len(got) == len(found)
        assert np.array_equal(got.pred_boxes.tensor.numpy(), found.boxes)
        assert np.array_equal(got.scores.numpy(), found.scores)
        assert np.array_equal(got.pred_classes.numpy(), found.labels)


def test_torchvision_gets_tensors() -> None:
    got = detections().to_torchvision()
    assert got["labels"].tolist() == [1, 18, 1, 90]
    assert got["boxes"].shape == (4, 4)
    got["boxes"][0] = -1  # a copy
    assert detections().boxes[0, 0] == 0
