"""The frame of the command line: help, exit status, one line for each error, no heavy imports."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vcm
import vcm.cli
from vcm.cli import output

HEAVY = ("torch", "torchvision", "numpy", "PIL", "skimage", "compressai", "pydantic_core", "scipy")
COMMANDS = ("encode", "enhance", "decode", "detect", "classify", "inspect", "models", "cost", "demo", "bench")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, vcm.cli; print(vcm.cli.run(['--help']), *sorted(set(sys.argv[1:]) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    loaded = run.stdout.splitlines()[-1].split()
    assert loaded[0] == "0"
    assert set(loaded[1:]) <= {"pydantic_core"}  # typer's own, in some versions
    for command in COMMANDS:
        assert f" {command} " in run.stdout


def test_inspect_needs_no_torch(photo: Path, run: object, codec: object, tmp_path: Path) -> None:
    codec.encode(photo).save(tmp_path / "a.vcm")  # type: ignore[attr-defined]
    code = (
        "import sys, vcm, vcm.cli\nvars(vcm)['list_models'] = lambda: ()\n"
        "print(vcm.cli.run(['inspect', sys.argv[1]]), 'torch' in sys.modules)"
    )
    got = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.vcm")], capture_output=True, text=True, check=True
    )
    assert got.stdout.splitlines()[-1] == "0 False"


def test_module_and_script_are_one(tmp_path: Path) -> None:
    root = Path(vcm.__file__).parent.parent
    got = subprocess.run(
        [sys.executable, "-m", "vcm", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert got.stdout == f"vcm {vcm.__version__}\n"


def test_every_command_module_registers_and_has_help(run) -> None:
    for module in vcm.cli.COMMAND_MODULES:
        assert callable(importlib.import_module(f"vcm.cli.{module}").register)
    for command in COMMANDS:
        got = run(command, "--help")
        assert (got.status, got.err) == (0, "")
        assert "Usage: vcm " + command in got.out
    assert run().out == run("--help").out


@pytest.mark.parametrize(
    "line",
    [
        "bogus", "--nothing", "encode", "encode a.png --foo", "encode a.png --quality 101", "encode a.png --quality -1",
        "encode a.png --quality nan", "encode a.png --quality high", "encode a.png --base-quality 100.5",
        "encode a.png --bpp 0", "encode a.png --bpp inf", "encode a.png --bpp 1 --quality 5",
        "encode a.png --model none", "encode a.png --keep exif",
        "enhance a.vcm", "decode", "decode a.vcm --layers 0", "detect a.vcm --score 1.1",
        "detect a.vcm --score nan", "classify a.vcm --top 0", "inspect", "bench --runs 0",
        "bench --threads 0", "cost --width 3", "demo -q 101",
    ],
)  # fmt: skip
def test_usage_errors_are_one_line_and_status_2(
    run, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    got = run(*line.split())
    assert got.status == 2
    assert got.out == ""
    assert got.err.startswith("vcm: error: ")
    assert got.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_where_before_and_after_the_command(run) -> None:
    for line in (("--debug", "inspect", "none.vcm"), ("inspect", "none.vcm", "--debug")):
        got = run(*line)
        assert got.status == 1
        assert "Traceback" in got.err
        assert got.err.splitlines()[-1].startswith("vcm: error: ")
    assert "Traceback" not in run("inspect", "none.vcm").err
    assert "Traceback" not in run("inspect", "--", "--debug").err  # a file of that name
    assert not output.state.debug


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (
            TypeError("a bug\nof ours"),
            1,
            "vcm: error: PHOTO: internal error: TypeError: a bug\\nof ours (--debug shows where)\n",
        ),
        (MemoryError(), 1, "vcm: error: PHOTO: out of memory\n"),
        (OSError(28, "No space left on device"), 1, "vcm: error: PHOTO: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, "vcm: interrupted\n"),
    ],
)
def test_other_failures_are_one_line_too(run, codec, monkeypatch, photo, failure, status, text) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(codec, "encode", fail, raising=False)
    got = run("encode", photo)
    assert got.status == status
    assert got.out == ""
    assert got.err == text.replace("PHOTO", str(photo))
    assert [p.name for p in photo.parent.iterdir()] == ["photo.png"]


def test_warnings_of_ours_are_lines_and_those_of_others_are_silent(run, codec, monkeypatch, photo) -> None:
    import warnings

    from PIL import Image

    whole = codec.encode

    def encode(*arguments: object, **options: object) -> object:
        warnings.warn("some library's business", DeprecationWarning, stacklevel=1)
        return whole(*arguments, **options)

    monkeypatch.setattr(codec, "encode", encode, raising=False)
    other = photo.with_name("other.png")
    for path in (photo, other):
        Image.new("RGBA", (48, 32), (1, 2, 3, 100)).save(path)
    got = run("encode", photo, other)
    assert got.status == 0
    lines = got.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("vcm: warning: ") and "alpha" in line for line in lines)
    assert "photo.png" in lines[0]
    assert "other.png" in lines[1]


def test_lazy_names_of_the_package() -> None:
    assert set(vcm.__all__) <= set(dir(vcm))
    assert vcm.VcmError.__module__ == "vcm.errors"
    assert vcm.Detections.__module__ == "vcm.structures.detections"
    assert vcm.Bitstream.__module__.startswith("vcm.bitstream")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vcm.nonsense


def test_the_codec_of_these_tests_takes_what_the_real_one_takes(codec) -> None:
    from inspect import signature

    for name in ("encode", "enhance", "detect", "classify", "decode", "complexity"):
        fake, real = (
            {one.name: one.default for one in signature(getattr(kind, name)).parameters.values()}
            for kind in (type(codec), vcm.Codec)
        )
        assert fake == real, name


@pytest.mark.parametrize(
    ("words", "answers"), [("vcm enc", {"encode"}), ("vcm detect --ma", {"--max-det"}), ("vcm nothing-", set())]
)
def test_shells_complete(monkeypatch, capsys, words: str, answers: set[str]) -> None:
    monkeypatch.setenv("_VCM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert vcm.cli.run([]) == 0
    assert set(capsys.readouterr().out.split()) == answers
