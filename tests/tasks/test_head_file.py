"""Head files: every kind comes back as it was, says its own names, and is refused where it does not fit."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import TINY_WEIGHTS, golden_picture, tiny_codec
from torch import nn

import vcm
import vcm.cli
from vcm.errors import FingerprintError, HeadError, OptionError, WeightsError
from vcm.structures import Classes, Classification, Detections, Keypoints, Latents, LatentSpec
from vcm.tasks.classification import ClassificationHead
from vcm.tasks.detection import DetectionHead
from vcm.tasks.keypoints import KeypointHead
from vcm.tasks.kinds import HeadKind, head_kinds, kind_of
from vcm.tasks.protocol import Head
from vcm.tasks.shapes import KeypointShape
from vcm.weights.head_file import load_head, save_head
from vcm.weights.registry import read_metadata

SPEC = LatentSpec(8, 16)
THREE = Classes(("ant", "bee", "cat"), (7, 9, 400))
OTHER = "0123456789abcdef"


def _detection() -> DetectionHead:
    head = DetectionHead(SPEC, classes=3, width=16, feature=8, names=THREE)
    for level in head.levels:
        nn.init.normal_(level.predict.weight, std=0.5)  # so that a random head finds something
        nn.init.zeros_(level.predict.bias)
    return head


BUILD = {
    "detection": _detection,
    "classification": lambda: ClassificationHead(SPEC, classes=3, width=16, names=THREE),
    "keypoints": lambda: KeypointHead(SPEC, THREE.names, KeypointShape(grid=4, width=8, depth=1, up=2, margin=1.5)),
}
KINDS = list(BUILD)


def make(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return BUILD[kind]().eval()


def saved(path: Path, kind: str, fingerprint: str = "") -> Path:
    save_head(path, make(kind), fingerprint=fingerprint, trained="on noise")
    return path


def run(network: nn.Module, latents: Latents) -> Any:
    """The task, with one box for those that need some."""

    def detect(latents: Latents, score: float) -> Detections:
        box = np.array([[10, 5, 60, 50]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), 96, 64)

    return kind_of(network).task(network, detect)(latents)


def values(found: Any) -> np.ndarray:
    return (
        found.boxes if isinstance(found, Detections) else found.points if isinstance(found, Keypoints) else found.scores
    )


@pytest.fixture(scope="module")
def latents() -> Latents:
    codec = tiny_codec()
    return codec.latents(codec.encode(golden_picture()[:64, :96], base_only=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_same_head(kind: str, tmp_path: Path, latents: Latents) -> None:
    network = make(kind)
    before, state = run(network, latents), copy.deepcopy(network.state_dict())
    save_head(tmp_path / "my-head.safetensors", network, fingerprint=latents.spec.fingerprint, trained="on noise")
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    loaded = load_head(tmp_path / "my-head.safetensors")
    assert (loaded.name, loaded.kind.name, loaded.trained) == ("my-head", kind, "on noise")
    assert (loaded.network.shape, loaded.network.names) == (network.shape, network.names)
    assert loaded.network.spec == latents.spec
    assert not any(p.requires_grad for p in loaded.network.parameters())
    after = run(loaded.network, latents)
    assert len(values(before)) > 0
    np.testing.assert_allclose(values(after), values(before), atol=0.5)
    assert after.names == THREE.names
    # Saved again it is the same head, to the bit.
    save_head(tmp_path / "again.safetensors", loaded.network, name="my-head", trained="on noise")
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("my-head", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert read_metadata(tmp_path / "again.safetensors") == read_metadata(tmp_path / "my-head.safetensors")


def test_three_classes_say_their_own_names(tmp_path: Path) -> None:
    codec = vcm.load(TINY_WEIGHTS)
    file = codec.encode(golden_picture()[:, :200], base_only=True)
    codec.add_head("insects", saved(tmp_path / "h.safetensors", "detection", codec.fingerprint))
    found = codec.run("insects", file, score=0.05)
    assert isinstance(found, Detections)
    assert found.bytes_read == len(file.base)
    assert set(found.label_names()) <= set(THREE.names)
    assert {row["category_id"] for row in found.to_coco(1)} <= set(THREE.category_ids)
    assert found.names == THREE.names
    codec.add_head("kinds", saved(tmp_path / "c.safetensors", "classification"))
    assert {name for name, _ in codec.run("kinds", file).top(5)} == set(THREE.names)
    codec.add_head("pose", saved(tmp_path / "k.safetensors", "keypoints"))
    assert isinstance(codec.run("pose", file), Keypoints)
    head = codec.head("insects")
    assert isinstance(head, Head)
    assert (head.spec.result, head.spec.names) == (Detections, THREE.names)
    assert head.spec.latents == codec.spec
    assert [codec.head(name).spec.result for name in ("detect", "classify")] == [Detections, Classification]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_another_base_is_refused(kind: str, tmp_path: Path, latents: Latents) -> None:
    codec, path = vcm.load(TINY_WEIGHTS), saved(tmp_path / "h.safetensors", kind, OTHER)
    message = f"trained on another base layer .*: expected {OTHER}, found {codec.fingerprint}"
    with pytest.raises(FingerprintError, match=message):
        codec.add_head("other", path)
    with pytest.raises(FingerprintError, match=message):
        run(load_head(path).network, latents)
    assert codec.heads == ("detect", "classify")
    file = codec.encode(golden_picture()[:, :96], base_only=True)
    plain = saved(tmp_path / "p.safetensors", kind)
    wanted = vcm.load(TINY_WEIGHTS).add_head("any", plain).run("any", file)
    assert np.array_equal(
        values(codec.add_head("other", path, allow_other_base=True).run("other", file)), values(wanted)
    )


def test_a_head_of_other_channels_is_refused_always(tmp_path: Path) -> None:
    codec = vcm.load(TINY_WEIGHTS)
    save_head(tmp_path / "h.safetensors", DetectionHead(LatentSpec(9, 16), width=8, feature=8))
    for allow in (False, True):
        with pytest.raises(HeadError, match="expected 9 channels at stride 16, found 8 channels at stride 16"):
            codec.add_head("wide", tmp_path / "h.safetensors", allow_other_base=allow)


def test_the_command_detects_with_a_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = tiny_codec()
    codec.encode(golden_picture()[:, :200]).save(tmp_path / "a.vcm")
    heads = {kind: saved(tmp_path / f"{kind}.safetensors", kind, codec.fingerprint) for kind in KINDS}
    arguments = ["detect", str(tmp_path / "a.vcm"), "--model", str(TINY_WEIGHTS), "--score", "0.05", "--json", "--head"]
    assert vcm.cli.run([*arguments, str(heads["detection"])]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert {found["label"] for found in row["detections"]} <= set(THREE.names)
    assert row["detections"]
    assert vcm.cli.run([*arguments, str(heads["keypoints"])]) != 0
    assert "does not detect: expected a detection head, found Keypoints" in capsys.readouterr().err
    saved(tmp_path / "o.safetensors", "detection", OTHER)
    assert vcm.cli.run([*arguments, str(tmp_path / "o.safetensors")]) != 0
    assert OTHER in capsys.readouterr().err


DAMAGE = [
    "missing", "extra", "tensor shape", "nan", "type", "cut", "pickle", "format", "kind", "no name", "name",
    "fingerprint", "huge", "shape key", "shape type", "shape true", "names", "names type", "names twice", "names few",
    "ids", "ids type", "channels", "stride", "endless", "deep", "no latents",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_error(kind: str, tmp_path: Path, damage: str) -> None:
    path = saved(tmp_path / "h.safetensors", kind)
    tensors = load_file(path)
    with safe_open(str(path), "pt") as file:
        meta = file.metadata()
    shape = json.loads(meta["shape"])
    first = sorted(tensors)[0]
    match damage:
        case "missing":
            del tensors[first]
        case "extra":
            tensors["more"] = torch.zeros(1)
        case "tensor shape":
            tensors[first] = torch.zeros(1, 1, 1, 1, 1)
        case "nan":
            tensors[first].view(-1)[0] = torch.nan
        case "type":
            tensors[first] = tensors[first].to(torch.complex64)
        case "format":
            meta["format"] = "vcm-weights-1"
        case "kind":
            meta["kind"] = "\x1b[2J"
        case "no name":
            del meta["name"]
        case "name":
            meta["name"] = "a\nb"
        case "fingerprint":
            meta["fingerprint"] = "0123"
        case "huge":
            meta["shape"] = json.dumps({**shape, "width": 1 << 40})
        case "shape key":
            meta["shape"] = json.dumps({**shape, "more": 1})
        case "shape type":
            meta["shape"] = json.dumps({**shape, "width": "wide"})
        case "shape true":
            meta["shape"] = json.dumps({**shape, "width": True})
        case "names":
            meta["names"] = "3"
        case "names type":
            meta["names"] = "[1, 2, 3]"
        case "names twice":
            meta["names"] = json.dumps(["ant", "ant", "bee"])
        case "names few":
            meta["names"] = json.dumps(["ant", "bee"])
        case "ids":
            meta["category_ids"] = "[1, 1, 2]"
        case "ids type":
            meta["category_ids"] = '["1", "2", "3"]'
        case "channels":
            meta["latents"] = '{"channels": 100000000000, "stride": 16}'
        case "stride":
            meta["latents"] = '{"channels": 8, "stride": 0}'
        case "endless":
            meta["latents"] = '{"channels": 1e400, "stride": 16}'
        case "deep":
            meta["latents"] = "[" * 100_000
        case "no latents":
            del meta["latents"]
    save_file(tensors, path, meta)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    if damage == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError) as caught:
        load_head(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_spread_of_zero_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "h.safetensors", "keypoints")
    tensors = load_file(path)
    with safe_open(str(path), "pt") as file:
        meta = file.metadata()
    tensors["spread"][0] = 0
    save_file(tensors, path, meta)
    with pytest.raises(WeightsError, match="spread is out of range"):
        load_head(path)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"no kind of head: .* found Linear"):
        save_head(tmp_path / "h.safetensors", nn.Linear(1, 1))
    for options in ({"fingerprint": "XY"}, {"name": "a b"}, {"name": ""}):
        with pytest.raises(OptionError):
            save_head(tmp_path / "h.safetensors", make("detection"), **options)
    assert not list(tmp_path.iterdir())


def test_names_and_classes_fit() -> None:
    with pytest.raises(HeadError, match="expected 4 names, found 3"):
        DetectionHead(SPEC, classes=4, width=8, feature=8, names=THREE)
    assert ClassificationHead(SPEC, classes=2, width=8).names.names == ("class 0", "class 1")
    assert DetectionHead(SPEC, width=8, feature=8).names.names == vcm.COCO_NAMES
    for wrong in ((), ("a", "a")):
        with pytest.raises(OptionError):
            Classes(wrong)
    with pytest.raises(OptionError, match="2 different ids"):
        Classes(("a", "b"), (1, 1))


def test_a_package_adds_a_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, latents: Latents) -> None:
    """By an entry point: a head of its own is saved, loaded and run like ours; a name that is taken is refused."""
    from dataclasses import dataclass
    from importlib.metadata import EntryPoint

    @dataclass(frozen=True)
    class Shape:
        width: int

    class Mean(nn.Module):
        def __init__(self, spec: LatentSpec, names: Classes, shape: Shape) -> None:
            super().__init__()
            self.spec, self.names, self.shape = spec, names, shape
            self.scale = nn.Parameter(torch.full((shape.width,), 2.0))

    kind = HeadKind("mean", Mean, Shape, Mean, lambda network, _: lambda y: float(y.y_hat.mean() * network.scale[0]))
    ours = head_kinds()
    for name, fits in (("mean", True), ("detection", False)):
        entry = EntryPoint("x", "nowhere", "vcm.heads")
        added = HeadKind(name, Mean, Shape, Mean, kind.task)
        monkeypatch.setattr(EntryPoint, "load", lambda _, added=added: added)
        monkeypatch.setattr("vcm.plugins.entry_points", lambda group, entry=entry: [entry])
        head_kinds.cache_clear()
        if not fits:
            with pytest.raises(HeadError, match=r"a kind of heads of that name exists: .* found detection"):
                head_kinds()
            continue
        assert head_kinds().keys() - ours.keys() == {"mean"}
        save_head(tmp_path / "m.safetensors", Mean(SPEC, Classes(("a",)), Shape(2)))
        codec = vcm.load(TINY_WEIGHTS).add_head("mean", tmp_path / "m.safetensors")
        file = codec.encode(golden_picture()[:64, :96], base_only=True)
        assert codec.run("mean", file) == pytest.approx(2 * float(codec.latents(file).y_hat.mean()))
    monkeypatch.undo()
    head_kinds.cache_clear()
    with pytest.raises(WeightsError, match=re.escape("unknown kind: expected detection, classification, keypoints")):
        load_head(tmp_path / "m.safetensors")
