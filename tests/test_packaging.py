"""What an installed package holds. An editable install finds everything, so only these lists can be wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

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
    assert newest.group(1) == vcm.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == vcm.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vcm.__version__"}


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
