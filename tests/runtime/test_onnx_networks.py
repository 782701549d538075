"""Every network of a codec under onnxruntime against torch, on pictures: exact ones equal, others near."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file, save_file
from skimage import data
from tiny import GOLDEN_FILE, TINY_WEIGHTS, tiny_codec, tiny_weights

import vcm
from vcm.bitstream import MAX_QUALITY
from vcm.codecs.scalable.config import ARCHITECTURES
from vcm.codecs.scalable.model import ScalableModel, default_base_scale, picture_array
from vcm.codecs.scalable.stored import codec_layout
from vcm.codecs.scalable.torch_networks import torch_model
from vcm.errors import MissingDependencyError, WeightsError
from vcm.runtime.networks import Array, Networks, signatures
from vcm.runtime.onnx import OnnxNetworks
from vcm.runtime.onnx.graph import Graph
from vcm.runtime.onnx.sessions import available_cores, onnxruntime_module
from vcm.tasks.detection import decode_boxes
from vcm.tasks.onnx_heads import head_layout
from vcm.tasks.shapes import SHIPPED_HEADS
from vcm.weights.codec_file import LoadedModel, assemble, load_weights
from vcm.weights.onnx_file import OnnxCodec, load_onnx
from vcm.weights.registry import find_weights
from vcm.weights.tensors import stored_type

CPU = torch.device("cpu")


@cache
def both(path: Path) -> tuple[OnnxCodec, LoadedModel, ScalableModel]:
    loaded = load_weights(path)
    return load_onnx(path), loaded, torch_model(loaded.model, CPU)


SHIPPED = find_weights("vcm-s")
WEIGHTS = pytest.mark.parametrize("path", [SHIPPED, TINY_WEIGHTS], ids=["vcm-s", "tiny"])


@cache
def photograph(name: str) -> npt.NDArray[np.uint8]:
    picture: npt.NDArray[np.uint8] = getattr(data, name)()
    return picture


class Pair:
    """Runs each network in both runtimes, compares, and goes on with the first one's result."""

    def __init__(self, one: Networks, other: Networks, exact: frozenset[str]) -> None:
        self.one, self.other, self.exact = one, other, exact
        self.seen: dict[str, float] = {}

    def run(self, name: str, /, *arrays: Array) -> tuple[Array, ...]:
        found, expected = self.one.run(name, *arrays), self.other.run(name, *arrays)
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            assert f.dtype == e.dtype == np.float32
            assert f.shape == e.shape
            if name in self.exact:
                assert np.array_equal(f, e), name
            self.seen[name] = max(self.seen.get(name, 0.0), float(np.abs(f - e).max()))
        return found


def exact_names(model: ScalableModel) -> frozenset[str]:
    a = model.architecture
    return frozenset(n for n, s in signatures(a.base.slices, a.picture.slices).items() if s.exact)


def with_networks(model: ScalableModel, networks: Networks) -> ScalableModel:
    return ScalableModel(model.architecture, networks, model.base.tables, model.picture.tables)


@WEIGHTS
def test_a_picture_through_both_runtimes_side_by_side(path: Path) -> None:
    onnx, _, model = both(path)
    pair = Pair(onnx.model.networks, model.networks, exact_names(model))
    side = with_networks(model, pair)
    picture = photograph("coffee")[:200, :310]
    x = picture_array(np.ascontiguousarray(picture))
    size, scale = (310, 200), default_base_scale(310, 200)
    layer, base = side.encode_base(side.analyse_base(x, scale), size, scale, 600)
    enhancement = side.encode_picture(side.analyse_picture(x), base, 800)
    decoded = side.decode_picture(enhancement, base)
    side.decode_preview(base)
    assert len(layer.tiles) == 1
    # Every network but the heads, which the codec does not call itself.
    assert pair.seen.keys() == signatures(model.base.spec.slices, model.picture.spec.slices).keys() - {
        "detect",
        "classify",
    }
    assert max(pair.seen[name] for name in pair.exact) == 0
    assert pair.seen["base.analysis"] < 1e-3
    assert pair.seen["picture.analysis"] < 1e-3
    assert pair.seen["base.h_a"] < 1e-3
    assert pair.seen["picture.h_a"] < 1e-3
    assert pair.seen["picture.synthesis"] < 0.01  # of 255
    assert pair.seen["preview"] < 0.01
    # The whole of it in one runtime decodes to the same latents, and to the same picture but for rounding.
    for runtime in (onnx.model, model):
        assert np.array_equal(base.fixed, runtime.decode_base(layer).fixed)
        assert int(np.abs(runtime.decode_picture(enhancement, base).astype(int) - decoded.astype(int)).max()) <= 1


@WEIGHTS
def test_heads_find_the_same_boxes_and_classes(path: Path) -> None:
    onnx, loaded, model = both(path)
    for name, quality in (("astronaut", 300), ("chelsea", 1023)):
        picture = photograph(name)
        size = picture.shape[1], picture.shape[0]
        scale = default_base_scale(*size)
        y = model.analyse_base(picture_array(picture), scale)
        _, base = model.encode_base(y, size, scale, quality)
        at = np.array([quality / MAX_QUALITY], np.float32)
        y_hat = torch.from_numpy(base.y_hat())
        with torch.inference_mode():
            expected = loaded.detect(y_hat, torch.from_numpy(at))
            logits = loaded.classify(y_hat, torch.from_numpy(at)).numpy()
        found = onnx.model.networks.run("detect", base.y_hat(), at)
        assert [f.shape for f in found] == [tuple(e.shape) for e in (*expected.logits, *expected.bins)]
        for f, e in zip(found, (*expected.logits, *expected.bins), strict=True):
            assert float(np.abs(f - e.numpy()).max()) < 1e-3
        for f, e, stride in zip(found[4:], expected.bins, (8, 16, 32, 64), strict=True):
            apart = decode_boxes(torch.from_numpy(f), stride) - decode_boxes(e, stride)
            assert float(apart.abs().max()) < 0.05  # pixels
        (classes,) = onnx.model.networks.run("classify", base.y_hat(), at)
        assert float(np.abs(classes - logits).max()) < 1e-3


@WEIGHTS
def test_integer_networks_are_equal_at_any_input_and_size(path: Path) -> None:
    onnx, _, model = both(path)
    rng = np.random.default_rng(5)
    for layer, spec in (("base", model.architecture.base), ("picture", model.architecture.picture)):
        m, w = spec.slice_channels, spec.width

        def draw(channels: int, low: int, high: int, size: tuple[int, int]) -> Array:
            ends = rng.choice(np.array([low, high]), (1, channels, *size))
            anything = rng.integers(low, high + 1, (1, channels, *size))
            return np.where(rng.random((1, 1, *size)) < 0.5, ends, anything).astype(np.float32)

        pair = Pair(onnx.model.networks, model.networks, exact_names(model))
        for size in ((1, 1), (3, 17), (30, 20)):
            pair.run(f"{layer}.hyper", draw(spec.hyper, -128, 127, size), draw(1, -128, 127, (1, 1)))
            if spec.base:
                pair.run("picture.base_features", draw(spec.base, -128, 127, size))
            for i in range(spec.slices):
                known = [draw(i * m, -128, 127, size)] if i else []
                pair.run(f"{layer}.first.{i}", draw(w + spec.base_width, 0, 255, size), *known)
                pair.run(f"{layer}.second.{i}", draw(w, 0, 255, size), draw(m, -128, 127, size))
        assert set(pair.seen) == {n for n in pair.exact if n.startswith(f"{layer}.")}
        assert set(pair.seen.values()) == {0.0}


def test_the_golden_file_decodes_to_the_same_latents() -> None:
    onnx, _, model = both(TINY_WEIGHTS)
    file = vcm.read(GOLDEN_FILE)
    assert onnx.model.base_fingerprint == model.base_fingerprint == file.base_layer.fingerprint
    assert onnx.model.picture_fingerprint == model.picture_fingerprint
    base = onnx.model.decode_base(file.coded_base)
    assert np.array_equal(base.fixed, model.decode_base(file.coded_base).fixed)
    assert file.enhancement is not None
    pair = Pair(onnx.model.networks, model.networks, exact_names(model))
    pixels = with_networks(model, pair).decode_picture(file.enhancement, base)
    assert all(pair.seen[name] == 0 for name in pair.exact & pair.seen.keys())
    assert int(np.abs(pixels.astype(int) - np.asarray(tiny_codec().decode(GOLDEN_FILE)).astype(int)).max()) <= 1


def test_each_runtime_reads_what_the_other_wrote() -> None:
    onnx, _, model = both(TINY_WEIGHTS)
    picture = photograph("cat")
    size = picture.shape[1], picture.shape[0]
    for writer, reader in ((onnx.model, model), (model, onnx.model)):
        layer, base = writer.encode_base(writer.analyse_base(picture_array(picture), 8), size, 8, 700)
        read = reader.decode_base(layer)
        assert np.array_equal(read.fixed, base.fixed)
        enhancement = writer.encode_picture(writer.analyse_picture(picture_array(picture)), base, 500)
        apart = reader.decode_picture(enhancement, read).astype(int) - writer.decode_picture(enhancement, base)
        assert int(np.abs(apart).max()) <= 1


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_layout_is_that_of_the_torch_modules(name: str) -> None:
    a = ARCHITECTURES[name]
    state = assemble(a, "", "").state_dict()
    expected = {key: (stored_type(tensor), tuple(tensor.shape)) for key, tensor in state.items()}
    assert {**codec_layout(a), **head_layout(SHIPPED_HEADS[name], a.base.channels)} == expected


# -- processes and threads --------------------------------------------------------------------------------------------


def test_no_torch_is_imported() -> None:
    script = f"""
import sys
import numpy as np
from pathlib import Path
from vcm.weights.onnx_file import load_onnx
from vcm.runtime.networks import signatures
codec = load_onnx(Path({os.fspath(TINY_WEIGHTS)!r}))
a, run = codec.model.architecture, codec.model.networks.run
x = np.full((1, 3, 64, 96), 100, np.float32)
h, w, quality, called = 4, 6, np.array([0.5], np.float32), set()
def zeros(*shape):
    return np.zeros(shape, np.float32)
for layer, spec in (("base", a.base), ("picture", a.picture)):
    y, = run(f"{{layer}}.analysis", x)
    run(f"{{layer}}.h_a", y)
    run(f"{{layer}}.hyper", zeros(1, spec.hyper, 1, 2), zeros(1, 1, 1, 1))
    called |= {{f"{{layer}}.{{k}}" for k in ("analysis", "h_a", "hyper")}}
    for i in range(spec.slices):
        known = [zeros(1, i * spec.slice_channels, h, w)] if i else []
        features, _ = run(f"{{layer}}.first.{{i}}", zeros(1, spec.width + spec.base_width, h, w), *known)
        run(f"{{layer}}.second.{{i}}", features, zeros(1, spec.slice_channels, h, w))
        called |= {{f"{{layer}}.first.{{i}}", f"{{layer}}.second.{{i}}"}}
base = zeros(1, a.base.channels, h, w)
run("picture.base_features", base)
run("picture.synthesis", zeros(1, a.picture.channels, h, w), base, quality)
run("preview", base)
run("detect", base, quality)
run("classify", base, quality)
called |= {{"picture.base_features", "picture.synthesis", "preview", "detect", "classify"}}
assert called == signatures(a.base.slices, a.picture.slices).keys(), called
print(sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "torchvision", "onnx", "skimage", "scipy")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"


def _decoded(onnx: OnnxCodec) -> bytes:
    file = vcm.read(GOLDEN_FILE)
    base = onnx.model.decode_base(file.coded_base)
    assert file.enhancement is not None
    return base.fixed.tobytes() + onnx.model.decode_picture(file.enhancement, base).tobytes()


def test_a_forked_child_works_and_ends() -> None:
    onnx = load_onnx(TINY_WEIGHTS, threads=3)  # threads that will not be in the child
    expected = _decoded(onnx)
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        send.send_bytes(_decoded(onnx))
        sys.exit(7)  # through the interpreter's end, where objects are destroyed

    process = context.Process(target=child)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
        process.start()
    assert receive.poll(60), "the child hangs"
    assert receive.recv_bytes() == expected
    process.join(30)
    assert process.exitcode == 7
    assert _decoded(onnx) == expected  # nor is the parent any the worse


def test_a_plain_fork_ends_as_well() -> None:
    script = f"""
import os, sys
from pathlib import Path
import numpy as np
from vcm.weights.onnx_file import load_onnx
codec = load_onnx(Path({os.fspath(TINY_WEIGHTS)!r}), threads=3)
y = np.zeros((1, codec.model.architecture.base.channels, 4, 4), np.float32)
quality = np.array([0.5], np.float32)
codec.model.networks.run("detect", y, quality)
if os.fork() == 0:
    codec.model.networks.run("detect", y, quality)
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr


def test_onnxruntime_sends_nothing_unless_asked_to() -> None:
    script = (
        "import os, vcm.runtime.onnx.sessions as s; s.onnxruntime_module();"
        " print(os.environ['ORT_DISABLE_TELEMETRY'], len(os.listdir('/proc/self/task')))"
    )
    told = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    told.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=told)
    assert done.stdout.split() == ["1", "1"], done.stderr  # its sender would be a thread of its own
    told["ORT_DISABLE_TELEMETRY"] = "0"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=told)
    assert done.stdout.split()[0] == "0", done.stderr


def test_threads_share_one_codec() -> None:
    expected = _decoded(both(TINY_WEIGHTS)[0])
    onnx = load_onnx(TINY_WEIGHTS, threads=2)
    with ThreadPoolExecutor(8) as pool:  # all of them find no network built
        assert set(pool.map(lambda _: _decoded(onnx), range(16))) == {expected}


def test_as_many_threads_as_cores_by_default() -> None:
    assert available_cores() == len(os.sched_getaffinity(0))
    many = load_onnx(TINY_WEIGHTS).model.networks
    assert many.threads == min(8, available_cores())  # type: ignore[attr-defined]


# -- bad input --------------------------------------------------------------------------------------------------------


def _changed(folder: Path, **change: npt.NDArray[Any] | None) -> Path:
    """The tiny weights with tensors replaced, added, or (``None``) taken out."""
    from safetensors import safe_open

    path = tiny_weights(folder)
    with safe_open(os.fspath(path), "np") as file:
        meta = file.metadata()
    tensors = load_file(path)
    for name, value in change.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path, meta)
    return path


WEIGHT = "model.base.net.first.0.0.weight"


def test_damaged_files_are_one_clear_error(tmp_path: Path) -> None:
    shape = codec_layout(ARCHITECTURES["tiny"])[WEIGHT][1]
    for change, message in (
        ({WEIGHT: None}, "lacks a tensor"),
        ({"model.more": np.zeros(3, np.float16)}, "a tensor too many"),
        ({WEIGHT: np.zeros((1, 2, 3), np.int8)}, "wrong shape"),
        ({WEIGHT: np.zeros(shape, np.float16)}, "wrong type"),
        ({"model.base.gain_y": np.full((8, 8), -(1 << 31), np.int32)}, "gain_y is out of range"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_onnx(_changed(tmp_path, **change))
    path = tiny_weights(tmp_path)
    whole = path.read_bytes()
    for cut in (0, 5, 200, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match="safetensors"):
            load_onnx(path)
    with pytest.raises(WeightsError, match="cannot read"):
        load_onnx(tmp_path / "missing.safetensors")
    save_file({"x": np.zeros(3, np.float32)}, path, {"format": "another"})
    with pytest.raises(WeightsError, match="no VCM weights"):
        load_onnx(path)


def test_bad_numbers_are_found_when_their_network_is_needed_and_leave_nothing_behind(tmp_path: Path) -> None:
    name = "preview.out.bias"
    onnx = load_onnx(_changed(tmp_path, **{f"model.{name}": np.array([np.nan] * 12, np.float16)}))
    y = np.zeros((1, 8, 2, 3), np.float32)
    for _ in range(2):
        with pytest.raises(WeightsError, match="finite"):
            onnx.model.networks.run("preview", y)
    assert len(onnx.model.networks.run("detect", y, np.array([1], np.float32))) == 8
    wide = np.full(codec_layout(ARCHITECTURES["tiny"])[WEIGHT][1], 64, np.int8)
    onnx = load_onnx(_changed(tmp_path, **{WEIGHT: wide}))
    with pytest.raises(WeightsError, match="integer weight"):
        onnx.model.networks.run("base.first.0", np.zeros((1, 12, 2, 3), np.float32))


def test_a_model_that_onnxruntime_refuses_is_one_clear_line() -> None:
    g = Graph("odd")
    g.output(g.node("NoSuchOperator", g.input("x", "float32", (1,))), "y", "float32", (1,))
    with pytest.raises(WeightsError, match="onnxruntime cannot run the network odd") as caught:
        OnnxNetworks({"odd": g.model}).run("odd", np.zeros(1, np.float32))
    assert "\n" not in str(caught.value)


def test_an_old_onnxruntime_or_none_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_module(), "__version__", "1.9.0")
    with pytest.raises(MissingDependencyError, match=r"too old: pip install .*: expected 1\.18 or later, found 1\.9"):
        load_onnx(TINY_WEIGHTS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="needs onnxruntime: pip install"):
        load_onnx(TINY_WEIGHTS)


def test_a_name_that_is_none_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError, match=r"base\.synthesis"):
        both(TINY_WEIGHTS)[0].model.networks.run("base.synthesis")
