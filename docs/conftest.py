"""The examples of the documentation run: Python blocks of every page, ``sh`` blocks of the how-to pages.

Each page starts in a folder that holds a photograph (``street.jpg``), its file (``street.vcm``) and a folder of two
pictures (``photos/``), and its blocks share their names from top to bottom. A block that cannot run here stands below
``<!--- skip: next "why" -->``; fences without a language, or marked ``console`` or ``text``, are not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that a page's examples run in."""
    from PIL import Image
    from skimage.data import astronaut, chelsea

    import vcm

    folder = tmp_path_factory.mktemp("page")
    (folder / "photos").mkdir()
    for name, picture in {"street.jpg": astronaut(), "photos/a.jpg": astronaut(), "photos/b.jpg": chelsea()}.items():
        Image.fromarray(picture).save(folder / name, quality=95)
    vcm.load("vcm-s").encode(folder / "street.jpg").save(folder / "street.vcm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def shell(example: Example) -> None:
    """Run a block as ``bash -e`` does, with this interpreter's ``vcm`` first on the path."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    program = 'vcm() { python -m vcm "$@"; }\n' + example.parsed
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", program], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr


class ShellParser(CodeBlockParser):
    language = "sh"

    def evaluate(self, example: Example) -> Any:
        return shell(example)


python = Sybil([PythonCodeBlockParser(), SkipParser()], pattern="*.md", fixtures=["page"])
commands = Sybil([ShellParser(), SkipParser()], pattern="how-to/*.md", fixtures=["page"])
pytest_collect_file = (python + commands).pytest()
