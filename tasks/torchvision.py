"""Torchvision's detectors on base latents, unchanged: a backbone and a transform that they take for those of pictures.

A detector of torchvision asks its inputs for a size, its transform for a batch of pictures with boxes in its pixels,
its backbone for maps, and then compares sizes of maps with the picture's to place anchors. All of that stays as it is:

- :class:`LatentPicture` is one input: latents that answer with the size of the *source* picture.
- :class:`LatentTransform` lays a batch out as pictures of the *coded* size (:func:`pack`), does to boxes, masks and
  keypoints
  what the codec did to pixels, and brings results back to source pixels.
- :func:`latent_backbone` gives the backbone: it takes the layout apart again and makes a pyramid.

The pyramid has the layers of :class:`vcm.tasks.detection.DetectionHead`'s, so that it can start from a codec's own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes, resize_keypoints

from vcm.errors import HeadError
from vcm.nn.blocks import ConvNormAct, FiLM
from vcm.structures import Latents, LatentSpec

__all__ = ["STRIDES", "LatentBackbone", "LatentPicture", "LatentTransform", "latent_backbone", "pack", "unpack"]

STRIDES = (8, 16, 32, 64, 128)
"""Pixels of the coded picture per position that a level of the pyramid can have."""

Target = dict[str, Tensor]
"""Torchvision's: ``boxes`` (N, 4) and ``labels`` (N,), maybe ``masks`` (N, H, W) and ``keypoints`` (N, K, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class LatentPicture:
    """Latents of one picture as a detector of torchvision takes a picture: it is asked for its shape only.

    Attributes:
        y_hat: float32 (C, h, w).
        coded_size: (width, height) of the picture that the base was coded from, pixels.
        source_size: (width, height) of the source picture, pixels: targets and results are in these.
        quality: of the base layer, 0 … 100.
        spec: channels, stride and base layer.
    """

    y_hat: Tensor
    coded_size: tuple[int, int]
    source_size: tuple[int, int]
    quality: float
    spec: LatentSpec

    @classmethod
    def of(cls, latents: Latents) -> LatentPicture:
        """The latents of a file (:meth:`vcm.Codec.latents`)."""
        return cls(latents.y_hat[0].float(), latents.coded_size, latents.source_size, latents.quality, latents.spec)

    @property
    def shape(self) -> torch.Size:
        """(channels, height, width), of the source picture."""
        return torch.Size((self.spec.channels, self.source_size[1], self.source_size[0]))


def pack(y: Tensor, quality: Tensor, stride: int) -> Tensor:
    """Latents laid out as pictures: the channels of a position fill its ``stride`` × ``stride`` pixels, then the
    quality.

    Args:
        y: (N, C, h, w).
        quality: (N,) in 0 … 1; one more channel.
        stride: pixels per position.

    Returns:
        (N, ceil((C + 1) / stride²), h · stride, w · stride); what is left of a position's pixels is 0.
    """
    n, channels, h, w = y.shape
    planes = -(-(channels + 1) // stride**2)
    whole = y.new_zeros(n, planes * stride**2, h, w)
    whole[:, :channels] = y
    whole[:, channels] = quality.to(y.dtype)[:, None, None]
    return F.pixel_shuffle(whole, stride)


def unpack(pictures: Tensor, channels: int, stride: int) -> tuple[Tensor, Tensor]:
    """What :func:`pack` was given: ``y`` and ``quality``."""
    whole = F.pixel_unshuffle(pictures, stride)
    return whole[:, :channels], whole[:, channels, 0, 0]


class LatentTransform(GeneralizedRCNNTransform):
    """In place of a detector's ``transform``: inputs are :class:`LatentPicture`, targets and results in source pixels.

    Nothing is resized: latents are what they are. Boxes, masks and keypoints go to pixels of the coded picture and
    results back, as torchvision's own transform does between its resized pictures and the originals.

    Args:
        paste: give masks in the size of the source picture, as torchvision does; otherwise as they are predicted, a
            small
            square over each box.
        divisible: a batch's height and width are made multiples of so many positions, by zeros. Detectors divide sizes
            to find a level's stride, and 4 positions make levels up to stride 64 exact.
    """

    def __init__(self, *, paste: bool = True, divisible: int = 4) -> None:
        super().__init__(min_size=1, max_size=1, image_mean=[0.0], image_std=[1.0])
        self.paste, self.divisible = paste, divisible

    def forward(
        self, images: Sequence[LatentPicture], targets: Sequence[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        """One batch; arguments as of the detectors.

        Raises:
            HeadError: inputs are pixels or bare tensors, or of different codecs.
        """
        strays = [type(image).__name__ for image in images if not isinstance(image, LatentPicture)]
        if strays:
            raise HeadError("this detector reads latents, not pixels", expected="LatentPicture", found=strays[0])
        kinds = {(image.spec.channels, image.spec.stride) for image in images}
        if len(kinds) != 1:
            raise HeadError("a batch is of one kind of latents", expected="one channel count and stride", found=kinds)
        ((channels, stride),) = kinds
        largest = (max(image.y_hat.shape[axis] for image in images) for axis in (1, 2))
        height, width = (-(-side // self.divisible) * self.divisible for side in largest)
        y = images[0].y_hat.new_zeros(len(images), channels, height, width)
        for row, image in zip(y, images, strict=True):
            row[:, : image.y_hat.shape[1], : image.y_hat.shape[2]] = image.y_hat
        quality = torch.tensor([image.quality / 100.0 for image in images], dtype=y.dtype, device=y.device)
        sizes = [(image.coded_size[1], image.coded_size[0]) for image in images]
        moved = None
        if targets is not None:
            moved = [_moved(target, image, size) for target, image, size in zip(targets, images, sizes, strict=True)]
        return ImageList(pack(y, quality, stride), sizes), moved

    def postprocess(
        self, result: list[Target], image_shapes: list[tuple[int, int]], original_image_sizes: list[tuple[int, int]]
    ) -> list[Target]:
        """Torchvision's; with ``paste=False`` masks are left as they are."""
        masks = [] if self.training or self.paste else [found.pop("masks", None) for found in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for found, mask in zip(result, masks, strict=False):
            if mask is not None:
                found["masks"] = mask
        return result


def _moved(target: Target, image: LatentPicture, size: tuple[int, int]) -> Target:
    """A target of the source picture on the coded one of ``size`` (height, width)."""
    source = image.source_size[1], image.source_size[0]
    out = dict(target)
    out["boxes"] = resize_boxes(target["boxes"], source, size)
    if "keypoints" in target:
        out["keypoints"] = resize_keypoints(target["keypoints"], source, size)
    if "masks" in target and target["masks"].shape[-2:] != size:
        out["masks"] = F.interpolate(target["masks"][None].float(), size)[0].byte()
    return out


class LatentBackbone(nn.Module):
    """Base latents to a pyramid, as torchvision's detectors want it: an ordered dict of maps, and ``out_channels``.

    Args:
        spec: the latents; stride 16.
        levels: strides of the pyramid, a run of :data:`STRIDES`.
        width: channels of the layers at stride 16.
        out_channels: channels of each level.

    Raises:
        HeadError: another stride, or levels that are no run of :data:`STRIDES`.
    """

    def __init__(
        self, spec: LatentSpec, levels: Sequence[int] = STRIDES[:4], width: int = 192, out_channels: int = 96
    ) -> None:
        super().__init__()
        if spec.stride != 16:
            raise HeadError("this backbone reads latents of stride 16", expected=16, found=spec.stride)
        levels = tuple(levels)
        if not levels or levels[0] not in STRIDES[:3] or levels != STRIDES[STRIDES.index(levels[0]) :][: len(levels)]:
            expected = f"some of {STRIDES} in a row, from 8, 16 or 32"
            raise HeadError("no levels of a pyramid", expected=expected, found=levels)
        self.spec, self.strides, self.width, self.out_channels = spec, levels, width, out_channels
        self.inp = ConvNormAct(spec.channels, width)
        self.film = FiLM(width)
        self.stem = nn.Sequential(ConvNormAct(width, width), ConvNormAct(width, width))
        c = out_channels
        made = {
            8: (width, 4 * c, 1, 1),
            16: (width, c, 1, 1),
            32: (width, c, 3, 2),
            64: (c, c, 3, 2),
            128: (c, c, 3, 2),
        }
        for stride in STRIDES:
            if stride in levels:
                setattr(self, f"p{stride}", ConvNormAct(*made[stride]))

    def forward(self, pictures: Tensor) -> OrderedDict[str, Tensor]:
        """``pictures`` as of :func:`pack`; maps by level, the finest is ``"0"``.

        Raises:
            HeadError: they are pixels.
        """
        stride, channels = self.spec.stride, self.spec.channels
        planes = -(-(channels + 1) // stride**2)
        if pictures.shape[1] != planes:
            found = f"{pictures.shape[1]} channels"
            raise HeadError(
                "this backbone reads latents, not pixels", expected="a LatentTransform before it", found=found
            )
        y, quality = unpack(pictures, channels, stride)
        h = self.film(self.inp(y), quality)
        h = h + self.stem(h)
        out: OrderedDict[str, Tensor] = OrderedDict()
        below = h
        for number, size in enumerate(self.strides):
            layer = getattr(self, f"p{size}")
            if size <= 32:
                below = layer(h)
                out[str(number)] = F.pixel_shuffle(below, 2) if size == 8 else below
            else:
                below = out[str(number)] = layer(below)
        return out


def latent_backbone(
    codec_or_spec: Any, levels: Sequence[int] = STRIDES[:4], *, width: int = 192, out_channels: int = 96
) -> LatentBackbone:
    """A backbone on base latents for torchvision's FCOS, RetinaNet, Faster, Mask and Keypoint R-CNN.

    Give the detector that you build with it a :class:`LatentTransform` as its ``transform``, and inputs of
    :class:`LatentPicture`.

    Args:
        codec_or_spec: a :class:`vcm.Codec`, or a :class:`vcm.LatentSpec`.
        levels: strides of the pyramid in pixels of the coded picture: some of 8, 16, 32, 64, 128 in a row.
        width: channels of the layers at stride 16.
        out_channels: channels of each level.

    Returns:
        a module with ``out_channels``; latents (N, C, h, w) of stride 16 in the layout of :func:`pack` to an ordered
        dict of maps (N, out_channels, ceil(16 h / stride), ceil(16 w / stride)).

    Raises:
        HeadError: the latents' stride is not 16, or there is no such pyramid.
    """
    spec = codec_or_spec if isinstance(codec_or_spec, LatentSpec) else codec_or_spec.spec
    return LatentBackbone(spec, levels, width, out_channels)
