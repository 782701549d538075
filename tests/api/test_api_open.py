"""``vcm.open``: the weights that a file wants are found by its fingerprints, and each part of a file is read once."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from codec_tools import noise
from tiny import TINY_WEIGHTS, make_tiny, tiny_codec

import vcm
import vcm.cli
from vcm.bitstream import Bitstream
from vcm.errors import FingerprintError, InputError, OptionError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that the tiny codec wrote, alone in its folder."""
    path = tmp_path / "file" / "a.vcm"
    path.parent.mkdir()
    tiny_codec().encode(noise(64, 48)).save(path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder of weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(TINY_WEIGHTS, folder / "other-name.safetensors")
    return folder


def test_weights_are_found_where_they_may_lie(file: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FingerprintError, match=f"no weights here .* expected .* {tiny_codec().fingerprint}, found"):
        vcm.open(file)
    for named in (weights, [weights], str(weights), weights / "other-name.safetensors"):
        assert vcm.open(file, weights=named).codec.fingerprint == tiny_codec().fingerprint
    monkeypatch.setenv("VCM_WEIGHTS", str(weights))
    assert vcm.open(file).detect().to_json() == tiny_codec().detect(file).to_json()
    assert vcm.load("other-name").name == "tiny"
    monkeypatch.delenv("VCM_WEIGHTS")
    shutil.copy(TINY_WEIGHTS, file.parent)
    assert vcm.open(file).codec.name == "tiny"
    with pytest.raises(FingerprintError):
        vcm.open(file.read_bytes())  # bytes lie beside nothing
    with pytest.raises(InputError, match="no such folder of weights"):
        vcm.open(file, weights=weights / "none")


def test_an_open_file_does_what_the_codec_does(file: Path, weights: Path) -> None:
    codec, opened = tiny_codec(), vcm.open(file, weights=weights, backend="torch")
    assert opened.size == (64, 48)
    assert opened.detect(score=0.1) == codec.detect(file, score=0.1)
    assert opened.classify() == codec.classify(file)
    assert opened.run("detect", score=0.1) == codec.run("detect", file, score=0.1)
    assert opened.latents() == codec.latents(file)
    assert np.array_equal(opened.decode(), codec.decode(file))
    assert np.array_equal(opened.decode(layers=1), codec.decode(file, layers=1))
    assert repr(opened) == "<OpenFile 64x48, codec tiny>"


def test_sources_that_can_be_read_once(file: Path, weights: Path) -> None:
    for source in (file.read_bytes(), io.BytesIO(file.read_bytes()), vcm.read(file)):
        opened = vcm.open(source, weights=weights)
        assert opened.detect().bytes_read == opened.base.header.base_bytes
        assert isinstance(opened.stream, Bitstream)
        assert opened.decode().size == (64, 48)


def test_heads_read_the_prefix_once(file: Path, weights: Path) -> None:
    opened = vcm.open(file, weights=weights)
    file.unlink()
    assert opened.detect().bytes_read == opened.base.total_bytes
    assert opened.decode(layers=1).size == (64, 48)


def test_commands_parse_a_file_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(TINY_WEIGHTS, file.parent)
    parse, parsed, prefix = vcm.parse, [], vcm.read_base(file).bytes_read
    monkeypatch.setattr("vcm.bitstream.reader.parse", lambda data: parsed.append(len(data)) or parse(data))
    assert vcm.cli.run(["detect", str(file)]) == 0
    assert parsed == [prefix]
    parsed.clear()
    assert vcm.cli.run(["decode", str(file)]) == 0
    assert parsed == [file.stat().st_size]


def test_an_enhancement_of_other_weights(file: Path, weights: Path, tmp_path: Path) -> None:
    """The base is read by any weights with its fingerprint; the picture by those that wrote the enhancement, or not."""
    from safetensors.torch import load_file, save_file

    from vcm.weights.registry import read_metadata

    tensors = load_file(TINY_WEIGHTS)
    tensors["model.picture.gain_y"] = tensors["model.picture.gain_y"] + 1
    newer = tmp_path / "newer"
    newer.mkdir()
    codec = vcm.load(_saved(newer / "a.safetensors", tensors, read_metadata(TINY_WEIGHTS), save_file))
    prints = f'{{"base": "{codec.fingerprint}", "enhancement": "{codec.fingerprint_enhancement}"}}'
    _saved(newer / "a.safetensors", tensors, {**read_metadata(TINY_WEIGHTS), "fingerprints": prints}, save_file)
    opened = vcm.open(file, weights=newer)
    assert opened.detect().to_json() == tiny_codec().detect(file).to_json()
    assert opened.decode(layers=1).size == (64, 48)
    with pytest.raises(
        FingerprintError, match=f"read the enhancement .* {tiny_codec().fingerprint_enhancement}, found"
    ):
        opened.decode()
    both = vcm.open(file, weights=[newer, weights])
    assert both.codec.fingerprint_enhancement == codec.fingerprint_enhancement
    assert np.abs(np.asarray(both.decode(), int) - np.asarray(tiny_codec().decode(file), int)).max() <= 1


def _saved(path: Path, tensors, meta, save_file) -> Path:
    save_file(tensors, path, meta)
    return path


def test_weights_that_lie_about_themselves(file: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from vcm.weights.registry import read_metadata

    liar = tmp_path / "liar"
    liar.mkdir()
    make_tiny(liar / "b.safetensors", seed=2)
    tensors = load_file(liar / "b.safetensors")
    prints = read_metadata(TINY_WEIGHTS)["fingerprints"]
    save_file(tensors, liar / "b.safetensors", {**read_metadata(liar / "b.safetensors"), "fingerprints": prints})
    with pytest.raises(FingerprintError, match=r"b\.safetensors is not what its metadata says: expected"):
        vcm.open(file, weights=liar)


def test_what_is_no_file_or_device(file: Path, weights: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        vcm.open(file.with_name("none.vcm"), weights=weights)
    with pytest.raises(OptionError, match="cannot read from this"):
        vcm.open(5, weights=weights)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no such device"):
        vcm.open(file, weights=weights, device="toaster")
