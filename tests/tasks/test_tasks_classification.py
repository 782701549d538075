"""The classification head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vcm.errors import HeadError
from vcm.nn.blocks import fuse_batchnorm
from vcm.structures import COCO_NAMES, Latents, LatentSpec
from vcm.tasks.classification import ClassificationHead


@pytest.fixture(scope="module")
def head() -> ClassificationHead:
    torch.manual_seed(0)
    head = ClassificationHead(LatentSpec(8, 16), width=16)
    fuse_batchnorm(head)
    return head.eval()


def test_probabilities_by_hand(head: ClassificationHead) -> None:
    y = torch.randn(1, 8, 5, 7)
    found = head.classify(Latents(y, LatentSpec(8, 16), (100, 70), (200, 140), 40.0))
    with torch.no_grad():
        features = head.body(head.film(head.inp(y), torch.tensor([0.4])))[0].flatten(1)
        pooled = torch.cat([features.mean(1), features.max(1).values])
        wanted = 1 / (1 + np.exp(-(head.fc.weight @ pooled + head.fc.bias).numpy()))
    assert found.scores == pytest.approx(wanted, rel=1e-5)
    assert found.scores.dtype == np.float32
    assert found.names == COCO_NAMES
    order = [score for _, score in found.top(80)]
    assert order == sorted(order, reverse=True)
    assert found.top(1)[0][0] == COCO_NAMES[int(wanted.argmax())]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (40, 3)])
def test_any_size(head: ClassificationHead, size: tuple[int, int]) -> None:
    y = torch.randn(1, 8, *size)
    assert head.classify(Latents(y, LatentSpec(8, 16), (16, 16), (16, 16), 0.0)).scores.shape == (80,)


def test_latents_of_another_kind_are_refused(head: ClassificationHead) -> None:
    for spec in (LatentSpec(9, 16), LatentSpec(8, 32)):
        with pytest.raises(HeadError, match="latents are of another kind"):
            head.classify(Latents(torch.zeros(1, 8, 4, 4), spec, (64, 64), (64, 64), 50.0))
