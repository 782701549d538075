"""Ground truth: reading COCO files, refusing nonsense, and pseudo ground truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vcm.errors import AnnotationError, FormatError, LimitError, OptionError
from vcm.eval import ground_truth as module
from vcm.eval.accuracy import evaluate_detections
from vcm.eval.ground_truth import Category, CocoGroundTruth, CocoImage
from vcm.eval.pseudo import pseudo_ground_truth
from vcm.structures import COCO_CATEGORY_IDS, COCO_NAMES, Detections


def good():
    return {
        "info": {"ignored": True},
        "images": [
            {"id": 9, "file_name": "sub/b.jpg", "width": 64, "height": 48, "licence": 3},
            {"id": 4, "file_name": "a.jpg", "width": 640, "height": 480},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person", "supercategory": "person"}],
        "annotations": [
            {"id": 0, "image_id": 4, "category_id": 1, "bbox": [1, 2.5, 30, 40], "area": 700.5, "iscrowd": 0},
            {"id": 7, "image_id": 9, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 1, "segmentation": {"x": 1}},
            {"id": 8, "image_id": 9, "category_id": 90, "bbox": [5, 5, 0, 7]},
        ],
    }


def write(tmp_path, data, name="instances.json"):
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_from_json(tmp_path):
    truth = CocoGroundTruth.from_json(write(tmp_path, good()))
    assert truth.name == tmp_path.name
    assert truth.images == (CocoImage(4, "a.jpg", 640, 480), CocoImage(9, "sub/b.jpg", 64, 48))
    assert truth.categories == (Category(1, "person"), Category(90, "toothbrush"))
    assert truth.boxes.tolist() == [[1, 2.5, 30, 40], [0, 0, 10, 10], [5, 5, 0, 7]]
    assert truth.areas.tolist() == [700.5, 100, 0]
    assert truth.crowd.tolist() == [False, True, False]
    assert truth.boxes_per_category() == (1, 1)
    assert (truth.category_id("person"), truth.category_id("unicorn"), truth.pseudo) == (1, None, False)
    assert CocoGroundTruth.from_json(write(tmp_path, good(), "val.json")).name == "val"


def test_select(tmp_path):
    path = write(tmp_path, good())
    part = CocoGroundTruth.from_json(path, image_ids=[9], name="part")
    assert (part.name, part.image_ids, part.box_categories.tolist()) == ("part", (9,), [1, 90])
    assert part.category_ids == (1, 90)
    with pytest.raises(OptionError, match=r"found \[5\]"):
        CocoGroundTruth.from_json(path, image_ids=[4, 5])


def test_round_trip(tmp_path):
    truth = CocoGroundTruth.from_json(write(tmp_path, good()))
    coco = truth.to_coco()
    assert [a["id"] for a in coco["annotations"]] == [1, 2, 3]
    again = CocoGroundTruth.from_json(write(tmp_path, coco, "again.json"))
    assert again.to_coco() == coco


def broken(change):
    data = good()
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "images is not a list"),
        (lambda d: d.update(annotations={}), "annotations is not a list"),
        (lambda d: d["annotations"].append(3), r"annotations\[3\]: expected an object"),
        (lambda d: d["images"][0].update(id="9"), r"images\[0\].id"),
        (lambda d: d["images"][0].update(id=True), r"images\[0\].id"),
        (lambda d: d["images"][0].update(id=4), "id there twice.*found 4"),
        (lambda d: d["images"][0].update(width=0), r"images\[0\].width: expected an integer 1"),
        (lambda d: d["images"][0].update(height=70_000), r"images\[0\].height"),
        (lambda d: d["images"][0].update(file_name="../../etc/passwd"), "leaves its folder"),
        (lambda d: d["images"][0].update(file_name="/etc/passwd"), "leaves its folder"),
        (lambda d: d["images"][0].update(file_name=""), "file_name"),
        (lambda d: d["categories"][0].update(id=1), "id there twice"),
        (lambda d: d["categories"][0].pop("name"), r"categories\[0\].name"),
        (lambda d: d["annotations"][0].update(image_id=5), r"annotations\[0\].image_id.*found 5"),
        (lambda d: d["annotations"][0].update(category_id=2), r"annotations\[0\].category_id.*found 2"),
        (lambda d: d["annotations"][0].update(category_id=True), r"annotations\[0\].category_id"),
        (lambda d: d["annotations"][0].pop("bbox"), r"annotations\[0\].bbox"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), r"annotations\[0\].bbox"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]), "width and height >= 0"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), r"annotations\[0\].bbox"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 10**400, 4]), r"annotations\[0\].bbox"),
        (lambda d: d["annotations"][0].update(area="big"), r"annotations\[0\].area"),
        (lambda d: d["annotations"][0].update(iscrowd=2), r"annotations\[0\].iscrowd"),
    ],
)
def test_nonsense_is_refused(tmp_path, change, message):
    path = write(tmp_path, broken(change))
    with pytest.raises(AnnotationError, match=message) as caught:
        CocoGroundTruth.from_json(path)
    assert isinstance(caught.value, FormatError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000, "\udcff"])
def test_files_that_are_not_coco(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AnnotationError):
        CocoGroundTruth.from_json(path)


def test_absent_and_oversized(tmp_path, monkeypatch):
    with pytest.raises(AnnotationError, match="cannot be read"):
        CocoGroundTruth.from_json(tmp_path / "none.json")
    path = write(tmp_path, good())
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    with pytest.raises(LimitError, match="expected at most 100 bytes"):
        CocoGroundTruth.from_json(path)


def test_from_boxes():
    images, categories = [CocoImage(4, "a.jpg", 640, 480)], [Category(1, "person")]
    truth = CocoGroundTruth.from_boxes("x", images, categories, {4: ([[1, 2, 11, 22]], [1])})
    assert truth.boxes.tolist() == [[1, 2, 10, 20]]
    assert truth.areas.tolist() == [200]
    with pytest.raises(AnnotationError, match="one category id"):
        CocoGroundTruth.from_boxes("x", images, categories, {4: ([[1, 2, 11, 22]], [])})
    with pytest.raises(AnnotationError, match="image_id"):
        CocoGroundTruth.from_boxes("x", images, categories, {5: ([[1, 2, 11, 22]], [1])})
    with pytest.raises(AnnotationError, match="width and height"):
        CocoGroundTruth.from_boxes("x", images, categories, {4: ([[11, 2, 1, 22]], [1])})


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
