"""Machines from torchvision and Detectron2. Torch is imported here and by twins; ONNX machines start without it."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vcm.codecs.protocol import Image, check_image
from vcm.errors import MissingDependencyError, ModelNotFoundError, WeightsError
from vcm.eval.machines.boxes import keep_best
from vcm.eval.machines.protocol import MachineInfo
from vcm.nn.seeding import own_randomness
from vcm.structures import COCO_CATEGORY_IDS, COCO_NAMES, Detections
from vcm.weights.state import read_state

__all__ = ["Detectron2Detector", "TorchvisionDetector"]

_SCORE, _LIMIT = 0.01, 300


def _version(weights: Path | None) -> str:
    return f"sha256 {sha256(weights.read_bytes()).hexdigest()[:12]}" if weights else "initialised weights, seed 0"


def _load(network: torch.nn.Module, weights: Path, name: str) -> None:
    """Tensors of a file into a network; no code in the file is run."""
    try:
        network.load_state_dict(read_state(weights, "model"))
    except RuntimeError as error:
        raise WeightsError(f"{weights} does not fit {name}", found=str(error).splitlines()[-1].strip()) from error


class TorchvisionDetector:
    """A detector of ``torchvision.models.detection``, with COCO's 91 output classes.

    Args:
        model: its name there, e.g. ``fasterrcnn_resnet50_fpn_v2``.
        weights: a ``.safetensors`` or ``.pth`` file, or ``None`` for initialised weights (seed 0: for tests only).

    Raises:
        ModelNotFoundError: torchvision has no such detector.
        WeightsError: the weights do not fit.
    """

    def __init__(self, model: str, weights: Path | None = None) -> None:
        import torchvision
        from torchvision.models import detection, get_model, list_models

        if model not in list_models(detection):
            raise ModelNotFoundError(
                "no such torchvision detector", expected=", ".join(list_models(detection)), found=model
            )
        self._model, self._weights = model, weights
        settings: dict[str, Any] = {"score_thresh": _SCORE, "detections_per_img": _LIMIT}
        if "rcnn" in model:
            settings = {f"box_{key}": value for key, value in settings.items()}
        with own_randomness(0):
            self._network = get_model(model, weights=None, weights_backbone=None, num_classes=91, **settings).eval()
        if weights is not None:
            _load(self._network, weights, model)
        self._version = f"torchvision {torchvision.__version__}, {_version(weights)}"
        # Official category id → class index; the ids that COCO leaves out and the background are dropped.
        self._index = np.full(91, -1, np.int64)
        self._index[list(COCO_CATEGORY_IDS)] = np.arange(len(COCO_NAMES))

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchvisionDetector, (self._model, self._weights)

    @property
    def name(self) -> str:
        """Name in reports."""
        return self._model

    def describe(self) -> MachineInfo:
        """torchvision's version and the digest of the weights."""
        return MachineInfo(self._model, self._version, (("score_threshold", str(_SCORE)), ("limit", str(_LIMIT))))

    @torch.inference_mode()
    def detect(self, image: Image) -> Detections:
        """See :meth:`vcm.eval.machines.protocol.Machine.detect`."""
        tensor = torch.from_numpy(check_image(image).transpose(2, 0, 1).astype(np.float32) / 255)
        (found,) = self._network([tensor])
        labels = self._index[found["labels"].numpy()]
        keep = labels >= 0
        boxes, scores = found["boxes"].numpy()[keep], found["scores"].numpy()[keep]
        # The network has suppressed overlaps; an IoU of 1 only clips and sorts.
        return keep_best(
            boxes, scores, labels[keep], image.shape[1], image.shape[0], iou=1.0, score=_SCORE, limit=_LIMIT
        )


class Detectron2Detector:
    """A detector of Detectron2's model zoo, on the CPU.

    Args:
        config: zoo path, e.g. ``COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml``.
        weights: a ``.safetensors`` or ``.pth`` file of tensors, or ``None`` for initialised weights (seed 0: for tests
            only).
        trust: let Detectron2's own reader open ``weights``. It takes the zoo's ``.pkl`` files, and runs whatever code
            they hold.

    Raises:
        MissingDependencyError: Detectron2 is not installed.
        ModelNotFoundError: the zoo has no such configuration.
        WeightsError: the weights do not fit, or cannot be read without running code.
    """

    def __init__(self, config: str, weights: Path | None = None, *, trust: bool = False) -> None:
        try:
            import detectron2
            from detectron2 import model_zoo
            from detectron2.checkpoint import DetectionCheckpointer
            from detectron2.modeling import build_model
        except ImportError as error:
            raise MissingDependencyError("detectron2 is not installed") from error
        try:
            cfg = model_zoo.get_config(config)
        except RuntimeError as error:
            raise ModelNotFoundError("Detectron2's zoo has no such configuration", found=config) from error
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = _SCORE
        cfg.TEST.DETECTIONS_PER_IMAGE = _LIMIT
        self._config, self._weights, self._trust = config, weights, trust
        self._size = (int(cfg.INPUT.MIN_SIZE_TEST), int(cfg.INPUT.MAX_SIZE_TEST), str(cfg.INPUT.FORMAT))
        with own_randomness(0):
            self._network = build_model(cfg).eval()
        if weights is not None and trust:
            DetectionCheckpointer(self._network).load(str(weights))
        elif weights is not None:
            _load(self._network, weights, config)
        self._version = f"detectron2 {detectron2.__version__}, {_version(weights)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Detectron2Detector, trust=self._trust), (self._config, self._weights)

    @property
    def name(self) -> str:
        """Name in reports: the configuration's stem."""
        return Path(self._config).stem

    def describe(self) -> MachineInfo:
        """Detectron2's version, the digest of the weights and the input size."""
        short, longest, order = self._size
        return MachineInfo(
            self.name, self._version, (("input", f"{short}/{longest} {order}"), ("config", self._config))
        )

    @torch.inference_mode()
    def detect(self, image: Image) -> Detections:
        """See :meth:`vcm.eval.machines.protocol.Machine.detect`."""
        from detectron2.data.transforms import ResizeShortestEdge

        image = check_image(image)
        height, width = image.shape[:2]
        short, longest, order = self._size
        planes = image[:, :, ::-1] if order == "BGR" else image
        resized = ResizeShortestEdge([short, short], longest).get_transform(planes).apply_image(planes)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)).astype(np.float32))
        found = self._network([{"image": tensor, "height": height, "width": width}])[0]["instances"].to("cpu")
        boxes, scores, labels = found.pred_boxes.tensor.numpy(), found.scores.numpy(), found.pred_classes.numpy()
        return keep_best(boxes, scores, labels.astype(np.int64), width, height, iou=1.0, score=_SCORE, limit=_LIMIT)
