"""ONNX models written directly, so that neither the ``onnx`` package nor torch is needed to make one.

A model is a Protocol Buffers message; the few fields that are used here, with their numbers, are those of
``onnx.proto`` (github.com/onnx/onnx, IR version 8). Tests read what is written here with the ``onnx`` package and its
checker.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Dims", "Graph", "Model"]

IR_VERSION = 8
OPSET = 17
"""Operators are those of opset 17, which onnxruntime reads from version 1.12 on."""

Dims: TypeAlias = Sequence[int | str]
"""A shape: sizes, and names of sizes that differ from call to call."""
_Attribute: TypeAlias = int | float | str | Sequence[int]

_APART = 1024
"""A tensor of so many bytes or more is kept apart from the message, so that it need not be copied through it."""
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "float64": 11}


# -- Protocol Buffers: a field is a key (number · 8 + wire type), then a number or a length and bytes ------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _single(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


# -- messages of onnx.proto -------------------------------------------------------------------------------------------


def _attribute(name: str, value: _Attribute) -> bytes:
    """AttributeProto: name 1, f 2, i 3, s 4, ints 8, type 20 (FLOAT 1, INT 2, STRING 3, INTS 7)."""
    if isinstance(value, int):
        body = _number(3, value) + _number(20, 2)
    elif isinstance(value, float):
        body = _single(2, value) + _number(20, 1)
    elif isinstance(value, str):
        body = _bytes(4, value) + _number(20, 3)
    else:
        body = b"".join(_number(8, v) for v in value) + _number(20, 7)
    return _bytes(1, name) + body


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, _Attribute]) -> bytes:
    """NodeProto: input 1, output 2, name 3, op_type 4, attribute 5."""
    body = [_bytes(1, name) for name in inputs] + [_bytes(2, name) for name in outputs]
    body += [_bytes(3, outputs[0]), _bytes(4, op)]
    body += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(body)


def _tensor(name: str, array: npt.NDArray[Any], *, apart: bool) -> bytes:
    """TensorProto: dims 1, data_type 2, name 8, raw_data 9 (little-endian); or external_data 13, data_location 14.

    External data is a list of keys (1) and values (2), of which a location is a must; whoever runs the model gives the
    array by its name instead.
    """
    head = b"".join(_number(1, size) for size in array.shape) + _number(2, _TYPES[array.dtype.name]) + _bytes(8, name)
    if apart:
        return head + _bytes(13, _bytes(1, "location") + _bytes(2, name)) + _number(14, 1)
    return head + _bytes(9, np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def _value(name: str, dtype: str, dims: Dims) -> bytes:
    """ValueInfoProto: name 1, type 2 → TypeProto: tensor_type 1 → elem_type 1, shape 2 → dim 1 → value 1, name 2."""
    shape = b"".join(_bytes(1, _bytes(2, d) if isinstance(d, str) else _number(1, d)) for d in dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, _TYPES[dtype]) + _bytes(2, shape)))


@dataclass(frozen=True, slots=True)
class Model:
    """A model without its large tensors.

    Attributes:
        name: of its graph.
        proto: ONNX ModelProto, in which ``tensors`` are named as external data.
        tensors: the large tensors by name.
    """

    name: str
    proto: bytes
    tensors: Mapping[str, npt.NDArray[Any]]


class Graph:
    """A computation under construction. Methods return the names of the values that they add.

    Args:
        name: of the graph, for messages of whoever runs it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[bytes] = []
        self._tensors: dict[str, npt.NDArray[Any]] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._count = 0

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, name: str, dtype: str, dims: Dims) -> str:
        """An argument of the model."""
        self._inputs.append(_value(name, dtype, dims))
        return name

    def constant(self, array: npt.NDArray[Any], name: str = "constant") -> str:
        """A value that is part of the model: float32, float64, or integers of 8 to 64 bits."""
        name = self._fresh(name)
        self._tensors[name] = array
        return name

    def node(self, op: str, *inputs: str, **attributes: _Attribute) -> str:
        """An operator with one result."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[str], results: int, **attributes: _Attribute) -> tuple[str, ...]:
        """An operator with so many results."""
        outputs = tuple(self._fresh(op) for _ in range(results))
        self._nodes.append(_node(op, inputs, outputs, attributes))
        return outputs

    def output(self, value: str, name: str, dtype: str, dims: Dims) -> None:
        """Make ``value`` a result of the model, called ``name``."""
        self._nodes.append(_node("Identity", [value], [name], {}))
        self._outputs.append(_value(name, dtype, dims))

    def proto(self, *, apart: bool = False) -> bytes:
        """The model as one message.

        ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8 → version 2.
        GraphProto: node 1, name 2, initializer 5, input 11, output 12.

        Args:
            apart: leave large tensors out.
        """
        graph = [_bytes(1, node) for node in self._nodes] + [_bytes(2, self.name)]
        graph += [_bytes(5, _tensor(n, t, apart=apart and t.nbytes >= _APART)) for n, t in self._tensors.items()]
        graph += [_bytes(11, value) for value in self._inputs] + [_bytes(12, value) for value in self._outputs]
        head = _number(1, IR_VERSION) + _bytes(2, "vcm") + _bytes(8, _number(2, OPSET))
        return head + _bytes(7, b"".join(graph))

    def model(self) -> Model:
        """The model in the form in which it is run: message and large tensors apart."""
        large = {n: np.ascontiguousarray(t) for n, t in self._tensors.items() if t.nbytes >= _APART}
        return Model(self.name, self.proto(apart=True), large)

    # -- shorthands ---------------------------------------------------------------------------------------------------

    def conv(
        self,
        x: str,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None = None,
        *,
        stride: int = 1,
        pads: tuple[int, int, int, int] | None = None,
        groups: int = 1,
    ) -> str:
        """Convolution with ``weight`` (out, in / groups, k, k).

        Args:
            pads: rows above, columns left, rows below, columns right; by default k // 2 all around.
        """
        kernel = weight.shape[2]
        inputs = [x, self.constant(weight, "weight")] + ([] if bias is None else [self.constant(bias, "bias")])
        return self.node(
            "Conv", *inputs, kernel_shape=weight.shape[2:], strides=(stride, stride),
            pads=pads or (kernel // 2,) * 4, group=groups,
        )  # fmt: skip

    def scalar(self, value: float) -> str:
        """A float32 number."""
        return self.constant(np.asarray(value, np.float32))

    def clip(self, x: str, low: float, high: float) -> str:
        """``x``, float32, limited to ``low`` … ``high``."""
        return self.node("Clip", x, self.scalar(low), self.scalar(high))

    def leaky(self, x: str) -> str:
        """Leaky ReLU of slope 0.1."""
        return self.node("LeakyRelu", x, alpha=0.1)

    def shuffle(self, x: str, factor: int) -> str:
        """As ``torch.pixel_shuffle``: channels to ``factor`` × ``factor`` positions."""
        return self.node("DepthToSpace", x, blocksize=factor, mode="CRD")

    def concat(self, *parts: str) -> str:
        """Channels of all parts, one after the other."""
        return self.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
