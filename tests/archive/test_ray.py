"""Ray's engine writes what the local one writes. Where Ray is installed: it is too large for the tests of everybody."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_WEIGHTS

import vcm
from vcm.archive import IngestOptions, ingest
from vcm.errors import OptionError

pytest.importorskip("ray.data", reason="pip install 'vcm[cluster]'")


def contents(place: Path) -> dict[str, bytes]:
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for seed in range(10):
        pixels = np.random.default_rng(seed % 9).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        (root / f"{seed % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / f"{seed % 2}" / f"{seed}.png")
    (root / "1" / "damaged.png").write_bytes(b"nothing")
    return root


@pytest.mark.filterwarnings("ignore")
def test_the_same_bytes_as_the_local_engine(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vcm.archive.ray_engine import ingest_on_ray

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", str(Path(vcm.__file__).parents[1])))
    options, problems = IngestOptions(score=0.0, split=("hot", "cold")), []
    codec = vcm.load(TINY_WEIGHTS, threads=1)
    local = ingest([str(photos)], tmp_path / "local", codec, options, commit=3)
    on_ray = ingest_on_ray(
        [str(photos)], tmp_path / "ray", str(TINY_WEIGHTS), options, workers=1, commit=3,
        failed=lambda name, error: problems.append((name, str(error))),
    )  # fmt: skip
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert [name for name, _ in problems] == [str(photos / "1" / "damaged.png")]
    local.seconds = on_ray.seconds = 0
    assert on_ray == local
    assert ingest_on_ray([str(photos)], tmp_path / "ray", str(TINY_WEIGHTS), options, workers=1).known == 10


def test_videos_are_for_the_local_engine(tmp_path: Path) -> None:
    from vcm.archive.ray_engine import ingest_on_ray

    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(OptionError, match="engine local"):
        ingest_on_ray([str(tmp_path)], tmp_path / "archive", str(TINY_WEIGHTS))
