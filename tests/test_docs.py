"""What the pages name exists: modules, attributes, files."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUND = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "vcm" / "weights").glob("*.md")]
PAGES = sorted(path for path in FOUND if path.name != "CHANGELOG.md")  # which tells of the past


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_and_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = []
    for name in re.findall(r"`(vcm(?:\.[A-Za-z_]\w*)+)(?:\(.*?\))?`", text):
        try:
            pkgutil.resolve_name(name)
        except (AttributeError, ImportError):
            missing.append(name)
    for path in re.findall(r"`((?:vcm|codecs|tasks|eval|configs|tests|docs)/[\w./-]+)`", text):
        if not (ROOT / path).exists():
            missing.append(path)
    assert not missing
