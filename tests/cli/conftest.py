"""A codec that is quick and predictable in the place of the real one: these tests are about the command line."""

from __future__ import annotations

import io
import signal
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vcm
import vcm.cli
from vcm.api import RateWarning
from vcm.api.sources import base_of, whole_of
from vcm.bitstream import Bitstream, ChunkKind, Layer, Metadata, SourceKind
from vcm.errors import FingerprintError, LayerError, ModelNotFoundError
from vcm.io.pictures import load_image
from vcm.limits import DEFAULT_BYTES, DEFAULT_PIXELS
from vcm.structures import COCO_NAMES, DEFAULT_SCORE, Classification, Detections
from vcm.tasks.postprocessing import MAX_DETECTIONS, NMS_IOU

# In the background of a shell, or under nohup, these are ignored, and children inherit that.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

BASE, ENHANCEMENT = bytes(range(8)), bytes(range(8, 16))


@dataclass(frozen=True)
class FakeModel:
    name: str = "vcm-s"
    path: Path = Path("/models/vcm-s.safetensors")
    bytes: int = 4_200_000
    fingerprint: str = BASE.hex()
    fingerprint_enhancement: str = ENHANCEMENT.hex()
    card_path: Path = Path("/models/vcm-s.md")
    trained: str = "10 steps on noise"


@dataclass(frozen=True)
class FakeCost:
    stage: str
    kmac_per_px: float
    budget: float


class FakeCodec:
    """Base: a 16x16 thumbnail. Enhancement: the picture as PNG, padded to the quality. One cat, always."""

    name, backend = "vcm-s", "onnx"
    fingerprint = BASE.hex()

    def encode(
        self, image: Any, *, quality: float = 50, base_quality: float = 50, base_only: bool = False,
        target_bpp: float | None = None, base_scale: float | None = None, picture: str | None = None,
        keep: list[str] | None = None, bgr: bool = False,
        max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES,
    ) -> Bitstream:  # fmt: skip
        source = load_image(image)
        picture = Image.fromarray(source.pixels)
        thumbnail = np.asarray(picture.resize((16, 16))).tobytes()[: 100 + int(base_quality)]
        layers = [Layer(ChunkKind.BASE, 500, BASE, 12, (thumbnail,))]
        if not base_only:
            layers.append(self._enhancement(picture, quality))
        if target_bpp is not None and target_bpp < 0.01:
            warnings.warn(f"target_bpp {target_bpp:g} is out of reach", RateWarning, stacklevel=2)
        return Bitstream.build(
            width=source.width, height=source.height, codec_id=1, base_scale=8, layers=layers,
            source=SourceKind(bit_depth=source.bit_depth, grey=source.grey, alpha=source.alpha),
            metadata=Metadata(exif=source.exif, icc=source.icc),
        )  # fmt: skip

    def _enhancement(self, picture: Image.Image, quality: float) -> Layer:
        png = io.BytesIO()
        picture.save(png, "PNG")
        return Layer(ChunkKind.ENHANCEMENT, 500, ENHANCEMENT, 12, (png.getvalue() + bytes(int(quality)),))

    def enhance(
        self, source: Any, image: Any, *, quality: float = 50, target_bpp: float | None = None,
        allow_other_picture: bool = False, picture: str | None = None,
        max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES,
    ) -> Bitstream:  # fmt: skip
        stream = whole_of(source)
        if stream.enhancement is not None:
            raise LayerError("the file has its enhancement already")
        return stream.with_layer(self._enhancement(Image.fromarray(load_image(image).pixels), quality))

    def detect(
        self, source: Any, *, score: float = DEFAULT_SCORE, iou: float = NMS_IOU, agnostic: bool = False,
        max_det: int = MAX_DETECTIONS, classes: Iterable[str | int] | None = None,
        max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES,
    ) -> Detections:  # fmt: skip
        stream, bytes_read = base_of(source)
        if stream.base_layer.fingerprint != BASE:
            raise FingerprintError("the base", expected=BASE.hex(), found=stream.base_layer.fingerprint.hex())
        boxes = np.array([[1, 2, stream.width - 3, stream.height - 4], [0, 0, 8, 8]], np.float32)
        found = Detections(
            boxes, np.array([0.9, 0.2], np.float32), np.array([15, 0]), stream.width, stream.height, bytes_read
        )
        return found.filter(score=score, classes=classes)[:max_det]

    def classify(
        self, source: Any, *, max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES
    ) -> Classification:
        scores = np.linspace(0.01, 0.8, len(COCO_NAMES), dtype=np.float32)
        return Classification(scores, bytes_read=base_of(source)[1])

    def decode(self, source: Any, *, layers: int | None = None, region: None = None,
        max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES,
    ) -> Image.Image:  # fmt: skip
        stream = whole_of(source)
        if layers is not None and layers > len(stream.layers):
            raise LayerError("the file has fewer layers", expected=layers, found=len(stream.layers))
        if layers == 1 or stream.enhancement is None:
            picture = Image.new("RGB", (stream.width, stream.height), "grey")
            picture.info["vcm_preview"] = True
        else:
            picture = Image.open(io.BytesIO(stream.enhancement.tiles[0])).convert("RGB")
        if stream.metadata.exif:
            picture.info["exif"] = stream.metadata.exif
        if stream.metadata.icc:
            picture.info["icc_profile"] = stream.metadata.icc
        return picture

    def complexity(self, width: int = 768, height: int = 512) -> tuple[FakeCost, ...]:
        return (FakeCost("base-only encode", 5.25, 8), FakeCost("full encode", 26.5, 25))


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> FakeCodec:
    """The fake, which ``vcm.load`` gives; any other model name is unknown."""
    fake = FakeCodec()

    def load(
        name: str | Path = "vcm-s",
        device: str = "cpu",
        *,
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "float32",
    ) -> FakeCodec:
        if name not in ("vcm-s", FakeModel().path):
            raise ModelNotFoundError("no such model", expected="vcm-s or a path", found=name)
        return fake

    monkeypatch.setitem(vars(vcm), "load", load)
    monkeypatch.setitem(vars(vcm), "list_models", lambda: (FakeModel(),))
    monkeypatch.setattr("vcm.weights.registry.list_models", lambda folders=(): (FakeModel(),))
    return fake


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


@pytest.fixture
def run(codec: FakeCodec, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command line in this process."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        status = vcm.cli.run([str(argument) for argument in arguments])
        caught = capsys.readouterr()
        return Ran(status, caught.out, caught.err)

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small PNG in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.effect_noise((48, 32), 60).convert("RGB").save(folder / "photo.png")
    return folder / "photo.png"
