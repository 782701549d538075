"""A new head on frozen features: data and split, features, losses, a whole run, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from tiny import TINY_WEIGHTS, tiny_twin, tiny_weights

import vcm
import vcm.cli
from vcm.errors import AnnotationError, ConfigError, OptionError, TrainingError
from vcm.eval.metrics.keypoints import evaluate_keypoints
from vcm.io.pictures import load_image
from vcm.structures import LatentSpec
from vcm.tasks.keypoints import KeypointOutput
from vcm.training import features as features_module
from vcm.training.data.keypoints import is_test, mirror_order, read_keypoint_data
from vcm.training.features import cached_features, compute_features, extractor
from vcm.training.head_config import load_head_config
from vcm.training.heads import _mirrored, fit, keypoint_loss, train_heads
from vcm.weights.head_file import load_head

SPLIT = 0b11010
"""Which of 0.webp … 11.webp are tested on, bit by bit."""
NAMES = ("left_end", "right_end", "middle")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of bright bars: keypoints at both ends and in the middle."""
    folder = tmp_path_factory.mktemp("bars")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(14):
        size = (96, 80) if i % 2 else (80, 64)
        image = Image.new("RGB", size, (20, 30, 40))
        x, y = (int(v) for v in rng.integers(2, 30, 2))
        ImageDraw.Draw(image).rectangle((x, y, x + 40, y + 25), fill=(250, 240, 230))
        image.save(folder / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]})
        points = [x + 3, y + 12, 2, x + 37, y + 12, 2 if i % 3 else 0, x + 20, y + 12, 1]
        box = {"image_id": i, "category_id": 1, "bbox": [x, y, 40, 25]}
        annotations.append({**box, "id": 2 * i, "keypoints": points})
        annotations.append({**box, "id": 2 * i + 1, "keypoints": [0] * 9})  # an object without keypoints
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "bar", "keypoints": NAMES}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    content = {
        "name": "bars", "seed": 3, "data": str(data), "out": str(tmp_path / "out"), "weights": str(TINY_WEIGHTS),
        "test_share": 0.4, "shape": {"grid": 4, "width": 8, "depth": 1, "up": 2}, "epochs": 30, "batch": 4,
        "warmup": 5, "lr": 0.01, "ema": 0.9, "sigmas": dict.fromkeys(NAMES, 0.1), "resamples": 20,
    }  # fmt: skip
    path = tmp_path / "head.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_annotations_are_read(data: Path) -> None:
    found = read_keypoint_data(data)
    assert found.names == NAMES
    assert len(found.pictures) == 14
    first = next(p for p in found.pictures if p.id == 3)
    assert len(first.truth) == 1  # the object without keypoints is not there
    assert first.path.is_file()
    assert first.truth.points[0, :, 2].tolist() == [1, 0, 1]
    assert first.truth.boxes[0, 2] - first.truth.boxes[0, 0] == 40


def test_broken_annotations_are_refused(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "instances.json").read_text())
    with pytest.raises(ConfigError, match="annotations"):
        read_keypoint_data(tmp_path)
    for change in (
        {"annotations": [{**content["annotations"][0], "keypoints": [1, 2]}]},
        {"annotations": [{**content["annotations"][0], "bbox": [0, 0, -3, 5]}]},
        {"images": [{**content["images"][0], "file_name": "../x.png"}], "annotations": content["annotations"][:1]},
        {"annotations": [{**content["annotations"][0], "image_id": 999}]},
        {"categories": []},
    ):
        (tmp_path / "instances.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(AnnotationError):
            read_keypoint_data(tmp_path)


def test_the_split_follows_from_the_name() -> None:
    names = [f"{i:04d}.jpg" for i in range(2000)]
    share = np.mean([is_test(n, 0.2) for n in names])
    assert 0.17 < share < 0.23
    # Fixed for ever: a change would let test pictures into training.
    assert [is_test(f"{i}.webp", 0.2) for i in range(12)] == [SPLIT >> i & 1 == 1 for i in range(12)]
    assert all(is_test(n, 0.5) for n in names if is_test(n, 0.2))


def test_left_and_right_change_places() -> None:
    assert mirror_order(("left_eye", "nose", "right_eye", "left_horn")) == (2, 1, 0, 3)
    boxes = torch.tensor([[10.0, 5, 30, 25], [10, 5, 30, 25]])
    points = torch.tensor([[[12.0, 6, 1], [28, 7, 0], [20, 8, 1]]]).repeat(2, 1, 1)
    b, p = _mirrored(boxes, points, torch.tensor([100.0, 100]), torch.tensor([True, False]), torch.tensor([1, 0, 2]))
    assert b.tolist() == [[70, 5, 90, 25], [10, 5, 30, 25]]
    assert p[0].tolist() == [[72, 7, 0], [88, 6, 1], [80, 8, 1]]
    assert torch.equal(p[1], points[1])


def test_base_features_are_those_of_real_files(data: Path) -> None:
    paths = [data / "images" / f"{i}.png" for i in range(2)]
    found = compute_features(paths, extractor("base", TINY_WEIGHTS, quality=80))
    codec = vcm.load(TINY_WEIGHTS)
    for i, path in enumerate(paths):
        file = codec.encode(path, base_only=True, base_quality=80).base
        expected = codec.latents(file)
        mine = found.latents(i)
        assert torch.equal(mine.y_hat, expected.y_hat.half().float())
        assert (mine.coded_size, mine.source_size) == (expected.coded_size, expected.source_size)
        assert mine.quality == pytest.approx(expected.quality)
        assert int(found.file_bytes[i]) == len(file)
    flipped = codec.encode(np.ascontiguousarray(load_image(paths[1]).pixels[:, ::-1]), base_only=True, base_quality=80)
    assert torch.equal(found.mirrored[1:].float(), codec.latents(flipped).y_hat.half().float())
    assert found.bpp == pytest.approx(8 * int(found.file_bytes.sum()) / (80 * 64 + 96 * 80))


def test_padding_is_outside_of_statistics(data: Path) -> None:
    paths = [data / "images" / f"{i}.png" for i in range(4)]
    found = compute_features(paths, extractor("twin", TINY_WEIGHTS))
    assert found.plain.shape == (4, 8, 5, 6)
    assert found.inside().sum().item() == 2 * (4 * 5 + 5 * 6)
    assert not found.plain[0, :, 4:].any()
    mean, spread = found.statistics([0, 2])
    values = torch.cat([found.latents(i).y_hat.flatten(2)[0] for i in (0, 2)], dim=1)
    torch.testing.assert_close(mean, values.mean(1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(spread, values.std(1, correction=0), atol=1e-4, rtol=1e-3)
    filled = found.padded_with(mean)
    torch.testing.assert_close(filled.plain[0, :, 4, 0].float(), mean, atol=1e-2, rtol=1e-2)
    assert torch.equal(filled.latents(0).y_hat, found.latents(0).y_hat)


def test_kinds_of_features_have_one_shape_and_differ(data: Path) -> None:
    paths = [data / "images" / "1.png"]
    base, twin, random, other, again = (
        compute_features(paths, extractor(kind, TINY_WEIGHTS, quality=100, seed=seed))
        for kind, seed in (("base", 0), ("twin", 0), ("random", 0), ("random", 1), ("random", 0))
    )
    assert {replace(f.spec, fingerprint="") for f in (base, twin, random)} == {LatentSpec(8, 16)}
    assert base.spec.fingerprint == vcm.load(TINY_WEIGHTS).fingerprint
    assert base.plain.shape == twin.plain.shape == random.plain.shape
    assert not torch.equal(base.plain, twin.plain)
    assert not torch.equal(random.plain, other.plain)
    assert torch.equal(random.plain, again.plain)
    assert 0.05 < random.plain.float().std() < 20  # a random network that neither dies nor explodes
    with pytest.raises(OptionError, match="no pictures"):
        compute_features([], extractor("twin", TINY_WEIGHTS))


def test_twin_features_are_those_of_the_pixel_twin(data: Path, tmp_path: Path) -> None:
    paths = [data / "images" / "1.png"]
    weights = tiny_weights(tmp_path)
    first, second = (tiny_twin(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (2, 3))
    found = cached_features(tmp_path, "twin", weights, paths, twin=first)
    assert torch.equal(found.latents(0).y_hat, vcm.load_twin(first).latents(paths[0]).y_hat.half().float())
    assert not torch.equal(found.plain, cached_features(tmp_path, "twin", weights, paths, twin=second).plain)
    assert not torch.equal(found.plain, cached_features(tmp_path, "twin", weights, paths).plain)


def test_features_are_computed_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [data / "images" / f"{i}.png" for i in range(3)]
    other = cached_features(tmp_path, "base", TINY_WEIGHTS, paths, quality=90)
    first = cached_features(tmp_path, "base", TINY_WEIGHTS, paths, quality=50)
    assert not torch.equal(first.plain, other.plain)
    assert len(list(tmp_path.glob("features-*"))) == 1  # the last, not every one that ever was

    def never(*_: object, **__: object) -> None:
        raise RuntimeError("computed again")

    monkeypatch.setattr(features_module, "extractor", never)
    again = cached_features(tmp_path, "base", TINY_WEIGHTS, paths, quality=50)
    assert torch.equal(first.plain, again.plain)
    assert torch.equal(first.mirrored, again.mirrored)
    assert (first.quality, first.spec, first.bpp) == (again.quality, again.spec, again.bpp)
    with pytest.raises(RuntimeError, match="again"):
        cached_features(tmp_path, "base", TINY_WEIGHTS, paths[:2], quality=50)


def test_the_loss_prefers_the_right_place() -> None:
    regions = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    points = torch.tensor([[[5.0, 11.0, 1.0], [40.0, 3.0, 1.0], [0.0, 0.0, 0.0]]])
    visible = torch.tensor([[20.0, 20.0, -20.0]])

    def at(row: int, column: int) -> float:
        heat = torch.zeros(1, 3, 8, 8)
        heat[0, 0, row, column] = 5.0
        return float(keypoint_loss(KeypointOutput(heat, visible), regions, points, 0.7, 1.0))

    losses = {(r, c): at(r, c) for r in range(8) for c in range(8)}
    assert min(losses, key=lambda k: losses[k]) == (5, 2)  # x 5 of 16 lies in column 2 of 8, y 11 in row 5
    heat = torch.randn(1, 3, 8, 8)
    moved = heat.clone()
    moved[0, 1:] = 9.0  # beyond the region, and not labelled: no say
    one, two = (keypoint_loss(KeypointOutput(h, visible), regions, points) for h in (heat, moved))
    torch.testing.assert_close(one, two)


def test_fit_averages_and_stops() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    average, losses = fit(module, lambda _: ((average_of(module, x) - y) ** 2).mean(), 300, lr=0.05, ema=0.9)
    assert len(losses) == 300
    assert losses[-1] < 1e-2 * losses[0]
    torch.testing.assert_close(average.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.1, rtol=0.1)
    _, short = fit(module, lambda _: average_of(module, x).mean() ** 2, 300, lr=0.05, minutes=0)
    assert len(short) == 1
    with pytest.raises(TrainingError, match="finite"):
        fit(module, lambda _: average_of(module, x).mean() * torch.nan, 3, lr=0.05)


def average_of(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = module(x)
    return out


def test_a_run_learns_repeats_and_its_head_reads_files(config: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    run = train_heads(config, features=("base",), progress=lambda name, done, total: seen.append(name))
    assert {"base features", "base head"} <= set(seen)
    (head,) = run.heads
    assert head.finished
    assert run.train_pictures + len(run.truth) == 14
    assert head.bpp > 0
    trained = evaluate_keypoints(run.truth, head.found, run.sigmas)
    assert trained.ap50 > 60
    stopped = train_heads(config, features=("base",), minutes=0, overrides=(f"out={tmp_path / 'short'}",)).heads[0]
    assert not stopped.finished
    assert trained.ap50 > evaluate_keypoints(run.truth, stopped.found, run.sigmas).ap50
    # The file is a head for the codec, and finds in a file what it found in the test.
    codec = vcm.load(TINY_WEIGHTS)
    loaded = load_head(head.weights).network
    picture = next(p for p in read_keypoint_data(run.config.data).pictures if p.id in run.truth)
    file = codec.encode(picture.path, base_only=True, base_quality=run.config.quality)
    codec.add_head("bars", lambda latents: loaded.estimate(latents, picture.truth.boxes))
    np.testing.assert_allclose(codec.run("bars", file).points, head.found[picture.id].points, atol=0.2)
    # And once more, elsewhere.
    other = train_heads(config, features=("base",), overrides=(f"out={tmp_path / 'again'}",)).heads[0]
    one, two = load_file(head.weights), load_file(other.weights)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert head.loss == other.loss


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("colour=red", "colour"),
        ("shape.grid=1", "grid"),
        ("sigmas.left_end=x", "sigmas"),
        ("features=[base, twins]", "features"),
        ("nothing", "key=value"),
    ],
)
def test_a_wrong_configuration_is_refused(config: Path, override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_head_config(config, (override,))


def test_configurations_that_do_not_fit_the_data(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one a keypoint"):
        train_heads(config, overrides=("sigmas={left_end: 0.1}",))
    with pytest.raises(ConfigError, match="one side"):
        train_heads(config, overrides=("test_share=0.000001",))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_head_config(tmp_path / "absent.yaml")


def test_the_shipped_configuration_is_valid() -> None:
    found = load_head_config(Path(__file__).parents[2] / "configs" / "heads" / "keypoints.yaml")
    assert len(found.sigmas) == 20
    assert found.features == ("base", "twin", "random")


def test_the_command_writes_a_report(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train-head", str(config), "--set", "epochs=1"]
    assert vcm.cli.run([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(printed["heads"]) == {"base", "twin", "random"}
    assert printed["test"]["over_random"]["level"] == 0.95
    assert vcm.cli.run([*arguments, "--features", "twin"]) == 0
    text = capsys.readouterr().out
    assert "twin" in text
    assert "over random" not in text
    assert vcm.cli.run([*arguments, "--features", "twins"]) == 2
    assert "twins" in capsys.readouterr().err
