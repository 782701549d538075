"""Names and fingerprints of the shipped weights, and that listing them costs no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY_WEIGHTS

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
    assert registry.model_of_layers(tiny.fingerprint, None) == tiny
    assert registry.model_of_layers(tiny.fingerprint, tiny.fingerprint_enhancement) == tiny
    assert registry.model_of_layers("00" * 8, None) is None
    assert registry.model_of_layers(tiny.fingerprint, "00" * 8) == tiny  # its base can be read
