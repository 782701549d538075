"""A teacher for tests: cheap, deterministic, of the right shapes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vcm.training.teacher import TeacherOutput


class FakeTeacher:
    """Says that bright places are persons; features are colours."""

    def __init__(self, features: int = 16) -> None:
        self.features = features

    def __call__(self, x: Tensor) -> TeacherOutput:
        scores, bins, features = [], [], []
        for stride in (8, 16, 32, 64):
            size = (-(-x.shape[2] // stride), -(-x.shape[3] // stride))
            small = F.adaptive_avg_pool2d(x, size) / 255
            s = torch.zeros(len(x), 80, *size)
            s[:, 0] = small.mean(1)
            scores.append(s)
            b = torch.zeros(len(x), 32, *size)
            b[:, 2::8] = 3.0
            bins.append(b)
            features.append(small.repeat(1, -(-self.features // 3), 1, 1)[:, : self.features])
        return TeacherOutput(tuple(scores), tuple(bins), tuple(features))
