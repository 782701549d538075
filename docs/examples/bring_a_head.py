"""Bring your own head: is there a face? A small network learns it on frozen base latents, which no one trained for it.

    python docs/examples/bring_a_head.py [--steps 200]

The data are scikit-image's 200 thumbnails (half of them faces, from Labeled Faces in the Wild), 40 of them held back.
"""

from __future__ import annotations

import argparse

import numpy as np
import skimage.data
import torch
from torch import Tensor, nn

import vcm


class FaceHead(nn.Module):
    """The log-odds of a face, from ``y_hat`` float32 ``(N, C, h, w)`` of any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU())
        self.score = nn.Linear(2 * 32, 1)

    def forward(self, y_hat: Tensor) -> Tensor:
        found = self.features(y_hat)
        return self.score(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1)).squeeze(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    torch.manual_seed(1)

    thumbnails = (skimage.data.lfw_subset() * 255).astype(np.uint8)  # (200, 25, 25), grey: 100 faces, then 100 others
    pictures = thumbnails.repeat(4, axis=1).repeat(4, axis=2)[..., None].repeat(3, axis=3)
    labels = (torch.arange(200) < 100).float()
    order = torch.randperm(200)
    train, test = order[:160], order[160:]

    # Frozen features: each picture is coded to a base-only file, and what the file holds is decoded.
    codec = vcm.load("vcm-s")
    files = codec.encode([*pictures], base_only=True, base_quality=100)
    latents = codec.latents(files)
    y_hat = torch.cat([torch.as_tensor(one.y_hat) for one in latents])
    print(f"{sum(f.total_bytes for f in files) / len(files):.0f} bytes a picture, latents {tuple(y_hat.shape[1:])}")

    head = FaceHead(latents[0].spec.channels)
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(steps):
        batch = train[torch.randint(len(train), (32,))]
        loss = nn.functional.binary_cross_entropy_with_logits(head(y_hat[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    head.eval()
    with torch.inference_mode():
        right = ((head(y_hat[test]) > 0).float() == labels[test]).float().mean().item()
    print(f"{right:.0%} of {len(test)} held-back pictures are right")

    codec.add_head("face", lambda latents: bool(head(torch.as_tensor(latents.y_hat)) > 0))
    face = codec.encode(skimage.data.astronaut()[:208, 120:328], base_only=True, base_quality=100)
    print("a face:", codec.run("face", face))


if __name__ == "__main__":
    main()
