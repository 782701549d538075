"""Pictures into an archive: once each, whole, whatever is killed when; and out of it again."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from servers import http_server
from tiny import GOLDEN_FILE, TINY_WEIGHTS
from videos import make_video

import vcm
from vcm.archive import Archive, IngestOptions, Summary, add_head_rows, ingest
from vcm.archive.folders import Folder, locked
from vcm.archive.ingest import content_of
from vcm.archive.show import Codecs, contact_sheet, decode_hits, to_coco
from vcm.archive.sources import find, taken_at
from vcm.archive.table import known
from vcm.errors import HeadError, InputError, OptionError, OutputError, UsageError
from vcm.io.video import read_frames
from vcm.structures import Classes, LatentSpec
from vcm.tasks.classification import ClassificationHead
from vcm.tasks.detection import DetectionHead
from vcm.tasks.keypoints import KeypointHead
from vcm.tasks.shapes import KeypointShape
from vcm.weights.head_file import save_head

OPTIONS = IngestOptions(score=0.0)


@pytest.fixture(scope="module")
def codec() -> vcm.Codec:
    return vcm.load(TINY_WEIGHTS, threads=1)


def save_picture(path: Path, seed: int, when: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    if when is not None:
        exif[0x0132] = when
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures of two cameras, one of them twice, one that is damaged, and what is no picture."""
    root = tmp_path / "photos"
    for seed in range(3):
        save_picture(root / "1" / f"{seed}.png", seed, f"2026:11:2{seed} 10:00:00")
        save_picture(root / "gate 4" / f"{seed}.jpg", seed + 10)
    (root / "gate 4" / "again.png").write_bytes((root / "1" / "0.png").read_bytes())
    (root / "1" / "damaged.png").write_bytes((root / "1" / "0.png").read_bytes()[:50])
    (root / "1" / "notes.txt").write_text("no picture")
    save_picture(root / ".trash" / "x.png", 30)
    return root


def contents(place: Path) -> dict[str, bytes]:
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def test_pictures_are_taken_in_once(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    place, problems = tmp_path / "archive", []
    summary = ingest(
        [str(photos)], place, codec, OPTIONS, failed=lambda name, error: problems.append((name, str(error)))
    )
    assert (summary.pictures, summary.known, summary.failed) == (6, 1, 1)
    assert [name for name, _ in problems] == [str(photos / "1" / "damaged.png")]
    with Archive(place) as archive:
        hits = archive.query().pictures
        assert {(hit.camera, Path(hit.source).name) for hit in hits} == {
            *(("1", f"{n}.png") for n in range(3)), *(("gate 4", f"{n}.jpg") for n in range(3)),
        }  # fmt: skip
        assert archive.query("camera = 1").pictures[0].time == datetime(2026, 11, 22, 10)
        for hit in hits:
            data = Path(hit.source).read_bytes()
            assert hit.picture == content_of(data)
            assert archive.stream(hit) == codec.encode(data)
            assert archive.base(hit).to_bytes() == codec.encode(data).base
            assert (hit.bytes, hit.base_bytes) == (archive.stream(hit).total_bytes, len(archive.base(hit).to_bytes()))
        assert archive.stored() == (6, summary.bytes)
        # A row for each object, and one for a picture in which none was found.
        wanted = sum(max(1, len(codec.detect(archive.base(hit), score=0.0))) for hit in hits)
        assert archive.sql("SELECT count(*) FROM detections").rows == ((wanted,),)
    before = contents(place)
    again = ingest([str(photos)], place, codec, OPTIONS)
    assert (again.pictures, again.known, again.failed) == (0, 7, 1)
    assert contents(place) == before


def test_rows_are_the_detections(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    ingest([str(photos / "1" / "1.png")], tmp_path / "archive", codec, OPTIONS)
    with Archive(tmp_path / "archive") as archive:
        (hit,) = archive.query().pictures
        found = codec.detect(archive.base(hit), score=0.0)
        assert len(found) > 0
        rows = archive.sql("SELECT label, score, category_id, x1, y1, x2, y2 FROM detections ORDER BY ALL").rows
        assert list(rows) == sorted((one.name, one.score, one.category_id, *one.box) for one in found)
        # The language gives the objects that it was asked for.
        best = found[0]
        assert archive.query(f'"{best.name}" >= {best.score}').pictures[0].objects[0].box == best.box
        assert archive.query(f'"{best.name}" > 1').pictures == ()


def test_threads_and_commits_change_no_picture(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    ingest([str(photos)], tmp_path / "one", codec, OPTIONS)
    ingest([str(photos)], tmp_path / "two", codec, OPTIONS, jobs=3)
    ingest([str(photos)], tmp_path / "three", codec, OPTIONS, commit=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    rows = [Archive(tmp_path / name).sql("SELECT * FROM detections ORDER BY ALL").rows for name in ("one", "three")]
    assert rows[0] == rows[1]


def test_bases_and_the_rest_apart(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    cold = tmp_path / "cold"
    ingest([str(photos)], tmp_path / "split", codec, IngestOptions(score=0, split=("hot/", str(cold))))
    ingest([str(photos)], tmp_path / "whole", codec, OPTIONS)
    with Archive(tmp_path / "split") as split, Archive(tmp_path / "whole") as whole:
        hits = split.query().pictures
        for one, other in zip(hits, whole.query().pictures, strict=True):
            assert one.rest is not None
            assert (tmp_path / "split" / one.file).stat().st_size == one.base_bytes
            assert (tmp_path / "split" / one.file).read_bytes() + Path(one.rest).read_bytes() == whole.stream(
                other
            ).to_bytes()
            assert split.stream(one) == whole.stream(other)
    # Bases alone answer queries and give previews.
    for path in cold.rglob("*.rest"):
        path.unlink()
    with Archive(tmp_path / "split") as split:
        assert split.base(hits[0]).layer_names == ("base",)
        with pytest.raises(InputError, match="no such file"):
            split.stream(hits[0])


def test_files_that_are_coded_already_are_taken_as_they_are(tmp_path: Path, codec: vcm.Codec) -> None:
    summary = ingest([str(GOLDEN_FILE)], tmp_path / "archive", codec, IngestOptions(camera="yard"))
    assert (summary.pictures, summary.bytes) == (1, GOLDEN_FILE.stat().st_size)
    with Archive(tmp_path / "archive") as archive:
        assert archive.stream(archive.query("camera = yard").pictures[0]).to_bytes() == GOLDEN_FILE.read_bytes()


def test_an_archive_in_a_store(photos: Path, codec: vcm.Codec) -> None:
    store = fsspec.filesystem("memory")
    try:
        for path in sorted(photos.rglob("*.png")):
            store.pipe_file(f"/in/{path.parent.name}/{path.name}", path.read_bytes())
        summary = ingest(["memory://in"], "memory://archive", codec, OPTIONS)
        assert (summary.pictures, summary.known, summary.failed) == (3, 1, 1)
        assert ingest(["memory://in/*/*.png"], "memory://archive", codec, OPTIONS).pictures == 0
        with Archive("memory://archive") as archive:
            hits = archive.query("camera = 1").pictures
            assert [hit.source for hit in hits] == [f"memory://in/1/{n}.png" for n in (2, 1, 0)]
            assert contact_sheet(archive, hits, Codecs(codec))[1] == sum(hit.base_bytes for hit in hits)
    finally:
        store.store.clear()


def test_pictures_of_the_web(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    with http_server() as web:
        web.files["cam/a.png"] = (photos / "1" / "1.png").read_bytes()
        assert ingest([f"{web.url}cam/a.png"], tmp_path / "archive", codec, OPTIONS).pictures == 1
    with Archive(tmp_path / "archive") as archive:
        assert archive.query().pictures[0].camera == "cam"


def test_frames_of_a_video(tmp_path: Path, codec: vcm.Codec) -> None:
    (tmp_path / "cam 7").mkdir()
    video = make_video(tmp_path / "cam 7" / "a.mp4", created="2026-11-24T18:30:00Z")
    options = IngestOptions(score=0, every=8)
    assert ingest([str(video.parent)], tmp_path / "archive", codec, options).pictures == 3
    assert ingest([str(video)], tmp_path / "archive", codec, options).known == 3
    assert ingest([str(video)], tmp_path / "archive", codec, IngestOptions(score=0, every=4)).pictures == 2
    with Archive(tmp_path / "archive") as archive:
        hits = archive.query('camera = "cam 7", since 2026-11-24T18:30:00.7').pictures
        assert [hit.source for hit in hits] == [f"{video}#16", f"{video}#12", f"{video}#8"]
        pixels = [frame.pixels for frame in read_frames(video) if frame.index == 8]
        assert archive.stream(hits[2]) == codec.encode(pixels[0])


def save_heads(folder: Path) -> None:
    """Heads of each kind, of random numbers, for the tiny codec."""
    spec, names = LatentSpec(8, 16), Classes(("ant", "bee", "cat"), (7, 9, 400))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        detection = DetectionHead(spec, classes=3, width=16, feature=8, names=names)
        for level in detection.levels:
            torch.nn.init.normal_(level.predict.weight, std=0.5)  # so that a random head finds something
            torch.nn.init.zeros_(level.predict.bias)
        heads = {
            "detection": detection,
            "classification": ClassificationHead(spec, classes=3, width=16, names=names),
            "keypoints": KeypointHead(spec, names.names, KeypointShape(grid=4, width=8, depth=1, up=2, margin=1.5)),
        }
        for kind, head in heads.items():
            save_head(folder / f"{kind}.safetensors", head.eval(), fingerprint="", trained="on noise")


def test_a_new_head_over_an_old_archive(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    place = tmp_path / "archive"
    ingest([str(photos)], place, codec, IngestOptions(score=0, split=("hot", "cold")))
    shutil.rmtree(place / "cold")  # bases are enough
    save_heads(tmp_path)
    opened = vcm.load(TINY_WEIGHTS, threads=1)
    for kind, count in (("detection", 6), ("classification", 6)):
        head = tmp_path / f"{kind}.safetensors"
        done = add_head_rows(place, opened, head, score=0.0)
        assert (done.pictures, done.known, done.failed) == (count, 0, 0)
        assert add_head_rows(place, opened, head, score=0.0).known == 6
    assert add_head_rows(place, opened, "classify", score=0.0, commit=2, jobs=2).pictures == 6
    with pytest.raises(HeadError, match="a head that detects or classifies, found Keypoints"):
        add_head_rows(place, opened, tmp_path / "keypoints.safetensors")
    with pytest.raises(InputError, match="cannot read"):
        add_head_rows(place, opened, tmp_path / "none.safetensors")
    check = vcm.load(TINY_WEIGHTS).add_head("own", tmp_path / "detection.safetensors")
    with Archive(place) as archive:
        assert {"ant", "bee", "cat"} <= set(archive.labels())
        assert archive.stored()[0] == 6
        hits = archive.query("ant >= 0, head = detection*").pictures
        assert hits
        for hit in hits:
            found = check.run("own", archive.base(hit), score=0.0)
            wanted = sorted((one.score, one.box) for one in found if one.name == "ant")
            assert sorted((one.score, one.box) for one in hit.objects) == wanted
        whole = archive.query("ant >= 0, head = classification*").pictures
        assert len(whole) == 6
        assert all(one.box is None for hit in whole for one in hit.objects)
        assert contact_sheet(archive, whole, Codecs(codec))[1] > 0
        assert to_coco(whole)["annotations"] == []


def test_what_is_found_and_what_is_not(photos: Path) -> None:
    names = [Path(item.name).name for item in find([str(photos), str(photos / "1" / "0.png")])]
    assert names == ["0.png", "1.png", "2.png", "damaged.png", "0.jpg", "1.jpg", "2.jpg", "again.png"]
    assert {item.camera for item in find([str(photos / "*" / "0.*")])} == {"1", "gate 4"}
    assert [item.camera for item in find([str(photos / "1" / "0.png")], "x")] == ["x"]
    for missing in (str(photos / "none"), str(photos / "*" / "none*"), "memory://nowhere/a.png"):
        with pytest.raises(InputError, match=r"none|nowhere"):
            find([missing])


@pytest.mark.parametrize(
    ("tags", "when"),
    [
        ({0x0132: "2026:11:24 18:30:01"}, datetime(2026, 11, 24, 18, 30, 1)),
        ({0x0132: "2026:11:24 18:30:01", 0x9003: "2025:01:02 03:04:05"}, datetime(2025, 1, 2, 3, 4, 5)),
        ({0x9003: "2025:01:02 03:04:05", 0x9011: "+02:00"}, datetime(2025, 1, 2, 1, 4, 5)),
        ({0x0132: "0000:00:00 00:00:00"}, None),
        ({0x0132: "yesterday"}, None),
        ({}, None),
    ],
)
def test_when_a_photograph_was_taken(tags: dict[int, str], when: datetime | None) -> None:
    exif, data = Image.Exif(), io.BytesIO()
    for tag, value in tags.items():
        (exif.get_ifd(0x8769) if tag > 0x9000 else exif)[tag] = value
    Image.new("RGB", (16, 16)).save(data, "JPEG", exif=exif)
    assert taken_at(data.getvalue()) == when
    assert taken_at(b"nothing") is None


def test_one_writer_at_a_time(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    with locked(Folder(tmp_path / "archive")), pytest.raises(OutputError, match="another ingest writes"):
        ingest([str(photos)], tmp_path / "archive", codec, OPTIONS)
    assert ingest([str(photos)], tmp_path / "archive", codec, OPTIONS).pictures == 6


def test_a_full_disk_ends_the_run_and_what_was_done_is_kept(
    photos: Path, tmp_path: Path, codec: vcm.Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = Folder.write, [3]

    def full(self: Folder, name: str, data: bytes) -> None:
        if name.endswith(".vcm"):
            left[0] -= 1
            if left[0] < 0:
                raise OutputError("cannot write", found="No space left on device")
        write(self, name, data)

    monkeypatch.setattr(Folder, "write", full)
    with pytest.raises(OutputError):
        ingest([str(photos)], tmp_path / "archive", codec, OPTIONS)
    assert len(known(Folder(tmp_path / "archive"))) == 3
    left[0] = 100
    assert ingest([str(photos)], tmp_path / "archive", codec, OPTIONS).pictures == 3


def test_options_that_are_wrong(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    for bad in ({"every": 0}, {"score": 1.5}):
        with pytest.raises(OptionError):
            IngestOptions(**bad)
    with pytest.raises(OptionError, match="commit"):
        ingest([str(photos)], tmp_path / "archive", codec, OPTIONS, commit=0)


def test_coco_sheet_and_pictures(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    ingest([str(photos)], tmp_path / "archive", codec, OPTIONS)
    with Archive(tmp_path / "archive") as archive:
        hits = archive.query("camera = 1").pictures
        coco = to_coco(hits)
        assert [image["id"] for image in coco["images"]] == [1, 2, 3]
        assert len(coco["annotations"]) == sum(len(hit.objects) for hit in hits)
        assert {a["category_id"] for a in coco["annotations"]} == {c["id"] for c in coco["categories"]}
        sheet, read = contact_sheet(archive, hits, Codecs(codec))
        assert read == sum(hit.base_bytes for hit in hits)
        assert sheet.size == (2 * 334 + 14, 2 * 294 + 14)
        assert sheet.getpixel((174, 130)) != (255, 255, 255)
        names, read = decode_hits(archive, hits, Codecs(codec), tmp_path / "out")
        assert read == sum(hit.bytes for hit in hits)
        for name, hit in zip(names, hits, strict=True):
            assert (np.asarray(Image.open(name)) == np.asarray(codec.decode(archive.stream(hit)))).all()
        with pytest.raises(UsageError, match="is there"):
            decode_hits(archive, hits, Codecs(codec), tmp_path / "out")
        with pytest.raises(OptionError):
            contact_sheet(archive, [], Codecs(codec))


WORKER = f"""
import sys, vcm
from vcm.archive import IngestOptions, ingest
codec = vcm.load({str(TINY_WEIGHTS)!r}, threads=1)
print("ready", flush=True)
ingest([sys.argv[1]], sys.argv[2], codec, IngestOptions(score=0, split=("hot", "cold")), commit=4, jobs=2)
"""


def kill_often(source: Path, place: Path, kills: int, seed: int = 0) -> int:
    """Kills runs at random moments; gives how many were killed while they worked."""
    chance, done = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", WORKER, source, place], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        done += process.wait() == -signal.SIGKILL
        process.stdout.close()
        check_whole(place)
    return done


def check_whole(place: Path) -> None:
    """What rows name is there and whole, and no picture has its rows twice."""
    if not list(place.glob("detections/*/*/*.parquet")):
        return
    with Archive(place) as archive:
        for hit in archive.query().pictures:
            assert archive.stream(hit).total_bytes == hit.bytes
        twice = archive.sql("SELECT picture FROM detections GROUP BY picture HAVING count(DISTINCT (source, time)) > 1")
        assert twice.rows == ()


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize(("pictures", "kills"), [(24, 3), pytest.param(400, 50, marks=pytest.mark.slow)])
def test_killed_runs_tear_lose_and_double_nothing(tmp_path: Path, codec: vcm.Codec, pictures: int, kills: int) -> None:
    for seed in range(pictures):
        save_picture(tmp_path / "in" / f"{seed % 3}" / f"{seed}.png", seed)
    assert kill_often(tmp_path / "in", tmp_path / "killed", kills) > 0
    options = IngestOptions(score=0, split=("hot", "cold"))
    summary = ingest([str(tmp_path / "in")], tmp_path / "killed", codec, options)
    assert summary.pictures + summary.known == pictures
    ingest([str(tmp_path / "in")], tmp_path / "quiet", codec, options)
    check_whole(tmp_path / "killed")
    rows = [Archive(tmp_path / name).sql("SELECT * FROM detections ORDER BY ALL").rows for name in ("killed", "quiet")]
    assert rows[0] == rows[1]
    files = [{k: v for k, v in contents(tmp_path / name).items() if k[0] in "hc"} for name in ("killed", "quiet")]
    assert files[0] == files[1]


def test_progress_counts(photos: Path, tmp_path: Path, codec: vcm.Codec) -> None:
    seen: list[tuple[int, int]] = []

    def progress(summary: Summary, total: int) -> None:
        seen.append((summary.pictures, total))

    ingest([str(photos / "1")], tmp_path / "archive", codec, OPTIONS, progress=progress)
    assert seen == [(1, 4), (2, 4), (3, 4), (3, 4)]  # the last could not be read
