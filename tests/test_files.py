"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcm.errors import OutputError
from vcm.io.files import whole_file, write_atomically


def _half_written(path: Path) -> None:
    path.write_text("new")
    raise RuntimeError


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as part:
        _half_written(part)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert target.read_text() == "old"


def test_readers_see_the_old_file_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with whole_file(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("name", ["folder", "missing/a", "a\0b", "x" * 300])
def test_names_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"), whole_file(tmp_path / name) as part:
        part.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b", b"\x00")
    assert (tmp_path / "a" / "b").read_bytes() == b"\x00"
    with pytest.raises(OutputError, match="cannot keep"):
        write_atomically(tmp_path / "a" / "b" / "c", "text", verb="keep")
