"""What a light install can do, without torch, and what it says of the rest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vcm.errors import MissingDependencyError
from vcm.requirements import EXTRAS, missing, needing

# Stands for an environment without them: nothing that an extra brings can be imported.
BARRED = f"""
import sys

class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Barred())
"""


def light(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = BARRED + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def command(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return light(f"from vcm.cli import run; sys.exit(run({line.split()!r}))", folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[:96, :128]
    picture = np.stack([rows * 2, columns * 2, 255 - rows - columns], axis=2).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    return tmp_path


def test_the_whole_life_of_a_file(folder: Path) -> None:
    done = light(
        """
        import vcm
        codec = vcm.load("vcm-s")
        stream = codec.encode("a.png", base_only=True)
        whole = codec.enhance(stream, "a.png", quality=30)
        whole.save("a.vcm")
        codec.detect("a.vcm"), codec.classify("a.vcm")
        assert vcm.open("a.vcm").decode().size == (128, 96)
        assert "torch" not in sys.modules
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "encode a.png -o b.vcm --base-only",
        "detect a.vcm",
        "classify a.vcm",
        "decode a.vcm -o b.png",
        "inspect a.vcm",
        "models",
    ],
)
def test_commands_that_need_no_more(folder: Path, line: str) -> None:
    assert command("encode a.png -o a.vcm", folder).returncode == 0
    done = command(line, folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "extra"), [("bench", "torch"), ("cost", "torch"), ("demo", "demo"), ("train recipe.yaml", "torch")]
)
def test_what_needs_more_says_so_in_one_line(folder: Path, line: str, extra: str) -> None:
    done = command(line, folder)
    assert done.returncode == MissingDependencyError.exit_status
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"pip install 'vcm[{extra}]'" in done.stderr


def test_names_and_backends_that_need_torch_say_so(folder: Path) -> None:
    done = light(
        """
        import vcm
        from vcm.errors import MissingDependencyError
        for call in (lambda: vcm.load("vcm-s", backend="torch"), lambda: vcm.load_twin()):
            try:
                call()
            except MissingDependencyError as error:
                assert "vcm[torch]" in str(error), error
            else:
                raise SystemExit("nothing was said")
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr


def test_a_module_that_no_extra_brings_stays_an_import_error() -> None:
    assert missing(ModuleNotFoundError("no", name="nonsense")) is None
    with pytest.raises(ModuleNotFoundError), needing("this"):
        import nonsense_that_is_not_there  # noqa: F401
