"""The teacher detector (NanoDet-Plus, an ONNX file given by path), tapped before it decodes.

Its ONNX file fixes batch 1 and 416×416 in its input shape and in the constants of its channel shuffles. Each shuffle
(Reshape to 5-D, Transpose, Reshape) is a permutation of channels, so one Gather stands for it and the network runs on
any batch and any size divisible by 32.
Nothing of the teacher is shipped or used as initialisation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vcm.errors import ConfigError
from vcm.runtime.onnx.sessions import available_cores, onnxruntime_module

__all__ = ["Teacher", "TeacherLike", "TeacherOutput"]

_CPU = torch.device("cpu")
_PREDICTORS = ("/m/Conv_109", "/m/Conv_106", "/m/Conv_103", "/m/Conv_100")  # strides 8, 16, 32, 64
_MEAN_BGR = (103.53, 116.28, 123.675)
_STD_BGR = (57.375, 57.12, 58.395)


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """Per stride 8, 16, 32, 64: ``scores`` (N, 80, h, w) 0 … 1, ``bins`` (N, 32, h, w), ``features`` (N, 96, h, w)."""

    scores: tuple[Tensor, ...]
    bins: tuple[Tensor, ...]
    features: tuple[Tensor, ...]


class TeacherLike(Protocol):
    """Anything that answers densely at strides 8, 16, 32 and 64."""

    def __call__(self, x: Tensor) -> TeacherOutput:
        """``x`` float (N, 3, H, W), RGB 0 … 255."""
        ...


def _any_size(path: Path) -> bytes:
    """The ONNX model of ``path`` with its shuffles as Gather, free batch and size, and taps as outputs."""
    import onnx
    from onnx import helper, numpy_helper

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own kinds of error, which differ between its versions
        raise ConfigError("the teacher is not an ONNX file", found=path) from error
    graph = model.graph
    constants = {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    replaced: dict[str, Any] = {}
    dropped: set[str] = set()
    for node in graph.node:
        if node.op_type != "Reshape" or len(constants.get(node.input[1], ())) != 5:
            continue
        transpose = users[node.output[0]][0]
        last = users[transpose.output[0]][0]
        _, groups, per_group, _, _ = constants[node.input[1]].tolist()
        order = np.arange(groups * per_group).reshape(groups, per_group).T.reshape(-1)
        name = f"{node.name}_order"
        graph.initializer.append(numpy_helper.from_array(order.astype(np.int64), name))
        replaced[node.name] = helper.make_node("Gather", [node.input[0], name], [last.output[0]], axis=1)
        dropped |= {transpose.name, last.name}
    nodes = [replaced.get(n.name, n) for n in graph.node if n.name not in dropped]
    producers = {out: n for n in nodes for out in n.output}
    wanted: list[str] = []
    for conv in _PREDICTORS:
        node = next((n for n in nodes if n.name == conv), None)
        if node is None:
            raise ConfigError("the teacher is not the NanoDet-Plus that is known here", expected=f"a node {conv}")
        wanted += [node.output[0], node.input[0]]
    needed: set[int] = set()
    stack = list(wanted)
    while stack:
        node = producers.get(stack.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            stack += list(node.input)
    kept = [n for n in nodes if id(n) in needed]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in wanted)
    del graph.value_info[:]
    shape = graph.input[0].type.tensor_type.shape
    for axis, label in ((0, "n"), (2, "h"), (3, "w")):
        shape.dim[axis].dim_param = label
    data: bytes = model.SerializeToString()
    return data


class Teacher:
    """Dense answers of the teacher for batches of crops.

    Args:
        path: ``nanodet_plus_m_416_fp32.onnx``.
        threads: of onnxruntime; by default one for each core that this process may use.
        device: a GPU to run on, where onnxruntime is its GPU build; else the CPU answers.

    Raises:
        MissingDependencyError: onnx or onnxruntime is not installed.
        ConfigError: the file is absent or another network.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: torch.device = _CPU) -> None:
        onnxruntime = onnxruntime_module("distillation")
        if not Path(path).is_file():
            raise ConfigError("the teacher's weights are not there", found=path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        # Between two batches the cores are torch's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
                providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
            else:
                text = "the teacher runs on the CPU, which a GPU waits for: pip install onnxruntime-gpu"
                warnings.warn(text, stacklevel=2)
        self._session = onnxruntime.InferenceSession(_any_size(Path(path)), options, providers=providers)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, x: Tensor) -> TeacherOutput:
        """``x`` float (N, 3, H, W), RGB 0 … 255, H and W multiples of 64 (of 32 where stride 64 may round up)."""
        mean = x.new_tensor(_MEAN_BGR).view(1, 3, 1, 1)
        std = x.new_tensor(_STD_BGR).view(1, 3, 1, 1)
        normalised = ((x.flip(1) - mean) / std).contiguous().float().cpu().numpy()
        outputs = [torch.from_numpy(o).to(x.device) for o in self._session.run(None, {self._input: normalised})]
        raw, features = outputs[0::2], outputs[1::2]
        return TeacherOutput(tuple(r[:, :80].sigmoid() for r in raw), tuple(r[:, 80:] for r in raw), tuple(features))
