"""Results and the report: every number comes from a row, and the page stands alone."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from skimage import data as skdata

from vcm.codecs.pillow import jpeg, webp
from vcm.codecs.protocol import CodecInfo, Image, QualityRange
from vcm.errors import FormatError, OutputError
from vcm.eval.data.datasets import Dataset, load_dataset
from vcm.eval.evaluate import complete_codecs, evaluate
from vcm.eval.machines.protocol import MachineInfo
from vcm.eval.report import environment as module
from vcm.eval.report.answer import answer
from vcm.eval.report.compare import compare
from vcm.eval.report.figures import row_range
from vcm.eval.report.results import Results, read_results, write_atomically
from vcm.eval.report.rows import CostRow, CountRow, DeltaRow, PointRow, select
from vcm.eval.report.tables import format_value
from vcm.eval.run.protocols import Protocol
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.structures import Detections

pytest.importorskip("matplotlib")

SIZE = 96


class Eye:
    """Finds the true box the better, the nearer the decoded picture is to a flat one's mean: a stand-in detector."""

    def __init__(self, name: str, blur: float) -> None:
        self.name, self._blur = name, blur

    def detect(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        # Blocking artefacts move the box: the standard deviation of the second difference tells them.
        noise = float(np.abs(np.diff(image.astype(float), n=2, axis=1)).mean()) * self._blur
        shift = min(40.0, noise)
        box = np.array([[10 + shift, 10, 60 + shift, 60]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), width, height)

    def describe(self) -> MachineInfo:
        return MachineInfo(self.name, "1")


class Base:
    """A codec with a head of its own."""

    name = "toy-base"
    quality_range = QualityRange(0, 3)

    def compress(self, image: Image, quality: float) -> bytes:
        return bytes(100 * (int(quality) + 1))

    def decompress(self, data: bytes) -> Image:
        return np.full((SIZE, SIZE, 3), 128, np.uint8)

    def detect(self, data: bytes) -> Detections:
        box = np.array([[10 + 2000 / len(data), 10, 60 + 2000 / len(data), 60]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), SIZE, SIZE)

    def layer_bytes(self, data: bytes) -> dict[str, int]:
        return {"header": 20, "base": len(data) - 20}

    def describe(self) -> CodecInfo:
        return CodecInfo(self.name, "1")


def _dataset(folder: Path, count: int = 4) -> Dataset:
    folder.mkdir()
    source = skdata.astronaut()
    for i in range(count):
        PilImage.fromarray(source[40 * i : 40 * i + SIZE, 60 * i : 60 * i + SIZE]).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"broken")
    plain = load_dataset(folder, "plain")
    images = [CocoImage(p.id, p.name, SIZE, SIZE) for p in plain.pictures]
    boxes = {p.id: ([[10, 10, 60, 60]], [1]) for p in plain.pictures}
    truth = CocoGroundTruth.from_boxes("toy", images, [Category(1, "person")], boxes)
    return Dataset("toy", folder, "coco", plain.pictures, truth)


def _protocol(**changes: object) -> Protocol:
    base = {
        "name": "toy", "title": "Toy <curves>", "task": "detection", "anchors": ["jpeg"], "metrics": ["psnr"],
        "accuracy": ["ap", "ap50", "person_ap50"], "departures": ["everything"], "bootstrap": 20,
        "resampled": {"codecs": ["jpeg"], "percent": [50]}, "frequent_boxes": 2,
        "points": {"jpeg": [10, 30, 50, 70, 90], "webp": [10, 30, 50, 70, 90], "toy-base": [0, 1, 2, 3]},
    }  # fmt: skip
    return Protocol.model_validate({**base, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("report")
    codecs = [jpeg(), webp(), Base()]
    machines = [Eye("near", 0.5), Eye("far", 1.0)]
    evaluate(_protocol(), _dataset(base / "data"), codecs, machines, base / "out", command="vcm eval <toy> & more")
    return base / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder)


class _Page(HTMLParser):
    """Numbers with their rows, and every address that the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[tuple[int, str]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self._row: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.addresses += [values[key] or "" for key in ("src", "href") if key in values]
        if "data-row" in values:
            self._row = int(values["data-row"] or 0)
            self.numbers.append((self._row, ""))

    def handle_data(self, data: str) -> None:
        if self._row is not None:
            row, text = self.numbers[-1]
            self.numbers[-1] = (row, text + data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "span", "b"):
            self._row = None


def test_every_number_of_the_page_is_that_of_its_csv_row(folder: Path, results: Results) -> None:
    page = _Page()
    page.feed((folder / "report.html").read_text("utf-8"))
    assert len(page.numbers) > 100
    with (folder / "results.csv").open(newline="") as file:
        lines = {int(line["row"]): line for line in csv.DictReader(file)}
    rows = {row.row: row for row in results.rows.every()}
    for number, text in page.numbers:
        value = lines[number]["value"]
        assert (float(value) if value else None) == rows[number].value
        assert text.split(" [")[0].strip() == format_value(rows[number])


def test_no_number_stands_in_a_table_without_a_row(folder: Path) -> None:
    text = (folder / "report.html").read_text("utf-8")
    measured = text[text.index('id="bd"') : text.index('id="grounds"')]
    for cell in re.findall(r"<td(?![^>]*(?:data-row|class))[^>]*>([^<]*)</td>", measured):
        assert cell in ("–",)


def test_the_page_stands_alone_and_escapes_what_it_is_given(folder: Path) -> None:
    text = (folder / "report.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "vcm eval &lt;toy&gt; &amp; more" in text
    assert "Toy <curves>" not in text
    assert "broken.png" in text
    assert "everything" in text


def test_the_page_answers_first_and_folds_the_rest(folder: Path, results: Results) -> None:
    text = (folder / "report.html").read_text("utf-8")
    order = [text.index(f'class="{name}"') for name in ("answer", "plot")] + [text.index('id="pictures"')]
    assert order == sorted(order)
    first = text.index("<details")
    assert first > order[-1]
    assert all(text.index(f'<details id="{name}"') >= first for name in ("curves", "bd", "points", "costs", "grounds"))
    assert "<details open" not in text
    plot = text[order[1] : order[2]]
    assert "toy-base, own head" in plot
    # Every point of every curve names itself, in both drawings.
    shown = sum(len(results.curve(c.name, m, "ap")) for c in results.codecs[1:] for m in ("near", "head"))
    assert plot.count("<title>") == 2 * shown > 20


def test_the_answer_says_why_where_nothing_can_be_said(results: Results) -> None:
    found = answer(results)
    assert (found.quantity, found.view, found.heads) == ("ap", "near", ("toy-base",))
    assert found.anchors == ("jpeg", "jpeg at best scales")
    for line in found.lines:
        refused = [row for row in line.deltas if row is not None and row.value is None]
        assert len(line.remarks) >= len(refused)
    values = [line.deltas[0].value for line in found.lines if line.deltas[0] is not None]
    kept = [value for value in values if value is not None]
    assert kept == sorted(kept)
    assert values == kept + [None] * (len(values) - len(kept)), "refusals come last"
    assert [line.head for line in found.lines if line.codec == "toy-base"] == [True]


def test_figures_are_written_as_svg_and_png(folder: Path) -> None:
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"near-ap50.svg", "near-ap50.png", "best-ap.png"} <= names
    assert (folder / "figures" / "near-ap50.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figures" / "near-ap50.svg").read_text().startswith("<svg")


def test_the_resampled_anchor_and_the_ceiling_are_added(results: Results) -> None:
    names = [codec.name for codec in results.codecs]
    assert names == ["uncompressed", "jpeg", "webp", "toy-base", "jpeg@50"]
    assert [(c.family, c.percent, c.head) for c in results.codecs[-2:]] == [
        ("toy-base", None, True),
        ("jpeg", 50, False),
    ]
    again = complete_codecs(_protocol(), [webp()])
    assert [codec.name for codec in again] == ["uncompressed", "webp"]


def test_rates_are_bits_of_all_files_over_pixels_of_all_pictures(results: Results) -> None:
    (row,) = select(results.rows.points, codec="toy-base", point="q=1", quantity="bpp")
    assert row.value == 200 * 8 / SIZE**2
    assert row.pictures == 4
    assert row.low == row.high == pytest.approx(row.value)


def test_counts_say_what_was_left_out(results: Results) -> None:
    counts = {row.quantity: row.value for row in results.rows.counts}
    assert counts == {"pictures": 4.0, "pictures_skipped": 1.0, "frequent_classes": 1.0}
    assert results.skipped[0].picture == "broken.png"


def test_the_better_machine_is_taken_at_each_point(results: Results) -> None:
    for codec in ("jpeg", "webp"):
        values = {m: results.curve(codec, m, "ap") for m in ("near", "far", "best")}
        for near, far, best in zip(*values.values(), strict=True):
            assert best[1].value == max(near[1].value or 0, far[1].value or 0)
    assert results.views == ("near", "far", "best")


def test_a_head_is_compared_in_every_view(results: Results) -> None:
    rows = select(results.rows.deltas, codec="toy-base", kind="bd_rate", against="jpeg", against_front=False, over="ap")
    assert {row.view for row in rows} == {"near", "far", "best"}
    layers = select(results.rows.layers, codec="toy-base", point="q=0")
    assert {row.layer: row.value for row in layers} == {"header": 20.0, "base": 80.0}


def test_the_front_over_scales_is_an_anchor_too(results: Results) -> None:
    rows = select(results.rows.deltas, kind="bd_rate", against="jpeg")
    assert select(rows, codec="webp", front=False, against_front=True)
    assert select(rows, codec="jpeg", front=True, against_front=False)
    assert not any("front" in codec.name for codec in results.codecs)


def test_a_refused_delta_has_its_reason(results: Results) -> None:
    rows = select(results.rows.deltas, kind="bd_rate")
    assert any(row.value is None for row in rows)
    for row in rows:
        assert bool(row.refusal) == (row.value is None or row.low is None)
        assert (row.start is None) == (row.value is None)


def test_costs_and_environment_are_there(results: Results) -> None:
    costs = {row.quantity for row in select(results.rows.costs, codec="jpeg")}
    assert {"encode", "decode", "machine", "peak"} <= costs
    assert {"python", "cpu", "cores", "numpy", "time"} <= results.environment.keys()
    assert results.command == "vcm eval <toy> & more"


def test_results_compare_with_themselves_to_nothing(results: Results) -> None:
    found = [row for row in compare(results, results) if row.codec == "webp"]
    assert found
    for row in found:
        assert row.same
        assert row.bd_rate is None or row.bd_rate == pytest.approx(0, abs=1e-9)
        assert row.bd_rate is not None or row.refusal
        assert all(a == b and x == y for _, a, b, x, y in row.points)


def test_distortion_protocol_with_a_published_curve(tmp_path: Path) -> None:
    reference = {"name": "paper", "rate": [0.2, 0.5, 1.0, 2.0, 4.0], "values": {"psnr": [22, 26, 30, 35, 41]}}
    plan = _protocol(task="distortion", accuracy=[], resampled=None, references=[reference], bd_mean_of=["psnr"])
    data = _dataset(tmp_path / "data", 2)
    evaluate(plan, data, [jpeg(), webp()], [], tmp_path / "out", command="c")
    found = read_results(tmp_path / "out")
    (row,) = select(found.rows.deltas, codec="webp", against="paper", kind="bd_rate")
    assert row.value is not None
    (mean,) = select(found.rows.deltas, codec="webp", against="jpeg", kind="bd_rate_mean")
    (single,) = select(found.rows.deltas, codec="webp", against="jpeg", kind="bd_rate")
    assert mean.value == single.value
    assert "paper" in (tmp_path / "out" / "figures" / "psnr.svg").read_text()


def test_the_gallery_shows_kept_files_and_encodes_nothing(tmp_path: Path) -> None:
    calls: list[float] = []

    class Counting(Base):
        def compress(self, image: Image, quality: float) -> bytes:
            calls.append(quality)
            return super().compress(image, quality)

    plan = _protocol(anchors=["toy-base"], resampled=None)
    evaluate(plan, _dataset(tmp_path / "data", 2), [Counting()], [Eye("near", 0.5)], tmp_path / "out", command="c")
    assert len(calls) == 1 + 4 * 2, "a warm-up, and two pictures at four points"
    assert (tmp_path / "out" / "report.html").read_text("utf-8").count("<img") >= 2


def test_foreign_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("", "[]", "{}", '{"format": "vcm-eval/1"}', '{"format": "vcm-eval/2", "rows": {"points": 1}}'):
        path.write_text(text)
        with pytest.raises(FormatError):
            read_results(tmp_path)
    with pytest.raises(FormatError):
        read_results(tmp_path / "nowhere.json")


def test_results_json_has_no_nan(folder: Path) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    json.loads((folder / "results.json").read_text(), parse_constant=refuse)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", "text")
    assert (tmp_path / "a" / "b.txt").read_text() == "text"
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "a" / "b.txt" / "c", "text")


def test_numbers_are_written_with_their_unit_in_mind() -> None:
    def cost(quantity: str, value: float, unit: str) -> str:
        return format_value(CostRow(row=1, value=value, unit=unit, codec="c", machine="", quantity=quantity))

    def rate(value: float | None, unit: str = "bit/px") -> str:
        return format_value(PointRow(row=1, value=value, unit=unit, codec="c", point="p", machine="", quantity="bpp"))

    assert cost("encode", 0.0123, "s") == "12.3"
    assert cost("parameters", 12345.0, "") == "12,345"
    assert (rate(0.01234), rate(1.2345), rate(None), rate(30.123, "dB")) == ("0.0123", "1.234", "–", "30.12")
    of = {"codec": "c", "front": False, "against": "d", "against_front": False, "view": "", "over": "psnr"}
    assert format_value(DeltaRow(row=1, value=-3.14159, unit="%", kind="bd_rate", **of)) == "-3.14"
    assert format_value(CountRow(row=1, value=1234.0, quantity="pictures")) == "1,234"
    assert row_range([3, 1, 2, 9, 5, 6]) == "1–3, 5–6, 9"


def test_the_commit_is_ours_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package inside the user's own repository must not record the user's commit."""
    copy = tmp_path / "venv" / "vcm" / "eval" / "report" / "results.py"
    copy.parent.mkdir(parents=True)
    copy.write_text("")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(module, "__file__", str(copy))
    assert "commit" not in module.environment()
    ours = tmp_path / "eval" / "report" / "results.py"
    ours.parent.mkdir(parents=True)
    ours.write_text("")
    monkeypatch.setattr(module, "__file__", str(ours))
    assert len(module.environment()["commit"]) >= 12
