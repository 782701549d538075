"""COCO files: reading annotations, keypoints and results, and refusing nonsense."""

from __future__ import annotations

import json

import pytest

from vcm.errors import AnnotationError, FormatError, LimitError, OptionError
from vcm.io import coco as module
from vcm.io.coco import COCO_CATEGORIES, Category, CocoGroundTruth, CocoImage, read_results


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
        (lambda d: d["images"][0].update(file_name="."), "leaves its folder"),
        (lambda d: d["images"][0].update(file_name="sub/../a.jpg"), "leaves its folder"),
        (lambda d: d["images"][0].update(file_name="./a.jpg"), "file_name there twice.*found a.jpg"),
        (lambda d: d.pop("categories"), "categories is not a list"),
        (lambda d: d.pop("annotations"), "annotations is not a list"),
        (lambda d: d["images"][0].pop("width"), r"images\[0\].width"),
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


def test_pictures_of_one_base_name_are_two(tmp_path):
    data = good()
    data["images"] = [{"id": i, "file_name": f"{i}/1.jpg", "width": 9, "height": 9} for i in (4, 9)]
    truth = CocoGroundTruth.from_json(write(tmp_path, data))
    assert {name: rows.tolist() for name, rows in truth.rows().items()} == {"4/1.jpg": [0], "9/1.jpg": [1, 2]}
    assert truth.corners[2].tolist() == [5, 5, 5, 12]


def test_pictures_without_boxes_have_no_rows(tmp_path):
    data = good()
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] == 9]
    truth = CocoGroundTruth.from_json(write(tmp_path, data))
    assert {name: rows.tolist() for name, rows in truth.rows().items()} == {"a.jpg": [], "sub/b.jpg": [0, 1]}


def test_partial_files(tmp_path):
    path = write(tmp_path, {"images": [{"id": 4, "file_name": "./x//a.jpg"}]})
    truth = CocoGroundTruth.from_json(path, partial=True)
    assert truth.images == (CocoImage(4, "x/a.jpg", 0, 0),)
    assert (truth.categories, truth.boxes.shape) == (COCO_CATEGORIES, (0, 4))
    image = {"id": 4, "file_name": "a.jpg", "width": 5, "height": None}
    path = write(tmp_path, {"images": [image]})
    with pytest.raises(AnnotationError, match=r"height: expected an integer 0"):
        CocoGroundTruth.from_json(path, partial=True)


def with_keypoints(**changes):
    data = good()
    data["categories"][1]["keypoints"] = ["nose", "tail"]
    data["annotations"][0]["keypoints"] = [1, 2, 2, 0, 0, 0]
    data["annotations"][1]["keypoints"] = []
    data.update(changes)
    return data


def test_keypoints(tmp_path):
    truth = CocoGroundTruth.from_json(write(tmp_path, with_keypoints()), keypoints=True)
    assert truth.keypoint_names == ("nose", "tail")
    assert truth.keypoints.tolist() == [[[1, 2, 2], [0, 0, 0]], [[0, 0, 0]] * 2, [[0, 0, 0]] * 2]
    assert truth.select([9]).keypoints.shape == (2, 2, 3)
    named = write(tmp_path, with_keypoints(keypoint_names=["a", "b"]))
    assert CocoGroundTruth.from_json(named, keypoints=True).keypoint_names == ("a", "b")
    assert CocoGroundTruth.from_json(named).keypoint_names == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["categories"][1].pop("keypoints"), "names of keypoints: expected a list of strings"),
        (lambda d: d.update(keypoint_names=["a", "a"]), "there twice"),
        (lambda d: d.update(keypoint_names=["a", 3]), "list of strings"),
        (lambda d: d["annotations"][0].update(keypoints=[1, 2]), "expected 6 numbers, found 2"),
        (lambda d: d["annotations"][0].update(keypoints="abc"), "expected 6 numbers, found str"),
        (lambda d: d["annotations"][0].update(keypoints=[1, 2, 3, 0, 0, 0]), "visibilities"),
        (lambda d: d["annotations"][0].update(keypoints=[1, float("inf"), 2, 0, 0, 0]), "keypoints: expected a number"),
    ],
)
def test_nonsensical_keypoints_are_refused(tmp_path, change, message):
    data = with_keypoints()
    change(data)
    with pytest.raises(AnnotationError, match=message):
        CocoGroundTruth.from_json(write(tmp_path, data), keypoints=True)


ROW = {"image_id": 4, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.5}


def test_results(tmp_path):
    rows = [ROW, {**ROW, "image_id": "b/a.jpg", "category_id": 90}, {**ROW, "score": 1}]
    rows.append({"file_name": "./b/a.jpg", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0})
    found = read_results(write(tmp_path, rows, "pseudo.json"), [CocoImage(4, "a.jpg", 9, 9)])
    assert found.file_names == ("a.jpg", "b/a.jpg")
    assert {name: rows.tolist() for name, rows in found.rows().items()} == {"a.jpg": [0, 2], "b/a.jpg": [1, 3]}
    assert found.corners[0].tolist() == [1, 2, 4, 6]
    assert found.box_categories.tolist() == [18, 90, 18, 1]
    assert found.scores.tolist() == [0.5, 0.5, 1, 0]
    assert read_results(write(tmp_path, [], "none.json")).rows() == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "expected a list, found dict"),
        ([3], r"\[0\]: expected an object"),
        ([{**ROW, "image_id": 5}], "image_id: expected an id of a picture, or a path, found 5"),
        ([{**ROW, "image_id": True}], "image_id"),
        ([{**ROW, "image_id": "../x"}], "leaves its folder"),
        ([{**ROW, "category_id": 12}], "category_id"),
        ([{**ROW, "score": None}], "score: expected a number"),
        ([ROW, {**ROW, "bbox": [0, 0, -1, 1]}], r"\[1\].bbox.*width and height"),
    ],
)
def test_nonsensical_results_are_refused(tmp_path, rows, message):
    with pytest.raises(AnnotationError, match=message):
        read_results(write(tmp_path, rows, "pseudo.json"), [CocoImage(4, "a.jpg", 9, 9)])
