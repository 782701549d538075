"""Weights files written and read back: what cannot be written or read is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from vcm.errors import OutputError, WeightsError
from vcm.io.files import whole_file
from vcm.weights.tensors import load_tensors, save_tensors


def test_round_trip_of_views_and_shared_tensors(tmp_path: Path) -> None:
    grid = torch.arange(12.0).reshape(3, 4)
    tensors = {"grid": grid, "turned": grid.T, "again": grid, "part": grid[:, 1:3]}
    save_tensors(tmp_path / "a.safetensors", tensors, {"made": "here"})
    found = load_tensors(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        assert file.metadata() == {"made": "here"}


def test_what_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    # The library has an exception of its own for a full disk, as for a folder in the way: no OSError.
    with (
        pytest.raises(OutputError, match=r"cannot write .*a\.safetensors") as info,
        whole_file(tmp_path / "a.safetensors"),
    ):
        save_tensors(tmp_path, {"a": torch.zeros(3)})
    assert "directory" in str(info.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_a_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        load_tensors(tmp_path / "none.safetensors")
    path = tmp_path / "cut.safetensors"
    save_tensors(path, {"a": torch.zeros(300)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="cannot read"):
        load_tensors(path)
