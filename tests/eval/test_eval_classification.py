"""Classification accuracy against definitions written out, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest

from vcm.errors import OptionError
from vcm.eval.classification import average_precision, evaluate_classification, mean_average_precision, top1


def oracle_ap(scores, targets):
    """Sum over thresholds of (recall step) x precision, each counted from scratch."""
    total, last = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [t for s, t in zip(scores, targets, strict=True) if s >= threshold]
        recall, precision = sum(chosen) / sum(targets), sum(chosen) / len(chosen)
        total += (recall - last) * precision
        last = recall
    return 100 * total


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit, miss: (1/1 + 2/3) / 2.
    assert average_precision([0.9, 0.8, 0.7, 0.1], [True, False, True, False]) == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert average_precision([0.1, 0.9], [True, False]) == pytest.approx(50)
    # All equal: precision is the share of positives, in whatever order.
    assert average_precision([0.5] * 4, [True, False, False, False]) == pytest.approx(25)
    assert average_precision([0.5] * 4, [False, False, False, True]) == pytest.approx(25)


@pytest.mark.parametrize("seed", range(10))
def test_average_precision_equals_the_oracle(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, 40) / 12 if seed % 2 else rng.random(40)
    targets = rng.random(40) < 0.3
    assert average_precision(scores, targets) == pytest.approx(oracle_ap(scores.tolist(), targets.tolist()))


def test_mean_leaves_out_classes_that_no_picture_shows():
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4], [0.6, 0.3, 0.9]])
    targets = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
    expected = np.mean([oracle_ap(scores[:, k].tolist(), targets[:, k].tolist()) for k in (0, 1)])
    assert mean_average_precision(scores, targets) == pytest.approx(expected)
    result = evaluate_classification(scores, targets, ("cat", "dog", "newt"))
    assert result.map == pytest.approx(expected)
    assert [(c.name, c.pictures) for c in result.per_class] == [("cat", 1), ("dog", 1), ("newt", 0)]
    assert result.per_class[2].ap is None
    # Picture 0 right, picture 1 without a label, picture 2 wrong.
    assert (result.pictures, result.unlabelled, result.top1) == (3, 1, pytest.approx(50))


def test_top1_of_indices_and_of_labels():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.3], [0.5, 0.5]])
    assert top1(scores, np.array([0, 1, 1, 0])) == pytest.approx(75)
    assert top1(scores, np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)) == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([[0.1, 0.2]], [[True]], "needs one score"),
        ([[0.1, float("nan")]], [[True, False]], "not a number"),
        ([[0.1, 0.2]], [[False, False]], "without positives"),
        ([[0.1, 0.2]], [[1.0, 0.0]], "boolean"),
    ],
)
def test_refusals(scores, targets, message):
    with pytest.raises(OptionError, match=message):
        mean_average_precision(scores, np.array(targets))


def test_more_refusals():
    with pytest.raises(OptionError, match="class indices"):
        top1([[0.1, 0.2]], np.array([2]))
    with pytest.raises(OptionError, match="without labels"):
        top1([[0.1, 0.2]], np.array([[False, False]]))
    with pytest.raises(OptionError, match="one name a class"):
        evaluate_classification([[0.1, 0.2]], np.array([[True, False]]), ("one",))
    with pytest.raises(OptionError, match="without positives"):
        average_precision([0.1], [False])
