"""Keypoints of objects on base latents, top-down: a box is given or detected, its latents are cut out and read.

The latents under an enlarged box are resampled to a small square grid; convolutions and a pixel shuffle turn that into
one heatmap a keypoint, a distribution over the cells of the box (Sun et al. 2018, "Integral human pose regression",
but read around its peak, since left and right make two peaks that must not be averaged).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vcm.errors import FingerprintError, HeadError, OptionError, WeightsError
from vcm.io.files import whole_file
from vcm.nn.blocks import ConvNormAct, fuse_batchnorm
from vcm.structures import DEFAULT_SCORE, Detections, Keypoints, Latents, LatentSpec
from vcm.weights.tensors import TensorFile, save_tensors, stored_type

__all__ = [
    "HEAD_FORMAT",
    "KeypointHead",
    "KeypointOutput",
    "KeypointShape",
    "KeypointTask",
    "load_keypoint_head",
    "read_heatmaps",
    "save_keypoint_head",
]

HEAD_FORMAT = "vcm-keypoint-head-1"
_MAX_BYTES = 1 << 27
_PEAK = 2  # cells on each side of a heatmap's peak that its position is the mean of
_SAMPLES = 2  # samples of the latents along each side of a grid cell


@dataclass(frozen=True, slots=True)
class KeypointShape:
    """Size of a head.

    Attributes:
        grid: cells along each side of the cut-out latents.
        width: channels.
        depth: residual blocks of two convolutions.
        up: heatmap cells along each side of a grid cell.
        margin: side of the region that is cut out, over the side of the box.
        dropout: share of channels dropped before the heatmaps while training.
    """

    grid: int = 12
    width: int = 96
    depth: int = 2
    up: int = 2
    margin: float = 1.25
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("grid", 2, 64), ("width", 1, 1024), ("depth", 1, 32), ("up", 1, 8)):
            if not low <= getattr(self, name) <= high:
                raise OptionError(f"{name} is out of range", expected=f"{low} to {high}", found=getattr(self, name))
        if not 1 <= self.margin <= 4 or not 0 <= self.dropout < 1:
            expected = "margin 1 to 4, dropout 0 to below 1"
            raise OptionError("a head's shape is out of range", expected=expected, found=(self.margin, self.dropout))


@dataclass(frozen=True, slots=True)
class KeypointOutput:
    """Raw predictions for B boxes.

    Attributes:
        heatmaps: (B, K, S, S) logits over the cells of the region, S = grid · up.
        visible: (B, K) logits: is the point labelled at all?
    """

    heatmaps: Tensor
    visible: Tensor


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(width, width)
        self.second = ConvNormAct(width, width, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class KeypointHead(nn.Module):
    """Heatmaps of K keypoints for each box.

    Args:
        spec: the latents' channels and stride.
        names: names of the keypoints.
        shape: size of the head.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, spec: LatentSpec, names: tuple[str, ...], shape: KeypointShape | None = None) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names):
            raise HeadError("keypoints need names of their own", expected="different names", found=names)
        self.spec, self.names = spec, tuple(names)
        self.shape = s = shape or KeypointShape()
        # Latents are brought to zero mean and unit spread before they are cut out, so that what lies beyond the
        # picture, zero, is the average latent.
        self.register_buffer("mean", torch.zeros(spec.channels))
        self.register_buffer("spread", torch.ones(spec.channels))
        self.inp = ConvNormAct(spec.channels, s.width)
        self.body = nn.Sequential(*(_Residual(s.width) for _ in range(s.depth)))
        self.drop = nn.Dropout2d(s.dropout)
        self.heat = nn.Conv2d(s.width, len(names) * s.up * s.up, 1)
        self.visible = nn.Linear(2 * s.width, len(names))

    def regions(self, boxes: Tensor) -> Tensor:
        """Regions (B, 4) that are cut out for ``boxes`` (B, 4): x1 y1 x2 y2, enlarged about the centre."""
        half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3) * (self.shape.margin / 2)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        return torch.cat([centre - half, centre + half], dim=1)

    def cut(self, y: Tensor, regions: Tensor) -> Tensor:
        """Latents of ``regions`` on a square grid.

        Args:
            y: (B, C, h, w), or (1, C, h, w) for all regions.
            regions: (B, 4) x1 y1 x2 y2 in latent positions (pixels of the coded picture over the stride).

        Returns:
            (B, C, grid, grid), normalised; zero beyond the picture.
        """
        n = self.shape.grid * _SAMPLES
        y = (y - self.mean[:, None, None]) / self.spread[:, None, None]
        step = (torch.arange(n, dtype=y.dtype, device=y.device) + 0.5) / n
        size = y.new_tensor([y.shape[3], y.shape[2]])
        low, high = regions[:, :2] / size * 2 - 1, regions[:, 2:] / size * 2 - 1
        axes = low[:, :, None] + (high - low)[:, :, None] * step
        x = axes[:, 0, None, :].expand(-1, n, -1)
        rows = axes[:, 1, :, None].expand(-1, -1, n)
        y = y.expand(len(regions), -1, -1, -1)
        sampled = F.grid_sample(y, torch.stack([x, rows], dim=3), padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(sampled, _SAMPLES)

    def forward(self, y: Tensor, regions: Tensor) -> KeypointOutput:
        """``y`` and ``regions`` as in :meth:`cut`."""
        h = self.drop(self.body(self.inp(self.cut(y, regions))))
        heatmaps = F.pixel_shuffle(self.heat(h), self.shape.up)
        return KeypointOutput(heatmaps, self.visible(torch.cat([h.mean((2, 3)), h.amax((2, 3))], dim=1)))

    @torch.inference_mode()
    def estimate(
        self, latents: Latents, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32] | None = None
    ) -> Keypoints:
        """Keypoints of the objects in ``boxes``.

        Args:
            latents: decoded base latents of one picture.
            boxes: (N, 4) x1 y1 x2 y2 in source pixels.
            scores: (N,) of the boxes, 0 … 1; all 1 by default. An object's score is its box's times the mean
                score of the points that it seems to show.

        Raises:
            HeadError: the latents are not those that this head reads.
            OptionError: boxes or scores are of the wrong shape, or not finite.
        """
        if latents.spec != self.spec:
            raise HeadError("the latents are of another kind", expected=self.spec, found=latents.spec)
        boxes = np.asarray(boxes, np.float32)
        scores = np.ones(len(boxes), np.float32) if scores is None else np.asarray(scores, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
            raise OptionError("boxes and scores", expected="(N, 4) and (N,)", found=(boxes.shape, scores.shape))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise OptionError("a box or score is not a finite number")
        width, height = latents.source_size
        if len(boxes) == 0:
            return Keypoints(np.zeros((0, len(self.names), 3), np.float32), boxes, scores, self.names, width, height)
        y = latents.y_hat.float()
        source = self.regions(torch.from_numpy(boxes).to(y.device))
        per_pixel = source.new_tensor([1 / (s * self.spec.stride) for s in latents.scale] * 2)
        points, objects = read_heatmaps(self(y, source * per_pixel), source)
        whole = objects.cpu().numpy() * scores
        return Keypoints(
            points.cpu().numpy().astype(np.float32), boxes, whole.astype(np.float32), self.names, width, height
        )


def read_heatmaps(out: KeypointOutput, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Positions from heatmaps: the mean over the cells around the peak.

    Args:
        out: predictions for B boxes.
        regions: (B, 4) x1 y1 x2 y2 that the heatmaps cover, in any unit.

    Returns:
        points (B, K, 3): x, y in the unit of ``regions`` and a score 0 … 1: the share of the heatmap around its peak
        times the probability that the point shows; and (B,) scores of whole objects, the mean share weighted by
        those probabilities.
    """
    b, k, s, _ = out.heatmaps.shape
    share = out.heatmaps.float().flatten(2).softmax(2)
    peak = share.argmax(2)
    cells = torch.arange(s, device=share.device)
    near_row = ((peak // s)[:, :, None] - cells).abs() <= _PEAK
    near_column = ((peak % s)[:, :, None] - cells).abs() <= _PEAK
    around = share.view(b, k, s, s) * (near_row[:, :, :, None] & near_column[:, :, None, :])
    mass = around.sum((2, 3))
    position = (cells + 0.5) / s
    x = (around.sum(2) * position).sum(2) / mass
    y = (around.sum(3) * position).sum(2) / mass
    low, size = regions[:, None, :2], (regions[:, 2:] - regions[:, :2])[:, None]
    shown = out.visible.float().sigmoid()
    points = torch.cat([low + torch.stack([x, y], dim=2) * size, (mass * shown)[:, :, None]], dim=2)
    return points, (mass * shown).sum(1) / shown.sum(1).clamp(min=1e-6)


class KeypointTask:
    """A head with where its boxes come from: what :meth:`vcm.Codec.add_head` takes.

    Args:
        head: the head.
        detect: boxes of a picture of at least a score, such as ``codec.head("detect")``.
        labels: class indices of the objects that have such keypoints; ``None`` takes all.
        score: least score of a box.

    Raises:
        OptionError: ``score`` is outside 0 … 1.
    """

    def __init__(
        self,
        head: KeypointHead,
        detect: Callable[[Latents, float], Detections],
        *,
        labels: Collection[int] | None = None,
        score: float = DEFAULT_SCORE,
    ) -> None:
        if not 0 <= score <= 1:
            raise OptionError("score is out of range", expected="0 to 1", found=score)
        self.head, self.score = head, score
        self.labels = None if labels is None else frozenset(labels)
        self._detect = detect

    def __call__(self, latents: Latents) -> Keypoints:
        """Keypoints of the detected objects of one picture."""
        found = self._detect(latents, self.score)
        keep = np.array([self.labels is None or int(c) in self.labels for c in found.labels], np.bool_)
        return self.head.estimate(latents, found.boxes[keep], found.scores[keep])


def save_keypoint_head(path: Path, head: KeypointHead, fingerprint: bytes) -> None:
    """Write a head in half precision, BatchNorm folded; ``head`` is changed by the folding.

    Args:
        path: where to write.
        head: the head.
        fingerprint: of the base layer that it reads (:attr:`vcm.Codec.fingerprint`).
    """
    fuse_batchnorm(head)
    s = head.shape
    meta = {
        "format": HEAD_FORMAT, "fingerprint": fingerprint.hex(), "names": json.dumps(head.names),
        "spec": json.dumps([head.spec.channels, head.spec.stride]),
        "shape": json.dumps([s.grid, s.width, s.depth, s.up, s.margin]),
    }  # fmt: skip
    with whole_file(path) as part:
        save_tensors(part, {k: v.half() for k, v in head.state_dict().items()}, meta)


def load_keypoint_head(path: str | Path, *, fingerprint: bytes | None = None) -> KeypointHead:
    """Read what :func:`save_keypoint_head` wrote; nothing in the file is executed.

    Args:
        path: the file.
        fingerprint: of the codec's base layer; the head must have been trained on it. ``None`` does not compare.

    Raises:
        WeightsError: not such a file, or its tensors are not those of its head.
        FingerprintError: the head reads another codec's latents.
    """
    path = Path(path)
    with TensorFile(path, _MAX_BYTES) as file:
        meta = file.metadata
        if meta.get("format") != HEAD_FORMAT:
            raise WeightsError(f"{path} holds no keypoint head", expected=HEAD_FORMAT, found=repr(meta.get("format")))
        if fingerprint is not None and meta.get("fingerprint") != fingerprint.hex():
            raise FingerprintError(
                "the head reads other latents", expected=fingerprint.hex(), found=repr(meta.get("fingerprint"))
            )
        try:
            channels, stride = json.loads(meta["spec"])
            grid, width, depth, up, margin = json.loads(meta["shape"])
            shape = KeypointShape(int(grid), int(width), int(depth), int(up), float(margin))
            spec, names = LatentSpec(int(channels), int(stride)), tuple(map(str, json.loads(meta["names"])))
            if spec.channels < 1 or spec.stride < 1:
                raise ValueError(f"latents of {spec.channels} channels at stride {spec.stride}")
            with torch.device("meta"):  # takes no memory: what the file claims is compared with what it holds first
                head = KeypointHead(spec, names, shape)
                fuse_batchnorm(head)
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, OptionError, HeadError) as error:
            what = f"{path} is not a consistent keypoint head"
            raise WeightsError(what, found=str(error).partition("\n")[0]) from error
        tensors = file.read({name: (stored_type(own), tuple(own.shape)) for name, own in head.state_dict().items()})
    head.load_state_dict({name: t.float() for name, t in tensors.items()}, assign=True)
    if not bool((head.spread > 0).all()):  # latents are divided by it
        raise WeightsError("spread is out of range", expected="above 0", found=float(head.spread.min()))
    return head.eval().requires_grad_(False)
