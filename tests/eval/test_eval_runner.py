"""The runner: caching, continuing, failures that are counted, rate search, processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image as PilImage

from vcm.codecs.pillow import UncompressedCodec, jpeg
from vcm.codecs.protocol import CodecInfo, Image, QualityRange
from vcm.errors import ImageError, OptionError
from vcm.eval.data import kodak
from vcm.eval.data.datasets import Dataset, Picture, load_dataset
from vcm.eval.machines.protocol import MachineInfo
from vcm.eval.run.protocols import Protocol
from vcm.eval.run.records import Cache, Found, Record
from vcm.eval.run.runner import run
from vcm.eval.run.worker import HEAD
from vcm.io.coco import Category, CocoGroundTruth, CocoImage
from vcm.io.pictures import load_image
from vcm.structures import Detections

T = TypeVar("T")


class ToyCodec:
    """As many zero bytes as the quality says, and the picture beside them. Counts its calls."""

    def __init__(self, name: str = "toy", bad: int | None = None, version: str = "1") -> None:
        self._name, self._bad, self._version = name, bad, version
        self.calls = 0
        self._last: Image = np.zeros((1, 1, 3), np.uint8)

    @property
    def name(self) -> str:
        return self._name

    @property
    def quality_range(self) -> QualityRange:
        return QualityRange(1, 1000)

    def compress(self, image: Image, quality: float) -> bytes:
        self.calls += 1
        if image[0, 0, 0] == self._bad:
            raise ImageError("toy cannot code this")
        self._last = image
        return bytes(int(quality))

    def decompress(self, data: bytes) -> Image:
        return np.clip(self._last.astype(int) + 50 // len(data) + 1, 0, 255).astype(np.uint8)

    def describe(self) -> CodecInfo:
        return CodecInfo(self._name, self._version)


class ToyBase(ToyCodec):
    """A codec with a head of its own."""

    def detect(self, data: bytes) -> Detections:
        return _box(self._last)

    def layer_bytes(self, data: bytes) -> dict[str, int]:
        return {"header": 1, "base": len(data) - 1}


class ToyMachine:
    """Finds one person, whatever it sees."""

    name = "eye"

    def detect(self, image: Image) -> Detections:
        return _box(image)

    def describe(self) -> MachineInfo:
        return MachineInfo("eye", "1")


def _box(image: Image) -> Detections:
    height, width = image.shape[:2]
    box = np.array([[1, 1, width - 1, height - 1]], np.float32)
    return Detections(box, np.array([0.9], np.float32), np.array([0]), width, height)


def protocol(**changes: object) -> Protocol:
    base = {
        "name": "toy", "title": "Toy", "task": "distortion", "anchors": ["toy"], "metrics": ["psnr"],
        "points": {"toy": [10, 20], "jpeg": [10, 50]}, "departures": ["everything"], "bootstrap": 10,
    }  # fmt: skip
    return Protocol.model_validate({**base, **changes})


def pictures(folder: Path, count: int = 3) -> Dataset:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        noise[0, 0, 0] = i
        PilImage.fromarray(noise).save(folder / f"{i}.png")
    return load_dataset(folder, "plain")


def boxed(data: Dataset) -> Dataset:
    images = [CocoImage(p.id, p.name, 30, 20) for p in data.pictures]
    boxes = {p.id: ([[1, 1, 29, 19]], [1]) for p in data.pictures}
    truth = CocoGroundTruth.from_boxes("toy", images, [Category(1, "person")], boxes)
    return Dataset(data.name, data.root, "coco", data.pictures, truth)


def test_rate_is_the_length_of_the_file(tmp_path: Path) -> None:
    found = run(protocol(), pictures(tmp_path / "d"), [ToyCodec()], [], tmp_path / "out")
    records = found.codecs[0].records
    assert list(records) == ["q=10", "q=20"]
    assert {record.bytes for record in records["q=20"].values()} == {20}
    record = records["q=10"]["1.png"]
    assert (record.width, record.height) == (30, 20)
    assert set(record.metrics) == {"psnr"}
    assert (found.computed, found.cached, found.skipped) == (6, 0, ())


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    data = pictures(tmp_path / "d")
    first = run(protocol(), data, [ToyCodec()], [], tmp_path / "out")
    again = ToyCodec()
    second = run(protocol(), data, [again], [], tmp_path / "out")
    assert again.calls == 0
    assert (second.computed, second.cached) == (0, 6)
    assert second.codecs[0].records == first.codecs[0].records
    more = ToyCodec()
    third = run(protocol(points={"toy": [10, 20, 30]}), data, [more], [], tmp_path / "out")
    assert (third.computed, third.cached) == (3, 6)
    assert more.calls == 3 + 1  # and a warm-up


def test_other_settings_metrics_machines_and_pictures_are_measured_anew(tmp_path: Path) -> None:
    data, out = pictures(tmp_path / "d"), tmp_path / "out"
    run(protocol(), data, [ToyCodec()], [], out)
    assert run(protocol(), data, [ToyCodec(version="2")], [], out).computed == 6
    assert run(protocol(metrics=["psnr", "psnr_y"]), data, [ToyCodec()], [], out).computed == 6
    PilImage.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(data.pictures[1].path)
    assert run(protocol(), data, [ToyCodec()], [], out).computed == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_kept_files_spare_the_encoder_whoever_looks_at_them(tmp_path: Path, jobs: int) -> None:
    data, streams = pictures(tmp_path / "d"), tmp_path / "streams"
    plan = protocol(points={"jpeg": [10], "toy": [10]})
    first = run(plan, data, [jpeg()], [], tmp_path / "a", jobs=jobs, streams=streams).codecs[0].records["q=10"]
    kept = sorted(streams.rglob("*.stream"))
    assert len(kept) == 3
    damaged, *whole = kept
    damaged.write_bytes(damaged.read_bytes()[:-1])
    changed = protocol(points={"jpeg": [10, 11]}, metrics=["psnr_y"])
    second = run(changed, data, [jpeg()], [], tmp_path / "b", jobs=jobs, streams=streams).codecs[0].records
    assert {n: (r.bytes, r.quality) for n, r in second["q=10"].items()} == {
        n: (r.bytes, r.quality) for n, r in first.items()
    }
    # Times are those of the run that coded; what was damaged was coded again, and then kept.
    same = [name for name in first if second["q=10"][name].encode_s == first[name].encode_s]
    assert len(same) == len(whole)
    assert all((second["q=10"][name].peak_mib is None) for name in same)
    assert len(list(streams.rglob("*.stream"))) == 6
    assert damaged.read_bytes()[-1:] == b"\xd9"  # JPEG's end marker


def test_files_of_another_version_or_picture_are_not_taken(tmp_path: Path) -> None:
    data, streams = pictures(tmp_path / "d"), tmp_path / "streams"
    plan = protocol(points={}, rate_targets=[1.0])
    for version, out, calls in (("1", "a", True), ("1", "b", False), ("2", "c", True)):
        codec = ToyCodec(version=version)
        run(plan, data.first(1), [codec], [], tmp_path / out, streams=streams)
        assert (codec.calls > 1) is calls  # one call is the warm-up
    PilImage.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(data.pictures[0].path)
    codec = ToyCodec()
    run(plan, data.first(1), [codec], [], tmp_path / "d2", streams=streams)
    assert codec.calls > 1
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OptionError, match="cannot keep"):
        run(plan, data.first(1), [ToyCodec()], [], tmp_path / "e", streams=blocked)


def test_a_killed_run_continues(tmp_path: Path) -> None:
    data, out = pictures(tmp_path / "d"), tmp_path / "out"

    def stop(codec: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(protocol(), data, [ToyCodec()], [], out, progress=stop)
    (cache,) = (out / "cache").glob("*.jsonl")
    with cache.open("a") as file:
        file.write('{"point":"q=20","pict')  # as a kill in the middle of a line leaves it
    found = run(protocol(), data, [ToyCodec()], [], out)
    assert (found.computed, found.cached) == (2, 4)
    assert run(protocol(), data, [ToyCodec()], [], out).computed == 0


ENDLESS = """
import os, subprocess, sys
from pathlib import Path
from vcm.codecs.pillow import UncompressedCodec
from vcm.eval.data import load_dataset
from vcm.eval.run import Protocol, run

class Endless(UncompressedCodec):
    def compress(self, image, quality):
        encoder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(f"{os.getpid()}-{encoder.pid}.pid").touch()
        encoder.wait()

def stop_when_told(codec, done, total):
    raise ZeroDivisionError

class Once(Endless):
    def compress(self, image, quality):
        return b"x" if image[0, 0, 0] == 0 and image.shape[0] < 256 else super().compress(image, quality)

    def decompress(self, data):
        import time
        while not list(Path().glob("*.pid")):
            time.sleep(0.05)
        raise RuntimeError("this record ends the run, while the other process waits for its encoder")

if __name__ == "__main__":
    protocol = Protocol.model_validate_json(sys.argv[1])
    codec = {"endless": Endless, "once": Once}[sys.argv[2]]()
    run(protocol, load_dataset(Path("d"), "plain"), [codec], [], Path("out"), jobs=2, progress=stop_when_told)
"""


def _endless(folder: Path, kind: str) -> subprocess.Popen[bytes]:
    pictures(folder / "d", 2)
    (folder / "endless.py").write_text(ENDLESS)
    plan = protocol(points={"uncompressed": [0]}).model_dump_json()
    command = [sys.executable, "endless.py", plan, kind]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)


def _processes(folder: Path) -> list[int]:
    """A worker and the encoder that it waits for."""
    return soon(lambda: [int(part) for part in next(folder.glob("*.pid")).stem.split("-")])


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_and_their_encoders_end_with_the_run_that_was_killed(tmp_path: Path, how: signal.Signals) -> None:
    with _endless(tmp_path, "endless") as parent:
        processes = _processes(tmp_path)
        parent.send_signal(how)
        assert parent.wait(60) != 0
    for process in processes:
        soon(lambda p=process: ended(p) or None)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")
def test_processes_end_with_the_run_that_fails(tmp_path: Path) -> None:
    with _endless(tmp_path, "once") as parent:
        assert parent.wait(120) == 1, "the exception comes out while an encoder is still at work"
    for process in _processes(tmp_path):
        soon(lambda p=process: ended(p) or None)


def test_no_process_is_left_after_a_run(tmp_path: Path) -> None:
    run(protocol(points={"jpeg": [10]}), pictures(tmp_path / "d"), [jpeg()], [], tmp_path / "out", jobs=2)
    assert multiprocessing.active_children() == []


def soon(found: Callable[[], T | None]) -> T:
    for _ in range(600):
        with contextlib.suppress(StopIteration):
            if (value := found()) is not None:
                return value
        time.sleep(0.1)
    pytest.fail("a minute has passed")


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_broken_picture_counts_for_no_codec_and_is_told(tmp_path: Path) -> None:
    data, out = pictures(tmp_path / "d", 4), tmp_path / "out"
    (tmp_path / "d" / "2.png").write_bytes(b"broken")
    found = run(protocol(), data, [ToyCodec(), jpeg(), ToyCodec("fussy", bad=1)], [], out)
    assert [picture.name for picture in found.dataset.pictures] == ["0.png", "3.png"]
    assert all(set(by_name) == {"0.png", "3.png"} for c in found.codecs for by_name in c.records.values())
    reasons = {(skip.picture, skip.codec) for skip in found.skipped}
    assert reasons == {("2.png", ""), ("1.png", "fussy")}
    assert all(skip.reason for skip in found.skipped)
    # What failed is tried again, the rest is not.
    again = run(protocol(), data, [ToyCodec(), jpeg(), ToyCodec("fussy", bad=1)], [], out)
    assert again.skipped == found.skipped
    failures = 2 + 2 + 5 + 5  # 2.png at every point of three codecs (five points where none are named), 1.png of fussy
    assert (again.computed, again.cached) == (failures, found.computed - failures)


def test_a_crash_of_a_library_is_a_reason_and_not_the_end(tmp_path: Path) -> None:
    class Wild(ToyCodec):
        def decompress(self, data: bytes) -> Image:
            if self._last[0, 0, 0] == 1:
                raise ZeroDivisionError("somewhere deep")
            return super().decompress(data)

    found = run(protocol(), pictures(tmp_path / "d"), [Wild()], [], tmp_path / "out")
    assert {skip.picture for skip in found.skipped} == {"1.png"}
    assert "ZeroDivisionError: somewhere deep" in found.skipped[0].reason


def test_a_codec_that_changes_the_size_is_found_out(tmp_path: Path) -> None:
    class Shrinking(ToyCodec):
        def decompress(self, data: bytes) -> Image:
            return super().decompress(data)[:-1]

    with pytest.raises(OptionError, match="another size"):
        run(protocol(), pictures(tmp_path / "d"), [Shrinking()], [], tmp_path / "out")


def test_target_rates_are_met_by_search(tmp_path: Path) -> None:
    wanted = protocol(points={}, rate_targets=[0.5, 2.0, 100.0])
    found = run(wanted, pictures(tmp_path / "d", 1), [ToyCodec()], [], tmp_path / "out").codecs[0].records
    pixels = 20 * 30
    assert found["bpp=0.5"]["0.png"].bytes in (37, 38)  # 37.5 would be met
    assert found["bpp=2"]["0.png"].quality == 2 * pixels / 8
    assert found["bpp=100"]["0.png"].bytes == 1000  # the nearest that can be reached


def test_machines_see_the_decoded_picture_and_heads_the_file(tmp_path: Path) -> None:
    data = boxed(pictures(tmp_path / "d"))
    plan = protocol(task="detection", accuracy=["ap"])
    found = run(plan, data, [ToyCodec(), ToyBase("base")], [ToyMachine()], tmp_path / "out")
    pixels, base = (codec.records[codec.points[0].label]["0.png"] for codec in found.codecs)
    assert set(pixels.found) == {"eye"}
    assert set(base.found) == {HEAD}
    assert base.metrics == {}
    assert base.layers == {"header": 1, "base": base.bytes - 1}


def test_a_machine_that_did_not_look_is_no_part_of_the_key(tmp_path: Path) -> None:
    class Other(ToyMachine):
        name = "other"

        def describe(self) -> MachineInfo:
            return MachineInfo("other", "1")

    data, out = boxed(pictures(tmp_path / "d")), tmp_path / "out"
    plan = protocol(task="detection", accuracy=["ap"], points={"base": [5], "toy": [5]})
    codecs = [ToyBase("base"), ToyCodec()]
    assert run(plan, data, codecs, [ToyMachine()], out).computed == 6
    assert run(plan, data, codecs, [Other()], out).computed == 3, "the base was seen by neither"
    changed = plan.model_copy(update={"metrics": ("psnr", "psnr_y")})
    assert run(changed, data, codecs, [Other()], out).computed == 3


def test_files_of_the_examples_are_kept(tmp_path: Path) -> None:
    data = pictures(tmp_path / "d", 7)
    found = run(protocol(points={"toy": [5, 6]}), data, [ToyCodec()], [], tmp_path / "out")
    assert found.examples == ("1.png", "3.png", "5.png")
    assert found.streams == tmp_path / "out" / "streams"
    assert len(list(found.streams.rglob("*.stream"))) == 6


def test_published_curves_of_kodak_are_of_kodak_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = {"name": "paper", "pictures": "kodak", "rate": [1.0], "values": {"psnr": [30.0]}}
    plan, data = protocol(points={"toy": [5]}, references=[reference]), pictures(tmp_path / "d")
    found = run(plan, data, [ToyCodec()], [], tmp_path / "out")
    assert found.references == ()
    assert found.notes == (
        "not compared with paper, whose numbers are of the 24 Kodak pictures: there are 3 pictures here",
    )
    digests = [sha256(load_image(p.path).pixels.tobytes()).hexdigest()[:16] for p in data.pictures]
    monkeypatch.setattr(kodak, "KODAK", frozenset(digests))
    assert kodak.why_not_kodak(data.pictures) == "0.png has 30x20 pixels"
    monkeypatch.setattr(kodak, "_SIZES", ((30, 20),))
    assert run(plan, data, [ToyCodec()], [], tmp_path / "out").references == plan.references
    assert kodak.why_not_kodak([*data.pictures[:2], data.pictures[1]]) == "one is there twice"
    monkeypatch.setattr(kodak, "KODAK", frozenset([*digests[:2], "0" * 16]))
    assert kodak.why_not_kodak(data.pictures) == "2.png has other pixels"


def test_pseudo_ground_truth_comes_from_the_uncompressed_pictures(tmp_path: Path) -> None:
    plan = protocol(task="detection", accuracy=["ap"])
    codecs = [UncompressedCodec(), ToyCodec()]
    found = run(plan, pictures(tmp_path / "d"), codecs, [ToyMachine()], tmp_path / "out", pseudo="eye")
    truth = found.dataset.ground_truth
    assert truth is not None
    assert truth.pseudo
    assert truth.name.startswith("pseudo:eye")
    assert len(truth.boxes) == 3


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    data, out = pictures(tmp_path / "d"), tmp_path / "out"
    detect = protocol(task="detection", accuracy=["ap"])
    cases = [
        (protocol(), [], [], {}, "no codec"),
        (protocol(), [ToyCodec(), ToyCodec()], [], {}, "one name"),
        (protocol(), [ToyCodec()], [ToyMachine()], {}, "distortion only"),
        (protocol(), [ToyBase()], [], {}, "pixels"),
        (protocol(), [ToyCodec()], [], {"jobs": 0}, "jobs"),
        (detect, [ToyCodec()], [], {}, "needs a machine"),
        (detect, [ToyCodec()], [ToyMachine()], {}, "needs boxes"),
        (detect, [ToyCodec()], [ToyMachine()], {"pseudo": "eye"}, "pseudo"),
    ]
    for plan, codecs, machines, options, message in cases:
        with pytest.raises(OptionError, match=message):
            run(plan, data, codecs, machines, out, **options)  # type: ignore[arg-type]


def test_processes_give_the_same_records(tmp_path: Path) -> None:
    data = pictures(tmp_path / "d", 2)
    plan = protocol(points={"jpeg": [30]})
    one = run(plan, data, [jpeg()], [], tmp_path / "one").codecs[0].records["q=30"]
    two = run(plan, data, [jpeg()], [], tmp_path / "two", jobs=2).codecs[0].records["q=30"]
    assert {n: (r.bytes, r.metrics) for n, r in one.items()} == {n: (r.bytes, r.metrics) for n, r in two.items()}


def test_records_survive_the_cache(tmp_path: Path) -> None:
    found = Found.of(_box(np.zeros((20, 30, 3), np.uint8)), 0.5)
    record = Record(
        "q=1", "a.png", "00", None, 1.0, 30, 20, 77, {"base": 7}, 0.1, 0.2, None, {"psnr": 30.5}, {"m": found}
    )
    cache = Cache(tmp_path / "deep" / "c.jsonl")
    cache.add(record)
    cache.add(Record("q=1", "b.png", "01", error="failed"))
    cache.close()
    assert list(Cache(tmp_path / "deep" / "c.jsonl").records.values()) == [record]
    assert found.detections(30, 20).boxes.tolist() == [[1, 1, 29, 19]]


def test_picture_is_named_in_an_unreadable_file(tmp_path: Path) -> None:
    data = Dataset("d", tmp_path, "plain", (Picture(0, "gone.png", tmp_path / "gone.png"),))
    with pytest.raises(OptionError, match=r"gone\.png"):
        run(protocol(), data, [ToyCodec()], [], tmp_path / "out")
