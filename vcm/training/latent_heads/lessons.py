"""What each kind of head learns from: its pictures, its network, and its loss on views of a bank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.errors import ConfigError
from vcm.io.labelled import UNLABELLED, ImageFolder, MaskFolder, read_mask
from vcm.structures import Classes, LatentSpec
from vcm.tasks.shapes import EmbeddingShape, SegmentationShape, SingleLabelShape
from vcm.tasks.whole import EmbeddingHead, SegmentationHead, SingleLabelHead
from vcm.training.bank import LatentBank
from vcm.training.data.keypoints import is_test
from vcm.training.data.store import picture_folder, picture_paths

__all__ = ["Embeddings", "Lesson", "Segments", "SingleLabels", "split"]


class Lesson(ABC):
    """Pictures with what is to be learned of them.

    Attributes:
        names: of the classes.
        paths: the pictures; a bank's ``pictures`` are positions in this.
    """

    names: Classes
    paths: Sequence[Path]

    @abstractmethod
    def network(self, spec: LatentSpec) -> nn.Module:
        """The head, with random weights."""

    @abstractmethod
    def loss(self, network: nn.Module, bank: LatentBank, rows: Sequence[int]) -> Tensor:
        """Scalar loss on some views of the bank."""

    def groups(self, bank: LatentBank) -> list[list[int]]:
        """Rows of a bank that are learned from together; by default each by itself."""
        return [[row] for row in range(len(bank))]


def split(paths: Sequence[Path], share: float, tested: bool) -> list[int]:
    """Positions of pictures on one side of a split by their names' hashes; ``share`` 0: all are learned from."""
    if not share:
        return list(range(len(paths)))
    return [i for i, path in enumerate(paths) if is_test(path.name, share) is tested]


def _labelled(
    folders: Sequence[Path], read: Callable[[Path], ImageFolder | MaskFolder], share: float
) -> tuple[Classes, list[Path], list[Any]]:
    """Classes, and the pictures of folders that are learned from, with what is known of each.

    Raises:
        ConfigError: the folders have different classes.
    """
    there = [read(folder) for folder in folders]
    if len({r.names for r in there}) != 1:
        raise ConfigError("folders of different classes", expected=there[0].names, found=there[-1].names)
    paths = [path for r in there for path in r.paths]
    known = [one for r in there for one in (r.labels if isinstance(r, ImageFolder) else r.masks)]
    kept = split(paths, share, False)
    return Classes(there[0].names), [paths[i] for i in kept], [known[i] for i in kept]


class SingleLabels(Lesson):
    """One class a picture: an ImageFolder.

    Args:
        folders: the data; of the same classes.
        share: that is tested on, and not learned from.
        shape: of the head.
    """

    def __init__(self, folders: Sequence[Path], share: float, shape: SingleLabelShape) -> None:
        self.shape = shape
        self.names, self.paths, labels = _labelled(folders, ImageFolder.read, share)
        self.labels = torch.tensor(labels)

    def network(self, spec: LatentSpec) -> nn.Module:
        """See :class:`Lesson`."""
        return SingleLabelHead(spec, self.names, self.shape)

    def loss(self, network: nn.Module, bank: LatentBank, rows: Sequence[int]) -> Tensor:
        """Cross-entropy, labels smoothed by 0.1."""
        y, quality, _ = bank.batch(rows)
        return F.cross_entropy(network(y, quality), self.labels[bank.pictures[list(rows)].long()], label_smoothing=0.1)


class Segments(Lesson):
    """A class for each pixel: pictures with masks.

    Args:
        folders: the data; of the same classes.
        share: that is tested on, and not learned from.
        shape: of the head.
    """

    def __init__(self, folders: Sequence[Path], share: float, shape: SegmentationShape) -> None:
        self.shape = shape
        self.names, self.paths, masks = _labelled(folders, MaskFolder.read, share)
        self.masks: list[npt.NDArray[np.uint8]] = [read_mask(mask, len(self.names)) for mask in masks]

    def network(self, spec: LatentSpec) -> nn.Module:
        """See :class:`Lesson`."""
        return SegmentationHead(spec, self.names, self.shape)

    def loss(self, network: nn.Module, bank: LatentBank, rows: Sequence[int]) -> Tensor:
        """Cross-entropy over the cells that have a class."""
        y, quality, _ = bank.batch(rows)
        logits = network(y, quality)
        target = torch.full((len(rows), *logits.shape[2:]), UNLABELLED, dtype=torch.long)
        per_pixel = self.shape.up / bank.spec.stride
        for i, row in enumerate(rows):
            width, height = (max(1, round(int(side) * per_pixel)) for side in bank.sizes[row])
            mask = self.masks[int(bank.pictures[row])]
            target[i, :height, :width] = torch.from_numpy(bank.map_on_view(row, mask, (height, width))).long()
        return F.cross_entropy(logits, target, ignore_index=UNLABELLED)


class Embeddings(Lesson):
    """Views of one picture are alike, and unlike those of others (InfoNCE; Chen et al. 2020, "SimCLR").

    Args:
        folders: the data: pictures.
        share: that is tested on, and not learned from.
        shape: of the head.
    """

    temperature = 0.1

    def __init__(self, folders: Sequence[Path], share: float, shape: EmbeddingShape) -> None:
        paths = [picture_folder(folder) / path for folder in folders for path in picture_paths(folder)]
        self.names, self.shape = Classes(("picture",)), shape
        self.paths = [paths[i] for i in split(paths, share, False)]

    def network(self, spec: LatentSpec) -> nn.Module:
        """See :class:`Lesson`."""
        return EmbeddingHead(spec, self.names, self.shape)

    def groups(self, bank: LatentBank) -> list[list[int]]:
        """Pairs of views of one picture: each view with the next."""
        by_picture: dict[int, list[int]] = {}
        for row, picture in enumerate(bank.pictures.tolist()):
            by_picture.setdefault(picture, []).append(row)
        pairs = [[rows[i], rows[(i + 1) % len(rows)]] for rows in by_picture.values() for i in range(len(rows))]
        return [pair for pair in pairs if pair[0] != pair[1]]

    def loss(self, network: nn.Module, bank: LatentBank, rows: Sequence[int]) -> Tensor:
        """Both ways, over a batch of pairs."""
        one, other = (self._described(network, bank, rows[i::2]) for i in (0, 1))
        logits = one @ other.T / self.temperature
        same = bank.pictures[list(rows[::2])]
        # Another view of the same picture is no negative.
        twice = (same[:, None] == same[None]) & ~torch.eye(len(same), dtype=torch.bool)
        logits = logits.masked_fill(twice, -torch.inf)
        target = torch.arange(len(logits))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    @staticmethod
    def _described(network: nn.Module, bank: LatentBank, rows: Sequence[int]) -> Tensor:
        y, quality, _ = bank.batch(rows)
        out: Any = network(y, quality)
        described: Tensor = out
        return described
