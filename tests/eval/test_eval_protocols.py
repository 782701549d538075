"""Protocols: the shipped ones, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vcm.codecs.anchors import load_anchor
from vcm.codecs.protocol import QualityRange
from vcm.errors import ConfigError, MissingDependencyError, ModelNotFoundError, OptionError
from vcm.eval.run.protocols import Point, list_protocols, load_protocol

_GOOD = {
    "name": "p",
    "title": "P",
    "task": "distortion",
    "anchors": ["jpeg"],
    "metrics": ["psnr"],
    "departures": ["all"],
}


def _file(folder: Path, **changes: object) -> Path:
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump({**_GOOD, **changes}))
    return path


def test_the_three_protocols_are_shipped_and_declare_departures() -> None:
    assert set(list_protocols()) >= {"vcm-detection", "jpeg-ai", "kodak-psnr"}
    for name in list_protocols():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert protocol.departures


def test_every_named_point_is_one_that_the_codec_allows() -> None:
    for name in ("vcm-detection", "kodak-psnr"):
        protocol = load_protocol(name)
        for codec in protocol.points:
            if codec.startswith("vcm"):
                continue
            try:
                span = load_anchor(codec).quality_range
            except MissingDependencyError:
                continue
            assert len(protocol.points_of(codec, span)) >= 4


def test_vvc_points_are_those_of_the_standard() -> None:
    span = QualityRange(0, 63, ascending=False)
    points = load_protocol("vcm-detection").points_of("vvc@50", span, family="vvc")
    assert [point.quality for point in points] == [47, 42, 37, 32, 27, 22]


def test_rate_targets_hold_for_every_codec() -> None:
    points = load_protocol("jpeg-ai").points_of("anything", QualityRange(0, 100))
    assert [point.target_bpp for point in points] == [0.06, 0.12, 0.25, 0.5, 0.75, 1.0]
    assert points[0].label == "bpp=0.06"


def test_unnamed_codecs_are_spread_and_fixed_ones_have_one_point(tmp_path: Path) -> None:
    protocol = load_protocol(_file(tmp_path))
    assert protocol.points_of("new", QualityRange(0, 100)) == tuple(Point(quality=q) for q in (10, 30, 50, 70, 90))
    assert protocol.points_of("raw", QualityRange(0, 0)) == (Point(quality=0),)
    with pytest.raises(OptionError):
        load_protocol(_file(tmp_path, points={"new": [200]})).points_of("new", QualityRange(0, 100))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"metric": ["psnr"]}, "metric"),
        ({"metrics": ["loudness"]}, "loudness"),
        ({"task": "segmentation"}, "task"),
        ({"accuracy": ["ap"]}, "accuracy"),
        ({"task": "detection"}, "accuracy"),
        ({"metrics": []}, "nothing to measure"),
        ({"departures": []}, "departures"),
        ({"bd_mean_of": ["vif"]}, "bd_mean_of"),
        ({"rate_targets": [0.1, -1]}, "rate_targets"),
        ({"resampled": {"codecs": ["vvc"], "percent": [150]}}, "resampled"),
        ({"references": [{"name": "r", "rate": [0.1, 0.2], "values": {"psnr": [30]}}]}, "references"),
        ({"bootstrap": 3}, "bootstrap"),
    ],
)
def test_bad_protocols_name_the_key(tmp_path: Path, change: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_protocol(_file(tmp_path, **change))


def test_unknown_protocol_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="vcm-detection"):
        load_protocol("no-such")
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigError):
        load_protocol(path)
