"""Metrics of heads against plain implementations, and ``vcm eval`` of a head's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_WEIGHTS, tiny_codec, tiny_twin, tiny_weights

import vcm
import vcm.cli
from vcm.errors import HeadError, OptionError
from vcm.eval.heads import head_curve, head_test
from vcm.eval.metrics.whole import confusion, label_accuracy, retrieval_accuracy, segmentation_accuracy
from vcm.io.copies import near_duplicate
from vcm.io.labelled import ImageFolder, MaskFolder, read_mask
from vcm.structures import Classes, Embedding
from vcm.tasks.shapes import EmbeddingShape, SegmentationShape, SingleLabelShape
from vcm.tasks.whole import EmbeddingHead, SegmentationHead, SingleLabelHead, WholeTask
from vcm.weights.head_file import save_head

NAMES = Classes(("background", "disc", "square"))


def test_top_k_against_counting() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 8)), rng.integers(0, 8, 50).tolist()
    got = label_accuracy(scores, labels)
    ranks = [sorted(range(8), key=lambda c, r=r: -r[c]).index(n) for r, n in zip(scores, labels, strict=True)]
    assert got.top1 == pytest.approx(100 * sum(r == 0 for r in ranks) / 50)
    assert got.top5 == pytest.approx(100 * sum(r < 5 for r in ranks) / 50)
    with pytest.raises(OptionError, match="a label is none of the classes: expected 0 to 7, found 8"):
        label_accuracy(scores, [8] * 50)


def test_intersection_over_union_against_sets_of_pixels() -> None:
    rng = np.random.default_rng(1)
    truths, answers = rng.integers(0, 4, (3, 9, 11)), rng.integers(0, 3, (3, 9, 11))
    truths[0, :3] = 255
    got = segmentation_accuracy([confusion(t, a, 5) for t, a in zip(truths, answers, strict=True)])
    pixels = [(i, y, x) for i, y, x in np.ndindex(truths.shape) if truths[i, y, x] != 255]
    ious = []
    for c in range(5):
        true, found = {p for p in pixels if truths[p] == c}, {p for p in pixels if answers[p] == c}
        ious.append(len(true & found) / len(true | found) if true | found else None)
    assert ious[4] is None
    assert got.per_class == tuple(None if v is None else pytest.approx(100 * v) for v in ious)
    assert got.miou == pytest.approx(100 * np.mean([v for v in ious if v is not None]))
    assert got.pixels == pytest.approx(100 * np.mean([truths[p] == answers[p] for p in pixels]))
    with pytest.raises(OptionError, match="a class that is none"):
        confusion(truths[1], answers[1] + 5, 5)
    with pytest.raises(OptionError, match="no pixel has a class"):
        segmentation_accuracy([confusion(np.full((2, 2), 255), np.zeros((2, 2), int), 5)])


def test_retrieval_against_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(24, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups, queries, k = [i // 4 for i in range(24)], [0, 4, 9, 23], 5
    got = retrieval_accuracy(vectors, groups, queries, k)
    scores = []
    for q in queries:
        others = sorted((i for i in range(24) if i != q), key=lambda i, q=q: -float(vectors[i] @ vectors[q]))
        hits, total = 0, 0.0
        for place, i in enumerate(others[:k], 1):
            if groups[i] == groups[q]:
                hits += 1
                total += hits / place
        scores.append(total / min(k, 3))
    assert got.map_at_k == pytest.approx(100 * np.mean(scores))
    assert retrieval_accuracy(np.eye(3)[[0, 0, 1, 1]], [0, 0, 1, 1], [0, 2]).map_at_k == 100
    with pytest.raises(OptionError, match="a query is alone"):
        retrieval_accuracy(vectors, list(range(24)), [0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("images", "masks", "classes/background", "classes/disc", "classes/square"):
        (tmp_path / "d" / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 255, (64, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "d" / "images" / f"{i}.png")
        Image.fromarray(pixels).save(tmp_path / "d" / "classes" / NAMES.names[i] / f"{i}.png")
        Image.fromarray(np.full((64, 80), i, np.uint8)).save(tmp_path / "d" / "masks" / f"{i}.png")
    (tmp_path / "d" / "classes.txt").write_text("\n".join(NAMES.names))
    return tmp_path / "d"


HEADS: dict[str, Any] = {
    "single-label": (SingleLabelHead, SingleLabelShape(width=8, depth=0), NAMES, "classes", "top1"),
    "segmentation": (SegmentationHead, SegmentationShape(width=8, feature=8, depth=0), NAMES, ".", "miou"),
    "embedding": (
        EmbeddingHead,
        EmbeddingShape(width=8, depth=0, size=8),
        Classes(("picture",)),
        "images",
        "map_at_10",
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_eval_of_a_heads_file(kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    made, shape, names, part, metric = HEADS[kind]
    tiny_weights(tmp_path)
    twin = tiny_twin(tmp_path / "twin.safetensors")
    save_head(tmp_path / "h.safetensors", made(tiny_codec().spec, names, shape))
    save_head(tmp_path / "on-twin.safetensors", made(tiny_codec().spec, names, shape), fingerprint="")
    line = [
        "eval", str(tmp_path / "h.safetensors"), "--data", str(folder / part), "--out", str(tmp_path / "out"),
        "--model", str(tmp_path / "tiny.safetensors"), "--twin", str(twin), "--ceiling", str(tmp_path /
        "on-twin.safetensors"), "--qualities", "100,20",
    ]  # fmt: skip
    assert vcm.cli.run([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [point["quality"] for point in found["points"]] == [100, 20]
    assert found["points"][0]["bpp"] > found["points"][1]["bpp"] > 0
    assert next(iter(found["points"][0]["accuracy"])) == metric
    assert found["ceiling"]["accuracy"][metric] >= 0
    assert (tmp_path / "out" / "curve.svg").read_text().startswith("<?xml")
    assert vcm.cli.run(line) == 0
    assert f"{metric} of twin" in capsys.readouterr().out


def test_the_rate_is_of_real_files(folder: Path) -> None:
    codec = tiny_codec()
    head = WholeTask(EmbeddingHead(codec.spec, Classes(("picture",)), EmbeddingShape(width=8, depth=0, size=8)).eval())
    codec = vcm.load(TINY_WEIGHTS)
    codec.add_head("e", head)
    test = head_test(head, folder / "images")
    curve = head_curve(codec, "e", test, [50])
    files = [codec.encode(p, base_only=True, base_quality=50) for p in test.pictures()]
    assert len(files) == len(test) == 12
    pixels = sum(f.width * f.height for f in files)
    assert curve.points[0].bpp == pytest.approx(8 * sum(len(f.to_bytes()) for f in files) / pixels)
    assert isinstance(codec.run("e", files[0]), Embedding)
    assert np.linalg.norm(codec.run("e", files[0]).vector) == pytest.approx(1, abs=1e-5)


def test_what_a_head_cannot_be_tested_on_is_refused(folder: Path) -> None:
    spec = tiny_codec().spec
    two = Classes(("disc", "square"))
    labels = WholeTask(SingleLabelHead(spec, two, SingleLabelShape(width=8, depth=0)).eval())
    maps = WholeTask(SegmentationHead(spec, two, SegmentationShape(width=8, depth=0)).eval())
    for head, part in ((labels, "classes"), (maps, ".")):
        with pytest.raises(HeadError, match="the head has other classes than the data"):
            head_test(head, folder / part)
    with pytest.raises(OptionError, match="no picture to test on"):
        head_test(WholeTask(SingleLabelHead(spec, NAMES)), folder / "classes", lambda path: False)


def test_folders_say_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    from vcm.errors import AnnotationError, ConfigError

    assert ImageFolder.read(folder / "classes").names == tuple(sorted(NAMES.names))
    assert len(MaskFolder.read(folder).paths) == 3
    with pytest.raises(ConfigError, match="is no ImageFolder"):
        ImageFolder.read(folder / "classes" / "disc")
    with pytest.raises(AnnotationError, match="has a class that is none: expected 0 to 1, or 255, found 2"):
        read_mask(folder / "masks" / "2.png", 2)
    with pytest.raises(AnnotationError, match="is no mask: expected one channel"):
        read_mask(folder / "images" / "0.png", 2)
    (folder / "classes.txt").unlink()
    with pytest.raises(ConfigError, match="classes need names"):
        MaskFolder.read(folder)
    with pytest.raises(ConfigError, match="has no pictures with masks"):
        MaskFolder.read(tmp_path)


def test_near_duplicates_are_of_a_seed() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)
    one, two = (near_duplicate(pixels, np.random.default_rng(s)) for s in (1, 2))
    assert np.array_equal(one, near_duplicate(pixels, np.random.default_rng(1)))
    assert one.shape != two.shape
    assert min(one.shape[:2]) >= 32
