"""What other packages add by entry points: codecs, heads, metrics. The package is a real one, on its own path."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import chelsea

import vcm
import vcm.cli
from vcm.codecs.anchors import load_anchor
from vcm.codecs.families import families
from vcm.errors import HeadError, OptionError
from vcm.eval.metrics import Metric, metric, metrics
from vcm.eval.report.results import read_results
from vcm.eval.run.protocols import Protocol
from vcm.tasks.kinds import head_kinds
from vcm.testing.codecs import check_codec

METRIC = """
import numpy as np
from vcm.eval.metrics import Metric

def mean_absolute(reference, distorted):
    return float(np.mean(np.abs(reference.astype(int) - distorted)))

MAE = Metric("{name}", "mean error", "lower", "", "RGB", False, (), 1, mean_absolute)
NONE = 3
"""


CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``package(name, entry_points, files)`` is what an installer leaves behind, on a path of its own."""
    names = []

    def caches() -> None:
        for known in (metrics, head_kinds, families):
            known.cache_clear()

    def package(name: str, entry_points: dict[str, dict[str, str]], files: dict[str, str]) -> None:
        site, names[:] = tmp_path / "site", [name]
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in entry_points.items()
            )
        )
        for path, text in files.items():
            (site / path).parent.mkdir(exist_ok=True)
            (site / path).write_text(text)
        monkeypatch.syspath_prepend(site)
        caches()

    yield package
    monkeypatch.undo()
    for module in [module for module in sys.modules if module.split(".")[0] in names]:
        del sys.modules[module]
    caches()


@pytest.fixture
def install(package) -> Callable[[str, str, str], None]:
    """``install(group, value, code)``: a package of one module, ``some_plugin``, with one entry point."""
    return lambda group, value, code: package("some_plugin", {group: {"mine": value}}, {"some_plugin.py": code})


def test_a_metric_is_known_to_protocols(install) -> None:
    install("vcm.metrics", "some_plugin:MAE", METRIC.format(name="mae"))
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 50, np.uint8)
    assert metric("mae")(black, grey) == 50
    assert list(metrics())[-1] == "mae"
    settings = {"name": "a", "title": "a", "task": "distortion", "anchors": ("jpeg",), "departures": ("a test",)}
    assert Protocol(**settings, metrics=("psnr", "mae")).metrics == ("psnr", "mae")


def test_a_metric_of_another_name_is_unknown() -> None:
    with pytest.raises(OptionError, match="no such metric"):
        metric("mae")


def test_a_name_that_is_taken_is_refused(install) -> None:
    install("vcm.metrics", "some_plugin:MAE", METRIC.format(name="psnr"))
    with pytest.raises(OptionError, match=r"a metric of that name exists.*found psnr"):
        metrics()


def test_what_is_no_metric_is_refused(install) -> None:
    install("vcm.metrics", "some_plugin:NONE", METRIC.format(name="mae"))
    with pytest.raises(OptionError, match="some_plugin:NONE is no metric: expected a Metric, found int"):
        metrics()


def test_a_package_that_does_not_import_is_named(package) -> None:
    package("broken", {group: {"broken": "broken_package:X"} for group in ("vcm.metrics", "vcm.heads")}, {})
    with pytest.raises(OptionError, match="the metric broken cannot be loaded: expected broken_package:X"):
        metrics()
    with pytest.raises(HeadError, match="the kind of heads broken cannot be loaded: expected broken_package:X"):
        head_kinds()


def test_what_is_no_kind_of_heads_is_refused(package) -> None:
    package("extras_heads", {"vcm.heads": {"mine": "extras_heads:KIND"}}, {"extras_heads.py": "KIND = 1\n"})
    with pytest.raises(HeadError, match="extras_heads:KIND is no kind of heads: expected a HeadKind, found int"):
        head_kinds()


def test_ours_come_first_and_are_metrics() -> None:
    assert list(metrics())[:2] == ["psnr", "psnr_y"]
    assert all(isinstance(row, Metric) for row in metrics().values())


def test_contributing_is_enough(package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The files that CONTRIBUTING shows, as a package: its codec and metric in ``vcm eval``, its head in ours."""
    text = CONTRIBUTING.read_text()
    (project,) = re.findall(r"^```toml\n(.*?)^```", text, flags=re.S | re.M)
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M)
    files = {re.match(r'"""(vcm_extras/\w+\.py)', block).group(1): block for block in blocks}  # type: ignore[union-attr]
    use = files.pop("vcm_extras/use_sharpness.py")
    package("vcm_extras", tomllib.loads(project)["project"]["entry-points"], files)
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.fromarray(chelsea()).reduce(3).save("photos/a.png")
    vcm.load("vcm-s").encode("photos/a.png", base_only=True).save("street.vcm")

    exec(compile(use, "CONTRIBUTING.md", "exec"), {})
    assert re.fullmatch(r"Sharpness\(probability=0\.\d+\)\n", capsys.readouterr().out)

    check_codec(load_anchor("dct:effort=6"))
    with pytest.raises(OptionError, match="dct has no such option: found level"):
        load_anchor("dct:level=6")

    Path("own.yaml").write_text(
        "{name: own, title: own, task: distortion, anchors: [jpeg], points: {dct: [20, 40, 60, 80]}, metrics: [gmsd],"
        " bootstrap: 10, departures: [a test]}"
    )
    assert vcm.cli.run(["eval", "own.yaml", "--data", "photos", "--codecs", "dct", "--out", "out"]) == 0
    curve = [value.value for _, value in read_results(Path("out")).curve("dct", "", "gmsd")]
    assert curve == sorted(curve, reverse=True)
    assert 0 < curve[-1] < curve[0]
