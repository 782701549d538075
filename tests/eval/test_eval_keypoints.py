"""OKS average precision against an implementation of its own, and the comparison of features."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from vcm.errors import OptionError
from vcm.eval.metrics.keypoints import compare_features, evaluate_keypoints
from vcm.structures import Keypoints

NAMES = ("a", "b", "c", "d")
SIGMAS = (0.03, 0.05, 0.1, 0.08)


def made(points: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> Keypoints:
    return Keypoints(
        points.astype(np.float32).reshape(-1, 4, 3), boxes.astype(np.float32).reshape(-1, 4),
        scores.astype(np.float32), NAMES, 300, 300,
    )  # fmt: skip


def example(seed: int, error: float) -> tuple[dict[int, Keypoints], dict[int, Keypoints]]:
    """Pictures with one to four objects; answers are off by ``error`` of the box, some objects are missed."""
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for i in range(12):
        n = int(rng.integers(1, 5))
        low, size = rng.uniform(0, 150, (n, 2)), rng.uniform(20, 150, (n, 2))
        xy = low[:, None] + size[:, None] * rng.uniform(0, 1, (n, 4, 2))
        shown = (rng.uniform(size=(n, 4, 1)) < 0.7).astype(float)
        shown[:, 0] = 1
        boxes = np.concatenate([low, low + size], axis=1)
        truth[i] = made(np.concatenate([xy, shown], axis=2), boxes, np.ones(n))
        off = xy + rng.normal(0, error, xy.shape) * size[:, None]
        keep = rng.uniform(size=n) < 0.9
        scores = rng.uniform(0.1, 1, n)
        found[i] = made(np.concatenate([off, shown], axis=2)[keep], boxes[keep], scores[keep])
    return truth, found


def oracle(truth: dict[int, Keypoints], found: dict[int, Keypoints], threshold: float) -> float:
    """AP in percent, from the definition: greedy matching in a picture, best score first; 101 recall points."""
    marks: list[tuple[float, bool]] = []
    total = 0
    for i, t in truth.items():
        total += len(t)
        taken: set[int] = set()
        for k in np.argsort(-found[i].scores):
            best, at = threshold, -1
            for g in range(len(t)):
                x1, y1, x2, y2 = (float(v) for v in t.boxes[g])
                similarity = [
                    np.exp(-float(((p[:2] - q[:2]).astype(float) ** 2).sum()) / (8 * s * s * (x2 - x1) * (y2 - y1)))
                    for p, q, s in zip(t.points[g], found[i].points[k], SIGMAS, strict=True)
                    if p[2] > 0
                ]
                if g not in taken and np.mean(similarity) >= best:
                    best, at = float(np.mean(similarity)), g
            marks.append((float(found[i].scores[k]), at >= 0))
            taken.add(at)
    hits = np.cumsum([hit for _, hit in sorted(marks, key=lambda m: -m[0])])
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / total
    return 100 * float(np.mean([precision[recall >= r].max(initial=0.0) for r in np.linspace(0, 1, 101)]))


@pytest.mark.parametrize(("seed", "error"), [(0, 0.02), (1, 0.05), (2, 0.1), (3, 0.2)])
def test_average_precision_is_the_definitions(seed: int, error: float) -> None:
    truth, found = example(seed, error)
    accuracy = evaluate_keypoints(truth, found, SIGMAS)
    assert accuracy.ap50 == pytest.approx(oracle(truth, found, 0.5), abs=1e-6)
    assert accuracy.ap75 == pytest.approx(oracle(truth, found, 0.75), abs=1e-6)
    every = [oracle(truth, found, t) for t in np.linspace(0.5, 0.95, 10)]
    assert accuracy.ap == pytest.approx(np.mean(every), abs=1e-6)
    assert accuracy.objects == sum(map(len, truth.values()))


def test_the_truth_itself_is_perfect_and_noise_is_not() -> None:
    truth, found = example(4, 3.0)
    assert evaluate_keypoints(truth, truth, SIGMAS).ap == pytest.approx(100)
    assert evaluate_keypoints(truth, found, SIGMAS).ap50 < 20


def test_features_are_compared_on_the_same_draws() -> None:
    truth, base = example(5, 0.06)
    _, twin = example(5, 0.04)
    _, random = example(5, 0.3)
    scores = {k: evaluate_keypoints(truth, f, SIGMAS) for k, f in (("base", base), ("twin", twin), ("random", random))}
    compared = compare_features(scores, resamples=200, seed=1)
    assert [row.kind for row in compared.rows] == ["base", "twin", "random"]
    for row in compared.rows:
        assert row.ap50.low <= row.ap50.estimate <= row.ap50.high
    assert compared.share is not None
    assert compared.share.estimate == pytest.approx(100 * scores["base"].ap50 / scores["twin"].ap50)
    assert compared.over_random is not None
    assert compared.over_random.estimate == pytest.approx(scores["base"].ap50 - scores["random"].ap50)
    assert json.loads(json.dumps(compared.to_json(), allow_nan=False))["pictures"] == 12
    alone = compare_features({"base": scores["base"]}, resamples=20)
    assert alone.share is None
    assert alone.over_random is None
    same = compare_features({"base": scores["base"], "twin": scores["base"]}, resamples=50)
    assert same.share is not None
    assert (same.share.low, same.share.high) == pytest.approx((100, 100))


def test_what_does_not_fit_is_refused() -> None:
    truth, found = example(6, 0.1)
    with pytest.raises(OptionError, match="other pictures"):
        evaluate_keypoints(truth, {**found, 99: found[0]}, SIGMAS)
    with pytest.raises(OptionError, match="sigmas"):
        evaluate_keypoints(truth, found, SIGMAS[:3])
    with pytest.raises(OptionError, match="sigma is out"):
        evaluate_keypoints(truth, found, (*SIGMAS[:3], 0.0))
    blank = {i: made(t.points * [1, 1, 0], t.boxes, t.scores) for i, t in truth.items()}
    with pytest.raises(OptionError, match="labelled"):
        evaluate_keypoints(blank, found, SIGMAS)
    with pytest.raises(OptionError, match="nothing"):
        compare_features({})
    a, b = evaluate_keypoints(truth, found, SIGMAS), evaluate_keypoints(*example(7, 0.1), SIGMAS)
    with pytest.raises(OptionError, match="other pictures"):
        compare_features({"base": a, "twin": b})
