"""Results go out and come back the same: each form, each type."""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest

from vcm.errors import AnnotationError, MissingDependencyError, OptionError
from vcm.structures import Classes, Detections, InstanceMasks, Keypoints
from vcm.structures import interchange as forms
from vcm.structures.rle import decode_mask, encode_mask

SIZE = (160, 120)
THREE = Classes(("ant", "bee", "cat"), (7, 9, 400))
POINTS = ("nose", "left ear", "right ear")


def detections() -> Detections:
    boxes = np.array([[10, 20, 60, 90], [0, 0, 160, 120], [100.5, 30.25, 150, 60]], np.float32)
    scores = np.array([0.875, 0.5, 0.25], np.float32)
    return Detections(boxes, scores, np.array([2, 0, 1]), *SIZE, names=THREE.names, category_ids=THREE.category_ids)


def masks() -> InstanceMasks:
    y, x = np.mgrid[:28, :28]
    disc = ((y - 13.5) ** 2 + (x - 13.5) ** 2 < 12**2).astype(np.float32)
    return InstanceMasks.of(detections(), np.stack([disc, 1 - disc, np.ones_like(disc)]))


def keypoints() -> Keypoints:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 100, (2, 3, 2)), rng.uniform(0, 1, (2, 3, 1))], axis=2).astype(np.float32)
    boxes = np.array([[5, 5, 105, 105], [0, 1, 101, 110]], np.float32)
    return Keypoints(points, boxes, np.array([0.75, 0.5], np.float32), POINTS, *SIZE)


class FakeRow(dict):
    """A document of FiftyOne's: fields by attribute and by key, ``None`` where a known one was not given."""

    def __getattr__(self, name: str) -> Any:
        if name in ("confidence", "mask"):
            return self.get(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class FakeInstances:
    """As much of Detectron2's Instances as its documentation promises."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        self.image_size = image_size

    def has(self, name: str) -> bool:
        return name in self.__dict__


class FakeBoxes:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """FiftyOne and Detectron2 where they are installed, else what their documentation says of the few classes used."""
    if importlib.util.find_spec("fiftyone") is None:
        fiftyone = types.ModuleType("fiftyone")
        fiftyone.__dict__.update(dict.fromkeys(("Detection", "Detections", "Keypoint", "Keypoints"), FakeRow))
        monkeypatch.setitem(sys.modules, "fiftyone", fiftyone)
    if importlib.util.find_spec("detectron2") is None:
        package, structures = types.ModuleType("detectron2"), types.ModuleType("detectron2.structures")
        structures.__dict__.update({"Instances": FakeInstances, "Boxes": FakeBoxes})
        monkeypatch.setitem(sys.modules, "detectron2", package)
        monkeypatch.setitem(sys.modules, "detectron2.structures", structures)


def close(one: Any, other: Any, places: float = 1e-4) -> None:
    """The same type, names and size, and numbers as near as the form allows."""
    assert type(one) is type(other)
    assert (one.names, one.width, one.height) == (other.names, other.width, other.height)
    for name in one._ROWS:
        if name != "masks":
            assert np.allclose(getattr(one, name), getattr(other, name), atol=places), name
            assert getattr(one, name).dtype == getattr(other, name).dtype


def alike(one: InstanceMasks, other: InstanceMasks) -> None:
    close(one, other)
    for a, b in zip(one.each(), other.each(), strict=True):
        assert (a & b).sum() / max(1, (a | b).sum()) > 0.93


def test_detections_come_back(libraries: None) -> None:
    found = detections()
    close(forms.detections_from_coco(found.to_coco(5), SIZE, THREE), found)
    close(forms.detections_from_torchvision(forms.to_torchvision(found), SIZE, THREE), found)
    close(forms.detections_from_detectron2(forms.to_detectron2(found), THREE), found)
    close(forms.detections_from_fiftyone(forms.to_fiftyone(found), SIZE, THREE), found, 1e-3)
    close(forms.detections_from_yolo(forms.to_yolo(found), SIZE, THREE), found, 1e-3)


def test_supervision_keeps_names() -> None:
    pytest.importorskip("supervision")
    with warnings.catch_warnings():  # of supervision's own imports and renamings
        warnings.simplefilter("ignore")
        close(forms.detections_from_supervision(forms.to_supervision(detections()), SIZE, THREE), detections())
        # Names count, not numbers: another order of the classes gives other labels and the same names.
        turned = Classes(("cat", "bee", "ant"))
        got = forms.detections_from_supervision(forms.to_supervision(detections()), SIZE, turned)
        assert got.label_names() == detections().label_names()
        assert got.labels.tolist() == [0, 2, 1]
        alike(forms.masks_from_supervision(forms.to_supervision(masks()), SIZE, THREE), masks())
        close(forms.keypoints_from_supervision(forms.to_supervision(keypoints()), SIZE, POINTS), keypoints())


def test_masks_come_back(libraries: None) -> None:
    found = masks()
    alike(forms.masks_from_coco(found.to_coco(1), SIZE, THREE), found)
    alike(forms.masks_from_torchvision(forms.to_torchvision(found), SIZE, THREE), found)
    alike(forms.masks_from_detectron2(forms.to_detectron2(found), THREE), found)
    alike(forms.masks_from_fiftyone(forms.to_fiftyone(found), SIZE, THREE), found)
    with pytest.raises(OptionError, match="YOLO's text is of boxes or keypoints"):
        forms.to_yolo(found)  # type: ignore[arg-type]


def test_keypoints_come_back(libraries: None) -> None:
    found = keypoints()
    close(forms.keypoints_from_coco(found.to_coco(1), SIZE, POINTS), found)
    close(forms.keypoints_from_torchvision(forms.to_torchvision(found), SIZE, POINTS), found)
    close(forms.keypoints_from_detectron2(forms.to_detectron2(found), POINTS), found)
    close(forms.keypoints_from_fiftyone(forms.to_fiftyone(found), SIZE, POINTS), found, 1e-3)
    close(forms.keypoints_from_yolo(forms.to_yolo(found), SIZE, POINTS), found, 1e-3)


def test_none_at_all_comes_back(libraries: None) -> None:
    nothing = detections()[:0]
    assert forms.to_yolo(nothing) == ""
    for got in (
        forms.detections_from_yolo("", SIZE, THREE),
        forms.detections_from_coco([], SIZE, THREE),
        forms.detections_from_fiftyone(forms.to_fiftyone(nothing), SIZE, THREE),
        forms.masks_from_torchvision(forms.to_torchvision(masks()[:0]), SIZE, THREE).detections,
    ):
        assert got == nothing


def test_yolo_text_is_the_fields_own() -> None:
    """class, centre x, centre y, width, height: shares of the picture (docs.ultralytics.com/datasets/detect)."""
    assert forms.to_yolo(detections()[:1]) == "2 0.218750 0.458333 0.312500 0.583333 0.875000\n"
    (one,) = forms.detections_from_yolo("1 0.5 0.5 0.25 0.5\n", SIZE, THREE)
    assert one.box == (60, 30, 100, 90)
    assert one.score == 1


def test_run_lengths_are_cocos() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for mask in (rng.random((13, 17)) > 0.5, np.zeros((4, 5), bool), np.ones((4, 5), bool), rng.random((50, 3)) > 0.97):
        own = encode_mask(mask)
        assert np.array_equal(decode_mask(own, *mask.shape), mask)
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert coco.frPyObjects(own, *mask.shape) == theirs
        assert np.array_equal(decode_mask({**theirs, "size": list(theirs["size"])}, *mask.shape), mask)
        text = theirs["counts"].decode()
        assert np.array_equal(decode_mask({"size": list(mask.shape), "counts": text}, *mask.shape), mask)


@pytest.mark.parametrize("counts", [[3, 4], [-1, 21], "P", b"\xff\xff", None, [20.0], [True] * 20])
def test_run_lengths_that_are_none_are_refused(counts: Any) -> None:
    with pytest.raises(AnnotationError):
        decode_mask({"size": [4, 5], "counts": counts}, 4, 5)


def test_what_is_none_of_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnnotationError, match="row 0 is no COCO result"):
        forms.detections_from_coco([{"bbox": [1, 2, 3]}], SIZE, THREE)
    with pytest.raises(AnnotationError, match="row 0 is no COCO result"):
        forms.detections_from_coco([{"bbox": [1, 2, 3, 4], "category_id": 1}], SIZE, THREE)
    with pytest.raises(AnnotationError, match="line 2 is no box: expected 5 or 6 numbers, found 4"):
        forms.detections_from_yolo("0 .5 .5 .1 .1\n0 .5 .5 .1\n", SIZE, THREE)
    with pytest.raises(AnnotationError, match="line 1 is not of numbers"):
        forms.detections_from_yolo("ant .5 .5 .1 .1", SIZE, THREE)
    with pytest.raises(AnnotationError, match="a class that is none"):
        forms.detections_from_yolo("3 .5 .5 .1 .1", SIZE, THREE)
    with pytest.raises(OptionError, match="masks and boxes differ"):
        forms.masks_from_full(detections(), [np.zeros((120, 160))])
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MissingDependencyError, match="fiftyone is not installed: pip install fiftyone"):
        forms.to_fiftyone(detections())
