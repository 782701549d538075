"""Fine-tuning on a folder of one's own: classes, the split, what is written, and that old files still read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny import TINY_WEIGHTS

import vcm
import vcm.cli
from vcm.errors import ConfigError
from vcm.structures import COCO_NAMES, Classes
from vcm.training.data.keypoints import is_test
from vcm.training.finetune import finetune
from vcm.training.stages.truth import _head
from vcm.training.thaw import thaw
from vcm.weights.head_file import load_head

NAMES = [f"{i // 10}/{i}.png" for i in range(24)]
"""Four of them are held out at a fifth."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright cats and dark bolts, in folders below the data's."""
    folder = tmp_path_factory.mktemp("bolts")
    rng = np.random.default_rng(0)
    images, rows = [], []
    for i, name in enumerate(NAMES):
        picture = Image.new("RGB", (96, 80), (120, 130, 110))
        x, y = (int(v) for v in rng.integers(4, 40, 2))
        ImageDraw.Draw(picture).rectangle((x, y, x + 39, y + 29), fill=(250, 240, 230) if i % 2 else (10, 5, 20))
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / name)
        images.append({"id": i + 1, "file_name": name, "width": 96, "height": 80})
        rows.append({"id": i + 1, "image_id": i + 1, "category_id": 3 + i % 2, "bbox": [x, y, 40, 30]})
    categories = [{"id": 3, "name": "bolt"}, {"id": 4, "name": "cat"}, {"id": 9, "name": "unseen"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def test_the_base_stays_and_the_head_knows_its_own_classes(data: Path, tmp_path: Path) -> None:
    codec = vcm.load(TINY_WEIGHTS)
    held = next(name for name in NAMES if is_test(name, 0.2))
    old = codec.encode(data / "images" / held, base_only=True)
    callers = torch.random.get_rng_state()
    done = finetune(data, model=str(TINY_WEIGHTS), minutes=0, out=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), callers)
    assert done.classes == Classes(("bolt", "cat"), (3, 4))
    assert done.known == ("cat",)
    assert done.codec is None
    assert done.pictures + len(done.truth.images) == len(NAMES)
    assert {i.file_name for i in done.truth.images} == {name for name in NAMES if is_test(name, 0.2)}
    # The head's file is a head of the codec that it came from, and reads a file that was there before.
    codec.add_head("mine", done.head)
    found = codec.run("mine", old, score=0.001)
    assert found.names == ("bolt", "cat")
    assert found.category_ids == (3, 4)
    assert len(found)
    shown = {image.file_name: image.id for image in done.truth.images}
    assert done.before.bpp == done.after.bpp
    assert done.after.found.keys() == set(shown.values())
    assert all(set(f.names) == {"bolt", "cat"} for f in done.before.found.values())


def test_rows_of_known_classes_start_from_the_shipped_ones() -> None:
    weights = thaw(TINY_WEIGHTS)
    from vcm.codecs.scalable.config import ARCHITECTURES

    head = _head(ARCHITECTURES["tiny"], weights, Classes(("cat", "bolt", "person")))
    for name, own in head.state_dict().items():
        theirs = weights[f"detect.{name}"]
        if ".predict." not in name:
            assert torch.equal(own, theirs)
            continue
        assert torch.equal(own[0], theirs[COCO_NAMES.index("cat")])
        assert torch.equal(own[2], theirs[0])
        assert torch.equal(own[3:], theirs[80:])  # the bins
        assert not torch.equal(own[1], theirs[1])


def test_training_lowers_the_loss_and_resumes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcm.training.finetune._seconds_a_step", lambda _: 0.9 * 60 / 60)  # 60 steps a minute
    options = {"model": str(TINY_WEIGHTS), "out": tmp_path, "lr": 5e-3, "batch": 4}
    done = finetune(data, minutes=1, **options)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert done.steps == len(rows) == 60
    assert np.mean([r["loss"] for r in rows[-15:]]) < 0.8 * np.mean([r["loss"] for r in rows[:5]])
    again = finetune(data, minutes=0, resume=True, **options)
    assert again.steps == 60
    assert again.finished
    with pytest.raises(ConfigError, match=r"began with another lr: expected 0\.005, found 0\.1"):
        finetune(data, resume=True, **{**options, "lr": 0.1})


def test_with_the_base_a_codec_is_written_that_the_head_belongs_to(data: Path, tmp_path: Path) -> None:
    done = finetune(data, model=str(TINY_WEIGHTS), minutes=0, base=True, out=tmp_path, classes=("bolt",))
    assert done.codec is not None
    codec = vcm.load(done.codec)
    assert codec.fingerprint != vcm.load(TINY_WEIGHTS).fingerprint
    assert load_head(done.head).network.spec.fingerprint == codec.fingerprint
    codec.add_head("bolts", done.head)
    file = codec.encode(data / "images" / NAMES[0])
    assert codec.run("bolts", file).names == ("bolt",)
    assert codec.decode(file).size == (96, 80)


@pytest.mark.parametrize(
    ("classes", "said"), [(("nut",), "expected bolt, cat, found nut"), (("unseen",), "no boxes of these classes")]
)
def test_classes_that_are_not_there_are_named(data: Path, tmp_path: Path, classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        finetune(data, model=str(TINY_WEIGHTS), classes=classes, out=tmp_path)


def test_the_command_reports_before_and_after(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["finetune", "--data", str(data), "--from", str(TINY_WEIGHTS), "--minutes", "0", "--out", str(tmp_path)]
    assert vcm.cli.run([*call, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "report.json").read_text())
    assert printed["classes"] == ["bolt", "cat"]
    assert printed["from_coco"] == ["cat"]
    assert printed["test"]["before"]["ap50_by_class"]["bolt"] == 0
    low, estimate, high = (printed["test"]["after"]["ap50"][k] for k in ("low", "estimate", "high"))
    assert 0 <= low <= estimate <= high <= 100
    assert vcm.cli.run(call) == 0
    said = capsys.readouterr().out
    assert "does not know bolt" in said
    assert vcm.cli.run(["finetune", "--data", str(tmp_path)]) == 2
    assert "instances.json" in capsys.readouterr().err
