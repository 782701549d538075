"""Paths and file objects: reading no more than is needed, writing in one step."""

from __future__ import annotations

import io
import os
import stat
import threading
import tracemalloc
from pathlib import Path

import pytest

from vcm.bitstream import HEADER_BYTES, Bitstream, Header, parse, read, read_base
from vcm.errors import InputError, LimitError, MagicError, OptionError, OutputError, TruncatedError


class CountingFile(io.RawIOBase):
    """Not seekable, gives at most ``step`` bytes a read, and counts what was asked for and given."""

    def __init__(self, data: bytes, step: int = 1 << 30) -> None:
        self._inner = io.BytesIO(data)
        self._step = step
        self.asked = self.given = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "the reader asked for everything"
        self.asked = max(self.asked, self.given + size)
        out = self._inner.read(min(size, self._step))
        self.given += len(out)
        return out


@pytest.mark.parametrize("step", [1, 5, 1 << 30])
def test_read_base_takes_exactly_the_prefix(small_file: Bitstream, step: int) -> None:
    file = CountingFile(small_file.to_bytes(), step)
    got = read_base(file)
    assert got.bytes_read == file.given == file.asked == small_file.header.base_bytes
    assert got.bitstream == parse(small_file.base)
    assert not file.closed


def test_read_base_accepts_every_source(small_file: Bitstream, tmp_path: Path) -> None:
    data = small_file.to_bytes()
    path = tmp_path / "a.vcm"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), path, str(path), io.BytesIO(data)):
        got = read_base(source)
        assert (got.bitstream.to_bytes(), got.bytes_read) == (small_file.base, len(small_file.base))
    for source in (data, bytearray(data), memoryview(data), path, str(path), io.BytesIO(data), CountingFile(data, 7)):
        assert read(source) == small_file


def test_read_base_works_on_a_pipe_that_stays_open(small_file: Bitstream) -> None:
    # A reader that wanted one byte more would wait for ever.
    reading, writing = os.pipe()
    os.write(writing, small_file.base)
    watchdog = threading.Timer(10, os.close, (writing,))
    watchdog.start()
    with open(reading, "rb", buffering=0) as file:  # noqa: PTH123
        got = read_base(file)
    assert watchdog.is_alive()
    watchdog.cancel()
    os.close(writing)
    assert got.bytes_read == len(small_file.base)


def test_read_base_of_a_path_reads_nothing_ahead(small_file: Bitstream, tmp_path: Path) -> None:
    data = small_file.to_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both_ends = os.open(pipe, os.O_RDWR)
    os.write(both_ends, data)
    assert read_base(pipe).bytes_read == len(small_file.base)
    assert os.read(both_ends, 1 << 16) == data[len(small_file.base) :]
    os.close(both_ends)


def test_a_lying_header_costs_no_memory(tmp_path: Path) -> None:
    data = Header(1, 65535, 4000, base_bytes=1 << 30).pack() + bytes(100)
    path = tmp_path / "lie.vcm"
    path.write_bytes(data)
    for source in (data, CountingFile(data), path):
        tracemalloc.start()
        with pytest.raises(TruncatedError, match="expected 1073741824 bytes, found 117"):
            read_base(source)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20


def test_read_refuses_long_files(small_file: Bitstream, tmp_path: Path) -> None:
    data = small_file.to_bytes()
    path = tmp_path / "a.vcm"
    path.write_bytes(data)
    for make in (lambda: data, lambda: path, lambda: io.BytesIO(data)):
        assert read(make(), max_bytes=len(data)) == small_file
        with pytest.raises(LimitError, match=f"the file is too long: expected at most {len(data) - 1} bytes"):
            read(make(), max_bytes=len(data) - 1)


def test_an_endless_or_huge_source_is_left_early(small_file: Bitstream, tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def __init__(self, start: bytes) -> None:
            self._start = start

        def read(self, size: int = -1) -> bytes:
            out = self._start[:size] + bytes(size - len(self._start[:size]))
            self._start = self._start[size:]
            self.given += size
            return out

    foreign, ours = Endless(b""), Endless(small_file.to_bytes())
    with pytest.raises(MagicError):
        read(foreign)
    assert foreign.given == HEADER_BYTES
    with pytest.raises(LimitError):
        read(ours, max_bytes=5000)
    assert ours.given == 5001
    sparse = tmp_path / "huge.vcm"
    with sparse.open("wb") as file:
        file.write(small_file.to_bytes())
        file.truncate(1 << 40)
    with pytest.raises(LimitError, match=f"found {1 << 40}"):
        read(sparse)
    assert read_base(sparse).bytes_read == small_file.header.base_bytes


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.vcm", tmp_path, "nul\0name"):
        for reader in (read, read_base):
            with pytest.raises(InputError, match="cannot read"):
                reader(path)
    closed = io.BytesIO(b"")
    closed.close()
    with pytest.raises(InputError, match="closed file"):
        read(closed)
    for wrong in (None, 3, io.StringIO("VCM"), memoryview(bytes(64))[::2]):
        for reader in (read, read_base):
            with pytest.raises(OptionError, match="cannot read from this"):
                reader(wrong)
    with pytest.raises(OptionError):
        parse("VCM")


def test_save_writes_the_file_with_ordinary_permissions(small_file: Bitstream, tmp_path: Path) -> None:
    path = tmp_path / "a.vcm"
    small_file.save(path)
    small_file.cut(1).save(str(path))  # overwrites
    assert path.read_bytes() == small_file.cut(1).to_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["a.vcm"]
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    small_file: Bitstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vcm"
    path.write_bytes(b"old")

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OutputError, match=r"cannot write .*a\.vcm: found No space left on device"):
        small_file.save(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.vcm"]


def test_places_that_cannot_be_written(small_file: Bitstream, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    wrong = ("no/a.vcm", "", "file/a.vcm", "pipe", "n" * 300, "nul\0name")
    for path in (tmp_path / name for name in wrong):
        with pytest.raises(OutputError, match="cannot write"):
            small_file.save(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pipe"]
