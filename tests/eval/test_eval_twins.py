"""Pixel twins in an evaluation: the better at each point, shares of the ceiling, BD-rates over an interval."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from codec_tools import noise
from PIL import Image as PilImage
from tiny import tiny_twin, tiny_weights

from vcm.codecs.protocol import CodecInfo, Image, QualityRange
from vcm.errors import ModelNotFoundError, OptionError
from vcm.eval.curves.bd import Curve, RDPoint
from vcm.eval.curves.deltas import rate_delta, relative
from vcm.eval.curves.resampled import ResampledCurve
from vcm.eval.data.datasets import Dataset, load_dataset
from vcm.eval.evaluate import complete_codecs, evaluate
from vcm.eval.machines.load import load_machines
from vcm.eval.machines.protocol import MachineInfo
from vcm.eval.machines.twin import TwinMachine
from vcm.eval.report.answer import answer
from vcm.eval.report.results import Results, read_results
from vcm.eval.report.rows import select
from vcm.eval.run.protocols import Protocol
from vcm.eval.run.runner import run as measure
from vcm.eval.run.views import BEST, Measured, Measurement, View, check_names, merge, views_of
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.structures import Detections

pytest.importorskip("matplotlib")

SIZE = 64
PICTURES = 6


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("twins")
    tiny_weights(folder)
    return tiny_twin(folder / "clean.safetensors"), tiny_twin(folder / "degraded.safetensors", seed=3)


# -- machines ---------------------------------------------------------------------------------------------------------


def test_twins_by_path_are_a_group(twins: tuple[Path, Path]) -> None:
    machines = load_machines([f"twin:{twins[0]},{twins[1]}"])
    assert [machine.name for machine in machines] == ["clean", "degraded"]
    infos = [machine.describe() for machine in machines]
    assert {info.group for info in infos} == {"twin"}
    assert infos[0].fingerprint != infos[1].fingerprint
    again = pickle.loads(pickle.dumps(machines[0]))
    assert again.describe() == infos[0]
    picture = noise(80, 64)
    assert np.array_equal(again.detect(picture).boxes, machines[0].detect(picture).boxes)
    assert len(machines[0].detect(picture)) > 0
    # The name is not the identity: other weights under the same name are told apart.
    renamed = tiny_twin(twins[0].parent / "other.safetensors", name="clean", seed=4)
    assert TwinMachine(renamed).describe().fingerprint != infos[0].fingerprint


def test_twins_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such pixel twin"):
        load_machines([f"twin:{tmp_path / 'none.safetensors'}"])
    for spec in ("twin:", "twin:a,"):
        with pytest.raises(OptionError, match="path is missing"):
            load_machines([spec])


# -- views ------------------------------------------------------------------------------------------------------------


def _info(name: str, group: str = "") -> MachineInfo:
    return MachineInfo(name, "1", (), group)


def test_views_are_groups_and_machines_and_the_best_of_several() -> None:
    a, b, c = _info("a", "twin"), _info("b", "twin"), _info("c")
    assert views_of([a, b]) == (View("twin", ("a", "b"), group=True),)
    assert views_of([c]) == (View("c", ("c",)),)
    assert [view.name for view in views_of([c, a, b])] == ["c", "twin", BEST]
    assert views_of([c, a, b])[-1].members == ("c", "a", "b")
    check_names([a, b, c])
    for bad in ([a, _info("twin")], [_info("best")], [_info("head")], [a, a]):
        with pytest.raises(OptionError, match="name is taken"):
            check_names(bad)


def test_a_group_takes_its_better_machine_for_each_quantity_of_a_point() -> None:
    def found(machine: str, person: float, ap: float) -> list[Measurement]:
        rows = (("person_ap50", person), ("ap", ap))
        return [Measurement(machine, q, Measured(v, np.array([v])), "%") for q, v in rows]

    views = views_of([_info("a", "twin"), _info("b", "twin"), _info("c")])
    every = [*found("a", 40, 9), *found("b", 41, 5), *found("c", 30, 12)]
    merged = {(m.machine, m.quantity): (m.measured.value, m.taken) for m in merge(every, views, "jpeg")}
    assert merged["twin", "person_ap50"] == (41, "b")
    assert merged["twin", "ap"] == (9, "a"), "each quantity by itself"
    assert merged[BEST, "person_ap50"] == (41, "b")
    assert merged[BEST, "ap"] == (12, "c"), "the best is taken for each quantity by itself"
    ceiling = [m for m in merge(every, views, "uncompressed") if m.machine == "twin"]
    assert {m.taken for m in ceiling} == {"a"}, "the clean twin is the ceiling"
    assert (ceiling[0].candidates, ceiling[0].ceiling) == ((("a", 40), ("b", 41)), True)


# -- BD over an interval ----------------------------------------------------------------------------------------------


def _curve(name: str, rates: list[float], values: list[float], draws: int = 3) -> ResampledCurve:
    points = tuple(RDPoint(r, v) for r, v in zip(rates, values, strict=True))
    return ResampledCurve(
        Curve(name, points),
        np.repeat(np.array(rates)[:, None], draws, 1),
        np.repeat(np.array(values)[:, None], draws, 1),
    )


def test_the_interval_is_a_share_of_the_ceiling_and_only_what_both_reach_is_integrated() -> None:
    # log-rate is linear in the metric, so that the mean difference over any interval is known.
    values = [20.0, 25.0, 30.0, 35.0, 40.0]
    anchor = _curve("anchor", [10 ** (v / 10) for v in values], values)
    half = _curve("half", [0.5 * 10 ** (v / 10) for v in values], values)
    top = np.full(3, 50.0)
    a, t = relative(anchor, 50.0, top), relative(half, 50.0, top)
    assert [point.metric for point in a.curve.points] == pytest.approx([40, 50, 60, 70, 80])
    whole = rate_delta(a, t, within=(50, 75))
    assert (whole.value, whole.low, whole.high) == pytest.approx((-50, -50, -50))
    assert (whole.start, whole.end) == pytest.approx((50, 75))
    part = rate_delta(a, t, within=(60, 95))
    assert part.value == pytest.approx(-50)
    assert (part.start, part.end) == pytest.approx((60, 80)), "what both curves reach"
    # Below the interval the test curve costs nearly what the anchor does: that does not count.
    rates = [0.9 * 10**2.0, 0.9 * 10**2.5, *(0.5 * 10 ** (v / 10) for v in (34.0, 36.0, 38.0, 40.0))]
    bent = relative(_curve("bent", rates, [20, 25, 34, 36, 38, 40]), 50.0, top)
    assert rate_delta(a, bent, within=(72, 80)).value == pytest.approx(-50, abs=1)
    assert (rate_delta(a, bent, within=(40, 80)).value or 0) > -45


def test_a_curve_that_does_not_reach_the_interval_is_refused() -> None:
    values = [20.0, 25.0, 30.0, 35.0]
    a = _curve("anchor", [1, 2, 3, 4], values)
    low = _curve("low", [1, 2, 3, 4], [1, 2, 3, 4])
    found = rate_delta(a, low, within=(24, 34))
    assert (found.value, found.low, found.start) == (None, None, None)
    assert found.refusal == "curve 'low' does not reach into the interval: expected some of 24 … 34, found 1 … 4"
    above = rate_delta(_curve("above", [1, 2, 3, 4], [40, 41, 42, 43]), a, within=(24, 34))
    assert "'above' does not reach" in above.refusal
    lower = _curve("lower", [1, 2, 3, 4], [5, 10, 15, 26])
    upper = _curve("upper", [1, 2, 3, 4], [30, 32, 40, 43])
    assert "no common range" in rate_delta(lower, upper, within=(24, 34)).refusal
    few = _curve("few", [1, 2, 3], values[:3])
    assert "too few Pareto points" in rate_delta(a, few, within=(24, 34)).refusal


def test_protocols_check_their_interval() -> None:
    for bad in ({"low": 0.9, "high": 0.6, "accuracy": ["ap"]}, {"low": 0.5, "high": 0.9, "accuracy": ["ap50"]}):
        with pytest.raises(ValueError, match=r"low < high|not in accuracy"):
            _protocol(accuracy=["ap"], interval=bad)


# -- a whole run ------------------------------------------------------------------------------------------------------


class Eye:
    """Finds each person whose grey is far enough from the background; what it can tell is a property of the eye."""

    def __init__(self, name: str, threshold: float, smooth: float, group: str = "twin") -> None:
        self.name, self._threshold, self._smooth, self._group = name, threshold, smooth, group

    def detect(self, image: Image) -> Detections:
        # The error of the decoded picture, known from the flat parts, hides faint persons.
        error = float(np.abs(np.diff(image[:, :8].astype(float), axis=0)).mean()) * self._smooth
        contrast = float(image[40:, 40:].mean()) - float(image[:8, :8].mean())
        seen = contrast > self._threshold + error
        score = np.array([min(0.99, max(0.01, contrast / 100))] if seen else [], np.float32)
        box = np.array([[16, 16, 64, 64]] * len(score), np.float32).reshape(-1, 4)
        return Detections(box, score, np.zeros(len(score), np.int64), SIZE, SIZE)

    def describe(self) -> MachineInfo:
        return MachineInfo(self.name, "1", (), self._group)


class Coder:
    """``quality`` persons survive; a file takes ten bytes for each."""

    quality_range = QualityRange(0, PICTURES)

    def __init__(self, name: str, size: int) -> None:
        self.name, self._size = name, size

    def compress(self, image: Image, quality: float) -> bytes:
        kept = int(image[60, 60, 0]) // 20 <= quality
        return bytes([int(image[60, 60, 0]) if kept else 0]) + bytes(int(self._size * (quality + 1)))

    def decompress(self, data: bytes) -> Image:
        out = np.zeros((SIZE, SIZE, 3), np.uint8)
        out[16:, 16:] = data[0]
        return out

    def describe(self) -> CodecInfo:
        return CodecInfo(self.name, "1")


class Base(Coder):
    """The same with a head that sees every person that is left."""

    def detect(self, data: bytes) -> Detections:
        return Eye("head", 5, 0).detect(self.decompress(data))


def _protocol(**changes: object) -> Protocol:
    base = {
        "name": "toy", "title": "Toy", "task": "detection", "anchors": ["toy"], "departures": ["everything"],
        "accuracy": ["ap", "ap50", "person_ap50", "ap50_frequent"], "bootstrap": 40, "frequent_boxes": 2,
        "interval": {"low": 0.3, "high": 0.95, "accuracy": ["person_ap50", "ap50_frequent"]},
        "points": {"toy": [1, 2, 3, 4, 5, 6], "vcm-s-base": [1, 2, 3, 4, 5, 6]},
    }  # fmt: skip
    return Protocol.model_validate({**base, **changes})


def _dataset(folder: Path) -> Dataset:
    folder.mkdir()
    for i in range(PICTURES):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[16:, 16:] = 20 * (i + 1)
        PilImage.fromarray(picture).save(folder / f"{i}.png")
    plain = load_dataset(folder, "plain")
    images = [CocoImage(p.id, p.name, SIZE, SIZE) for p in plain.pictures]
    boxes = {p.id: ([[16, 16, 64, 64]], [1]) for p in plain.pictures}
    truth = CocoGroundTruth.from_boxes("toy", images, [Category(1, "person")], boxes)
    return Dataset("toy", folder, "coco", plain.pictures, truth)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("run")
    machines = [Eye("clean", 5, 1), Eye("degraded", 30, 0), Eye("other", 45, 0, "")]
    codecs = [Base("vcm-s-base", 10), Coder("toy", 40)]
    evaluate(_protocol(), _dataset(base / "data"), codecs, machines, base / "out", command="c")
    return base / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder)


def test_rows_say_which_twin_was_taken_and_keep_both(results: Results, folder: Path) -> None:
    assert results.views == ("twin", "other", BEST)
    for point in ("q=3", "q=6"):
        rows = select(results.rows.points, codec="toy", point=point, quantity="person_ap50")
        (taken,) = select(rows, machine="twin")
        both = {machine: select(rows, machine=machine)[0].value for machine in ("clean", "degraded")}
        assert taken.value == max(both.values())
        assert both[taken.taken] == taken.value
        assert dict(taken.candidates) == both
    with (folder / "results.csv").open(newline="") as file:
        lines = {int(line["row"]): line for line in csv.DictReader(file)}
    assert lines[taken.row]["taken"] == taken.taken
    page = (folder / "report.html").read_text("utf-8")
    assert "The better twin at each point" in page
    assert ">taken</th>" in page
    assert "percent of what clean reaches on uncompressed pictures" in page
    assert (folder / "figures" / "twin-person_ap50.svg").is_file()
    assert not (folder / "figures" / "clean-person_ap50.svg").exists()


def test_shares_are_of_the_clean_twin_and_paired(results: Results) -> None:
    points = select(results.rows.points, quantity="person_ap50")
    (ceiling,) = select(points, codec="uncompressed", machine="twin")
    assert (ceiling.taken, ceiling.ceiling) == ("clean", True)
    rows = select(results.rows.shares, codec="vcm-s-base", quantity="person_ap50")
    assert len(rows) == 6
    for row in rows:
        (value,) = select(points, codec="vcm-s-base", point=row.point, machine="head")
        assert row.value == pytest.approx(100 * value.value / ceiling.value)
        assert (row.of, row.ceiling) == ("clean", ceiling.value)
    # At the best quality head and twin see the same persons in every draw: a paired interval has no width.
    assert (rows[-1].value, rows[-1].low, rows[-1].high) == pytest.approx((100, 100, 100))


def test_the_interval_of_a_run(results: Results) -> None:
    deltas = select(results.rows.deltas, kind="bd_rate_interval")
    (row,) = select(deltas, codec="vcm-s-base", view="twin", over="person_ap50", against="toy")
    assert row.value is not None
    assert row.value < 0
    assert (row.ceiling_of, row.ceiling) == ("clean", 100)
    assert row.start is not None
    assert row.end is not None
    assert row.covered == pytest.approx(100 * (row.end - row.start) / 65)
    assert 30 <= row.start < row.end <= 95
    assert {r.view for r in select(deltas, codec="vcm-s-base")} == {"twin", "other", BEST}
    assert {r.ceiling_of for r in deltas} == {"clean"}, "every view has the twin's ceiling"


def test_the_answer_puts_the_head_first(results: Results) -> None:
    found = answer(results)
    assert (found.quantity, found.view, found.heads) == ("person_ap50", "twin", ("vcm-s-base",))
    first = "".join(part if isinstance(part, str) else part[0] for part in found.sentences[0])
    assert first.startswith("At equal person AP50 (decoded pictures read by twin), vcm-s-base needs ")
    assert "fewer bits" in first
    text = " ".join("".join(p if isinstance(p, str) else p[0] for p in sentence) for sentence in found.sentences)
    assert "vcm-s-base, read by its own head, reaches 100.0 % at " in text
    rows = {row.row: row for row in results.rows.every()}
    for sentence in found.sentences:
        for part in sentence:
            if not isinstance(part, str):
                assert rows[part[1]].value is not None


def test_real_twins_go_through_a_run(twins: tuple[Path, Path], tmp_path: Path) -> None:
    machines = load_machines([f"twin:{twins[0]},{twins[1]}"])
    plan = _protocol(points={"toy": [2, 5]}, interval=None, bootstrap=10)
    data = _dataset(tmp_path / "data").first(2)
    codecs = complete_codecs(plan, [Coder("toy", 5)])
    run, found = evaluate(plan, data, codecs, machines, tmp_path / "out", command="c")
    assert run.skipped == ()
    assert found.views == ("twin",)
    assert {row.machine for row in select(found.rows.points, codec="toy", quantity="ap")} == {
        "clean",
        "degraded",
        "twin",
    }
    assert {machine.group for machine in found.machines} == {"twin"}
    again = measure(plan, data, codecs, machines, tmp_path / "out")
    assert (again.computed, again.cached) == (0, run.computed)
    changed = measure(plan, data, codecs, load_machines([f"twin:{twins[0]}"]), tmp_path / "out")
    assert changed.cached == 0, "the cache is of those twins"
