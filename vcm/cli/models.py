"""Which weights a command uses: those that were asked for, or those that wrote the file."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcm.cli.options import MODEL
from vcm.cli.output import state, working

if TYPE_CHECKING:
    from vcm.api import Codec
    from vcm.bitstream import Bitstream, PartialBitstream
    from vcm.twin import PixelTwin
    from vcm.weights.registry import Folders

__all__ = ["Models", "model_of"]


class Models:
    """Loads each model once for one run of a command.

    Attributes:
        asked: the value of ``--model``, or ``None``.

    Args:
        threads, device, backend: as for :func:`vcm.load`.
        jobs: files at once; with several a network has one thread, unless ``threads`` says otherwise.
    """

    def __init__(
        self,
        asked: str | None,
        *,
        threads: int | None = None,
        device: str = "cpu",
        backend: str = "auto",
        jobs: int = 1,
    ) -> None:
        self.asked = asked
        self._lock = threading.Lock()
        if jobs > 1 and threads is None:
            threads = 1
        self._options: dict[str, Any] = {"threads": threads, "device": device, "backend": backend}
        # The process is ours: pictures of all sizes that we code are wanted, and Pillow by itself is more careful.
        from PIL import Image

        from vcm.limits import MAX_PIXELS

        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        self._loaded: dict[str | Path, Codec] = {}

    def default(self) -> Codec:
        """The codec for a picture, which no model has written."""
        return self._load(self.asked or MODEL)

    def twin(self) -> PixelTwin | None:
        """The pixel twin, if one was asked for.

        Raises:
            VcmError: it cannot be loaded.
        """
        import vcm
        from vcm.errors import ModelNotFoundError
        from vcm.weights.registry import find_twin

        if self.asked is None:
            return None
        try:
            find_twin(self.asked)
        except ModelNotFoundError:  # a codec, or what the codec's own search will complain of
            return None
        with working(f"loading {self.asked}"):
            return vcm.load_twin(self.asked, **self._options)

    def open(self, source: Path | bytes, *, base_only: bool, layers: int | None = None) -> tuple[Codec, Bitstream]:
        """A VCM file, read once, and the codec for it: by its layers' fingerprints, unless a model was asked for.

        Args:
            source: the file or its bytes.
            base_only: read header and base only, which is what a cut file may still have.
            layers: how many layers are wanted; a codec that reads the base is enough for one.

        Raises:
            VcmError: the file cannot be read as far as is needed, or no weights at hand read it.
        """
        from vcm.bitstream import read, read_base

        most = {name: value for name, value in state.limits.items() if name == "max_bytes"}
        stream = read_base(source, **most).bitstream if base_only else read(source, **most)
        return self.reading(stream, source, layers=layers), stream

    def reading(
        self, stream: Bitstream | PartialBitstream, source: Path | bytes, *, layers: int | None = None
    ) -> Codec:
        """The codec for a file that was read; arguments as of :meth:`open`.

        Raises:
            VcmError: no weights at hand read it.
        """
        from vcm.io.remote import address_of
        from vcm.weights.registry import find_model

        if self.asked is not None:
            return self._load(self.asked)
        enhancement = None if layers == 1 or stream.enhancement is None else stream.enhancement.fingerprint.hex()
        folders = source.parent if isinstance(source, Path) and address_of(source) is None else ()
        return self._load(find_model(stream.coded_base.fingerprint.hex(), enhancement, folders).path)

    def detector(self, codec: Codec, file: Path) -> str:
        """Name under which ``codec`` runs the detection head of a file, which is read once.

        Raises:
            VcmError: the file is no head's, gives no boxes, or was trained on another base layer.
        """
        from vcm.errors import HeadError
        from vcm.structures import Detections
        from vcm.tasks.protocol import Head

        name = str(file)
        with self._lock:
            if name not in codec.heads:
                codec.add_head(name, file)
        head = codec.head(name)
        if isinstance(head, Head) and head.spec.result is not Detections:
            raise HeadError(f"{file} does not detect", expected="a detection head", found=head.spec.result.__name__)
        return name

    def _load(self, name: str | Path) -> Codec:
        import vcm

        with self._lock:
            if name not in self._loaded:
                with working(f"loading {name}"):
                    self._loaded[name] = vcm.load(name, **self._options)
            return self._loaded[name]


def model_of(stream: Bitstream, folder: Folders) -> str | None:
    """Name of the model that wrote a file, looked for in ``folder`` as well; ``None`` where there is none at hand."""
    from vcm.errors import FingerprintError
    from vcm.weights.registry import find_model

    base, enhancement = stream.base_layer.fingerprint.hex(), stream.enhancement
    for wanted in (None if enhancement is None else enhancement.fingerprint.hex(), None):
        with suppress(FingerprintError):
            return find_model(base, wanted, folder).name
    return None
