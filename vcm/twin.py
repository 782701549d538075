"""Pixel twins: the base layer's detector without the codec, trained and run on pixels.

A twin is the codec's base analysis (trunk, merge, projection) and its detection head at quality 1, with quantiser and
entropy model left out. It is the ceiling of what the base can reach, and the fair detector for the decoded pixels of
any other codec.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vcm.api.arguments import device_of
from vcm.api.sources import one_or_many
from vcm.bitstream import coded_size
from vcm.codecs.scalable.model import base_latents, default_base_scale, picture_array
from vcm.codecs.scalable.torch_networks import analysis_networks, on_device
from vcm.io.pictures import load_image
from vcm.limits import DEFAULT_BYTES, DEFAULT_PIXELS
from vcm.structures import DEFAULT_SCORE, Detections, Latents
from vcm.weights.registry import find_twin
from vcm.weights.twin_file import LoadedTwin, read_twin

if TYPE_CHECKING:
    from vcm.io.pictures import ImageSource

__all__ = ["PixelTwin", "load_twin"]


def load_twin(
    name: str | Path = "vcm-s-twin", device: str | torch.device = "cpu", *, trunk: str | Path | None = None
) -> PixelTwin:
    """Load a shipped pixel twin by name, or a twin's file by path.

    Args:
        name: ``vcm-s-twin``, ``vcm-s-twin-degraded`` or a path to a ``.safetensors`` file.
        device: where it runs.
        trunk: the codec whose trunk it takes, by name or path. By default the one that the file names: looked for
            beside the file, then among the shipped ones.

    Raises:
        OptionError: torch knows no such device.
        ModelNotFoundError: no such twin, or the codec whose trunk it takes is not there.
        TrunkError: that codec has another trunk than the twin was trained with.
        WeightsError: the file is no twin, or is inconsistent.
    """
    return PixelTwin(read_twin(find_twin(name), trunk), device)


class PixelTwin:
    """A loaded pixel twin. Immutable, and safe to share between threads.

    Args:
        loaded: networks from :func:`vcm.weights.twin_file.read_twin`; they are not changed.
        device: where they run.

    Attributes:
        name, trunk, trained: as of :class:`vcm.TwinInfo`.
        fingerprint: over all weights, the trunk's included; 16 hexadecimal digits.
    """

    def __init__(self, loaded: LoadedTwin, device: str | torch.device = "cpu") -> None:
        self._device = device_of(device)
        analysis = on_device(loaded.analysis, self._device)
        self._networks = analysis_networks(analysis, self._device)
        self._detect = on_device(loaded.detect, self._device)
        self._spec = loaded.architecture.latents
        self.name = loaded.name
        self.trunk = loaded.trunk
        self.trained = loaded.trained
        digest = blake2b(loaded.architecture.name.encode(), digest_size=8)
        for part in (analysis, self._detect):
            for key, tensor in sorted(part.state_dict().items()):
                digest.update(f"{key}\0{tuple(tensor.shape)}\0".encode() + tensor.cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    @one_or_many
    def latents(
        self, image: ImageSource, *, max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES
    ) -> Latents:
        """The twin's features, where a codec has base latents; unquantised, of the size that a codec's default has.

        Args:
            image: path, PIL image, uint8 HWC array or CHW tensor; or a list or batch of these.
            max_pixels, max_bytes: most pixels of the picture, most bytes of its file.

        Raises:
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
        """
        source = load_image(image, max_pixels=max_pixels, max_bytes=max_bytes)
        size = source.width, source.height
        scale = default_base_scale(*size)
        y = torch.from_numpy(base_latents(self._networks, picture_array(source.pixels), scale)).to(self._device)
        return Latents(y, replace(self._spec, fingerprint=self.fingerprint), coded_size(*size, scale), size, 100.0)

    @one_or_many
    def detect(
        self,
        image: ImageSource,
        *,
        score: float = DEFAULT_SCORE,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Detections:
        """Objects in a picture, from its pixels; ``bytes_read`` is 0.

        Args:
            image: path, PIL image, uint8 HWC array or CHW tensor; or a list or batch of these.
            score: least score kept, 0 … 1.
            max_pixels, max_bytes: as for :meth:`latents`.

        Raises:
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
            OptionError: ``score`` is out of range.
        """
        return self._detect.detect(self.latents(image, max_pixels=max_pixels, max_bytes=max_bytes), score)
