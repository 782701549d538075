"""The small typed contracts that rooms hand to each other. Imports numpy and no tensor library."""

from vcm.structures.classes import COCO_CATEGORY_IDS, COCO_CLASSES, COCO_NAMES, DEFAULT_SCORE, Classes
from vcm.structures.classification import Classification, ClassScore
from vcm.structures.detections import Detection, Detections
from vcm.structures.embedding import Embedding
from vcm.structures.keypoints import Keypoints, Pose
from vcm.structures.latents import Latents, LatentSpec
from vcm.structures.masks import InstanceMasks, Segmentation

Result = Classification | Detections | Embedding | InstanceMasks | Keypoints | Segmentation
"""What heads of ours give; each says how many bytes were read for it."""

__all__ = [
    "COCO_CATEGORY_IDS", "COCO_CLASSES", "COCO_NAMES", "DEFAULT_SCORE", "ClassScore", "Classes", "Classification",
    "Detection", "Detections", "Embedding", "InstanceMasks", "Keypoints", "LatentSpec", "Latents", "Pose",
    "Result", "Segmentation",
]  # fmt: skip
