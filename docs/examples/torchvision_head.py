"""Torchvision's FCOS on frozen base latents: trained on boxes of your own, then run on files that were there before.

    python docs/examples/torchvision_head.py [--steps 80]

The data are made up: a disc or square on noise. Latents are computed once, so that the codec is not in the loop.
"""

import argparse

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead

import vcm
from vcm.tasks.torchvision import LatentPicture, LatentTransform, latent_backbone
from vcm.tasks.torchvision_heads import LatentDetector


def picture(rng: np.random.Generator) -> tuple[Image.Image, list[int], int]:
    """A picture of 160 × 160, the box of its object, and its class."""
    image = Image.fromarray(rng.integers(0, 90, (160, 160, 3), np.uint8))
    side, x, y, label = (int(rng.integers(*span)) for span in ((48, 80), (0, 80), (0, 80), (0, 2)))
    box = [x, y, x + side, y + side]
    (ImageDraw.Draw(image).ellipse, ImageDraw.Draw(image).rectangle)[label](box, fill=(240, 230, 60))
    return image, box, label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=80)
    steps, rng, _ = parser.parse_args().steps, np.random.default_rng(1), torch.manual_seed(1)
    codec, data = vcm.load("vcm-s"), [picture(rng) for _ in range(72)]
    files = codec.encode([image for image, _, _ in data], base_only=True)
    inputs = [LatentPicture.of(latents) for latents in codec.latents(files)]
    targets = [{"boxes": torch.tensor([box]).float(), "labels": torch.tensor([label])} for _, box, label in data]

    backbone = latent_backbone(codec, levels=(16, 32), width=64, out_channels=64)
    head = FCOSHead(64, num_anchors=1, num_classes=2, num_convs=1)
    anchors = AnchorGenerator(((16,), (32,)), ((1.0,),) * 2)
    model = FCOS(backbone, num_classes=2, anchor_generator=anchors, head=head).train()
    model.transform = LatentTransform()  # does to boxes what the codec did to pixels, and back
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = rng.integers(0, 64, 8).tolist()
        sum(model([inputs[i] for i in rows], [targets[i] for i in rows]).values()).backward()
        optimiser.step()
        optimiser.zero_grad()

    codec.add_head("shapes", LatentDetector(model.eval(), vcm.Classes(("disc", "square"))))
    for file, (_, box, label) in zip(files[64:], data[64:], strict=True):
        best = codec.run("shapes", file, score=0.0)[0]
        print(best.name == ("disc", "square")[label], np.round(best.box).astype(int).tolist(), "true:", box)


if __name__ == "__main__":
    main()
