"""Files through the API: every kind of source, base only and full, previews, metadata, threads."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_tools import copy_of, model_of, noise
from PIL import Image
from profiles import ADOBE_RGB, rgb_profile
from tiny import make_tiny, tiny_codec

import vcm
from vcm.bitstream import Bitstream, ChunkKind, Layer, Metadata, read
from vcm.errors import FingerprintError, HeadError, InputError, LayerError, OptionError, TruncatedError
from vcm.io.pictures import AlphaWarning
from vcm.structures import Detections, Latents, LatentSpec


@pytest.fixture(scope="module")
def file() -> Bitstream:
    return tiny_codec().encode(noise(120, 90), quality=60, base_quality=80, base_scale=7)


class Counting(io.BytesIO):
    """A file object that says how far it was read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.taken += len(piece)
        return piece


def same(a: Detections, b: Detections) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("boxes", "scores", "labels")) and (
        a.width, a.height, a.bytes_read,
    ) == (b.width, b.height, b.bytes_read)  # fmt: skip


def test_every_kind_of_source_reads_alike(file: Bitstream, tmp_path: Path) -> None:
    codec, data = tiny_codec(), file.to_bytes()
    path = tmp_path / "a.vcm"
    file.save(path)
    sources: list[Any] = [path, str(path), data, io.BytesIO(data), file]
    assert all(same(codec.detect(s, score=0.05), codec.detect(file, score=0.05)) for s in sources)
    sources[3].seek(0)
    assert all(np.array_equal(codec.classify(s).scores, codec.classify(file).scores) for s in sources)
    sources[3].seek(0)
    assert all(torch.equal(codec.latents(s).y_hat, codec.latents(file).y_hat) for s in sources)
    sources[3].seek(0)
    assert all(np.array_equal(codec.decode(s), codec.decode(file)) for s in sources)
    for call in (codec.detect, codec.classify, codec.latents, codec.decode, lambda s: codec.run("detect", s)):
        found = call([path, data])
        assert isinstance(found, list)
        assert len(found) == 2
        assert call([]) == []


def test_base_full_and_cut_files_give_the_same_detections(file: Bitstream) -> None:
    codec, data = tiny_codec(), file.to_bytes()
    base_only = codec.encode(noise(120, 90), base_quality=80, base_scale=7, base_only=True)
    assert file.base == base_only.to_bytes() == data[: file.header.base_bytes]
    wanted = codec.detect(file, score=0.05)
    assert len(wanted) > 0
    assert wanted.bytes_read == file.header.base_bytes
    for source in (data, file.base, base_only, file.cut(1)):
        assert same(codec.detect(source, score=0.05), wanted)
        assert np.array_equal(codec.classify(source).scores, codec.classify(file).scores)


def test_tasks_take_no_byte_after_the_base(file: Bitstream) -> None:
    codec = tiny_codec()
    for call in (codec.detect, codec.classify, codec.latents, lambda s: codec.run("detect", s)):
        source = Counting(file.to_bytes())
        call(source)
        assert source.taken == file.header.base_bytes < file.total_bytes
    whole = Counting(file.to_bytes())
    codec.decode(whole)
    assert whole.taken == file.total_bytes


def test_detections_are_in_source_pixels_best_first(file: Bitstream) -> None:
    found = tiny_codec().detect(file, score=0.1)
    assert (found.width, found.height) == (120, 90)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= 0.1).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert found.boxes.min() >= 0
    assert found.boxes[:, [0, 2]].max() <= 120
    assert found.boxes[:, [1, 3]].max() <= 90
    for score in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="score is out of range: expected 0 to 1"):
            tiny_codec().detect(file, score=score)


def test_latents_say_what_they_are(file: Bitstream) -> None:
    latents = tiny_codec().latents(file)
    assert latents.spec == LatentSpec(8, 16, tiny_codec().fingerprint)
    assert latents.coded_size == (105, 79)
    assert latents.source_size == (120, 90)
    assert tuple(latents.y_hat.shape) == (1, 8, 5, 7)
    assert latents.y_hat.dtype == torch.float32
    assert latents.quality == pytest.approx(80, abs=0.05)
    fixed = model_of(tiny_codec()).decode_base(file.coded_base).fixed
    assert np.array_equal(latents.y_hat.numpy(), (fixed / 1024).astype(np.float32))


def test_a_head_can_learn_on_latents(file: Bitstream) -> None:
    """They are ordinary tensors, not inference tensors, which autograd refuses."""
    y = tiny_codec().latents(file).y_hat
    head = torch.nn.Conv2d(8, 2, 1)
    head(y).sum().backward()
    assert head.weight.grad is not None


def test_heads_of_ones_own(file: Bitstream) -> None:
    codec = copy_of(tiny_codec())

    def mean(latents: Latents) -> float:
        return float(latents.y_hat.mean())

    assert codec.add_head("mean", mean) is codec
    assert codec.heads == ("detect", "classify", "mean")
    assert "mean" not in tiny_codec().heads
    wanted = float(codec.latents(file).y_hat.mean())
    assert codec.run("mean", file) == wanted
    assert codec.run("mean", [file, file.to_bytes()]) == [wanted, wanted]
    assert codec.run("detect", file.to_bytes()).bytes_read == len(file.base)
    assert codec.run("classify", [file])[0].bytes_read == len(file.base)
    for name in ("mean", "detect"):
        with pytest.raises(HeadError, match=f"a head of that name exists: found {name}"):
            codec.add_head(name, mean)
    with pytest.raises(HeadError, match="no head of that name: expected detect, classify, mean, found nothing"):
        codec.run("nothing", file)
    with pytest.raises(HeadError, match="expected a callable, found int"):
        codec.add_head("five", 5)  # type: ignore[arg-type]


def test_layers_to_decode(file: Bitstream) -> None:
    codec = tiny_codec()
    full, preview = codec.decode(file), codec.decode(file, layers=1)
    assert "vcm_preview" not in full.info
    assert preview.info["vcm_preview"] is True
    assert codec.decode(file.base).info["vcm_preview"] is True
    assert full.size == preview.size == (120, 90)
    assert np.array_equal(codec.decode(file.base), preview)
    assert np.array_equal(codec.decode(file, layers=2), full)
    assert not np.array_equal(full, preview)
    with pytest.raises(LayerError, match="the file has fewer layers: expected 2, found 1"):
        codec.decode(file.base, layers=2)
    with pytest.raises(LayerError, match="the file has fewer layers: expected 3, found 2"):
        codec.decode(file, layers=3)
    for layers in (0, -1, 1.5):
        with pytest.raises(OptionError, match="layers is out of range"):
            codec.decode(file, layers=layers)  # type: ignore[call-overload]


def test_a_layer_of_a_later_version_does_not_disturb(file: Bitstream) -> None:
    more = file.with_layer(Layer(ChunkKind.ENHANCEMENT, 5, bytes(8), 10, (b"later",)))
    assert np.array_equal(tiny_codec().decode(more), tiny_codec().decode(file))


def test_metadata_are_kept(tmp_path: Path) -> None:
    codec = tiny_codec()
    profile = rgb_profile(ADOBE_RGB)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(noise(60, 40)).save(tmp_path / "a.jpg", icc_profile=profile, exif=exif)
    file = codec.encode(tmp_path / "a.jpg")
    assert (file.width, file.height) == (40, 60), "upright"
    for picture in (codec.decode(file.to_bytes()), codec.decode(file.to_bytes(), region=(3, 4, 30, 40))):
        assert picture.info["icc_profile"] == profile
        kept = Image.Exif()
        kept.load(picture.info["exif"])
        assert kept[0x010F] == "Maker"
        assert 0x0112 not in kept
        assert 0x8825 not in kept
    with_position = Image.Exif()
    with_position.load(codec.decode(codec.encode(tmp_path / "a.jpg", keep=["gps"])).info["exif"])
    assert with_position.get_ifd(0x8825)[1] == "N"
    nothing = codec.encode(tmp_path / "a.jpg", keep=[])
    assert (nothing.metadata.exif, nothing.metadata.icc) == (None, None)
    for preview in (codec.decode(file.base), codec.decode(file.to_bytes(), layers=1), codec.decode(file, layers=1)):
        assert not {"exif", "icc_profile"} & preview.info.keys(), "the base prefix holds no metadata"


def test_an_orientation_that_another_writer_left_in_exif_is_ignored(file: Bitstream) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    chunks = (*file.chunks, *Metadata(exif=exif.tobytes()).to_chunks())
    picture = tiny_codec().decode(replace(file, chunks=chunks).to_bytes())
    assert picture.size == (120, 90)
    kept = Image.Exif()
    kept.load(picture.info["exif"])
    assert dict(kept) == {0x010F: "Maker"}


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "CMYK", "I;16", "LA", "RGBA"])
def test_all_modes(mode: str) -> None:
    codec = tiny_codec()
    picture = Image.fromarray(noise(40, 30))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    if mode in ("LA", "RGBA"):
        with pytest.warns(AlphaWarning):
            file = codec.encode(picture)
    else:
        file = codec.encode(picture)
    source = read(file.to_bytes()).header.source
    assert source.grey == (mode in ("L", "1", "I;16", "LA"))
    assert source.bit_depth == (16 if mode == "I;16" else 8)
    for layers in (1, 2):
        assert codec.decode(file.to_bytes(), layers=layers).mode == ("L" if source.grey else "RGB")


def test_arrays_and_tensors_code_alike() -> None:
    codec, picture = tiny_codec(), noise(40, 30)
    wanted = codec.encode(picture).to_bytes()
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    for same_picture in (Image.fromarray(picture), tensor, tensor.float() / 255):
        assert codec.encode(same_picture).to_bytes() == wanted
    assert [f.to_bytes() for f in codec.encode([picture, tensor])] == [wanted, wanted]


def test_threads_share_a_codec(file: Bitstream) -> None:
    codec = vcm.load(Path(__file__).parent.parent / "golden" / "tiny.safetensors")  # nothing cached yet
    data = file.to_bytes()

    def work(i: int) -> tuple[Detections, bytes, bytes]:
        found, pixels = codec.detect(data, score=0.05), codec.decode(data).tobytes()
        return found, pixels, codec.encode(noise(48, 32, i % 2)).to_bytes()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(16)))
    alone = [work(0), work(1)]
    for i, (found, pixels, coded) in enumerate(results):
        assert same(found, alone[0][0])
        assert pixels == alone[0][1]
        assert coded == alone[i % 2][2]


def test_files_of_other_weights_are_refused(file: Bitstream, tmp_path: Path) -> None:
    make_tiny(tmp_path / "other.safetensors", seed=2)
    other = vcm.load(tmp_path / "other.safetensors")
    assert other.fingerprint != tiny_codec().fingerprint
    for call in (other.detect, other.classify, other.latents, other.decode):
        with pytest.raises(FingerprintError, match="the base layer was written by other weights"):
            call(file)
    with pytest.raises(FingerprintError):
        other.enhance(file.cut(1), noise(120, 90))
    message = f"expected {other.fingerprint}, found {tiny_codec().fingerprint}"
    with pytest.raises(FingerprintError, match=message):
        other.detect(file)


def test_files_of_another_codec_are_refused(file: Bitstream) -> None:
    other = Bitstream.build(
        width=120, height=90, codec_id=2, source=file.header.source, base_scale=7, layers=list(file.layers)
    )
    for call in (tiny_codec().detect, tiny_codec().decode):
        wanted = r"another codec: expected scalable \(1\), found an unknown family \(2\)"
        with pytest.raises(FingerprintError, match=wanted):
            call(other)


def test_sources_that_are_none(tmp_path: Path) -> None:
    codec = tiny_codec()
    with pytest.raises(InputError, match="No such file"):
        codec.detect(tmp_path / "missing.vcm")
    for call in (codec.detect, codec.decode):
        with pytest.raises(OptionError, match="cannot read from this"):
            call(5)  # type: ignore[call-overload]
        with pytest.raises(TruncatedError):
            call(b"")
