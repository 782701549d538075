"""Pictures to evaluate on, and their boxes."""

from __future__ import annotations

from vcm.eval.data.datasets import Dataset, Layout, Picture, load_dataset, read_picture
from vcm.eval.data.pseudo import pseudo_ground_truth

__all__ = ["Dataset", "Layout", "Picture", "load_dataset", "pseudo_ground_truth", "read_picture"]
