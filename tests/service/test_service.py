"""The routes: what they answer, from what, and what they refuse."""

from __future__ import annotations

import io
import json
import logging
import shutil
import warnings

import pytest
from PIL import Image

import vcm
from vcm.bitstream import parse
from vcm.errors import OptionError
from vcm.service import ServiceOptions, build_app
from vcm.service.answers import FORMATS, chosen_format

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette is on its way from one client library to another
    from fastapi.testclient import TestClient


@pytest.fixture(scope="module")
def client(archive, codec) -> TestClient:
    return TestClient(build_app(str(archive), codec, ServiceOptions(rate=0, read_only=True)))


@pytest.fixture
def writable(archive, codec, tmp_path):
    """A client of a copy of the archive; gives a maker, which takes options."""
    shutil.copytree(archive, tmp_path / "copy")
    return lambda **options: TestClient(
        build_app(str(tmp_path / "copy"), codec, ServiceOptions(**{"rate": 0, **options}))
    )


@pytest.fixture(scope="module")
def one(client: TestClient) -> dict:
    return client.get("/pictures?limit=1").json()["pictures"][0]


def test_listing_and_filtering(client: TestClient) -> None:
    page = client.get("/pictures").json()
    assert page["total"] == page["stored"] == len(page["pictures"]) == 6
    assert page["stored_bytes"] == sum(picture["bytes"] for picture in page["pictures"])
    assert client.get("/pictures?limit=2").json()["total"] == 6
    assert len(client.get("/pictures?limit=2").json()["pictures"]) == 2
    some = page["pictures"][0]
    found = client.get("/pictures", params={"query": f"picture = {some['picture']}"}).json()
    assert [picture["picture"] for picture in found["pictures"]] == [some["picture"]]
    assert client.get("/pictures", params={"query": "camera = nowhere"}).json()["total"] == 0
    assert set(client.get("/labels").json()) == {"labels"}
    assert client.get(f"/pictures/{some['picture']}").json()["picture"] == some["picture"]


def test_detections_are_those_of_the_base_which_alone_is_read(client: TestClient, one: dict, archive, codec) -> None:
    base = client.get(f"/pictures/{one['picture']}/base").content
    assert len(base) == one["base_bytes"]
    found = client.get(f"/pictures/{one['picture']}/detections", params={"score": 0.05}).json()
    assert found["bytes_read"] in (0, one["base_bytes"])
    expected = codec.detect(base, score=0.05)
    assert [box["label"] for box in found["detections"]] == expected.label_names()
    again = client.get(f"/pictures/{one['picture']}/detections", params={"score": 0.05}).json()
    assert (again["bytes_read"], again["detections"]) == (0, found["detections"])


def test_base_and_file_are_what_is_stored(client: TestClient, one: dict) -> None:
    whole = client.get(f"/pictures/{one['picture']}/file")
    assert int(whole.headers["x-bytes-read"]) == one["bytes"] == len(whole.content)
    assert parse(whole.content).base == client.get(f"/pictures/{one['picture']}/base").content


def test_ranges(client: TestClient, one: dict) -> None:
    url, whole = f"/pictures/{one['picture']}/file", client.get(f"/pictures/{one['picture']}/file").content
    for text, expected, read in (
        ("bytes=0-99", whole[:100], 100), ("bytes=100-149", whole[100:150], 150), ("bytes=100-", whole[100:], None),
        ("bytes=-50", whole[-50:], None), ("bytes=5-99999999", whole[5:], None),
    ):  # fmt: skip
        got = client.get(url, headers={"Range": text})
        assert (got.status_code, got.content) == (206, expected)
        assert int(got.headers["x-bytes-read"]) == (read or len(whole))
    for text in ("bytes=99999999-", "bytes=5-4"):
        got = client.get(url, headers={"Range": text})
        assert (got.status_code, got.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    for text in ("bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b"):  # what is not understood is ignored
        assert client.get(url, headers={"Range": text}).status_code == 200
    other = client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole)


def test_pictures_come_as_accept_wants_them(client: TestClient, one: dict) -> None:
    url = f"/pictures/{one['picture']}/picture"
    for media, format in FORMATS.items():
        got = client.get(url, headers={"Accept": media})
        assert got.headers["content-type"] == media
        with Image.open(io.BytesIO(got.content)) as picture:
            assert (picture.format, picture.size) == (format, (one["width"], one["height"]))
    assert client.get(url, headers={"Accept": "text/html"}).status_code == 406
    assert client.get(f"/pictures/{one['picture']}/preview").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "image/jpeg"), ("*/*", "image/jpeg"), ("image/*", "image/jpeg"), ("image/png", "image/png"),
        ("text/html", None), ("image/avif, image/webp;q=0.5", "image/avif"),
        ("image/webp;q=0.5, */*;q=0.1", "image/webp"),
        ("image/jpeg;q=0, image/*", "image/webp"), ("image/png;q=x", None), (";;,", None), ("IMAGE/PNG", "image/png"),
        ("image/avif,image/webp,*/*", "image/webp"),
    ],
)  # fmt: skip
def test_accept(accept: str, media: str | None) -> None:
    assert chosen_format(accept) == media


@pytest.mark.parametrize("what", ["preview", "picture", "base", "file"])
def test_what_has_not_changed_is_not_sent_again(client: TestClient, one: dict, what: str) -> None:
    url = f"/pictures/{one['picture']}/{what}"
    tag = client.get(url).headers["etag"]
    for asked in (tag, f'"x", W/{tag}', "*"):
        again = client.get(url, headers={"If-None-Match": asked})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200


def test_wrong_calls_are_one_line_of_json(client: TestClient) -> None:
    for url, status in (
        ("/pictures/" + "0" * 32, 404), ("/pictures/x", 422), ("/pictures/" + "0" * 32 + "/file", 404),
        ("/nothing", 404),
        ("/pictures?limit=0", 422), ("/pictures?limit=x", 422), ("/pictures?query=person+%3E", 422),
        ("/pictures?query=" + "x" * 1001, 422), (f"/pictures/{'0' * 32}/detections?score=nan", 422),
    ):  # fmt: skip
        got = client.get(url)
        assert (got.status_code, list(got.json())) == (status, ["error"]), url
        assert "\n" not in got.json()["error"]
    assert client.delete("/pictures").status_code == 405
    assert client.post("/pictures", content=b"x").status_code == 403


def test_a_picture_is_taken_once_and_found_at_once(writable, make_photo, tmp_path) -> None:
    client = writable()
    data = make_photo(77)
    sent = client.post("/pictures?camera=gate&name=a.jpg", content=data)
    assert (sent.status_code, sent.json()["new"], sent.json()["camera"]) == (201, True, "gate")
    again = client.post("/pictures", content=data)
    assert (again.status_code, again.json()["new"]) == (200, False)
    found = client.get("/pictures", params={"query": "camera = gate"}).json()
    assert [picture["picture"] for picture in found["pictures"]] == [sent.json()["picture"]]
    assert found["stored"] == 7
    # The archive on the disk has it, so that vcm query and another service do.
    with vcm.archive.Archive(tmp_path / "copy") as archive:
        assert archive.query("camera = gate").total == 1
    base = client.get(f"/pictures/{sent.json()['picture']}/base").content
    other = client.post("/pictures", content=base)
    assert (other.status_code, other.json()["bytes"]) == (201, len(base))


def test_an_empty_archive_is_served(codec, tmp_path, make_photo) -> None:
    client = TestClient(build_app(str(tmp_path / "new"), codec, ServiceOptions(rate=0)))
    assert client.get("/health").json()["pictures"] == 0
    assert client.get("/pictures").json()["pictures"] == []
    assert client.post("/pictures", content=make_photo(1)).status_code == 201
    assert client.get("/pictures").json()["total"] == 1


def test_uploads_are_limited(writable, make_photo) -> None:
    client = writable(max_upload_bytes=10_000, max_pixels=160 * 120)
    assert client.post("/pictures", content=bytes(10_001)).status_code == 413
    assert client.post("/pictures", content=iter([bytes(6000)] * 3)).status_code == 413  # without a length
    large = client.post("/pictures", content=make_photo(3, (161, 120)))
    assert (large.status_code, "too many pixels" in large.json()["error"]) == (413, True)
    for junk in (b"", b"junk", make_photo(4)[:200], b"VCM\x01junk", b"\x89PNG\r\n\x1a\n"):
        got = client.post("/pictures", content=junk)
        assert (got.status_code, list(got.json())) == (422, ["error"])
    for query in ("camera=..%2F..", "camera=", "name=%00", "camera=" + "x" * 61, "name=a%2Fb"):
        assert client.post(f"/pictures?{query}", content=make_photo(5)).status_code == 422, query
    assert client.get("/pictures").json()["total"] == 6


def test_a_token(writable) -> None:
    client = writable(token="secret")
    for url in ("/pictures", "/labels", "/metrics", "/pictures/" + "0" * 32, f"/pictures/{'0' * 32}/file"):
        for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            got = client.get(url, headers=sent)
            assert (got.status_code, got.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get(url, headers={"Authorization": "Bearer secret"}).status_code in (200, 404)
    assert client.post("/pictures", content=b"x").status_code == 401
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200
    assert "secret" not in repr(ServiceOptions(token="secret"))


def test_a_rate(writable) -> None:
    client = writable(rate=2)
    answers = [client.get("/labels") for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert list(refused[0].json()) == ["error"]
    assert client.get("/health").status_code == 200


def test_numbers_and_logs(writable, one: dict, caplog) -> None:
    client = writable()
    logging.getLogger("vcm.service").propagate = True
    with caplog.at_level(logging.INFO, "vcm.service"):
        client.get(f"/pictures/{one['picture']}/detections")
        client.get("/nothing")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "vcm.service"]
    assert [(line["method"], line["status"]) for line in lines] == [("GET", 200), ("GET", 404)]
    assert lines[0]["path"].endswith("/detections")
    text = client.get("/metrics").text
    assert 'vcm_requests_total{method="GET",route="/pictures/{picture}/detections",status="200"} 1.0' in text
    assert f'vcm_archive_bytes_read_total{{what="base"}} {float(one["base_bytes"])}' in text


def test_a_damaged_file_is_an_error_and_not_a_crash(writable, one: dict, tmp_path) -> None:
    for path in (tmp_path / "copy" / "files").rglob("*.vcm"):
        path.write_bytes(path.read_bytes()[:30])
    client = writable()
    for what in ("detections", "preview", "picture"):
        got = client.get(f"/pictures/{one['picture']}/{what}")
        assert (got.status_code, list(got.json())) == (500, ["error"])


def test_options_are_checked() -> None:
    for wrong in ({"token": ""}, {"rate": -1}, {"jobs": 0}, {"upload_seconds": 0}, {"max_pixels": 0}):
        with pytest.raises(OptionError):
            ServiceOptions(**wrong)
