"""The README's example runs as it stands, with the shipped weights, and finds the astronaut."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
ASTRONAUT = (0, 0, 440, 512)
"""Where she is in the photograph, which cuts her off below: x1, y1, x2, y2."""


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    inner = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return inner / (sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)) - inner)


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.S | re.M)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    # Of the detections, not of what is printed: the classifier says "person" as well.
    found = names["found"]
    people = found.boxes[[name == "person" for name in found.label_names()]]
    overlaps = [_overlap(box, ASTRONAUT) for box in people.tolist()]
    assert max(overlaps, default=0) > 0.6, f"no box of a person is where she is: {people}"
    said = capsys.readouterr().out
    assert re.search(r"^person 0\.\d+ \[", said, flags=re.M)
    assert said.count("person") > len(people), "the classifier's line"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.vcm", "preview.png"]


@pytest.mark.parametrize("heading", ["## Try it", "## Test it"])
def test_each_command_block_is_one_line(heading: str) -> None:
    block = re.search(rf"^{heading}\n\n```sh\n(.*?)```", README.read_text(), flags=re.S | re.M)
    assert block is not None
    assert len(block.group(1).strip().splitlines()) == 1
