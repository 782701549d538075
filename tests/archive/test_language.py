"""The language of queries: what it means, by running its SQL on a few rows, and what it refuses."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcm.archive import Archive, QueryError
from vcm.archive.folders import Folder
from vcm.archive.language import compile_query
from vcm.archive.table import Found, Record, write_parts

NOW = datetime(2026, 11, 24, 12, 0)
BOX = (1.0, 2.0, 11.0, 22.0)


def record(
    name: str, camera: str, when: str, *found: tuple[str, float], head: str = "detect", width: int = 640
) -> Record:
    objects = tuple(Found(label, score, BOX, 1, head) for label, score in found)
    time = datetime.fromisoformat(when)
    return Record(
        name * 32, f"in/{name}.jpg", time, camera, width, 480, 1000, 100, 10, f"{name}.vcm", None, head, objects
    )


RECORDS = [
    record("a", "3", "2026-11-24T10:00", ("person", 0.9), ("dog", 0.4)),
    record("b", "3", "2026-11-23T10:00", ("person", 0.45), ("dog", 0.9), ("traffic light", 0.8)),
    record("c", "gate 4%", "2026-11-24T11:59", ("person", 0.6), width=1920),
    record("d", "3", "2026-11-01T00:00"),
    record("d", "3", "2026-11-01T00:00", ("camera", 0.7), head="things-1"),
    record("e", "yard", "2026-11-22T23:59", ("dog", 0.25), ("cat", 0.5)),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    place = tmp_path_factory.mktemp("archive")
    write_parts(Folder(place), RECORDS)
    return Archive(place)


@pytest.mark.parametrize(
    ("query", "pictures"),
    [
        ("", "cabed"),
        ("person", "cab"),
        ("person > 0.5", "ca"),
        ("person > 0.5 and dog", "a"),
        ("person > 0.5 and dog, camera = 3, since yesterday", "a"),
        ("dog, camera = 3, since yesterday", "ab"),
        ("person or cat", "cabe"),
        ("person or cat, camera=yard", "e"),
        ("cat or person and dog > 0.5", "be"),
        ("(cat or person) and dog > 0.5", "b"),
        ("not person", "ed"),
        ("not (person or cat)", "d"),
        ("dog >= 0.25 and not person", "e"),
        ("traffic light", "b"),
        ('"traffic light" > 0.7', "b"),
        ("camera > 0.5", None),
        ('"camera" > 0.5', "d"),
        ("person or width > 1000", "cab"),
        ("cat or width > 1000", "ce"),
        ("dog, width > 1000 or cat", ""),
        ("camera = 'gate 4%'", None),
        ('camera = "gate 4%"', "c"),
        ("camera = gate*", "c"),
        ("camera != 3", "ce"),
        ("camera = *%*", "c"),
        ("camera != gate*, person", "ab"),
        ("source = in/b*", "b"),
        ("since today", "ca"),
        ("since 2 hours ago", "ca"),
        ("since 1 hour ago", "c"),
        ("before 2026-11-23", "ed"),
        ("before 2026-11-23T10:00:01", "bed"),
        ("since 2026-11-24T12:30+02:00", "c"),
        ("day = 2026-11-23", "b"),
        ("day >= yesterday and day < today", "b"),
        ("time < 1 week ago", "d"),
        ("head = things*", "d"),
        ("not head = things*, camera = 3", "abd"),
        ("bytes >= 100, base_bytes < 11, height = 480", "cabed"),
        ("PERSON", None),
        ("person AND dog", "ab"),
    ],
)
def test_what_queries_mean(archive: Archive, query: str, pictures: str | None) -> None:
    if pictures is None:
        with pytest.raises(QueryError):
            archive.query(query, now=NOW)
        return
    hits = archive.query(query, now=NOW)
    assert "".join(hit.picture[0] for hit in hits.pictures) == pictures
    assert hits.total == len(pictures)


def test_a_hit_has_the_objects_that_were_asked_for(archive: Archive) -> None:
    one = archive.query("dog > 0.5 and person").pictures[0]
    assert [(found.label, round(found.score, 2), found.box) for found in one.objects] == [
        ("dog", 0.9, BOX), ("person", 0.45, BOX),
    ]  # fmt: skip
    assert [found.label for found in archive.query("dog > 0.5 and not cat").pictures[0].objects] == ["dog"]
    assert [found.label for found in archive.query("camera = 3, day = 2026-11-23").pictures[0].objects] == [
        "dog", "traffic light", "person",
    ]  # fmt: skip
    assert (one.source, one.time, one.camera, one.rest) == ("in/b.jpg", datetime(2026, 11, 23, 10), "3", None)


def test_a_limit_counts_the_others(archive: Archive) -> None:
    hits = archive.query("person", limit=1)
    assert (hits.total, [hit.picture[0] for hit in hits.pictures]) == (3, ["c"])


@pytest.mark.parametrize(
    ("query", "position", "text"),
    [
        ("person > 0.5 and", 17, "found the end"),
        ("person >", 9, "expected a number, found the end"),
        ("person > big", 10, "expected a number, found big"),
        ("elefant", 1, "such as elephant, found elefant"),
        ("(person", 8, "a closing bracket"),
        ("person)", 7, "found )"),
        ("person, , dog", 9, "found ,"),
        ("since when", 7, "today, yesterday"),
        ("since 3 moons ago", 7, "found 3"),
        ("since 999999 weeks ago", 7, "found 999999"),
        ('"person', 1, "not closed"),
        ("camera > 3", 8, "text has no order"),
        ("camera = ", 10, "the value of camera"),
        ("width = wide", 9, "expected a number"),
        ("width = nan", 9, "expected a number"),
        ("and person", 1, "a class, a field"),
        ("day = 2026-13-45", 7, "found 2026-13-45"),
        ("(" * 60 + "person", 51, "too many brackets"),
        ("not " * 60 + "person", 201, "too many brackets"),
    ],
)
def test_bad_queries_get_one_line_with_the_position(query: str, position: int, text: str) -> None:
    with pytest.raises(QueryError, match="character") as caught:
        compile_query(query, now=NOW)
    assert caught.value.position == position
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=40)
@given(st.text(alphabet=" ()<>=!,\"'*0123456789.abcdnorstwheTZ:-person", max_size=40))
def test_any_text_is_a_query_or_an_error(archive: Archive, text: str) -> None:
    with suppress(QueryError):  # and no other
        assert archive.query(text, now=NOW).total <= len(RECORDS)


def test_sql_and_what_it_cannot_run(archive: Archive) -> None:
    from vcm.errors import UsageError

    table = archive.sql("SELECT camera, count(*) AS n FROM pictures GROUP BY camera ORDER BY n DESC LIMIT 1")
    assert (table.columns, table.rows) == (("camera", "n"), (("3", 3),))
    with pytest.raises(UsageError, match="the SQL cannot be run"):
        archive.sql("SELECT nothing")


def test_a_folder_without_tables_is_no_archive(tmp_path: Path) -> None:
    from vcm.errors import InputError

    with pytest.raises(InputError, match="no archive there"):
        Archive(tmp_path)
