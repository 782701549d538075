"""Detection accuracy against an evaluation written by hand, against pycocotools' own summary, and at its edges."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from vcm.errors import OptionError
from vcm.eval.metrics.detection import evaluate_detections
from vcm.eval.metrics.matching import IOU_THRESHOLDS
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.structures import COCO_CATEGORY_IDS, Detections

CATEGORIES = (Category(1, "person"), Category(3, "car"), Category(13, "stop sign"), Category(90, "toothbrush"))
SIZE = 400


def iou(a, b, crowd):
    """Overlap of two x y w h boxes; over the detection's own area where the annotated box is a crowd."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    return inter / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - inter)


def oracle_ap(truth, rows, category, threshold):
    """Interpolated average precision of one class, 0 … 100, box by box."""
    flags, positives = [], 0
    for image in sorted(truth.image_ids):
        mine = (truth.box_images == image) & (truth.box_categories == category)
        boxes, crowds = truth.boxes[mine], truth.crowd[mine]
        positives += int((~crowds).sum())
        used = [False] * len(boxes)
        found = [r for r in rows if r["image_id"] == image and r["category_id"] == category]
        for row in sorted(found, key=lambda r: -r["score"])[:100]:
            overlaps = [iou(row["bbox"], b, c) for b, c in zip(boxes, crowds, strict=True)]
            free = [k for k in range(len(boxes)) if not crowds[k] and not used[k] and overlaps[k] >= threshold]
            if free:
                used[max(free, key=lambda k: overlaps[k])] = True
                flags.append((row["score"], True))
            elif not any(c and o >= threshold for c, o in zip(crowds, overlaps, strict=True)):
                flags.append((row["score"], False))
    if positives == 0:
        return None
    flags.sort(key=lambda f: -f[0])
    hits = np.cumsum([f[1] for f in flags]) if flags else np.zeros(0)
    precision = hits / np.arange(1, len(flags) + 1)
    # Hits over positives, compared as COCO does in floating point.
    recall = hits / positives
    best = [max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)]
    return 100 * float(np.mean(best))


def made_up(seed, images=6, extra=25, crowds=True):
    """Ground truth with gaps in its ids and some crowds, and detections that hit, miss, repeat and lie on crowds."""
    rng = np.random.default_rng(seed)
    pictures = [CocoImage(10 * k + 7, f"{k}.png", SIZE, SIZE) for k in range(images)]
    boxes, crowd, rows = {}, {}, []
    for picture in pictures:
        n = int(rng.integers(0, 9))
        corner, side = rng.uniform(0, 280, (n, 2)), rng.uniform(20, 120, (n, 2))
        xyxy = np.concatenate([corner, corner + side], axis=1)
        ids = [int(c) for c in rng.choice([1, 1, 3, 13], n)]
        boxes[picture.id] = (xyxy, ids)
        crowd[picture.id] = [bool(v) for v in (rng.random(n) < 0.2 if crowds else np.zeros(n))]
        for box, category in zip(xyxy, ids, strict=True):
            for _ in range(int(rng.integers(0, 3))):
                shifted = box + rng.normal(0, 4, 4)
                rows.append((picture.id, category, shifted, rng.uniform(0.2, 1)))
        for _ in range(extra):
            x, y = rng.uniform(0, 300, 2)
            rows.append(
                (picture.id, int(rng.choice([1, 3, 13, 90])), np.array([x, y, x + 50, y + 50]), rng.uniform(0, 0.6))
            )
    truth = CocoGroundTruth.from_boxes("made-up", pictures, CATEGORIES, boxes, crowd=crowd)
    results = [
        {"image_id": i, "category_id": c, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": s}
        for i, c, b, s in rows
    ]
    return truth, results


@pytest.mark.parametrize("seed", range(6))
def test_every_class_equals_the_oracle(seed):
    truth, rows = made_up(seed)
    result = evaluate_detections(truth, rows)
    values = []
    for found in result.per_class:
        expected = [oracle_ap(truth, rows, found.category_id, t) for t in IOU_THRESHOLDS]
        if expected[0] is None:
            assert (found.ap, found.ap50, found.boxes) == (None, None, 0)
            continue
        values.append(expected)
        assert found.ap == pytest.approx(np.mean(expected), abs=1e-9)
        assert found.ap50 == pytest.approx(expected[0], abs=1e-9)
    assert result.ap == pytest.approx(np.mean(values), abs=1e-9)
    assert result.ap50 == pytest.approx(np.mean([v[0] for v in values]), abs=1e-9)
    assert result.ap75 == pytest.approx(np.mean([v[5] for v in values]), abs=1e-9)
    assert 5 < result.ap50 < 100  # neither everything nor nothing was found


def test_equals_pycocotools_summary():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, rows = made_up(11, images=15)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth.to_coco()
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(r) for r in rows]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    result = evaluate_detections(truth, rows)
    assert (result.ap, result.ap50, result.ap75) == pytest.approx(tuple(100 * evaluation.stats[:3]), abs=1e-9)


def test_at_most_100_detections_of_a_class_count():
    truth, rows = made_up(2, images=2, extra=0)
    image = truth.image_ids[0]
    junk = [
        {"image_id": image, "category_id": 1, "bbox": [300.0, 300.0, 9.0, 9.0], "score": 2 + k / 1e3}
        for k in range(100)
    ]
    result = evaluate_detections(truth, junk + rows)
    assert result.person_ap50 == pytest.approx(oracle_ap(truth, junk + rows, 1, 0.5), abs=1e-9)
    assert result.person_ap50 < evaluate_detections(truth, junk[:99] + rows).person_ap50


def test_detections_equal_their_rows():
    pictures = [CocoImage(4, "a.png", SIZE, SIZE), CocoImage(9, "b.png", SIZE, SIZE)]
    boxes = {4: ([[10, 20, 110, 220], [200, 200, 260, 260]], [1, 13]), 9: ([[5, 5, 50, 60]], [90])}
    truth = CocoGroundTruth.from_boxes("two", pictures, CATEGORIES, boxes)
    detections = {
        i: Detections(
            boxes=np.array(b, np.float32),
            scores=np.linspace(0.9, 0.5, len(b), dtype=np.float32),
            labels=np.array([COCO_CATEGORY_IDS.index(c) for c in ids], np.int64),
            width=SIZE,
            height=SIZE,
        )
        for i, (b, ids) in boxes.items()
    }
    result = evaluate_detections(truth, detections)
    assert (result.ap, result.ap50, result.person_ap) == (pytest.approx(100), pytest.approx(100), pytest.approx(100))
    rows = [r for i, d in detections.items() for r in d.to_coco(i)]
    assert evaluate_detections(truth, rows) == result
    with pytest.raises(OptionError, match=r"without a detections entry.*found \[9\]"):
        evaluate_detections(truth, {4: detections[4]})
    assert evaluate_detections(truth, {4: detections[4]}, image_ids=[4]).images == 1
    with pytest.raises(OptionError, match="not in the ground truth"):
        evaluate_detections(truth, {**detections, 5: detections[4]})


def test_no_detections_is_zero_and_not_an_error(capsys):
    truth, _ = made_up(1)
    result = evaluate_detections(truth, [])
    assert (result.ap, result.ap50, result.person_ap) == (0.0, 0.0, 0.0)
    assert capsys.readouterr().out == ""


def test_crowds_count_neither_way():
    picture = CocoImage(1, "a.png", SIZE, SIZE)
    boxes = {1: ([[0, 0, 100, 100], [200, 200, 400, 400]], [1, 1])}
    truth = CocoGroundTruth.from_boxes("c", [picture], CATEGORIES, boxes, crowd={1: [False, True]})
    hit = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 100.0, 100.0], "score": 0.5}
    in_crowd = [{**hit, "bbox": [210.0 + k, 210.0, 30.0, 30.0], "score": 0.9} for k in range(5)]
    result = evaluate_detections(truth, [hit, *in_crowd])
    assert result.person_ap == pytest.approx(100)
    assert (result.boxes, result.per_class[0].boxes) == (1, 1)
    outside = [{**hit, "bbox": [110.0, 0.0, 30.0, 30.0], "score": 0.9}]
    assert evaluate_detections(truth, [hit, *outside]).person_ap == pytest.approx(50)


def test_frequent_classes_and_subset():
    truth, rows = made_up(5, images=30)
    result = evaluate_detections(truth, rows, frequent_boxes=40)
    frequent = [c for c in result.per_class if c.boxes >= 40]
    assert 0 < len(frequent) < 3
    assert result.frequent_category_ids == tuple(c.category_id for c in frequent)
    assert result.ap50_frequent == pytest.approx(np.mean([c.ap50 for c in frequent]))
    assert evaluate_detections(truth, rows, frequent_boxes=10_000).ap50_frequent is None
    ids = truth.image_ids[:7]
    part = evaluate_detections(truth, rows, image_ids=ids)
    own = [r for r in rows if r["image_id"] in ids]
    assert part == evaluate_detections(truth.select(ids), own)
    assert part.images == 7
    assert evaluate_detections(truth, rows, person="nobody").person_ap is None


def test_classes_that_the_ground_truth_lacks_are_counted_apart():
    truth, rows = made_up(3)
    plain = evaluate_detections(truth, rows)
    alien = [{**r, "category_id": 55} for r in rows[:4]]
    result = evaluate_detections(truth, rows + alien)
    assert (result.ap, result.other_detections, plain.other_detections) == (plain.ap, 4, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0}, "not a COCO result"),
        ({"image_id": 7, "category_id": 1, "bbox": [0, 0, 1], "score": 1.0}, "four finite numbers"),
        ({"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": float("nan")}, "finite score"),
        ({"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, float("inf")], "score": 1.0}, "four finite numbers"),
        ({"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0}, "not in the ground truth"),
    ],
)
def test_bad_results(row, message):
    truth, _ = made_up(1)
    with pytest.raises(OptionError, match=message):
        evaluate_detections(truth, [row])


def test_nothing_to_find():
    truth = CocoGroundTruth.from_boxes("empty", [CocoImage(1, "a.png", 9, 9)], CATEGORIES, {})
    with pytest.raises(OptionError, match="no boxes to find"):
        evaluate_detections(truth, [])
    with pytest.raises(OptionError, match="no such picture"):
        evaluate_detections(truth, [], image_ids=[2])
