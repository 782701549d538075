"""Torchvision's detectors on latents: their own code, with nothing of theirs changed but the input's form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY_WEIGHTS, golden_picture, tiny_codec
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet, fcos_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

import vcm
from vcm.errors import FingerprintError, HeadError, OptionError, WeightsError
from vcm.structures import Classes, Detections, InstanceMasks, Keypoints, Latents, LatentSpec
from vcm.tasks.shapes import TorchvisionShape
from vcm.tasks.torchvision import LatentPicture, LatentTransform, latent_backbone, pack, unpack
from vcm.tasks.torchvision_heads import (
    FasterRcnnHead,
    FcosHead,
    KeypointRcnnHead,
    LatentDetector,
    MaskRcnnHead,
    RetinaNetHead,
)
from vcm.weights.head_file import load_head, save_head

SPEC = LatentSpec(8, 16)
THREE = Classes(("ant", "bee", "cat"), (7, 9, 400))
SHAPE = TorchvisionShape(classes=3, width=16, feature=32, finest=16, levels=3, convs=1, hidden=16)
HEADS = {
    "fcos": (FcosHead, SHAPE, Detections),
    "retinanet": (RetinaNetHead, SHAPE, Detections),
    "faster_rcnn": (FasterRcnnHead, SHAPE, Detections),
    "mask_rcnn": (MaskRcnnHead, SHAPE, InstanceMasks),
    "keypoint_rcnn": (KeypointRcnnHead, replace(SHAPE, points=2), Keypoints),
}


def head_of(kind: str, spec: LatentSpec = SPEC) -> Any:
    made, shape, _ = HEADS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return made(spec, THREE, shape)


def picture(seed: int = 0, spec: LatentSpec = SPEC) -> LatentPicture:
    noise = torch.randn(spec.channels, 6, 10, generator=torch.Generator().manual_seed(seed))
    return LatentPicture(noise, (150, 90), (300, 180), 40.0, spec)


def latents(spec: LatentSpec = SPEC) -> Latents:
    one = picture(3, spec)
    return Latents(one.y_hat[None], spec, one.coded_size, one.source_size, one.quality)


def target(kind: str) -> dict[str, torch.Tensor]:
    out = {"boxes": torch.tensor([[20.0, 10, 200, 150]]), "labels": torch.tensor([2])}
    if kind == "mask_rcnn":
        out["masks"] = torch.ones(1, 180, 300, dtype=torch.uint8)
    if kind == "keypoint_rcnn":
        out["keypoints"] = torch.tensor([[[30.0, 20, 1], [100, 90, 1]]])
    return out


@pytest.mark.parametrize(("channels", "stride"), [(8, 16), (48, 16), (300, 16), (5, 2)])
def test_a_layout_is_taken_apart_again(channels: int, stride: int) -> None:
    y, quality = torch.randn(2, channels, 3, 5), torch.tensor([0.25, 1.0])
    packed = pack(y, quality, stride)
    assert packed.shape[2:] == (3 * stride, 5 * stride)
    again, told = unpack(packed, channels, stride)
    assert torch.equal(again, y)
    assert torch.equal(told, quality)


def test_targets_go_to_coded_pixels_and_results_come_back() -> None:
    transform = LatentTransform()
    given = {**target("mask_rcnn"), **target("keypoint_rcnn")}
    images, moved = transform([picture()], [given])
    assert images.image_sizes == [(90, 150)]
    assert images.tensors.shape == (1, 1, 8 * 16, 12 * 16)  # 6 × 10 positions, filled up to multiples of four
    assert moved is not None
    assert torch.equal(moved[0]["boxes"], given["boxes"] / 2)  # the codec halved the picture
    assert torch.equal(moved[0]["keypoints"][0, 1], torch.tensor([50.0, 45, 1]))
    assert moved[0]["masks"].shape == (1, 90, 150)
    assert moved[0]["masks"].all()
    back = transform.eval().postprocess([{"boxes": moved[0]["boxes"].clone()}], images.image_sizes, [(180, 300)])
    assert torch.equal(back[0]["boxes"], given["boxes"])


def test_levels_have_the_strides_that_they_say() -> None:
    backbone = latent_backbone(SPEC, levels=(8, 16, 32, 64, 128), width=8, out_channels=4).eval()
    maps = backbone(pack(torch.randn(1, 8, 8, 16), torch.ones(1), 16))
    assert list(maps) == ["0", "1", "2", "3", "4"]
    assert [tuple(m.shape[1:]) for m in maps.values()] == [(4, 128 // s, 256 // s) for s in (8, 16, 32, 64, 128)]
    assert backbone.out_channels == 4


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_learns_and_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    head = head_of(kind)
    losses = head([picture(0), picture(1)], [target(kind), target(kind)])
    torch.stack(list(losses.values())).sum().backward()
    grads = [p.grad for p in head.model.backbone.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    assert sum(float(g.abs().sum()) for g in grads if g is not None) > 0

    save_head(tmp_path / "h.safetensors", head.half().float().eval())
    loaded = load_head(tmp_path / "h.safetensors")
    assert loaded.kind.name == kind
    task = loaded.task(lambda *_: pytest.fail("no boxes are needed"))
    assert task.spec.names == THREE.names
    found = task(latents(), score=0.0)
    assert isinstance(found, HEADS[kind][2])
    assert (found.width, found.height) == (300, 180)
    assert len(found) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([300, 180, 300, 180])).all()
    # What the file gives is what torchvision's own call gives, in half precision.
    again = LatentDetector(head)(latents(), score=0.0)
    assert abs(float(again.scores[0]) - float(found.scores[0])) < 0.02


@pytest.mark.parametrize("build", [FCOS, RetinaNet, FasterRCNN])
def test_a_detector_of_ones_own_reads_files(build: type[nn.Module]) -> None:
    codec = vcm.load(TINY_WEIGHTS)
    backbone = latent_backbone(codec, (16, 32), width=8, out_channels=32)
    anchors = AnchorGenerator(((16,), (32,)), ((1.0,),) * 2)
    regions = build is FasterRCNN
    options = {"rpn_anchor_generator" if regions else "anchor_generator": anchors}
    detector = build(backbone, num_classes=4 if regions else 3, **options).eval()
    with pytest.raises(
        HeadError, match="reads pixels: expected a detector on a latent_backbone, with a LatentTransform"
    ):
        LatentDetector(detector, THREE)
    detector.transform = LatentTransform()
    with pytest.raises(HeadError, match="needs a name for each class: expected 3 names, found 2"):
        LatentDetector(detector, Classes(("ant", "bee")))
    codec.add_head(f"own {build.__name__}", LatentDetector(detector, THREE), allow_other_base=True)
    file = codec.encode(golden_picture(), base_only=True)
    found = codec.run(f"own {build.__name__}", file, score=0.0)
    assert set(found.label_names()) <= set(THREE.names)
    assert found.bytes_read == len(file.base)
    assert (found.width, found.height) == (1056, 72)


def test_options_thin_out_what_is_found() -> None:
    task = LatentDetector(head_of("fcos").eval())
    every = task(latents(), score=0.0)
    assert len(task(latents(), score=0.0, max_det=3)) == 3
    assert set(task(latents(), score=0.0, classes="bee").label_names()) == {"bee"}
    assert len(task(latents(), score=0.0, nms_iou=0.1)) < len(every)
    apart = task(latents(), score=0.0, nms_iou=0.3, agnostic=True)
    assert len(apart) < len(task(latents(), score=0.0, nms_iou=0.3))
    assert np.array_equal(apart.boxes[0], every.boxes[0])


def test_what_does_not_fit_is_refused_on_one_line(tmp_path: Path) -> None:
    codec = tiny_codec()
    wrong = [
        (replace(codec.spec, fingerprint="0" * 16), FingerprintError, "trained on another base layer"),
        (LatentSpec(codec.spec.channels + 1, 16), HeadError, "the latents are of another kind"),
    ]
    for number, (spec, error, text) in enumerate(wrong):
        path = tmp_path / f"{number}.safetensors"
        save_head(path, head_of("fcos", spec))
        with pytest.raises(error, match=text) as caught:
            codec.add_head(f"wrong {number}", path)
        assert "\n" not in str(caught.value)
    with pytest.raises(HeadError, match="reads latents of stride 16: expected 16, found 32"):
        head_of("fcos", LatentSpec(8, 32))
    with pytest.raises(HeadError, match="a name for each class"):
        FcosHead(SPEC, Classes(("ant",)), SHAPE)
    with pytest.raises(HeadError, match="needs points"):
        KeypointRcnnHead(SPEC, THREE, SHAPE)
    with pytest.raises(
        HeadError, match="this detector reads latents, not pixels: expected LatentPicture, found Tensor"
    ):
        head_of("fcos").eval().model([torch.zeros(3, 64, 64)])
    with pytest.raises(HeadError, match="this backbone reads latents, not pixels"):
        latent_backbone(SPEC)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(HeadError, match="the detector reads pixels"):
        LatentDetector(fcos_resnet50_fpn(weights=None, weights_backbone=None))
    with pytest.raises(HeadError, match="no levels of a pyramid"):
        latent_backbone(SPEC, levels=(8, 32))
    with pytest.raises(OptionError, match="score is out of range"):
        LatentDetector(head_of("fcos").eval())(latents(), score=2)


@pytest.mark.parametrize(
    ("field", "value"), [("feature", 40), ("finest", 12), ("levels", 6), ("classes", 0), ("width", 9999)]
)
def test_sizes_out_of_range_are_refused(field: str, value: int) -> None:
    with pytest.raises(OptionError):
        replace(SHAPE, **{field: value})


def test_a_hostile_file_costs_no_memory(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from vcm.weights.registry import read_metadata

    path = tmp_path / "h.safetensors"
    save_head(path, head_of("fcos"))
    meta = dict(read_metadata(path))
    meta["shape"] = meta["shape"].replace('"width": 16', '"width": 1024')
    save_file(load_file(path), path, meta)
    with pytest.raises(WeightsError):
        load_head(path)
