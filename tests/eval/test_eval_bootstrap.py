"""The bootstrap: its accumulation against pycocotools on repeated pictures, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from vcm.errors import CurveError, OptionError
from vcm.eval.curves.bd import Curve, bd_rate
from vcm.eval.curves.resampled import ResampledCurve, bootstrap_bd_rate
from vcm.eval.metrics import bootstrap as module
from vcm.eval.metrics.bootstrap import (
    Resamples,
    accumulate,
    draw_resamples,
    percentile_interval,
    resample_accuracy,
    resample_bpp,
    resample_mean,
)
from vcm.eval.metrics.detection import evaluate_detections
from vcm.io.coco import Category, CocoGroundTruth, CocoImage

CATEGORIES = (Category(1, "person"), Category(3, "car"), Category(13, "stop sign"), Category(90, "toothbrush"))


def data_set(seed, images=20, noise=3.0, missed=0.3):
    """Ground truth and results; two calls with one seed and different noise are two codecs on the same pictures."""
    rng, blur = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    pictures = [CocoImage(3 * k + 2, f"{k}.png", 400, 400) for k in range(images)]
    boxes, crowd, rows = {}, {}, []
    for picture in pictures:
        n = int(rng.integers(0, 8))
        corner, side = rng.uniform(0, 280, (n, 2)), rng.uniform(20, 120, (n, 2))
        ids = [int(c) for c in rng.choice([1, 1, 3, 13], n)]
        boxes[picture.id] = (np.concatenate([corner, corner + side], axis=1), ids)
        crowd[picture.id] = [bool(v) for v in rng.random(n) < 0.15]
        found = rng.random(n) > missed
        scores, shift = rng.uniform(0.1, 1, n), blur.normal(0, 1, (n, 2))
        for k in np.flatnonzero(found):
            box = [float(v) for v in (*(corner[k] + noise * shift[k]), *side[k])]
            rows.append({"image_id": picture.id, "category_id": ids[k], "bbox": box, "score": float(scores[k])})
        for _ in range(10):
            x, y, s = rng.uniform(0, 300), rng.uniform(0, 300), rng.uniform(0, 0.7)
            rows.append({"image_id": picture.id, "category_id": 1, "bbox": [x, y, 40.0, 40.0], "score": s})
    return CocoGroundTruth.from_boxes("made-up", pictures, CATEGORIES, boxes, crowd=crowd), rows


def repeated(truth, rows, counts):
    """A data set in which picture n really is there counts[n] times, under ids of its own."""
    pictures, boxes, crowd, results = [], {}, {}, []
    for image, count in zip(truth.images, counts, strict=True):
        mine = truth.box_images == image.id
        xywh = truth.boxes[mine]
        for copy in range(count):
            new = image.id * 1000 + copy
            pictures.append(CocoImage(new, f"{new}.png", image.width, image.height))
            boxes[new] = (
                np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
                truth.box_categories[mine].tolist(),
            )
            crowd[new] = truth.crowd[mine].tolist()
            results += [{**r, "image_id": new} for r in rows if r["image_id"] == image.id]
    return CocoGroundTruth.from_boxes("repeated", pictures, CATEGORIES, boxes, crowd=crowd), results


@pytest.mark.parametrize("seed", range(4))
def test_full_set_equals_pycocotools_exactly(seed):
    truth, rows = data_set(seed)
    result = evaluate_detections(truth, rows)
    own = accumulate(result.matches, np.ones((1, result.images), np.int64))[0]
    for k, found in enumerate(result.per_class):
        if found.ap is None:
            assert np.isnan(own[k]).all()
        else:
            assert own[k].mean() == pytest.approx(found.ap, abs=1e-10)
            assert own[k, 0] == pytest.approx(found.ap50, abs=1e-10)
    assert 10 < result.ap < 90


@pytest.mark.parametrize("seed", range(4))
def test_draws_equal_pycocotools_on_repeated_pictures(seed):
    truth, rows = data_set(seed, images=12)
    result = evaluate_detections(truth, rows, frequent_boxes=8)
    draws = draw_resamples(result.images, 5, seed=seed)
    samples = resample_accuracy(result, draws)
    for b, counts in enumerate(draws.counts):
        expected = evaluate_detections(*repeated(truth, rows, counts))
        assert samples.ap[b] == pytest.approx(expected.ap, abs=1e-9)
        assert samples.ap50[b] == pytest.approx(expected.ap50, abs=1e-9)
        assert samples.person_ap50[b] == pytest.approx(expected.person_ap50, abs=1e-9)
        frequent = [c.ap50 for c in expected.per_class if c.category_id in result.frequent_category_ids]
        assert samples.ap50_frequent[b] == pytest.approx(np.mean([v for v in frequent if v is not None]), abs=1e-9)
    assert len(set(samples.ap)) == 5


def test_draws():
    draws = draw_resamples(30, 400, seed=3)
    assert draws.counts.shape == (400, 30)
    assert (draws.counts.sum(axis=1) == 30).all()
    assert (draws.counts == draw_resamples(30, 400, seed=3).counts).all()
    assert (draws.counts != draw_resamples(30, 400, seed=4).counts).any()
    # A picture is left out of a draw with probability (1 - 1/N)^N.
    assert (draws.counts == 0).mean() == pytest.approx((1 - 1 / 30) ** 30, abs=0.02)


def test_interval_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = percentile_interval(resample_mean(values, draw_resamples(400, 2000)), float(values.mean()))
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert (found.level, found.resamples, found.refused) == (0.95, 2000, 0)


def test_draws_without_a_box_are_counted():
    pictures = [CocoImage(k, f"{k}.png", 100, 100) for k in range(4)]
    boxes = {0: ([[0, 0, 50, 50]], [1]), 1: ([[0, 0, 50, 50]], [3])}
    truth = CocoGroundTruth.from_boxes("rare", pictures, CATEGORIES, boxes)
    rows = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}]
    draws = draw_resamples(4, 1000)
    found = percentile_interval(resample_accuracy(evaluate_detections(truth, rows), draws).person_ap50, 100)
    assert found.refused == int((draws.counts[:, 0] == 0).sum()) > 0
    assert (found.low, found.high) == pytest.approx((100, 100))
    wide = percentile_interval(np.arange(101.0), 50)
    narrow = percentile_interval(np.arange(101.0), 50, level=0.5)
    assert (wide.low, narrow.low, narrow.high, wide.high) == pytest.approx((2.5, 25, 75, 97.5))


def test_bpp_is_all_bits_over_all_pixels():
    draws = Resamples(np.array([[1, 1, 1], [0, 3, 0]]), 0)
    assert resample_bpp([100, 200, 300], [1000, 1000, 4000], draws) == pytest.approx([4800 / 6000, 1600 / 1000])
    with pytest.raises(OptionError, match="no pixels"):
        resample_bpp([1, 1, 1], [1, 0, 1], draws)
    with pytest.raises(OptionError, match="one value a picture"):
        resample_bpp([1, 1], [1, 1], draws)


def test_bd_intervals():
    rng = np.random.default_rng(0)
    pictures, points = 60, 5
    draws = draw_resamples(pictures, 200)
    pixels = np.full(pictures, 10_000.0)
    hard = rng.uniform(0.5, 2, pictures)
    sizes = [hard * 2.0**k * 100 for k in range(points)]
    quality = [30 + 3 * k - 4 * np.log2(hard) + rng.normal(0, 0.2, pictures) for k in range(points)]

    def curve(name, factor, wobble=0.0):
        size = [s * factor * np.exp(wobble * rng.normal(0, 1, pictures)) for s in sizes]
        bpp = [8 * s.sum() / pixels.sum() for s in size]
        return ResampledCurve(
            Curve.from_arrays(name, bpp, [q.mean() for q in quality]),
            np.stack([resample_bpp(s, pixels, draws) for s in size]),
            np.stack([resample_mean(q, draws) for q in quality]),
        )

    anchor = curve("anchor", 1.0)
    exact = bootstrap_bd_rate(anchor, curve("half", 0.5))
    assert (exact.estimate, exact.low, exact.high) == pytest.approx((-50, -50, -50))
    noisy_curve = curve("noisy", 0.8, wobble=0.2)
    noisy = bootstrap_bd_rate(anchor, noisy_curve)
    assert noisy.estimate == bd_rate(anchor.curve, noisy_curve.curve).value
    assert noisy.low < noisy.estimate < noisy.high
    assert 0.5 < noisy.high - noisy.low < 15

    broken = ResampledCurve(noisy_curve.curve, noisy_curve.rates, noisy_curve.metrics.copy())
    broken.metrics[:, :10] -= 1000
    assert bootstrap_bd_rate(anchor, broken).refused == 10
    broken.metrics[:, :30] -= 1000
    with pytest.raises(CurveError, match="30 of 200"):
        bootstrap_bd_rate(anchor, broken)
    with pytest.raises(OptionError, match="wrong shape"):
        ResampledCurve(anchor.curve, anchor.rates[:3], anchor.metrics[:3])


def test_draws_are_the_same_in_small_blocks(monkeypatch):
    table = evaluate_detections(*data_set(2)).matches
    counts = draw_resamples(20, 30).counts
    whole = accumulate(table, counts)
    monkeypatch.setattr(module, "_BLOCK", 100)
    assert np.array_equal(accumulate(table, counts), whole, equal_nan=True)


def test_draws_of_other_pictures_are_refused():
    result = evaluate_detections(*data_set(8))
    with pytest.raises(OptionError, match="another set"):
        resample_accuracy(result, draw_resamples(9))
