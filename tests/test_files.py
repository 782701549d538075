"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from vcm.errors import OutputError
from vcm.io.files import whole_file, write_atomically


def _half_written(path: Path) -> None:
    path.write_text("new")
    raise RuntimeError


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as part:
        _half_written(part)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert target.read_text() == "old"


def test_readers_see_the_old_file_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with whole_file(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("name", ["folder", "missing/a", "a\0b", "x" * 300])
def test_names_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"), whole_file(tmp_path / name) as part:
        part.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b", b"\x00")
    assert (tmp_path / "a" / "b").read_bytes() == b"\x00"
    with pytest.raises(OutputError, match="cannot keep"):
        write_atomically(tmp_path / "a" / "b" / "c", "text", verb="keep")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real"
    real.write_text("old")
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere" / "new")
    for name in ("link", "dangling"):
        with whole_file(tmp_path / name) as part:
            part.write_text("new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["dangling", "elsewhere", "link", "new", "real"]


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="Too many levels of symbolic links"), whole_file(tmp_path / "a"):
        pass


@pytest.mark.parametrize("link", [False, True])
def test_what_is_no_regular_file_is_left_alone(tmp_path: Path, link: bool) -> None:
    pipe, device, folder = tmp_path / "pipe", tmp_path / "device", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    kinds = {pipe: "a pipe", folder: "a folder"}
    with suppress(PermissionError):  # root only, and a device like any other: number 1, 3 is null
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        kinds[device] = "a device"
    for path, kind in kinds.items():
        target = path
        if link:
            target = tmp_path / f"{path.name}.link"
            target.symlink_to(path)
        before = path.lstat()
        with pytest.raises(OutputError, match=f"found {kind}"), whole_file(target) as part:
            part.write_text("new")
        assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    target.chmod(mode)
    with whole_file(target) as part:
        part.write_text("new")
        assert part.parent.stat().st_mode & 0o077 == 0  # nobody else looks at what may be secret
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    """Some libraries' files can be read by their owner only: safetensors since 0.8 renames a temporary one."""
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "a") as part:
        part.touch(0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_file_and_folder_are_on_the_disk_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda part, target: done.append("rename") or replace(part, target))
    write_atomically(tmp_path / "a", "four")
    assert done == ["4 bytes", "rename", "folder"]


WRITER = """
import sys, time
from vcm.io.files import whole_file
with whole_file(sys.argv[1]) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def _writer(target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def _parts(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".part")]


def test_what_a_killed_writer_left_goes_and_a_living_one_is_not_disturbed(tmp_path: Path) -> None:
    killed, living = _writer(tmp_path / "killed"), _writer(tmp_path / "living")
    killed.kill()
    killed.communicate()
    assert len(_parts(tmp_path)) == 2
    foreign = [tmp_path / ".vcm-notes", tmp_path / "b.part", tmp_path / ".vcm-0123456789abcdef.part"]
    for path in foreign:
        path.touch()
    script = "import sys; from vcm.io.files import write_atomically; from pathlib import Path; " + (
        "write_atomically(Path(sys.argv[1]), 'new')"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=True)
    assert len(_parts(tmp_path)) == 1 + 2
    living.communicate("")
    assert living.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a", "living", *(p.name for p in foreign)])
    # A file of the kind that earlier versions left has no lock, so that only its age tells.
    os.utime(foreign[2], (1, 1))
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "b")], check=True)
    assert not foreign[2].exists()


def test_a_sweep_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".vcm-0123456789abcdef.part").symlink_to(tmp_path / "kept")
    write_atomically(tmp_path / "out" / "a", "new")
    assert (tmp_path / "kept" / "file").exists()


def test_many_writers_and_sweeps_at_once(tmp_path: Path) -> None:
    """Each in a process of its own, so that each sweeps while others begin."""
    script = (
        "import sys; from pathlib import Path; from vcm.io import files\n"
        "for i in range(60):\n"
        "    files._sweep.cache_clear()\n"
        "    files.write_atomically(Path(sys.argv[1]), sys.argv[2] * 1000)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / f"{i % 2}"), str(i)]) for i in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]
    assert (tmp_path / "0").read_text() in ("0" * 1000, "2" * 1000)
