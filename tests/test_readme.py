"""The README's example runs as it stands, with the shipped weights, and finds the astronaut."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.S | re.M)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[0], "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "person" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.vcm", "preview.png"]


@pytest.mark.parametrize("heading", ["## Try it", "## Test it"])
def test_each_command_block_is_one_line(heading: str) -> None:
    block = re.search(rf"^{heading}\n\n```sh\n(.*?)```", README.read_text(), flags=re.S | re.M)
    assert block is not None
    assert len(block.group(1).strip().splitlines()) == 1
