"""stdin and stdout as files, outputs that are there already, pipes that close, and being told to stop."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import vcm.cli
from vcm.bitstream import parse, read
from vcm.io.text import three_digits

ROOT = Path(vcm.__file__).parents[1]


def one_line(text: str) -> str:
    assert text.startswith("vcm: ")
    assert text.count("\n") == 1
    return text


# -- stdin and stdout -------------------------------------------------------------------------------------------------


@pytest.fixture
def piped(codec, monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """Runs a command line with bytes on stdin, and gives the bytes of stdout."""

    def call(data: bytes, *arguments: object, terminal: bool = False) -> SimpleNamespace:
        capsys.readouterr()
        out = io.TextIOWrapper(io.BytesIO(), "utf-8")
        out.isatty = lambda: terminal  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        monkeypatch.setattr(sys, "stdout", out)
        status = vcm.cli.run([str(argument) for argument in arguments])
        return SimpleNamespace(status=status, out=out.buffer.getvalue(), err=capsys.readouterr().err)

    return call


def test_a_picture_goes_through_pipes(piped, photo, tmp_path) -> None:
    coded = piped(photo.read_bytes(), "encode", "-")
    assert coded.status == 0
    assert one_line(coded.err).startswith("vcm: stdout: 48x32, ")
    assert parse(coded.out).layer_names == ("base", "enhancement")
    back = piped(coded.out, "decode", "-")
    assert (back.status, one_line(back.err)) == (0, "vcm: stdout: 48x32\n")
    with Image.open(io.BytesIO(back.out)) as got, Image.open(photo) as want:
        assert got.format == "PNG"
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    with Image.open(io.BytesIO(piped(coded.out, "decode", "-", "--format", "webp").out)) as got:
        assert got.format == "WEBP"
    found = piped(coded.out, "detect", "-", "--json")
    assert (found.status, found.err) == (0, "")
    (row,) = json.loads(found.out)
    assert (row["file"], row["detections"][0]["label"]) == ("-", "cat")
    assert json.loads(piped(photo.read_bytes(), "detect", "-", "--json").out)[0]["detections"] == row["detections"]
    drawn = piped(coded.out, "detect", "-", "--draw", "-")
    assert Image.open(io.BytesIO(drawn.out)).size == (48, 32)
    assert "1 object" in drawn.err
    assert json.loads(piped(coded.out, "inspect", "-", "--json").out)[0]["total_bytes"] == len(coded.out)
    assert piped(coded.out, "classify", "-").status == 0
    base = piped(photo.read_bytes(), "encode", "-", "--base-only").out
    assert piped(base, "enhance", "-", photo).out == coded.out
    assert list(photo.parent.iterdir()) == [photo]


def test_files_to_stdout_and_stdin_to_files(piped, photo, tmp_path) -> None:
    assert parse(piped(b"", "encode", photo, "-o", "-").out).width == 48
    assert piped(photo.read_bytes(), "encode", "-", "-o", tmp_path / "a.vcm").status == 0
    assert piped(photo.read_bytes(), "encode", "-", photo, "-o", tmp_path / "many").status == 0
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["photo.vcm", "stdin.vcm"]
    assert read(tmp_path / "a.vcm").width == 48


def test_what_stdin_and_stdout_cannot_be(piped, photo, tmp_path) -> None:
    for arguments, text in {
        ("encode", photo, "-o", "-", "--json"): "--json",
        ("encode", photo, photo.with_name("b.png"), "-o", "-"): "expected a folder, found stdout",
        ("encode", "-", "-"): "two inputs would be written to stdout",
        ("enhance", "-", "-"): "cannot both be stdin",
    }.items():
        got = piped(photo.read_bytes(), *arguments)
        assert (got.status, got.out) == (2, b"")
        assert text in one_line(got.err)
    got = piped(photo.read_bytes(), "encode", "-", terminal=True)
    assert (got.status, got.out) == (2, b"")
    assert "terminal" in one_line(got.err)
    for command in ("encode", "decode", "inspect", "detect"):
        for data in (b"", b"words"):
            got = piped(data, command, "-")
            assert (got.status, got.out) == (1, b"")
            assert one_line(got.err).startswith("vcm: error: stdin: ")


# -- outputs that are there -------------------------------------------------------------------------------------------


def test_a_vcm_file_gets_no_name_of_a_picture(run, photo, tmp_path) -> None:
    for name in ("out.png", "out.JPG", "out.webp"):
        got = run("encode", photo, "-o", tmp_path / name)
        assert (got.status, (tmp_path / name).exists()) == (2, False)
        assert "--force" in one_line(got.err)
    assert run("encode", photo, "-o", tmp_path / "out.png", "--force").status == 0
    assert read(tmp_path / "out.png").width == 48


def test_only_earlier_outputs_are_written_over(run, photo, tmp_path) -> None:
    file = tmp_path / "a.vcm"
    for _ in range(2):
        assert run("encode", photo, "-o", file).status == 0
    original, notes = tmp_path / "a.jpg", tmp_path / "notes"
    original.write_bytes(b"the photograph")
    notes.write_text("words")
    for arguments in (
        ("decode", file, "-o", original), ("detect", file, "--draw", original), ("encode", photo, "-o", notes),
        ("enhance", file, photo, "-o", notes),
    ):  # fmt: skip
        got = run(*arguments)
        assert got.status == 2
        assert "is there: expected another name, or --force" in one_line(got.err)
    assert (original.read_bytes(), notes.read_text()) == (b"the photograph", "words")
    for arguments in (("decode", file, "-o", original), ("detect", file, "--draw", original)):
        assert run(*arguments, "--force").status == 0
        with Image.open(original) as image:
            assert image.size == (48, 32)
    for _ in range(2):  # our own name
        assert run("decode", file).status == 0


def test_an_output_that_is_a_link_is_followed_and_keeps_its_mode(run, photo, tmp_path) -> None:
    real = tmp_path / "real.vcm"
    run("encode", photo, "--base-only", "-o", real)
    real.chmod(0o600)
    (tmp_path / "link.vcm").symlink_to(real)
    assert run("enhance", tmp_path / "link.vcm", photo).status == 0
    assert (tmp_path / "link.vcm").is_symlink()
    assert read(real).layer_names == ("base", "enhancement")
    assert real.stat().st_mode & 0o777 == 0o600


# -- one bad input among many -----------------------------------------------------------------------------------------


def test_folders_and_loops_among_the_inputs_cost_one_line_each(run, photo, tmp_path) -> None:
    loop, folder = photo.with_name("loop.png"), photo.with_name("folder.png")
    loop.symlink_to(loop)
    folder.mkdir()
    second = photo.with_name("second.png")
    shutil.copy(photo, second)
    inputs = (photo, loop, folder, tmp_path / "none" / "a.png", second)
    got = run("encode", *inputs, "--json")
    assert got.status == 1
    rows = json.loads(got.out)
    assert [row["file"] for row in rows] == [str(path) for path in inputs]
    assert ["error" in row for row in rows] == [False, True, True, True, False]
    assert "symbolic links" in rows[1]["error"]
    assert "no such folder" in rows[3]["error"]
    assert len(got.err.splitlines()) == 3
    assert "internal" not in got.err
    for command in ("detect", "decode", "inspect", "classify"):
        got = run(command, loop)
        assert got.status == 1
        assert "symbolic links" in one_line(got.err)


def test_a_bug_with_one_input_does_not_cost_the_others(run, codec, monkeypatch, photo) -> None:
    second = photo.with_name("second.png")
    shutil.copy(photo, second)
    whole = codec.encode

    def encode(image: Path, **options: object) -> object:
        if image == photo:
            raise ZeroDivisionError("ours")
        return whole(image, **options)

    monkeypatch.setattr(codec, "encode", encode, raising=False)
    got = run("encode", photo, second)
    assert got.status == 1
    assert "photo.png: internal error: ZeroDivisionError: ours" in one_line(got.err)
    assert second.with_suffix(".vcm").exists()


def test_text_of_weights_files_is_not_obeyed(run, monkeypatch, codec) -> None:
    from dataclasses import replace

    (model,) = vcm.list_models()
    odd = replace(
        model, name="a\x1b[31m" + "n" * 5000, trained="steps\u202e\x07 " + "word " * 10**5, fingerprint="f" * 999
    )
    monkeypatch.setitem(vars(vcm), "list_models", lambda: (odd,))
    text = run("models").out
    assert not set(text) & {"\x1b", "\u202e", "\x07"}
    assert max(map(len, text.splitlines())) <= 80
    assert len(text) < 4000


# -- pipes and signals, in a process of their own ---------------------------------------------------------------------


def shell(command: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell's line; ``$VCM`` is the tool, and the arguments are ``$1`` and so on."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "VCM": f"{sys.executable} -m vcm"}
    return subprocess.run(
        ["bash", "-c", command, "bash", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**env, **environment},
    )  # fmt: skip


@pytest.fixture
def files(codec, photo, tmp_path) -> list[Path]:
    """So many files that what is said of them fills a pipe."""
    codec.encode(photo).save(tmp_path / "a.vcm")
    for i in range(200):
        (tmp_path / f"{i:03}.vcm").symlink_to("a.vcm")
    return sorted(tmp_path.glob("[0-9]*.vcm"))


def test_a_pipe_that_closes_ends_the_tool_as_it_does_others(files) -> None:
    got = shell('$VCM inspect "$@" | head -1; echo ${PIPESTATUS[0]}', *files)
    assert got.stdout.splitlines()[1:] == ["141"]
    assert one_line(got.stderr).startswith("vcm: stopped after ")
    assert "of 200: nobody reads what is printed" in got.stderr
    got = shell('$VCM inspect --json "$1" | true; echo ${PIPESTATUS[0]}', files[0])
    assert (got.stdout, got.stderr) == ("141\n", "")
    assert shell("$VCM --help | true; echo ${PIPESTATUS[0]}").stderr == ""


def test_a_stdout_that_is_closed_or_full_is_one_line(files) -> None:
    for line, text in (
        ("$VCM models >&-", "the standard output is closed"),
        ("$VCM models >/dev/full", "cannot write to the standard output: found No space left on device"),
        ("$VCM --help >/dev/full", "No space left on device"),
    ):
        got = shell(line)
        assert (got.returncode, got.stdout) == (1, "")
        assert text in one_line(got.stderr)
    got = shell('$VCM inspect "$1" 2>&-', files[0])
    assert got.returncode == 0
    assert "48x32" in got.stdout
    assert shell("$VCM inspect none 2>&-").returncode == 1


WRITER = """
import os, sys, time, vcm, vcm.cli
from vcm.io.files import whole_file
class Slow:
    def encode(self, image, **_):
        class Stream:
            def save(self, path):
                with whole_file(path) as part:
                    part.write_text("half")
                    print("writing", flush=True)
                    time.sleep(60)
        return Stream()
vars(vcm)["load"] = lambda name, **options: Slow()
vcm.cli.main()
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, 143, "terminated after 0 of 2"),
        (signal.SIGHUP, 129, "terminated after 0 of 2"),
        (signal.SIGINT, 130, "interrupted after 0 of 2"),
    ],
)
def test_a_signal_leaves_no_half_written_file(photo, tmp_path, number, status, said) -> None:
    other = photo.with_name("b.png")
    shutil.copy(photo, other)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, "encode", str(photo), str(other), "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list((tmp_path / "out").iterdir())) == 1
    process.send_signal(number)
    _, err = process.communicate()
    assert (process.returncode, err) == (status, f"vcm: {said}\n")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("module", "turned"), [("typer", False), ("torch", False), ("torch", True)])
def test_ctrl_c_while_modules_are_imported(tmp_path, module, turned) -> None:
    """Some modules written in C turn the interrupt into an ImportError."""
    lines = ["import os, signal, time", "os.kill(os.getpid(), signal.SIGINT)", "time.sleep(30)"]
    if turned:
        lines = [
            "try:",
            *(f"    {line}" for line in lines),
            "except KeyboardInterrupt:",
            "    raise ImportError('odd')",
        ]
    (tmp_path / f"{module}.py").write_text("\n".join(lines))
    got = shell("$VCM cost", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT), *sys.path]))
    assert (got.returncode, got.stdout) == (130, "")
    assert got.stderr == ("" if module == "typer" else "vcm: interrupted\n")


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00452, "0.00452"), (0.0000123456, "0.0000123"), (0.09996, "0.100"), (0.5, "0.500"), (9.999, "10.0"),
        (23.96, "24.0"), (1234.5, "1234"), (0, "0"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_inspect_many_shows_every_part(run, codec, photo, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    with Image.open(photo) as image:
        image.save(photo, exif=exif.tobytes())
    run("encode", photo, "-o", tmp_path / "a.vcm")
    run("encode", photo, "-o", tmp_path / "b.vcm", "--base-only")
    rows = json.loads(run("inspect", tmp_path / "a.vcm", tmp_path / "b.vcm", "--json").out)
    assert [[part["name"] for part in row["chunks"]] for row in rows] == [
        ["header", "base", "EXIF", "enhancement"], ["header", "base", "EXIF"],
    ]  # fmt: skip
    for row in rows:
        offset = 0
        for part in row["chunks"]:
            assert part["offset"] == offset
            offset += part["bytes"]
        assert offset == row["total_bytes"]
    assert rows[0]["layers"][0]["quality"] == pytest.approx(100 * 500 / 1023, abs=0.05)
    text = run("inspect", tmp_path / "a.vcm", tmp_path / "b.vcm").out
    assert text.count("EXIF") == 2
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) <= 80
