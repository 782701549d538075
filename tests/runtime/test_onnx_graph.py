"""ONNX models that are written here, read by the ``onnx`` package."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.onnx_networks import codec_networks
from vcm.codecs.scalable.stored import codec_layout
from vcm.runtime.networks import signatures
from vcm.runtime.onnx.graph import Graph, Model
from vcm.tasks.onnx_heads import head_layout, head_networks
from vcm.tasks.shapes import SHIPPED_HEADS


def test_every_field_is_read_back() -> None:
    g = Graph("a graph")
    x = g.input("x", "float32", (1, 3, "rows", 5))
    big = np.arange(600, dtype=np.float32).reshape(2, 3, 10, 10)
    parts = g.nodes("Split", [g.node("Conv", x, g.constant(big, "weight"), pads=(1, 0, 1, 0), group=1)], 2, axis=-1)
    g.output(g.node("LeakyRelu", parts[1], alpha=0.25), "y", "float64", (2, "rows"))
    g.output(g.node("DepthToSpace", parts[0], mode="CRD"), "z", "int64", ())
    model = onnx.load_from_string(g.proto())
    assert (model.ir_version, model.opset_import[0].version, model.graph.name) == (8, 17, "a graph")
    value = model.graph.input[0]
    dims = value.type.tensor_type.shape.dim
    assert (value.name, value.type.tensor_type.elem_type) == ("x", onnx.TensorProto.FLOAT)
    assert [d.dim_param or d.dim_value for d in dims] == [1, 3, "rows", 5]
    assert [(o.name, o.type.tensor_type.elem_type) for o in model.graph.output] == [("y", 11), ("z", 7)]
    attributes = {
        n.op_type: {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in model.graph.node
    }
    assert attributes["Conv"] == {"pads": [1, 0, 1, 0], "group": 1}
    assert attributes["Split"] == {"axis": -1}
    assert attributes["LeakyRelu"] == {"alpha": 0.25}
    assert attributes["DepthToSpace"] == {"mode": b"CRD"}
    assert np.array_equal(numpy_helper.to_array(model.graph.initializer[0]), big)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_constants_of_every_type(dtype: type[np.generic]) -> None:
    array = np.array([[0, 1, 2], [3, 4, 127]]).astype(dtype)
    g = Graph("g")
    g.constant(array[:, ::2], "part")  # not contiguous
    found = numpy_helper.to_array(onnx.load_from_string(g.proto()).graph.initializer[0])
    assert found.dtype == array.dtype
    assert np.array_equal(found, array[:, ::2])


def test_large_tensors_stay_apart() -> None:
    g = Graph("g")
    small, large = np.zeros(255, np.float32), np.ones(256, np.float32)
    names = g.constant(small), g.constant(large)
    model = g.model()
    assert set(model.tensors) == {names[1]}
    assert len(model.proto) < small.nbytes + 400
    stored = {t.name: t.data_location for t in onnx.load_from_string(model.proto).graph.initializer}
    assert stored == {names[0]: onnx.TensorProto.DEFAULT, names[1]: onnx.TensorProto.EXTERNAL}


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_every_network_passes_the_checker_with_the_names_of_the_protocol(name: str) -> None:
    a, rng = ARCHITECTURES[name], np.random.default_rng(0)
    layout = {**codec_layout(a), **head_layout(SHIPPED_HEADS[name], a.base.channels)}
    types = {"F16": np.float32, "I8": np.int8, "I32": np.int32}

    def random(key: str) -> np.ndarray:
        dtype, shape = layout[key]
        return rng.integers(0, 2, shape).astype(types[dtype])

    networks = {**codec_networks(random, a), **head_networks(random, a.base.channels)}
    expected = signatures(a.base.slices, a.picture.slices)
    assert networks.keys() == expected.keys()
    for key, make in networks.items():
        network = make()
        assert isinstance(network, Model) != expected[key].exact, key
        model = network if isinstance(network, Model) else network.model()
        whole = onnx.load_from_string(model.proto)
        for tensor in whole.graph.initializer:  # filled in, for the checker wants files of external data
            if tensor.name in model.tensors:
                tensor.CopyFrom(numpy_helper.from_array(model.tensors[tensor.name], tensor.name))
        onnx.checker.check_model(whole, full_check=True)
        assert tuple(v.name for v in whole.graph.input) == expected[key].inputs
        assert tuple(v.name for v in whole.graph.output) == expected[key].outputs
