"""What other packages add by entry points: metrics, kinds of heads. The package is a real one, on its own path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vcm.errors import OptionError
from vcm.eval.metrics import Metric, metric, metrics
from vcm.eval.run.protocols import Protocol
from vcm.tasks.kinds import head_kinds

METRIC = """
import numpy as np
from vcm.eval.metrics import Metric

def mean_absolute(reference, distorted):
    return float(np.mean(np.abs(reference.astype(int) - distorted)))

MAE = Metric("{name}", "mean error", "lower", "", "RGB", False, (), 1, mean_absolute)
NONE = 3
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """``install(group, entry, code)`` makes a package ``some_plugin`` with one entry point."""

    def caches() -> None:
        for known in (metrics, head_kinds):
            known.cache_clear()

    def install(group: str, entry: str, code: str) -> None:
        folder = tmp_path / "site"
        info = folder / "some_plugin-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        (folder / "some_plugin.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        caches()

    yield install
    monkeypatch.undo()
    sys.modules.pop("some_plugin", None)
    caches()


def test_a_metric_is_known_to_protocols(install) -> None:
    install("vcm.metrics", "mae = some_plugin:MAE", METRIC.format(name="mae"))
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 50, np.uint8)
    assert metric("mae")(black, grey) == 50
    assert list(metrics())[-1] == "mae"
    settings = {"name": "a", "title": "a", "task": "distortion", "anchors": ("jpeg",), "departures": ("a test",)}
    assert Protocol(**settings, metrics=("psnr", "mae")).metrics == ("psnr", "mae")


def test_a_metric_of_another_name_is_unknown() -> None:
    with pytest.raises(OptionError, match="no such metric"):
        metric("mae")


def test_a_name_that_is_taken_is_refused(install) -> None:
    install("vcm.metrics", "mine = some_plugin:MAE", METRIC.format(name="psnr"))
    with pytest.raises(OptionError, match=r"two metrics have one name.*found psnr"):
        metrics()


def test_what_is_no_metric_is_refused(install) -> None:
    install("vcm.metrics", "mine = some_plugin:NONE", METRIC.format(name="mae"))
    with pytest.raises(OptionError, match="some_plugin:NONE adds no metric: expected a Metric, found int"):
        metrics()


def test_ours_come_first_and_are_metrics() -> None:
    assert list(metrics())[:2] == ["psnr", "psnr_y"]
    assert all(isinstance(row, Metric) for row in metrics().values())
