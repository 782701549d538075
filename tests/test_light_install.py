"""What a light install can do, without torch, and what it says of the rest."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_heads import network

from vcm.errors import MissingDependencyError
from vcm.requirements import EXTRAS, missing, needing
from vcm.structures import LatentSpec
from vcm.weights.head_file import save_head

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
        codec.detect("a.vcm"), codec.classify("a.vcm"), codec.latents("a.vcm")
        codec.add_head("mean", lambda latents: float(latents.y_hat.mean())).run("mean", "a.vcm")
        vcm.load_twin("vcm-s-twin").detect("a.png")
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
        "enhance b.vcm a.png -o c.vcm",
        "detect a.vcm",
        "detect a.png",
        "detect a.png --model vcm-s-twin",
        "classify a.vcm",
        "decode a.vcm -o b.png",
        "inspect a.vcm",
        "models",
    ],
)
def test_commands_that_need_no_more(folder: Path, line: str) -> None:
    assert command("encode a.png -o a.vcm", folder).returncode == 0
    assert not line.startswith("enhance") or command("encode a.png -o b.vcm --base-only", folder).returncode == 0
    done = command(line, folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("bench", "torch"),
        ("cost", "torch"),
        ("demo", "demo"),
        ("train recipe.yaml", "torch"),
        ("serve folder", "serve"),
    ],
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
        for call in (lambda: vcm.load("vcm-s", backend="torch"), lambda: vcm.load_twin(backend="torch")):
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


@pytest.mark.parametrize("kind", ["detection", "classification", "keypoints"])
def test_heads_of_files(folder: Path, kind: str) -> None:
    save_head(folder / "head.safetensors", network(kind, LatentSpec(48, 16)))
    done = light(
        """
        import vcm
        codec = vcm.load("vcm-s")
        codec.add_head("own", "head.safetensors").run("own", codec.encode("a.png", base_only=True))
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr


def test_a_detection_head_from_the_shell(folder: Path) -> None:
    save_head(folder / "head.safetensors", network("detection", LatentSpec(48, 16)))
    done = command("detect a.png --head head.safetensors --score 0.2 --json", folder)
    assert done.returncode == 0, done.stderr
    assert {found["label"] for found in json.loads(done.stdout)[0]["detections"]} <= {"ant", "bee", "cat"}


def test_the_demo_needs_its_photographs_and_no_torch(folder: Path) -> None:
    program = BARRED.replace("'skimage', ", "").replace("'scipy', ", "") + (
        "from vcm.cli import run\ncode = run(['demo', '-o', 'demo.png'])\n"
        "assert 'torch' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "demo.png").stat().st_size > 10_000


def test_a_module_that_no_extra_brings_stays_an_import_error() -> None:
    assert missing(ModuleNotFoundError("no", name="nonsense")) is None
    with pytest.raises(ModuleNotFoundError), needing("this"):
        import nonsense_that_is_not_there  # noqa: F401
