"""The networks of a codec run by onnxruntime on a CPU, without torch.

Models are written from a weights file's tensors when they are first needed (:mod:`graph`, :mod:`layers`,
:mod:`integer`), and there is no second file. Which networks a codec and its heads have, :mod:`vcm.codecs.scalable` and
:mod:`vcm.tasks` say.
"""

from vcm.runtime.onnx.sessions import OnnxNetworks
from vcm.runtime.onnx.stored import StoredTensors

__all__ = ["OnnxNetworks", "StoredTensors"]
