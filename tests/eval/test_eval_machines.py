"""Machines: descriptors, preparation of pictures, decoding of outputs, and an ONNX file made here."""

from __future__ import annotations

import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vcm.errors import ConfigError, MissingDependencyError, ModelNotFoundError, OptionError, WeightsError
from vcm.eval.machines.boxes import keep_best
from vcm.eval.machines.descriptor import DESCRIPTORS, InputDescriptor, OnnxDescriptor
from vcm.eval.machines.libraries import Detectron2Detector
from vcm.eval.machines.load import load_machine
from vcm.eval.machines.onnx import prepare

SIDE = 64
CELLS = sum((SIDE // stride) ** 2 for stride in (8, 16, 32))


def _descriptor(folder: Path, decode: str = "yolox", letterbox: str = "top-left", **changes: object) -> Path:
    document = {
        "name": "toy", "kind": "onnx", "weights": "toy.onnx", "nms_iou": 0.5, "score_threshold": 0.05,
        "input": {"width": SIDE, "height": SIDE, "channels": "bgr", "letterbox": letterbox, "pad": 114},
        "output": {"decode": decode, "strides": [8, 16, 32]},
        **changes,
    }  # fmt: skip
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _onnx(path: Path, output: np.ndarray, shape: tuple[int, ...] = (1, 3, SIDE, SIDE)) -> None:
    """A network that gives a constant, whatever it sees."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    kind = onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["constant", "nothing"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(output.astype(np.float32), "constant"),
        numpy_helper.from_array(np.float32(0), "zero"),
    ]
    graph = helper.make_graph(
        nodes, "toy", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, output.shape)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())


def _yolox_output() -> np.ndarray:
    """One person of 32×16 around (36, 20) in cell (4, 2) of stride 8, and a weaker copy one pixel aside."""
    out = np.zeros((1, CELLS, 85), np.float32)
    out[0, 2 * 8 + 4, :6] = [0.5, 0.5, np.log(4), np.log(2), 0.9, 1.0]
    out[0, 2 * 8 + 5, :6] = [-0.375, 0.5, np.log(4), np.log(2), 0.8, 1.0]
    return out


@pytest.mark.parametrize("name", ["yolox_nano", "nanodet_plus_m"])
def test_shipped_descriptors_validate(name: str) -> None:
    descriptor = OnnxDescriptor.load(DESCRIPTORS / f"{name}.yaml")
    assert descriptor.name == name
    assert descriptor.sha256 is not None
    assert descriptor.input.channels == "bgr"


def test_yolox_boxes_come_back_in_source_pixels(tmp_path: Path) -> None:
    _onnx(tmp_path / "toy.onnx", _yolox_output())
    machine = load_machine(str(_descriptor(tmp_path)))
    found = machine.detect(np.zeros((32, 128, 3), np.uint8))  # shrinks by 2
    assert len(found) == 1
    assert (found.width, found.height) == (128, 32)
    assert found.boxes[0] == pytest.approx([40, 24, 104, 32])  # clipped at the lower border
    assert found.scores[0] == pytest.approx(0.9)
    assert found.label_names() == ["person"]


def test_centred_letterbox_shifts_boxes(tmp_path: Path) -> None:
    out = np.zeros((1, 84, 10), np.float32)
    out[0, :4, 3] = [10, 20, 30, 40]
    out[0, 4 + 16, 3], out[0, 4 + 2, 3] = 0.7, 0.2  # a dog, and perhaps a car
    _onnx(tmp_path / "toy.onnx", out)
    machine = load_machine(str(_descriptor(tmp_path, "nanodet", "centre")))
    found = machine.detect(np.zeros((64, 128, 3), np.uint8))  # 64 × 32 in the input, 16 rows of padding above
    assert found.label_names() == ["dog", "car"]
    assert found.boxes[0] == pytest.approx([20, 8, 60, 48])


def test_a_machine_pickles_and_describes_itself(tmp_path: Path) -> None:
    _onnx(tmp_path / "toy.onnx", _yolox_output())
    machine = load_machine(str(_descriptor(tmp_path)))
    copy = pickle.loads(pickle.dumps(machine))
    assert copy.describe() == machine.describe()
    digest = sha256((tmp_path / "toy.onnx").read_bytes()).hexdigest()[:12]
    assert digest in machine.describe().version
    changed = load_machine(str(_descriptor(tmp_path, nms_iou=0.4)))
    assert changed.describe().fingerprint != machine.describe().fingerprint


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    _onnx(tmp_path / "toy.onnx", _yolox_output())
    with pytest.raises(WeightsError, match="sha256"):
        load_machine(str(_descriptor(tmp_path, sha256="0" * 64)))
    _onnx(tmp_path / "toy.onnx", _yolox_output(), (1, 3, 32, 32))
    with pytest.raises(WeightsError, match="another input"):
        load_machine(str(_descriptor(tmp_path)))
    _onnx(tmp_path / "toy.onnx", _yolox_output()[:, :5])
    machine = load_machine(str(_descriptor(tmp_path)))
    with pytest.raises(WeightsError, match="another output"):
        machine.detect(np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "toy.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match="no ONNX model"):
        load_machine(str(_descriptor(tmp_path)))


def test_weights_are_looked_for_in_given_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "weights"
    elsewhere.mkdir()
    _onnx(elsewhere / "toy.onnx", _yolox_output())
    descriptor = str(_descriptor(tmp_path))
    with pytest.raises(ModelNotFoundError, match=r"toy\.onnx"):
        load_machine(descriptor)
    assert load_machine(descriptor, weights=[elsewhere]).name == "toy"
    assert load_machine(descriptor, weights=[elsewhere / "toy.onnx"]).name == "toy"
    monkeypatch.setenv("VCM_WEIGHTS", str(elsewhere))
    assert load_machine(descriptor).name == "toy"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"colour": "red"}, "colour"),
        ({"nms_iou": 2}, "nms_iou"),
        ({"kind": "torch"}, "kind"),
        ({"input": {"width": 64}}, "input"),
        ({"sha256": "abc"}, "sha256"),
    ],
)
def test_bad_descriptors_name_the_key(tmp_path: Path, change: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        OnnxDescriptor.load(_descriptor(tmp_path, **change))


def test_unreadable_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigError):
        OnnxDescriptor.load(path)
    with pytest.raises(ModelNotFoundError, match="yolox_nano"):
        load_machine("no-such-machine")


def test_preparation_places_orders_and_normalises() -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[..., 0] = 200  # red
    spec = InputDescriptor(
        width=64, height=64, channels="bgr", mean=(10, 20, 30), std=(2, 4, 5), letterbox="centre", pad=50
    )
    tensor, scale, offset = prepare(image, spec)
    assert tensor.shape == (1, 3, 64, 64)
    assert (scale, offset) == ((2.0, 2.0), (0.0, 16.0))
    assert tensor[0, :, 32, 32] == pytest.approx([(0 - 10) / 2, (0 - 20) / 4, (200 - 30) / 5])
    assert tensor[0, :, 5, 5] == pytest.approx([(50 - 10) / 2, (50 - 20) / 4, (50 - 30) / 5])
    stretched, scale, offset = prepare(image, spec.model_copy(update={"letterbox": "stretch"}))
    assert (scale, offset) == ((2.0, 4.0), (0.0, 0.0))
    assert stretched[0, 2, 5, 5] == pytest.approx((200 - 30) / 5)


def test_bilinear_is_the_one_of_half_pixel_centres() -> None:
    row = np.array([0, 100, 200, 60], np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 4, 0), 3, 2)
    spec = InputDescriptor(width=16, height=16, channels="rgb", letterbox="stretch")
    tensor, _, _ = prepare(image, spec)
    centres = (np.arange(16) + 0.5) / 4 - 0.5
    want = np.rint(np.interp(centres, np.arange(4), row))
    assert np.abs(tensor[0, 0, 0] - want).max() <= 1  # halves may round either way


def test_overlaps_are_suppressed_within_a_class_only() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
    scores, labels = np.array([0.5, 0.9, 0.4, 1.0], np.float32), np.array([1, 1, 2, 1])
    found = keep_best(boxes, scores, labels, 20, 20, iou=0.5, score=0.1, limit=10)
    assert found.labels.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([0.9, 0.4])
    assert len(keep_best(boxes, scores, labels, 20, 20, iou=0.5, score=0.1, limit=1)) == 1
    wild = np.array([[-np.inf, 0, np.inf, 9]], np.float32)
    found = keep_best(wild, scores[:1], labels[:1], 20, 20, iou=0.5, score=0.1, limit=1)
    assert found.boxes.tolist() == [[0, 0, 20, 9]]


def test_torchvision_detector_by_name() -> None:
    before = torch.random.get_rng_state()
    machine = load_machine("torchvision:ssdlite320_mobilenet_v3_large")
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random numbers go on"
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found = machine.detect(image)
    assert (found.width, found.height) == (64, 48)
    assert len(found) > 0, "initialised weights are sure of nothing, and the threshold is low"
    assert (found.labels.min() >= 0) & (found.labels.max() < 80)
    assert "seed 0" in machine.describe().version
    again = pickle.loads(pickle.dumps(machine)).detect(image)
    assert np.array_equal(again.boxes, found.boxes)


def test_unknown_library_models(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="ssdlite320"):
        load_machine("torchvision:resnet18")
    with pytest.raises(OptionError):
        load_machine("torchvision:")
    bad = tmp_path / "w.safetensors"
    bad.write_bytes(b"x")
    with pytest.raises(WeightsError):
        load_machine(f"torchvision:ssdlite320_mobilenet_v3_large:{bad}")


def test_detectron2_says_that_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(MissingDependencyError, match="detectron2"):
        load_machine("detectron2:COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")


class Bomb:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


def _fake_detectron2(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    """As much of Detectron2 as a machine is built with: a network of one layer, and a reader that unpickles."""
    nodes = {name: SimpleNamespace() for name in ("MODEL", "TEST", "INPUT")}
    config = SimpleNamespace(**nodes)
    config.MODEL.ROI_HEADS, config.MODEL.RETINANET = SimpleNamespace(), SimpleNamespace()
    config.INPUT.MIN_SIZE_TEST, config.INPUT.MAX_SIZE_TEST, config.INPUT.FORMAT = 800, 1333, "BGR"

    class Checkpointer:
        def __init__(self, network: torch.nn.Module) -> None:
            self.network = network

        def load(self, path: str) -> None:
            opened.append(path)
            self.network.load_state_dict(torch.load(path, weights_only=False)["model"])

    parts = {
        "detectron2": {"__version__": "0"},
        "detectron2.model_zoo": {"get_config": lambda name: config},
        "detectron2.checkpoint": {"DetectionCheckpointer": Checkpointer},
        "detectron2.modeling": {"build_model": lambda cfg: torch.nn.Linear(2, 1)},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["detectron2"].model_zoo = sys.modules["detectron2.model_zoo"]


def test_detectron2_runs_no_code_of_a_file_unless_it_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []
    _fake_detectron2(monkeypatch, opened)
    tensors = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    good, bad, ran = tmp_path / "good.pth", tmp_path / "bad.pth", tmp_path / "ran"
    torch.save({"model": tensors}, good)
    torch.save({"model": tensors, "more": Bomb(ran)}, bad)
    before = torch.random.get_rng_state()
    assert torch.equal(Detectron2Detector("c.yaml", good)._network.weight, tensors["weight"])
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(WeightsError, match="cannot read the weights"):
        Detectron2Detector("c.yaml", bad)
    assert not ran.exists()
    assert not opened
    trusted = Detectron2Detector("c.yaml", bad, trust=True)
    assert opened == [str(bad)]
    assert ran.exists()
    build, arguments = trusted.__reduce__()
    ran.rmdir()
    assert build(*arguments)._trust


def test_onnx_machines_start_without_torch(tmp_path: Path) -> None:
    _onnx(tmp_path / "toy.onnx", _yolox_output())
    program = """
import sys
import numpy as np
sys.modules["torch"] = sys.modules["torchvision"] = None  # an import of either fails
from vcm.eval.machines import load_machines
(machine,) = load_machines([sys.argv[1]])
print(len(machine.detect(np.zeros((32, 128, 3), np.uint8))))
"""
    command = [sys.executable, "-c", program, str(_descriptor(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_antialiased_resizing_is_pillows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    spec = InputDescriptor(width=16, height=16, channels="rgb", letterbox="stretch", interpolation="bilinear-antialias")
    tensor, _, _ = prepare(image, spec)
    smooth = np.abs(tensor[0].mean() - image.mean())
    assert smooth < 1
    assert tensor[0].std() < image.std() / 2, "four by four pixels are averaged"
