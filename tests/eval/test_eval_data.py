"""Data sets in made-up folders of the real layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from vcm.errors import AnnotationError, ImageError, OptionError
from vcm.eval.data.datasets import load_dataset, read_picture


def _picture(path: Path, size: tuple[int, int] = (40, 30), **save: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **save)  # type: ignore[arg-type]


def _coco(folder: Path, json_name: str, pictures: str, names: tuple[str, ...] = ("b.png", "a.png")) -> None:
    images = [{"id": 7 - i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    boxes = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (folder / json_name).parent.mkdir(parents=True, exist_ok=True)
    (folder / json_name).write_text(json.dumps(document))
    for name in names:
        _picture(folder / pictures / name)


@pytest.mark.parametrize(
    ("json_name", "pictures"),
    [("instances.json", "images"), ("annotations/instances_val2017.json", "val2017"), ("instances.json", ".")],
)
def test_coco_layouts(tmp_path: Path, json_name: str, pictures: str) -> None:
    _coco(tmp_path, json_name, pictures)
    found = load_dataset(tmp_path)
    assert found.layout == "coco"
    assert [p.id for p in found.pictures] == [6, 7]
    assert found.ground_truth is not None
    assert found.ground_truth.image_ids == (6, 7)
    pixels, digest = read_picture(found.pictures[0])
    assert pixels.shape == (30, 40, 3)
    assert len(digest) == 64


def test_pictures_that_coco_names_and_the_folder_lacks_are_told(tmp_path: Path) -> None:
    _coco(tmp_path, "instances.json", "images")
    (tmp_path / "images" / "a.png").unlink()
    found = load_dataset(tmp_path)
    assert [p.name for p in found.pictures] == ["b.png"]
    assert [name for name, _ in found.missing] == ["a.png"]
    assert found.ground_truth is not None
    assert found.ground_truth.image_ids == (7,)


def test_a_picture_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    _coco(tmp_path, "instances.json", "images")
    _picture(tmp_path / "images" / "a.png", (41, 30))
    with pytest.raises(ImageError, match="annotations"):
        read_picture(load_dataset(tmp_path).pictures[0])


def test_kodak_clic_and_plain_layouts(tmp_path: Path) -> None:
    for i in (1, 2):
        _picture(tmp_path / "kodak" / f"kodim{i:02d}.png")
        _picture(tmp_path / "clic" / "professional" / "valid" / f"{i}.png")
        _picture(tmp_path / "plain" / "deep" / f"{i}.jpg")
    (tmp_path / "plain" / "readme.txt").write_text("no picture")
    kodak, clic, plain = (load_dataset(tmp_path / name) for name in ("kodak", "clic", "plain"))
    assert (kodak.layout, clic.layout, plain.layout) == ("kodak", "clic", "plain")
    assert "24" in kodak.notes[0]
    assert [p.name for p in clic.pictures] == ["professional/valid/1.png", "professional/valid/2.png"]
    assert len(plain.pictures) == 2
    assert plain.ground_truth is None


def test_first_keeps_the_boxes_of_what_is_left(tmp_path: Path) -> None:
    _coco(tmp_path, "instances.json", "images")
    one = load_dataset(tmp_path).first(1)
    assert [p.id for p in one.pictures] == [6]
    assert one.ground_truth is not None
    assert one.ground_truth.image_ids == (6,)
    assert "first 1 of 2" in one.notes[-1]
    assert len(load_dataset(tmp_path).first(None).pictures) == 2
    with pytest.raises(OptionError):
        load_dataset(tmp_path).first(0)


def test_no_folder_no_pictures_no_such_layout(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such data folder"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="no pictures"):
        load_dataset(tmp_path)
    with pytest.raises(OptionError, match="layout"):
        load_dataset(tmp_path, "voc")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="COCO"):
        load_dataset(tmp_path, "coco")


def test_broken_and_missing_files_are_image_errors(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    picture = load_dataset(tmp_path).pictures[0]
    picture.path.write_bytes(b"nothing")
    with pytest.raises(ImageError):
        read_picture(picture)
    picture.path.unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        read_picture(picture)


_HEAD = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"


def _openimages(folder: Path, rows: str, head: str = _HEAD) -> None:
    _picture(folder / "images" / "0a.jpg", (40, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    _picture(folder / "images" / "0b.jpg", (40, 20), exif=exif)
    (folder / "boxes.csv").write_text(head + rows)


def test_mpeg_csv_with_coco_names(tmp_path: Path) -> None:
    _openimages(
        tmp_path,
        "0a,person,0.25,0.5,0,1,0\n0a,traffic_light,0,1,0.5,1,1\n0b,dog,0,0.5,0,0.5,0\n0b,Tree,0,1,0,1,0\n0c,cat,0,1,0,1,0\n",
    )
    found = load_dataset(tmp_path)
    truth = found.ground_truth
    assert found.layout == "openimages"
    assert truth is not None
    assert [p.name for p in found.pictures] == ["0a", "0b"]
    assert [(i.width, i.height) for i in truth.images] == [(40, 20), (20, 40)]  # the second is turned
    assert truth.boxes.tolist() == [[10, 0, 10, 20], [0, 10, 40, 10], [0, 0, 10, 20]]
    assert truth.box_categories.tolist() == [1, 10, 18]
    assert truth.crowd.tolist() == [False, True, False]
    assert [name for name, _ in found.missing] == ["0c"]
    assert read_picture(found.pictures[1])[0].shape == (40, 20, 3)


def test_official_csv_with_machine_ids(tmp_path: Path) -> None:
    rows = "0a,/m/04yx4,0,0.5,0,1,0\n0b,/m/0c9ph5,0,1,0,1,0\n"
    _openimages(tmp_path, rows)
    with pytest.raises(AnnotationError, match="class-descriptions"):
        load_dataset(tmp_path)
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/04yx4,Man\n/m/0c9ph5,Flower\n")
    truth = load_dataset(tmp_path).ground_truth
    assert truth is not None
    assert truth.box_categories.tolist() == [1]  # a man is a person; COCO has no flowers


@pytest.mark.parametrize(
    "row", ["0a,person,0,1.5,0,1,0\n", "0a,person,0.5,0.4,0,1,0\n", "0a,person,a,1,0,1,0\n", "0a,person,0,1\n"]
)
def test_bad_boxes_name_the_line(tmp_path: Path, row: str) -> None:
    _openimages(tmp_path, "0b,dog,0,0.5,0,0.5,0\n" + row)
    with pytest.raises(AnnotationError, match="line 3"):
        load_dataset(tmp_path)
