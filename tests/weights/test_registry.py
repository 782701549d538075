"""Names and fingerprints of the shipped weights, and that listing them costs no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import TINY_WEIGHTS

from vcm.errors import FingerprintError, InputError
from vcm.weights import registry


def test_listing_imports_neither_torch_nor_numpy():
    code = (
        "import sys, vcm.weights.registry as r; r.list_models(); r.list_twins();"
        "sys.exit(', '.join(sorted({'torch', 'numpy', 'safetensors', 'PIL'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry.ModelInfo:
    shutil.copy(TINY_WEIGHTS, tmp_path / "tiny.safetensors")
    monkeypatch.setattr("vcm.weights.registry._WEIGHTS", tmp_path)
    (found,) = registry.list_models()
    return found


def test_a_model_is_found_by_the_fingerprints_of_its_layers(tiny: registry.ModelInfo):
    assert registry.find_model(tiny.fingerprint) == tiny
    assert registry.find_model(tiny.fingerprint, tiny.fingerprint_enhancement) == tiny


def test_the_error_names_the_fingerprint_that_is_wanted_and_those_at_hand(tiny: registry.ModelInfo):
    with pytest.raises(FingerprintError, match=f"read the base layer .*: expected .* {'00' * 8}, found .*{tiny.name}"):
        registry.find_model("00" * 8, tiny.fingerprint_enhancement)
    with pytest.raises(FingerprintError, match=f"read the enhancement layer .*: expected .* {'11' * 8}, found "):
        registry.find_model(tiny.fingerprint, "11" * 8)


def test_folders_that_are_named_come_first(tiny: registry.ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Then those of VCM_WEIGHTS, then the shipped ones; what is no codec's file is passed over."""
    named, environment = tmp_path / "named", tmp_path / "environment"
    for folder in (named, environment):
        folder.mkdir()
        shutil.copy(TINY_WEIGHTS, folder / "tiny.safetensors")
        (folder / "detector.safetensors").write_bytes(b"no safetensors file")
        (folder / "notes.txt").write_text("text")
    monkeypatch.setenv("VCM_WEIGHTS", os.pathsep.join([str(tmp_path / "gone"), str(environment)]))
    places = [model.path.parent for model in registry.list_models(named)]
    assert places == [named, environment, tmp_path]
    assert registry.find_model(tiny.fingerprint, folders=[named]).path.parent == named
    assert registry.find_model(tiny.fingerprint).path.parent == environment
    assert registry.list_models([named / "tiny.safetensors"])[0].path.parent == named
    with pytest.raises(InputError, match=r"no such folder of weights: .* found .*gone"):
        registry.list_models(tmp_path / "gone")


@pytest.mark.parametrize(
    "prints", ["[]", "{", '{"base": "\\u001b[2J"}', '{"base": 5, "enhancement": null}', "[" * 5000]
)
def test_metadata_of_strangers_are_printable(tmp_path: Path, tiny: registry.ModelInfo, prints: str):
    """A file in a named folder may hold anything; what is shown of it is one line and no terminal code."""
    meta = {
        "format": registry.FORMAT,
        "name": "\x1b]0;owned\x07",
        "trained": "a\x1b[2Jb\nc" * 1000,
        "fingerprints": prints,
    }
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "stranger.safetensors", meta)
    found = {model.name: model for model in registry.list_models()}
    stranger = found["stranger"]
    assert (stranger.fingerprint, stranger.fingerprint_enhancement) == ("", "")
    assert stranger.trained.isprintable()
    assert len(stranger.trained) <= 500
