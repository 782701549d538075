"""VCM: coding for machines.

One layered image file: a small base layer that detectors read without decoding pixels, and enhancement layers from
which a person gets the picture.

    >>> import vcm
    >>> codec = vcm.load("vcm-s")                                # doctest: +SKIP
    >>> codec.encode("street.jpg").save("street.vcm")            # doctest: +SKIP
    >>> codec.detect("street.vcm").label_names()                 # doctest: +SKIP

Names are imported when first used: ``import vcm`` and ``vcm --help`` cost milliseconds, not the seconds of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vcm.requirements import needing

if TYPE_CHECKING:
    from vcm.api import Codec as Codec
    from vcm.api import Cost as Cost
    from vcm.api import OpenFile as OpenFile
    from vcm.api import Outcome as Outcome
    from vcm.api import PictureRows as PictureRows
    from vcm.api import RateWarning as RateWarning
    from vcm.api import load as load
    from vcm.api import open as open
    from vcm.bitstream import BaseLayer as BaseLayer
    from vcm.bitstream import BaseRead as BaseRead
    from vcm.bitstream import Bitstream as Bitstream
    from vcm.bitstream import Chunk as Chunk
    from vcm.bitstream import ChunkKind as ChunkKind
    from vcm.bitstream import Header as Header
    from vcm.bitstream import Layer as Layer
    from vcm.bitstream import LayerSpan as LayerSpan
    from vcm.bitstream import Metadata as Metadata
    from vcm.bitstream import PartialBitstream as PartialBitstream
    from vcm.bitstream import SourceKind as SourceKind
    from vcm.bitstream import append_layer as append_layer
    from vcm.bitstream import parse as parse
    from vcm.bitstream import read as read
    from vcm.bitstream import read_base as read_base
    from vcm.bitstream import read_partially as read_partially
    from vcm.errors import VcmError as VcmError
    from vcm.io.pictures import AlphaWarning as AlphaWarning
    from vcm.structures import COCO_CATEGORY_IDS as COCO_CATEGORY_IDS
    from vcm.structures import COCO_NAMES as COCO_NAMES
    from vcm.structures import Classes as Classes
    from vcm.structures import Classification as Classification
    from vcm.structures import Detection as Detection
    from vcm.structures import Detections as Detections
    from vcm.structures import Embedding as Embedding
    from vcm.structures import InstanceMasks as InstanceMasks
    from vcm.structures import Keypoints as Keypoints
    from vcm.structures import Latents as Latents
    from vcm.structures import LatentSpec as LatentSpec
    from vcm.structures import Segmentation as Segmentation
    from vcm.twin import PixelTwin as PixelTwin
    from vcm.twin import load_twin as load_twin
    from vcm.weights.registry import ModelInfo as ModelInfo
    from vcm.weights.registry import TwinInfo as TwinInfo
    from vcm.weights.registry import list_models as list_models
    from vcm.weights.registry import list_twins as list_twins

__version__: str

_HOME = {
    "AlphaWarning": "vcm.io.pictures",
    "BaseLayer": "vcm.bitstream",
    "BaseRead": "vcm.bitstream",
    "Bitstream": "vcm.bitstream",
    "COCO_CATEGORY_IDS": "vcm.structures",
    "COCO_NAMES": "vcm.structures",
    "Chunk": "vcm.bitstream",
    "ChunkKind": "vcm.bitstream",
    "Classes": "vcm.structures",
    "Classification": "vcm.structures",
    "Codec": "vcm.api",
    "Cost": "vcm.api",
    "Detection": "vcm.structures",
    "Detections": "vcm.structures",
    "Embedding": "vcm.structures",
    "Header": "vcm.bitstream",
    "InstanceMasks": "vcm.structures",
    "Keypoints": "vcm.structures",
    "LatentSpec": "vcm.structures",
    "Latents": "vcm.structures",
    "Layer": "vcm.bitstream",
    "LayerSpan": "vcm.bitstream",
    "Metadata": "vcm.bitstream",
    "ModelInfo": "vcm.weights.registry",
    "OpenFile": "vcm.api",
    "Outcome": "vcm.api",
    "PartialBitstream": "vcm.bitstream",
    "PictureRows": "vcm.api",
    "PixelTwin": "vcm.twin",
    "RateWarning": "vcm.api",
    "Segmentation": "vcm.structures",
    "SourceKind": "vcm.bitstream",
    "TwinInfo": "vcm.weights.registry",
    "VcmError": "vcm.errors",
    "append_layer": "vcm.bitstream",
    "list_models": "vcm.weights.registry",
    "list_twins": "vcm.weights.registry",
    "load": "vcm.api",
    "load_twin": "vcm.twin",
    "open": "vcm.api",
    "parse": "vcm.bitstream",
    "read": "vcm.bitstream",
    "read_base": "vcm.bitstream",
    "read_partially": "vcm.bitstream",
}
"""Public name to the module that defines it. A name added here is also added under ``TYPE_CHECKING`` above."""

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'vcm' has no attribute {name!r}")
    with needing(f"vcm.{name}"):
        value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def _version() -> str:
    """Of the installed package, which has it from git's tags; ``unknown`` where the sources run without being one."""
    from importlib import metadata

    try:
        return metadata.version("vcm")
    except metadata.PackageNotFoundError:
        return "unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
