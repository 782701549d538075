"""Machines by what a person types: descriptors of ONNX files, torchvision's and Detectron2's detectors, pixel twins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vcm.errors import ModelNotFoundError, OptionError
from vcm.eval.machines.descriptor import DESCRIPTORS, OnnxDescriptor
from vcm.eval.machines.onnx import OnnxDetector
from vcm.eval.machines.protocol import Machine

__all__ = ["load_machine", "load_machines"]


def load_machine(spec: str, *, weights: Sequence[Path] = ()) -> Machine:
    """A machine by what a person types.

    Args:
        spec: a YAML descriptor by path or shipped name (``yolox_nano.yaml``, ``yolox_nano``);
            ``torchvision:NAME[:WEIGHTS]``; ``detectron2:CONFIG[:WEIGHTS]``.
        weights: folders (or files) in which ONNX weights are looked for, after the descriptor's own folder.

    Raises:
        ConfigError: the descriptor does not validate.
        ModelNotFoundError: no such machine, or its weights are in none of the folders.
        WeightsError: the weights do not fit.
    """
    if spec.startswith(("torchvision:", "detectron2:")):
        from vcm.eval.machines.libraries import Detectron2Detector, TorchvisionDetector

        library, name, *rest = spec.split(":", 2)
        if not name:
            raise OptionError("a detector's name is missing", expected=f"{library}:NAME", found=spec)
        path = Path(rest[0]) if rest else None
        return TorchvisionDetector(name, path) if library == "torchvision" else Detectron2Detector(name, path)
    descriptor_path = _find_descriptor(spec)
    descriptor = OnnxDescriptor.load(descriptor_path)
    return OnnxDetector(descriptor, _find_weights(descriptor.weights, [descriptor_path.parent, *weights]))


def load_machines(specs: Sequence[str], *, weights: Sequence[Path] = ()) -> list[Machine]:
    """Machines by what a person types: as :func:`load_machine`, and ``twin`` or ``twin:PATH[,PATH]`` for pixel twins.

    Raises:
        ConfigError, ModelNotFoundError, OptionError, WeightsError: as of :func:`load_machine` and
            :func:`vcm.eval.machines.twin.load_twins`.
    """
    machines: list[Machine] = []
    for spec in specs:
        if spec.partition(":")[0] == "twin":
            from vcm.eval.machines.twin import load_twins

            machines += load_twins(spec)
        else:
            machines.append(load_machine(spec, weights=weights))
    return machines


def _find_descriptor(spec: str) -> Path:
    shipped = DESCRIPTORS / f"{Path(spec).stem if spec.endswith('.yaml') else spec}.yaml"
    for path in (Path(spec), shipped):
        if path.is_file():
            return path
    names = sorted(path.stem for path in DESCRIPTORS.glob("*.yaml"))
    expected = f"twin, a YAML file, torchvision:NAME, detectron2:CONFIG, or one of {', '.join(names)}"
    raise ModelNotFoundError("no such machine", expected=expected, found=spec)


def _find_weights(name: str, places: Sequence[Path]) -> Path:
    folders = [*places, *(Path(part) for part in os.environ.get("VCM_WEIGHTS", "").split(os.pathsep) if part)]
    for place in folders:
        for path in (place, place / name):
            if path.is_file() and path.name == Path(name).name:
                return path
    what = f"the machine's weights {name} were not found"
    expected = "their folder, by --weights or VCM_WEIGHTS"
    raise ModelNotFoundError(what, expected=expected, found=f"not in {', '.join(str(place) for place in folders)}")
