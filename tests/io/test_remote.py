"""Files at addresses: over HTTP with ranges and without, in an S3 store, in fsspec's memory."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import Served, http_server
from tiny import GOLDEN_FILE

import vcm
import vcm.cli
from vcm.errors import ImageError, InputError, MissingDependencyError, OutputError, TruncatedError
from vcm.io.files import whole_file, write_atomically
from vcm.io.pictures import load_image
from vcm.io.remote import Address, address_of, exists, place, read_remote

GOLDEN = GOLDEN_FILE.read_bytes()
BASE = vcm.read_base(GOLDEN).bytes_read


def _half_written(part: Path) -> None:
    part.write_bytes(b"half")
    raise RuntimeError


def png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.arange(96 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 96, 3)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def web() -> Iterator[Served]:
    with http_server() as served:
        yield served


@pytest.fixture
def plain() -> Iterator[Served]:
    with http_server(ranges=False) as served:
        yield served


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield "memory://bucket"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 store in a thread of this process."""
    import warnings

    import fsspec

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = fsspec.filesystem("s3")
        store.mkdir("archive")
        yield "s3://archive"
        server.stop()
        type(store).clear_instance_cache()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("s3://bucket/a.vcm", "s3://bucket/a.vcm"),
        (Path("s3://bucket/a.vcm"), "s3://bucket/a.vcm"),
        (Address("gs://bucket/a b.vcm"), "gs://bucket/a b.vcm"),
        ("https://host:8080/a.vcm?x=1", "https://host:8080/a.vcm?x=1"),
        ("C:/a.vcm", None),
        ("a:/b", None),
        ("street.vcm", None),
        (Path("/tmp/s3/a.vcm"), None),
        (b"s3://bucket", None),
        (Path("ab:c/d"), None),
    ],
)
def test_what_is_an_address(name: object, address: str | None) -> None:
    assert address_of(name) == address


def test_names_of_addresses_are_taken_apart_like_paths() -> None:
    one = place("s3://bucket/in/a.jpg")
    assert isinstance(one, Path)
    assert [str(p) for p in (one, one.with_suffix(".vcm"), one.parent, one.parent / "b")] == [
        "s3://bucket/in/a.jpg", "s3://bucket/in/a.vcm", "s3://bucket/in", "s3://bucket/in/b",
    ]  # fmt: skip
    assert os.fspath(one) == "s3://bucket/in/a.jpg"
    assert type(place("a.jpg")) is type(Path("a.jpg"))


def test_the_base_is_fetched_by_ranges_and_not_a_byte_more(web: Served) -> None:
    web.files["a.vcm"], before = GOLDEN, web.sent
    got = vcm.read_base(f"{web.url}a.vcm")
    assert got.bytes_read == web.sent - before == BASE < len(GOLDEN)
    assert got.bitstream.to_bytes() == GOLDEN[:BASE]


def test_tiles_are_fetched_when_they_are_wanted(web: Served, plain: Served) -> None:
    whole = vcm.parse(GOLDEN)
    web.files["a.vcm"] = plain.files["a.vcm"] = GOLDEN
    before = web.sent
    with vcm.read_partially(f"{web.url}a.vcm") as file:
        assert web.sent - before < BASE + 100
        assert file.layers[1].tiles[1] == whole.layers[1].tiles[1]
        assert web.sent - before < BASE + 100 + len(whole.layers[1].tiles[1])
        assert file.layers[1].tiles[0] == whole.layers[1].tiles[0]
    with vcm.read_partially(f"{plain.url}a.vcm") as file:
        assert list(file.layers[1].tiles) == list(whole.layers[1].tiles)


def test_whole_files_and_pictures_over_http(web: Served) -> None:
    web.files |= {"a.vcm": GOLDEN, "a.png": png()}
    assert vcm.read(f"{web.url}a.vcm").to_bytes() == GOLDEN
    assert (load_image(f"{web.url}a.png").pixels == load_image(png()).pixels).all()


def test_a_server_without_ranges_is_read_from_the_start(plain: Served) -> None:
    plain.files["a.vcm"] = GOLDEN
    assert vcm.read_base(f"{plain.url}a.vcm").bytes_read == BASE
    assert vcm.read(f"{plain.url}a.vcm").to_bytes() == GOLDEN


def test_what_is_missing_or_cut_says_so(web: Served) -> None:
    web.files["cut.vcm"] = GOLDEN[: BASE - 1]
    with pytest.raises(InputError, match=re.escape(f"{web.url}none.vcm: no such file")):
        vcm.read(f"{web.url}none.vcm")
    with pytest.raises(ImageError, match="no such file"):
        load_image(f"{web.url}none.png")
    with pytest.raises(TruncatedError):
        vcm.read_base(f"{web.url}cut.vcm")
    with pytest.raises(InputError, match="cannot read http"):
        vcm.read("http://127.0.0.1:1/a.vcm")
    with pytest.raises(InputError, match="cannot read nonsense"):
        vcm.read("nonsense://a/b.vcm")


def test_a_file_is_put_over_http(web: Served) -> None:
    vcm.parse(GOLDEN).save(f"{web.url}new.vcm")
    assert web.files["new.vcm"] == GOLDEN


def test_memory_and_failures_leave_what_was_there(memory: str) -> None:
    write_atomically(place(f"{memory}/a.vcm"), GOLDEN)
    with pytest.raises(RuntimeError), whole_file(f"{memory}/a.vcm") as part:
        _half_written(part)
    assert vcm.read(place(f"{memory}/a.vcm")).to_bytes() == GOLDEN
    assert exists(f"{memory}/a.vcm")
    assert not exists(f"{memory}/b.vcm")


def test_s3(bucket: str) -> None:
    vcm.parse(GOLDEN).save(f"{bucket}/x/a.vcm")
    assert vcm.read_base(f"{bucket}/x/a.vcm").bytes_read == BASE
    assert vcm.read(f"{bucket}/x/a.vcm").to_bytes() == GOLDEN
    assert read_remote(f"{bucket}/x/a.vcm", 1 << 20, end=BASE) == GOLDEN[:BASE]
    with pytest.raises(InputError, match="no such file"):
        vcm.read(f"{bucket}/x/none.vcm")
    with pytest.raises(OutputError, match="cannot write s3://no-such-bucket-of-ours/a"):
        vcm.parse(GOLDEN).save("s3://no-such-bucket-of-ours/a")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def lacking(*_: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "url_to_fs", lacking)
    with pytest.raises(
        MissingDependencyError, match=re.escape("gs:// needs gcsfs, which is not installed: pip install 'vcm[remote]'")
    ):
        vcm.read("gs://bucket/a.vcm")


def test_commands_take_addresses(web: Served, memory: str, capsys: pytest.CaptureFixture[str]) -> None:
    web.files["in.png"] = png()
    assert vcm.cli.run(["encode", f"{web.url}in.png", "-o", f"{memory}/out.vcm"]) == 0
    assert f"{memory}/out.vcm: 96x64" in capsys.readouterr().out
    assert vcm.cli.run(["detect", f"{memory}/out.vcm"]) == 0
    assert f"{memory}/out.vcm: 96x64" in capsys.readouterr().out
    assert vcm.cli.run(["inspect", f"{memory}/out.vcm"]) == 0
    assert vcm.cli.run(["decode", f"{memory}/out.vcm", "-o", f"{memory}/pictures/"]) == 0
    assert load_image(f"{memory}/pictures/out.decoded.png").width == 96
    # A picture's name, and a file that no earlier run wrote, are left alone there as here.
    write_atomically(place(f"{memory}/notes"), b"mine")
    assert vcm.cli.run(["encode", f"{web.url}in.png", "-o", f"{memory}/notes"]) == 2
    assert vcm.cli.run(["encode", f"{web.url}in.png", "-o", f"{memory}/notes", "--force"]) == 0
    assert vcm.cli.run(["detect", f"{web.url}none.vcm"]) == 1
    assert capsys.readouterr().err.count("none.vcm: no such file") == 1
