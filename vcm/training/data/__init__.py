"""What training learns from: pictures in memory, random views of them, and the objects on those."""

from vcm.training.data.annotations import GroundTruth
from vcm.training.data.objects import ViewObjects, view_objects
from vcm.training.data.store import PictureStore, class_weights
from vcm.training.data.views import Crop, ViewPlan, ViewSpec, plan_views, render_views

__all__ = [
    "Crop", "GroundTruth", "PictureStore", "ViewObjects", "ViewPlan", "ViewSpec", "class_weights",
    "plan_views", "render_views", "view_objects",
]  # fmt: skip
