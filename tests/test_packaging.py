"""What an installed package holds. An editable install finds everything, so only these lists can be wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import vcm

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {"vcm": "vcm", "codecs": "vcm.codecs", "tasks": "vcm.tasks", "eval": "vcm.eval", "configs": "vcm.configs"}


def _packages() -> dict[str, Path]:
    """Name and folder of everything with an ``__init__.py``; the symlinks inside ``vcm/`` are not followed."""
    found = {}
    for folder, name in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder)
            if not any((ROOT / folder / part).is_symlink() for part in [inner, *inner.parents]):
                found[".".join([name, *inner.parts])] = init.parent
    return found


def test_every_package_is_installed():
    assert sorted(SETUPTOOLS["packages"]) == sorted(_packages())


def test_an_editable_install_is_a_path():
    """Not an import hook, which type checkers and editors do not run: every folder has its link inside ``vcm/``."""
    for name, folder in SETUPTOOLS["package-dir"].items():
        assert (ROOT / name.replace(".", "/")).resolve() == ROOT / folder
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["distutils"]
    assert options["editable_wheel"]["mode"] == "compat"


def test_data_files_are_installed():
    packages = _packages()
    for name, folder in packages.items():
        installed = {path for pattern in SETUPTOOLS["package-data"].get(name, []) for path in folder.glob(pattern)}
        inner = [place for place in packages.values() if place != folder and place.is_relative_to(folder)]
        links = [path for path in folder.iterdir() if path.is_symlink()]
        for path in folder.rglob("*"):
            if path.suffix in {".yaml", ".html", ".npy", ".txt"} and not any(
                path.is_relative_to(other) for other in (*inner, *links)
            ):
                assert path in installed, f"{path} is not in the package-data of {name}"


def test_one_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.M)
    assert newest is not None
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == newest.group(1)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools_scm"]["fallback_version"] == newest.group(1)
    assert re.fullmatch(r"\d+\.\d+.*|unknown", vcm.__version__)


def test_every_extra_has_code_behind_it():
    """Each requirement of an optional feature is imported somewhere in the package, or read by a tool that CI runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = {"scikit-image": "skimage"}
    code = "\n".join(path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    for extra in project["optional-dependencies"].keys() - {"test", "docs", "dev"}:
        for requirement in project["optional-dependencies"][extra]:
            name = re.split(r"[<>=!\[; ]", requirement)[0]
            module = modules.get(name, name.replace("-", "_"))
            assert re.search(rf"\b{module}\b", code), f"{extra}: nothing uses {name}"


def _run(*command: str | Path, folder: Path, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source archive of a clone without tags, and a wheel that was built from the archive."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("built")
    _run("git", "clone", "--quiet", "--no-tags", ROOT, "clone", folder=folder)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder / "clone", folder=folder)
    return folder


@pytest.mark.slow
def test_what_is_built_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert wheel.name.split("-", 2)[2].startswith("cp311-abi3-")
    assert wheel.name.split("-")[1] == archive.name.removesuffix(".tar.gz").split("-")[1]
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert all(name.startswith("vcm/") for name in names)
    kinds = {Path(name).suffix for name in names}
    assert kinds <= {".py", ".pyi", ".typed", ".so", ".pyd", ".npy", ".yaml", ".txt", ".html", ".md", ".safetensors"}
    assert any(name.endswith("_rans.abi3.so") for name in names)
    assert wheel.stat().st_size < 30e6  # three files of weights are 21 MB of it
    with tarfile.open(archive) as file:
        tops = {name.split("/")[1] for name in file.getnames() if "/" in name}
        linked = [name for name in file.getnames() if "/vcm/codecs" in name or "/vcm/configs" in name]
    assert not linked  # the symlinks' targets are there once
    assert not tops & {"tests", "docs", ".ci", ".github"}


@pytest.mark.slow
def test_the_source_archive_installs_where_there_is_no_compiler(built: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    _run(*install, "--target", tmp_path / "site", archive, folder=tmp_path, CC="/bin/false")
    assert not list((tmp_path / "site").rglob("_rans*.so"))
    script = (
        "import numpy as np, vcm, vcm.entropy\n"
        "codec = vcm.load('vcm-s')\n"
        "file = codec.encode(np.zeros((64, 64, 3), np.uint8))\n"
        "print(vcm.entropy.BACKEND, codec.decode(bytes(file)).size, vcm.__version__)"
    )
    printed = _run(sys.executable, "-c", script, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    version = archive.name.removesuffix(".tar.gz").split("-")[1]
    assert printed.split() == ["python", "(64,", "64)", version]
