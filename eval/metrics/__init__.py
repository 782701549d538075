"""Accuracy and distortion, each number with its bootstrap over pictures."""

from __future__ import annotations

from vcm.eval.metrics.detection import DetectionAccuracy, evaluate_detections
from vcm.eval.metrics.distortion import METRICS, Metric, metric, metrics
from vcm.eval.metrics.keypoints import KeypointAccuracy, evaluate_keypoints

__all__ = [
    "METRICS",
    "DetectionAccuracy",
    "KeypointAccuracy",
    "Metric",
    "evaluate_detections",
    "evaluate_keypoints",
    "metric",
    "metrics",
]
