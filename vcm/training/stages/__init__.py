"""What differs between the stages of a recipe: the networks that learn, and the loss of a batch."""

from vcm.training.stages.base import Stage
from vcm.training.stages.joint import JointStage
from vcm.training.stages.picture import PictureStage
from vcm.training.stages.task import BottleneckStage, FrozenBaseStage, HeadStage, TaskStage, TwinStage

__all__ = [
    "BottleneckStage",
    "FrozenBaseStage",
    "HeadStage",
    "JointStage",
    "PictureStage",
    "Stage",
    "TaskStage",
    "TwinStage",
]
