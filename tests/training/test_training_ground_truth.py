"""Boxes follow their pixels through every augmentation; annotation files are read and refused as told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from vcm.errors import AnnotationError, ImageError
from vcm.structures import COCO_CATEGORY_IDS, Classes
from vcm.training.data import (
    Crop,
    PictureStore,
    ViewPlan,
    ViewSpec,
    plan_views,
    render_views,
    view_objects,
)


def cut_views(store, chosen, spec, rng):
    return render_views(store, plan_views(store, chosen, spec, rng))


def cut_labelled_views(store, chosen, spec, rng):
    plans = plan_views(store, chosen, spec, rng)
    return render_views(store, plans), view_objects(store, plans)


RED = ((20, 15, 90, 60), (0, 0, 30, 110), (60, 40, 200, 150), (100, 5, 110, 130), (30, 30, 40, 38))
SIZES = ((120, 90), (100, 110), (210, 160), (150, 150), (64, 48))


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> PictureStore:
    """Grey pictures with one red rectangle each, its class the picture's number; the last one is not annotated."""
    folder = tmp_path_factory.mktemp("red")
    annotations = []
    for i, (size, box) in enumerate(zip(SIZES, RED, strict=True)):
        image = Image.new("RGB", size, (60, 60, 60))
        x1, y1, x2, y2 = box
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=(255, 0, 0))
        image.save(folder / f"{i}.png")
        annotations.append({"image_id": i, "category_id": i + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    images = [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(SIZES[:4])]
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations[:4]}))
    return PictureStore([folder], longest=180)


def test_boxes_are_scaled_with_the_kept_picture(red: PictureStore) -> None:
    assert red.truth[4] is None
    truth = red.truth[2]
    assert truth is not None
    assert tuple(red.pictures[2].shape) == (3, 137, 180)
    expected = np.array(RED[2]) * np.array([180 / 210, 137 / 160] * 2)
    np.testing.assert_allclose(truth.boxes, expected[None], rtol=1e-6)
    assert truth.labels.tolist() == [2]


def grown(boxes: torch.Tensor, by: float, size: int) -> torch.Tensor:
    """Mask of the pixels whose centre lies in a box that was grown by ``by`` pixels to each side."""
    at = torch.arange(size) + 0.5
    mask = torch.zeros(size, size, dtype=torch.bool)
    for x1, y1, x2, y2 in boxes.tolist():
        columns, rows = (at > x1 - by) & (at < x2 + by), (at > y1 - by) & (at < y2 + by)
        mask |= rows[:, None] & columns
    return mask


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    chosen=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    size=st.sampled_from([64, 128, 192]),
    reference=st.sampled_from([0, 160]),
    mosaic=st.sampled_from([0.0, 1.0]),
    mixup=st.sampled_from([0.0, 1.0]),
    colour=st.sampled_from([0.0, 0.2]),
)
def test_red_is_where_the_boxes_say(
    red: PictureStore,
    seed: int,
    chosen: list[int],
    size: int,
    reference: int,
    mosaic: float,
    mixup: float,
    colour: float,
) -> None:
    spec = ViewSpec(size, reference, (0.6, 1.6), mosaic, mixup, colour)
    views, objects = cut_labelled_views(red, chosen, spec, np.random.default_rng(seed))
    assert torch.equal(views, cut_views(red, chosen, spec, np.random.default_rng(seed)))
    for view, boxes, labels, ignore in zip(views, objects.boxes, objects.labels, objects.ignore, strict=True):
        redness = view[0] - (view[1] + view[2]) / 2
        every = torch.cat([boxes, ignore])
        outside = redness[~grown(every, 2, size)]
        assert not len(outside) or float(outside.max()) < 20  # Lanczos rings a little
        assert all(float(redness[grown(b[None], -2, size)].min()) > 50 for b in boxes if (b[2:] - b[:2]).min() > 5)
        assert len(boxes) == len(labels)
        assert ((boxes >= 0) & (boxes <= size)).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) >= 4).all()


def test_labels_follow_their_pictures(red: PictureStore) -> None:
    spec = ViewSpec(320, 0, (0.9, 1.0), 0, 1, 0)
    _, objects = cut_labelled_views(red, [3, 1], spec, np.random.default_rng(0))
    assert all(
        int(labels[0]) == i and set(labels.tolist()) <= {1, 3} for labels, i in zip(objects.labels, (3, 1), strict=True)
    )


def test_random_choices_are_those_of_former_runs(red: PictureStore) -> None:
    # A resumed run must see the pictures that it would have seen: the number of draws is part of the behaviour.
    rng = np.random.default_rng(7)
    cut_views(red, [0, 1, 2, 3, 4] * 4, ViewSpec(128, 160, (0.6, 1.6), 0.4, 0.4, 0.2), rng)
    assert rng.random() == pytest.approx(0.13068424580727667, abs=1e-12)
    plan = plan_views(red, [0, 4], ViewSpec(64, 0, (1.0, 1.0), 0, 0, 0), np.random.default_rng(7))
    assert [p.crops[0].index for p in plan] == [0, 4]


def plan(crop: Crop) -> ViewPlan:
    return ViewPlan((crop,), None, None)


@pytest.mark.parametrize(
    ("window", "kept", "left"),
    [
        ((15, 20, 45, 70), [[0, 0, 70, 45]], []),  # just the rectangle
        ((15, 72, 45, 18), [[0, 0, 18, 45]], []),  # 18 of 70 columns are more than a quarter
        ((15, 73, 45, 17), [], [[0, 0, 17, 45]]),  # 17 are less
        ((57, 20, 30, 70), [], [[0, 0, 70, 3]]),  # three rows
        ((61, 20, 20, 70), [], []),  # none
    ],
)
def test_boxes_that_hardly_show_are_ignored_instead(
    red: PictureStore, window: tuple[int, int, int, int], kept: list[list[int]], left: list[list[int]]
) -> None:
    objects = view_objects(red, [plan(Crop(0, 128, window, window[2:], False, (0, 0)))])
    assert objects.boxes[0].tolist() == kept
    assert objects.ignore[0].tolist() == left


def test_flip_scale_and_place_by_hand(red: PictureStore) -> None:
    # A window from (10, 5), 60 rows by 100 columns, shown twice as large, mirrored, at row 7 and column 3.
    crop = Crop(0, 256, (5, 10, 60, 100), (120, 200), True, (7, 3))
    objects = view_objects(red, [plan(crop)])
    # x 20..90 is 10..80 of the window, 20..160 of 200 columns, mirrored 40..180; y 15..60 is 10..55, 20..110.
    assert objects.boxes[0].tolist() == [[43, 27, 183, 117]]
    view = render_views(red, [plan(crop)])[0]
    assert float(view[0, 30:114, 46:180].min()) > 250
    assert float(view[1, 30:114, 46:180].max()) < 5


def test_pictures_without_truth_are_ignored_where_they_are(red: PictureStore) -> None:
    crops = tuple(Crop(i, 64, (0, 0, 48, 64), (48, 64), False, (0, 0)) for i in (4, 0, 4, 1))
    objects = view_objects(red, [ViewPlan(crops, None, None)])
    assert objects.ignore[0].tolist() == [[0, 0, 64, 64], [0, 64, 64, 128]]
    assert objects.labels[0].tolist() == [0, 1]
    assert objects.boxes[0].tolist() == [[84, 15, 128, 48], [64, 64, 94, 112]]
    mixed = view_objects(
        red, [ViewPlan((Crop(0, 128, (0, 0, 90, 120), (90, 120), False, (0, 0)),), (0.5, crops[0]), None)]
    )
    assert mixed.ignore[0].tolist() == [[0, 0, 64, 64]]


def write(folder: Path, annotations: list[dict[str, object]], pseudo: object = None) -> PictureStore:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(folder / "a.png")
    content = {"images": [{"id": 5, "file_name": "a.png"}], "annotations": annotations}
    (folder / "instances.json").write_text(json.dumps(content))
    if pseudo is not None:
        (folder / "pseudo.json").write_text(json.dumps(pseudo))
    return PictureStore([folder])


PSEUDO = [
    {"image_id": 5, "category_id": 18, "bbox": [0, 0, 40, 40], "score": 0.9},  # the annotated dog
    {"image_id": 5, "category_id": 1, "bbox": [50, 10, 20, 60], "score": 0.3},  # nobody annotated this person
    {"image_id": 5, "category_id": 1, "bbox": [80, 10, 20, 60], "score": 0.29},
]


def test_crowds_and_unannotated_objects_are_ignored(tmp_path: Path) -> None:
    dog = {"image_id": 5, "category_id": 18, "bbox": [0, 0, 42, 40], "iscrowd": 0}
    crowd = {"image_id": 5, "category_id": 18, "bbox": [60, 60, 10, 10], "iscrowd": 1}
    truth = write(tmp_path / "partial", [dog, crowd], PSEUDO).truth[0]
    assert truth is not None
    assert truth.boxes.tolist() == [[0, 0, 42, 40]]
    assert truth.labels.tolist() == [16]
    assert truth.ignore.tolist() == [[60, 60, 70, 70], [50, 10, 70, 70]]


def test_where_all_classes_are_annotated_the_teacher_adds_nothing(tmp_path: Path) -> None:
    rows = [{"image_id": 5, "category_id": c, "bbox": [i, 0, 9, 9]} for i, c in enumerate(COCO_CATEGORY_IDS)]
    truth = write(tmp_path / "full", rows, PSEUDO).truth[0]
    assert truth is not None
    assert len(truth.boxes) == 80
    assert truth.ignore.shape == (0, 4)


@pytest.mark.parametrize(
    "row",
    [
        {"image_id": 6, "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"image_id": 5, "category_id": 12, "bbox": [0, 0, 1, 1]},
        {"image_id": 5, "category_id": 1, "bbox": [0, 0, 1]},
        {"image_id": 5, "category_id": 1, "bbox": [0, 0, -1, 1]},
        {"image_id": 5, "category_id": 1, "bbox": [0, 0, float("nan"), 1]},
        {"image_id": 5, "category_id": 1},
        {"image_id": 5, "bbox": [0, 0, 1, 1]},
        {"image_id": [5], "category_id": 1, "bbox": [0, 0, 1, 1]},
        "text",
    ],
)
def test_wrong_annotations_are_refused(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(AnnotationError, match=r"annotations\[0\]"):
        write(tmp_path / "wrong", [row])


def test_annotations_that_are_not_json(tmp_path: Path) -> None:
    Image.new("RGB", (10, 8)).save(tmp_path / "a.png")
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(AnnotationError, match="not JSON"):
        PictureStore([tmp_path])
    (tmp_path / "instances.json").write_text("[1]")
    with pytest.raises(AnnotationError, match="not a COCO file"):
        PictureStore([tmp_path])


def test_pictures_of_one_name_in_two_folders_keep_their_own_boxes(tmp_path: Path) -> None:
    boxes = {"a/1.png": [4, 6, 20, 10], "b/1.png": [30, 20, 16, 12]}
    for name in boxes:
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(boxes)]
    rows = [{"image_id": i, "category_id": 1 + i, "bbox": box} for i, box in enumerate(boxes.values())]
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": rows}))
    seen = [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9], "score": 0.25}]
    (tmp_path / "pseudo.json").write_text(json.dumps(seen))
    store = PictureStore([tmp_path])
    assert store.names == [f"{tmp_path.name}/a/1.png", f"{tmp_path.name}/b/1.png"]
    first, second = store.truth
    assert first is not None
    assert second is not None
    assert first.boxes.tolist() == [[4, 6, 24, 16]]
    assert second.boxes.tolist() == [[30, 20, 46, 32]]
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])
    assert store.pseudo == [{}, {4: 0.25}]


def test_pictures_stand_upright_and_transparency_is_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 48), (10, 20, 30))
    image.paste((200, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / "1.png", exif=exif)
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "2.png")
    turned, clear = PictureStore([tmp_path]).pictures
    assert tuple(turned.shape) == (3, 64, 48)
    assert turned[:, 2, 45].tolist() == [200, 0, 0]
    assert turned[:, 2, 2].tolist() == [10, 20, 30]
    assert clear.unique().tolist() == [255]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        PictureStore([tmp_path])


def test_classes_of_ones_own_go_by_name_and_others_are_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "1.png")
    categories = [{"id": 7, "name": "bolt"}, {"id": 9, "name": "nut"}, {"id": 11, "name": "hand"}]
    rows = [{"image_id": 0, "category_id": c, "bbox": [c, 2, 20, 20]} for c in (9, 11, 7)]
    images = [{"id": 0, "file_name": "1.png", "width": 64, "height": 48}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    truth = PictureStore([tmp_path], classes=Classes(("bolt", "nut"))).truth[0]
    assert truth is not None
    assert truth.labels.tolist() == [1, 0]
    assert truth.boxes[:, 0].tolist() == [9, 7]
    toothbrush, nut = {"id": 90, "name": "toothbrush"}, {"id": 12, "name": "nut"}
    content |= {"categories": [toothbrush, nut], "annotations": [{**rows[0], "category_id": 12}]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="not COCO's: found 12"):
        PictureStore([tmp_path])
