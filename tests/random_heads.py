"""Heads of random numbers, of each kind that a head file holds."""

from __future__ import annotations

import torch
from torch import nn

from vcm.structures import Classes, LatentSpec
from vcm.tasks.classification import ClassificationHead
from vcm.tasks.detection import DetectionHead
from vcm.tasks.keypoints import KeypointHead
from vcm.tasks.shapes import KeypointShape

THREE = Classes(("ant", "bee", "cat"), (7, 9, 400))
KEYPOINTS = KeypointShape(grid=4, width=8, depth=2, up=2, margin=1.5)


def network(kind: str, spec: LatentSpec) -> nn.Module:
    """A head of random numbers that finds something."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        if kind == "classification":
            return ClassificationHead(spec, classes=3, width=16, names=THREE).eval()
        if kind == "keypoints":
            points = KeypointHead(spec, THREE.names, KEYPOINTS)
            points.mean.normal_()
            points.spread.uniform_(0.5, 2)
            return points.eval()
        head = DetectionHead(spec, classes=3, width=16, feature=8, names=THREE)
        for level in head.levels:
            nn.init.normal_(level.predict.weight, std=0.5)
            nn.init.zeros_(level.predict.bias)
        return head.eval()
