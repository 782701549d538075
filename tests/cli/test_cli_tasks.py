"""detect, classify, inspect, models, cost, demo, bench: what they print."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import vcm
from vcm.bitstream import read


@pytest.fixture
def file(run, photo, tmp_path) -> Path:
    run("encode", photo, "-o", tmp_path / "a.vcm")
    return tmp_path / "a.vcm"


def test_detect_json_has_the_keys_of_the_contract(run, file) -> None:
    got = run("detect", file, "--json", "--score", 0.1)
    assert (got.status, got.err) == (0, "")
    base = len(read(file).base)
    assert json.loads(got.out) == [
        {
            "file": str(file),
            "width": 48,
            "height": 32,
            "bytes_read": base,
            "detections": [
                {"box": [1.0, 2.0, 45.0, 28.0], "score": 0.9, "label": "cat", "category_id": 17},
                {"box": [0.0, 0.0, 8.0, 8.0], "score": 0.2, "label": "person", "category_id": 1},
            ],
        }
    ]
    assert len(json.loads(run("detect", file, "--json").out)[0]["detections"]) == 1


def test_the_default_score_is_that_of_python(run, file) -> None:
    from inspect import signature

    from vcm.structures import DEFAULT_SCORE

    for call in (vcm.Codec.detect, vcm.PixelTwin.detect):
        assert signature(call).parameters["score"].default == DEFAULT_SCORE
    assert f"[default: ({DEFAULT_SCORE:g})]" in " ".join(run("detect", "--help").out.replace("│", " ").split())
    assert run("detect", file).out == run("detect", file, "--score", DEFAULT_SCORE).out


def test_detect_on_a_prefix_a_picture_and_a_file_without_its_extension(run, file, photo, tmp_path) -> None:
    (tmp_path / "base.vcm").write_bytes(read(file).base)
    shutil.copy(file, tmp_path / "noext")
    rows = json.loads(run("detect", file, tmp_path / "base.vcm", photo, tmp_path / "noext", "--json").out)
    assert len(rows) == 4
    for row in rows:
        assert {**row, "file": ""} == {**rows[0], "file": ""}


def test_detect_text_and_a_bad_file_among_good_ones(run, file, tmp_path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"words")
    got = run("detect", file, tmp_path / "bad.txt", tmp_path / "none.vcm", file)
    assert got.status == 1
    assert got.out.count("cat") == 2
    assert got.out.count("1 object,") == 2
    assert [("bad.txt" in line, "none.vcm" in line) for line in got.err.splitlines()] == [(True, False), (False, True)]
    got = run("detect", tmp_path / "bad.txt", "--json")
    assert got.status == 1
    assert [sorted(row) for row in json.loads(got.out)] == [["error", "file"]]


def test_detect_draws(run, file, photo, tmp_path) -> None:
    assert run("detect", file, "--draw", tmp_path / "one.png").status == 0
    assert run("detect", file, photo, "--draw", tmp_path / "many").status == 0
    for name in ("one.png", "many/a.boxes.png", "many/photo.boxes.png"):
        with Image.open(tmp_path / name) as drawn, Image.open(photo) as plain:
            assert drawn.size == plain.size
            assert drawn.tobytes() != plain.convert(drawn.mode).tobytes()
    before = photo.read_bytes()
    assert run("detect", photo, "--draw", photo).status == 2
    assert run("detect", file, "--draw", tmp_path / "x.vcmm").status == 1
    assert photo.read_bytes() == before


def test_drawings_of_big_pictures_are_small(run, codec, monkeypatch, tmp_path) -> None:
    """A picture is reduced, a big file is not decoded; --full is all of it."""
    asked = []
    whole = codec.decode
    monkeypatch.setattr(
        codec, "decode", lambda source, **options: asked.append(options["layers"]) or whole(source, **options),
        raising=False,
    )  # fmt: skip
    for size, layers in (((4000, 60), None), ((4000, 2100), 1)):
        picture, file, out = tmp_path / "big.png", tmp_path / "big.vcm", tmp_path / "boxes.png"
        Image.new("RGB", size).save(picture)
        run("encode", picture)
        for source in (picture, file):
            assert run("detect", source, "--draw", out, "--force").status == 0
            with Image.open(out) as drawn:
                assert drawn.size == (2048, round(size[1] * 2048 / size[0]))
        assert run("detect", file, "--draw", out, "--force", "--full").status == 0
        with Image.open(out) as drawn:
            assert drawn.size == size
        assert asked == [layers, None]
        asked.clear()


def test_detect_names_a_fingerprint_that_no_model_has(run, file) -> None:
    from dataclasses import replace

    stream = read(file)
    base = replace(stream.base_layer, fingerprint=b"\xff" * 8)
    replace(stream, chunks=(base, *stream.chunks[1:])).save(file)
    got = run("detect", file)
    assert got.status == 1
    assert "ff" * 8 in got.err
    assert json.loads(run("inspect", file, "--json").out)[0]["model"] is None


def test_the_model_that_wrote_a_file_is_taken(run, codec, file, monkeypatch) -> None:
    """By fingerprint; of two models with one base, that of the enhancement; and what is asked for comes first."""
    import dataclasses

    (shipped,) = vcm.list_models()
    other = dataclasses.replace(shipped, name="other", path=Path("other"), fingerprint="00" * 8)
    newer = dataclasses.replace(shipped, name="newer", path=Path("newer"), fingerprint_enhancement="11" * 8)
    asked: list[str | Path] = []
    monkeypatch.setitem(vars(vcm), "load", lambda name, **options: asked.append(name) or codec)
    monkeypatch.setattr("vcm.weights.registry.list_models", lambda folders=(): (other, newer, shipped))
    run("decode", file, "-o", file.with_suffix(".png"))
    run("decode", file, "-o", file.with_suffix(".png"), "--model", "newer", "--force")
    run("detect", file, file)
    assert asked == [shipped.path, "newer", newer.path]
    assert json.loads(run("inspect", file, "--json").out)[0]["model"] == "vcm-s"


def test_classify(run, file, photo) -> None:
    got = run("classify", file, photo, "--top", 2, "--json")
    rows = json.loads(got.out)
    assert [row["file"] for row in rows] == [str(file), str(photo)]
    assert rows[0]["bytes_read"] == rows[1]["bytes_read"] == len(read(file).base)
    assert [c["label"] for c in rows[0]["classes"]] == ["toothbrush", "hair drier"]
    assert rows[0]["classes"][0]["score"] == pytest.approx(0.8)
    assert run("classify", file).out.count("\n") >= 6


def test_inspect_json_has_the_keys_of_the_contract(run, file) -> None:
    (found,) = json.loads(run("inspect", file, "--json").out)
    stream = read(file)
    assert {
        "width", "height", "format_version", "model", "fingerprint", "layers", "base_bytes", "total_bytes", "bpp",
        "base_bpp",
    } <= set(found)  # fmt: skip
    assert (found["width"], found["height"], found["model"]) == (48, 32, "vcm-s")
    assert found["total_bytes"] == file.stat().st_size
    assert found["base_bytes"] == len(stream.base)
    assert [set(layer) >= {"name", "offset", "bytes"} for layer in found["layers"]] == [True, True]
    base, enhancement = found["layers"]
    assert base["offset"] + base["bytes"] == found["base_bytes"] == enhancement["offset"]
    assert enhancement["offset"] + enhancement["bytes"] == found["total_bytes"]
    assert found["bpp"] == pytest.approx(found["total_bytes"] * 8 / (48 * 32))


def test_inspect_text(run, file) -> None:
    got = run("inspect", file)
    for word in ("48x32", "vcm-s", "enhancement", f"{file.stat().st_size:,} bytes"):
        assert word in got.out


def test_models_and_cost(run) -> None:
    assert json.loads(run("models", "--json").out)[0]["name"] == "vcm-s"
    assert "10 steps on noise" in run("models").out
    assert json.loads(run("cost", "--json").out)[0] == {"stage": "base-only encode", "kmac_per_px": 5.25, "budget": 8}
    text = run("cost").out
    assert [("inside" in line, "OVER" in line) for line in text.splitlines() if "encode" in line] == [
        (True, False),
        (False, True),
    ]


def test_demo(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    got = run("demo")
    assert (got.status, got.err) == (0, "")
    for word in ("cat", "astronaut", "coffee", "vcm-demo.png"):
        assert word in got.out
    with Image.open(tmp_path / "vcm-demo.png") as figure:
        assert figure.width > 1200
        assert figure.height > 800
    assert run("demo", "-o", tmp_path / "none" / "a.png").status == 1
    assert run("demo", "-o", "a.xyz").status == 1
    assert [path.name for path in tmp_path.iterdir()] == ["vcm-demo.png"]


def test_bench_without_compressai(run, photo, monkeypatch) -> None:
    import torch

    monkeypatch.setitem(sys.modules, "compressai", None)
    monkeypatch.setitem(sys.modules, "compressai.zoo", None)
    before = torch.get_num_threads()
    got = run("bench", "--image", photo, "--runs", 2, "--threads", 1, "--quick", "--json")
    assert (got.status, got.err) == (0, "")
    found = json.loads(got.out)
    names = [t["name"] for t in found["timings"]]
    assert names[:3] == ["encode", "encode, base only", "encode, base only, one core"]
    assert {"decode + twin", "JPEG decode + twin", "JPEG decode"} <= set(names)
    assert all(t["median_ms"] >= t["fastest_ms"] > 0 for t in found["timings"])
    assert (found["anchor"], found["threads"]) == (None, 1)
    rows = {row["name"]: row for row in found["rows"]}
    time = {t["name"]: t["median_ms"] for t in found["timings"]}
    row = rows["machine path, JPEG decode + twin"]
    assert row["value"] == pytest.approx(time["JPEG decode + twin"] / time["base decode + detect"])
    assert (row["floor"], row["target"], row["unit"]) == (4, 8, "times")
    assert torch.get_num_threads() == before
    assert "not installed" in run("bench", "--image", photo, "--runs", 1, "--quick").out


def test_bench_says_how_far_a_row_reaches() -> None:
    from vcm.cli.bench import Row

    assert [Row("", v, "times", 3, 6).verdict for v in (2.9, 3, 6)] == ["below", "floor", "target"]
    assert [Row("", v, "ms", 45, 20, less=True).verdict for v in (46, 45, 20)] == ["below", "floor", "target"]
    assert Row("", 1, "ms").verdict == ""


def test_bench_with_a_network_in_the_place_of_compressai(run, photo, monkeypatch) -> None:
    import types

    updated = []

    class Network:
        def eval(self) -> Network:
            return self

        def update(self, force: bool = False) -> None:
            updated.append(force)

        def compress(self, x):
            assert updated
            assert tuple(x.shape) == (1, 3, 64, 64)
            return {"strings": [b""], "shape": (1, 1)}

        def decompress(self, strings, shape):
            return {}

    zoo = types.ModuleType("compressai.zoo")
    zoo.mbt2018_mean = lambda quality, metric, pretrained: Network()
    monkeypatch.setitem(sys.modules, "compressai", types.ModuleType("compressai"))
    monkeypatch.setitem(sys.modules, "compressai.zoo", zoo)
    found = json.loads(run("bench", "--image", photo, "--runs", 1, "--quick", "--json").out)
    assert "initialised weights" in found["anchor"]
    assert [row["verdict"] for row in found["rows"] if "mbt2018" in row["name"]] == ["below"]
    text = run("bench", "--image", photo, "--runs", 1, "--quick").out
    assert "initialised weights" in text
    assert "decode, its decompress" in text


@pytest.mark.parametrize(
    ("finished", "weights", "said"),
    [
        (True, Path("out/c.safetensors"), "trained: out/c.safetensors"),
        (True, None, "trained: out/twin/ema.safetensors"),  # a recipe without a codec
        (False, None, "stopped at step 7; continue with --resume"),
    ],
)
def test_train_says_what_it_left(run, monkeypatch, finished, weights, said) -> None:
    stage = SimpleNamespace(weights=Path("out/twin/ema.safetensors"), step=7, finished=finished)
    left = SimpleNamespace(stages=(stage,), weights=weights)
    monkeypatch.setattr("vcm.training.run.train", lambda *_, **__: left)
    assert said in run("train", "recipe.yaml").out
