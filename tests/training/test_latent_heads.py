"""Heads on a bank of latents: from a folder and a configuration to a file that the codec and the command line read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from tiny import TINY_WEIGHTS, tiny_codec, tiny_twin, tiny_weights

import vcm.cli
from vcm.errors import AnnotationError, ConfigError
from vcm.tasks.torchvision import latent_backbone
from vcm.training.bank import Variety, cached_bank, plan_view, view_pixels
from vcm.training.latent_heads.config import kind_in, load_latent_head_config
from vcm.training.latent_heads.detectors import start_from_codec
from vcm.weights.head_file import load_head

CONFIGS = Path(__file__).parents[2] / "configs" / "heads"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight pictures of a disc or a square with boxes, polygons, a mask each, and a folder a class."""
    folder = tmp_path / "data" / "things"
    for part in ("images", "masks", "classes/disc", "classes/square"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(8):
        x, y, side, label = (int(v) for v in (*rng.integers(5, 60, 2), rng.integers(30, 40), i % 2))
        picture, mask = Image.new("RGB", (128, 112), (20, 30, 60)), Image.new("L", (128, 112))
        for canvas, fill in ((picture, (250, 240, 90)), (mask, label + 1)):
            draw = ImageDraw.Draw(canvas)
            (draw.rectangle if label else draw.ellipse)((x, y, x + side, y + side), fill=fill)
        picture.save(folder / "images" / f"{i}.png")
        picture.save(folder / "classes" / ("disc", "square")[label] / f"{i}.png")
        mask.save(folder / "masks" / f"{i}.png")
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        images.append({"id": i, "file_name": f"{i}.png", "width": 128, "height": 112})
        annotations.append({
            "id": i + 1, "image_id": i, "category_id": label + 1, "bbox": [x, y, side, side], "area": side * side,
            "iscrowd": 0, "segmentation": [corners],
        })  # fmt: skip
    (folder / "classes.txt").write_text("background\ndisc\nsquare\n")
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def config(data: Path, kind: str, /, **changes: Any) -> Path:
    folder = {"single-label": "things/classes"}.get(kind, "things")
    shape = {"width": 16, "feature": 32, "finest": 16, "levels": 2, "convs": 1, "hidden": 16}
    other = {"width": 16, **({"size": 16} if kind == "embedding" else {})}
    content = {
        "kind": kind, "name": "t", "root": str(data.parent), "data": [folder], "test": folder,
        "out": str(data.parent / "out"), "weights": str(TINY_WEIGHTS), "twin": None, "start": False,
        "epochs": 1, "batch": 4,
        "shape": shape if kind in ("fcos", "retinanet", "faster_rcnn", "mask_rcnn") else other, "qualities": [50],
        "views": {"views": 2, "crop": 0.7, "qualities": [50, 100]}, **changes,
    }  # fmt: skip
    path = data.parent / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


KINDS = {
    "fcos": "ap50", "retinanet": "ap50", "faster_rcnn": "ap50", "mask_rcnn": "ap50", "single-label": "top1",
    "segmentation": "miou", "embedding": "map_at_10",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_folder_to_a_head_that_files_are_read_with(
    data: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vcm.cli.run(["train-head", str(config(data, kind)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["heads"]["base"]["finished"]
    assert np.isfinite(report["heads"]["base"]["loss"])
    (point,) = report["test"][0]["points"]
    assert KINDS[kind] in point["accuracy"]
    assert point["bpp"] > 0
    weights = Path(report["heads"]["base"]["weights"])
    codec = vcm.load(TINY_WEIGHTS)
    assert load_head(weights).network.spec == codec.spec
    codec.add_head("t", weights)
    file = codec.encode(data / "images" / "0.png", base_only=True)
    found = codec.run("t", file)
    assert found.bytes_read == len(file.base)
    file.save(tmp_path / "a.vcm")
    if kind in ("fcos", "retinanet", "faster_rcnn"):
        line = [
            "detect",
            str(tmp_path / "a.vcm"),
            "--head",
            str(weights),
            "--model",
            str(TINY_WEIGHTS),
            "--json",
            "-s",
            "0",
        ]
        assert vcm.cli.run(line) == 0
        rows = json.loads(capsys.readouterr().out)
        assert {one["label"] for one in rows[0]["detections"]} <= {"disc", "square"}


def test_a_limit_keeps_all_classes_and_their_labels(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of an ImageFolder stand class by class; four of eight are two of each, with their own labels."""
    from vcm.training.latent_heads import run as training
    from vcm.training.latent_heads.lessons import SingleLabels

    seen: list[tuple[int, str]] = []
    loss = SingleLabels.loss

    def watched(self: SingleLabels, network: Any, bank: Any, rows: Any) -> Any:
        picked = bank.pictures[list(rows)].long()
        for label, picture in zip(self.labels[picked].tolist(), picked.tolist(), strict=True):
            seen.append((label, self.paths[picture].parent.name))
        return loss(self, network, bank, rows)

    monkeypatch.setattr(SingleLabels, "loss", watched)
    training.train_latent_head(config(data, "single-label", limit=4))
    assert set(seen) == {(0, "disc"), (1, "square")}


def test_a_bank_is_computed_once(data: Path, tmp_path: Path) -> None:
    paths = sorted((data / "images").glob("*.png"))[:2]
    variety = Variety(views=3, crop=0.6, colour=0.1, jpeg=50, smaller=0.8, qualities=(30.0, 90.0))
    bank = cached_bank(tmp_path / "b", "base", TINY_WEIGHTS, paths, variety, seed=1)
    told: list[int] = []
    again = cached_bank(
        tmp_path / "b", "base", TINY_WEIGHTS, paths, variety, seed=1, progress=lambda n, m: told.append(n)
    )
    assert not told
    assert torch.equal(bank.values, again.values)
    assert bank.pictures.tolist() == [0, 0, 0, 1, 1, 1]
    cached_bank(tmp_path / "b", "base", TINY_WEIGHTS, paths, variety, seed=2, progress=lambda n, m: told.append(n))
    assert told == [0, 1]
    assert len(list((tmp_path / "b").iterdir())) == 1
    # The first view is the picture as it stands: its latents are those of the codec.
    codec = tiny_codec()
    file = codec.encode(paths[0], base_only=True, base_quality=float(bank.qualities[0]))
    assert torch.equal(bank.y_hat(0), codec.latents(file).y_hat[0].half().float())
    assert int(bank.file_bytes[0]) == len(file.base)


def test_boxes_and_maps_follow_the_pixels(data: Path, tmp_path: Path) -> None:
    """What a bank says of a box is where the box's pixels are, in every view."""
    pixels = np.zeros((112, 128, 3), np.uint8)
    pixels[40:80, 50:90] = 255
    path = tmp_path / "one.png"
    Image.fromarray(pixels).save(path)
    variety = Variety(views=8, crop=0.8, smaller=0.7)
    bank = cached_bank(tmp_path / "b", "base", TINY_WEIGHTS, [path], variety, seed=0)
    rng = np.random.default_rng([0, 0])
    views = [plan_view(number, (128, 112), variety, rng) for number in range(8)]
    assert any(view.mirrored for view in views)
    for row, view in enumerate(views):
        shown = view_pixels(pixels, view)[:, :, 0] > 127
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        moved = bank.on_view(row, np.array([[50, 40, 90, 80]], np.float32))[0]
        moved = moved.clip(0, [shown.shape[1], shown.shape[0]] * 2)
        assert np.abs(moved - expected).max() <= 1.5
        mapped = bank.map_on_view(row, (pixels[:, :, 0] > 127).astype(np.uint8), shown.shape)
        assert (mapped == shown).mean() > 0.97


def test_a_pyramid_starts_as_the_codecs_own() -> None:
    codec = tiny_codec()
    backbone = latent_backbone(codec, (8, 16, 32, 64), width=16, out_channels=16)
    taken = start_from_codec(backbone, TINY_WEIGHTS)
    assert {name.partition(".")[0] for name in taken} == {"inp", "film", "stem", "p8", "p16", "p32", "p64"}
    from vcm.tasks.torchvision import pack

    y, quality = torch.randn(1, codec.spec.channels, 8, 8), torch.tensor([0.5])
    own = codec.head("detect").network
    h = own.film(own.inp(y), quality)
    stem = h + own.stem(h)
    maps = backbone.eval()(pack(y, quality, 16))
    assert torch.allclose(maps["1"], own.p16(stem), atol=1e-4)
    assert start_from_codec(latent_backbone(codec, (16,), width=8, out_channels=16), TINY_WEIGHTS) == ()


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "faster_rcnn", "mask_rcnn"])
def test_half_precision_gives_nearly_the_same_loss(data: Path, kind: str) -> None:
    from vcm.training.latent_heads.detectors import Boxes

    paths = sorted((data / "images").glob("*.png"))
    bank = cached_bank(data / "b", "base", TINY_WEIGHTS, paths, Variety())
    losses = []
    for half in (False, True):
        lesson = Boxes(load_latent_head_config(config(data, kind, half=half)), [data], 0.0)
        torch.manual_seed(0)
        network = lesson.network(bank.spec).train()
        torch.manual_seed(0)
        loss = lesson.loss(network, bank, [0, 1, 2, 3])
        assert loss.dtype == torch.float32
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_twin_is_the_ceiling(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_weights(tmp_path)
    twin = tiny_twin(tmp_path / "twin.safetensors")
    path = config(
        data, "single-label", weights=str(tmp_path / "tiny.safetensors"), twin=str(twin), features=["base", "twin"]
    )
    assert vcm.cli.run(["train-head", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["heads"]) == {"base", "twin"}
    assert report["heads"]["twin"]["bank_bpp"] == 0
    assert report["test"][0]["ceiling"]["accuracy"].keys() == {"top1", "top5"}


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_shipped_configurations_are_valid(name: str) -> None:
    if kind_in(CONFIGS / name) != "keypoints":
        assert load_latent_head_config(CONFIGS / name).kind == kind_in(CONFIGS / name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": {"wide": 3}}, "shape has no wide"),
        ({"shape": {"feature": 33}}, "a head's shape is out of range"),
        ({"kind": "yolo"}, "no such kind of head"),
        ({"speed": 1}, "speed: no such setting"),
        ({"views": {"qualities": [120]}}, "qualities are 0 to 100"),
        ({"features": ["twin"]}, "features: twin needs a twin"),
        ({"classes": ["moon"]}, "no boxes of these classes: expected disc, square, found moon"),
        ({"data": ["nowhere"]}, "no boxes of these classes: expected instances.json, found no annotations"),
    ],
)
def test_a_wrong_configuration_is_refused(
    data: Path, change: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vcm.cli.run(["train-head", str(config(data, "fcos", **change))]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_masks_must_be_there(data: Path) -> None:
    from vcm.training.latent_heads.run import train_latent_head

    content = json.loads((data / "instances.json").read_text())
    del content["annotations"][0]["segmentation"]
    (data / "instances.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r"annotations\[0\].segmentation: expected polygons or run lengths"):
        train_latent_head(config(data, "mask_rcnn"))
    with pytest.raises(ConfigError, match="no such features for this head"):
        train_latent_head(config(data, "fcos"), features=["random"])
