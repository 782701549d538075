"""What one core reaches in products and copies: the floor of docs/performance.md. ``python docs/tools/floor.py``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from vcm.runtime.onnx.graph import Graph
from vcm.runtime.onnx.narrow import Bytes, Grid


def least(work: Callable[[], object], runs: int = 15) -> float:
    """Processor seconds of the fastest run."""
    work()
    taken = []
    for _ in range(runs):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return min(taken)


def by_onnxruntime(graph: Graph, x: np.ndarray) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph.proto(), options, providers=["CPUExecutionProvider"])
    return least(lambda: session.run(None, {"x": x}))


def product() -> float:
    a = np.ones((1024, 1024), np.float32)
    graph = Graph("product")
    graph.output(
        graph.node("MatMul", graph.input("x", "float32", (1024, 1024)), graph.constant(a)), "y", "float32", (1024, 1024)
    )
    return by_onnxruntime(graph, a)


def convolution(c_in: int, c_out: int, rows: int, columns: int, *, narrow: bool = False) -> float:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.05, (c_out, c_in, 3, 3)).astype(np.float32)
    graph = Graph("convolution")
    x = graph.input("x", "float32", (1, c_in, "h", "w"))
    if narrow:
        grids = {"a.x": Grid(np.full(c_in, 8 / 255), 128), "a.y": Grid(np.full(c_out, 16 / 255), 128)}
        y = Bytes(grids).conv(graph, x, weight, np.zeros(c_out, np.float32), "a", 1, False)
    else:
        y = graph.conv(x, weight)
    graph.output(graph.node("ReduceMax", y, keepdims=1), "y", "float32", (1, 1, 1, 1))
    return by_onnxruntime(graph, rng.normal(0, 1, (1, c_in, rows, columns)).astype(np.float32))


def main() -> None:
    a = np.ones((1024, 1024), np.float32)
    print(f"product 1024**3, numpy: {1024**3 / least(lambda: a @ a) / 1e9:.0f} GMAC/s")
    print(f"product 1024**3, onnxruntime: {1024**3 / product() / 1e9:.0f} GMAC/s")
    for c_in, c_out, rows, columns in ((160, 160, 32, 48), (128, 128, 64, 96), (128, 192, 64, 96), (48, 96, 128, 192)):
        macs = c_in * c_out * 9 * rows * columns / 1e9
        wide, narrow = (convolution(c_in, c_out, rows, columns, narrow=n) for n in (False, True))
        shape = f"3x3 {c_in} to {c_out} at {columns}x{rows}"
        print(f"{shape}: {macs / wide:.0f} GMAC/s in float32, {macs / narrow:.0f} in bytes, conversions included")
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    print(f"copy of 64 MiB: {2 * source.nbytes / least(lambda: np.copyto(target, source)) / 1e9:.0f} GB/s")


if __name__ == "__main__":
    main()
