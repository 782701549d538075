"""An archive that is asked: DuckDB over its tables, and the files of what is found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vcm.archive.folders import Folder, read_bytes
from vcm.archive.language import Compiled, compile_query
from vcm.archive.table import FOLDER, Found
from vcm.bitstream import Bitstream, parse
from vcm.errors import InputError, UsageError, reason
from vcm.io.remote import file_system
from vcm.requirements import needing

if TYPE_CHECKING:
    import duckdb

__all__ = ["Archive", "Hit", "Hits", "Table"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that a query found.

    Attributes:
        picture, source, time, camera, width, height, bytes, base_bytes, file, rest: as of
            :class:`vcm.archive.table.Record`.
        objects: those that the query is about, best first; all of a score of at least 0.3 where it names no class.
    """

    picture: str
    source: str
    time: datetime
    camera: str
    width: int
    height: int
    bytes: int
    base_bytes: int
    file: str
    rest: str | None
    objects: tuple[Found, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Hits:
    """What a query found.

    Attributes:
        total: pictures that match.
        pictures: the newest of them, newest first.
    """

    total: int
    pictures: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to SQL.

    Attributes:
        columns: names.
        rows: values.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


_PICTURE = "picture, source, time, camera, width, height, bytes, base_bytes, file, rest"


class Archive:
    """An archive, for reading. May be asked while pictures are taken in: it sees the parts that were there when it was
    opened.

    Args:
        name: folder or address.

    Raises:
        InputError: there is no archive there.
        MissingDependencyError: duckdb is not installed, or what an address needs.
    """

    def __init__(self, name: str | os.PathLike[str]) -> None:
        with needing("an archive"):
            import duckdb
        self.folder = Folder(name)
        self._errors: type[Exception] = duckdb.Error
        self._connection = duckdb.connect()
        parts = self.folder.names(FOLDER, ".parquet")
        if not parts:
            raise InputError(f"{self.folder}: no archive there", expected=f"tables in {FOLDER}/")
        if self.folder.remote:
            self._connection.register_filesystem(file_system(self.folder.name)[0])
        files = ", ".join(f"'{self.folder.at(part).replace(chr(39), chr(39) * 2)}'" for part in parts)
        try:
            self._connection.execute(
                f"CREATE VIEW detections AS SELECT * FROM read_parquet([{files}], hive_partitioning = true, "
                "hive_types = {'camera': VARCHAR, 'day': DATE})"
            )
            self._connection.execute(
                f"CREATE VIEW pictures AS SELECT picture, {', '.join(f'any_value({c}) AS {c}' for c in _COLUMNS)}, "
                "any_value(day) AS day FROM detections GROUP BY picture"
            )
        except duckdb.Error as error:
            raise InputError(f"{self.folder}: its tables cannot be read", found=reason(error)) from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def labels(self) -> list[str]:
        """Classes that were found in any picture, sorted."""
        rows = self._run("SELECT DISTINCT label FROM detections WHERE label IS NOT NULL ORDER BY label", ())
        return [row[0] for row in rows.fetchall()]

    def stored(self) -> tuple[int, int]:
        """How many pictures there are, and their bytes."""
        count, total = self._run("SELECT count(*), coalesce(sum(bytes), 0) FROM pictures", ()).fetchall()[0]
        return int(count), int(total)

    def query(self, text: str = "", *, limit: int | None = None, now: datetime | None = None) -> Hits:
        """Pictures that a query is true of.

        Args:
            text: in the language of :mod:`vcm.archive.language`.
            limit: how many are given; the others are counted.
            now: what relative times count from, UTC without a zone.

        Raises:
            QueryError: the query is not well formed.
            InputError: a table cannot be read.
        """
        query = compile_query(text, now=now, labels=self.labels)
        found = self._run(
            f"SELECT picture, max(time) AS latest, any_value(camera), any_value(day), count(*) OVER () FROM detections "
            f"WHERE {query.where} GROUP BY picture HAVING {query.having} ORDER BY latest DESC, picture"
            + ("" if limit is None else f" LIMIT {int(limit)}"),
            (*query.where_values, *query.having_values),
        ).fetchall()
        if not found:
            return Hits(0, ())
        return Hits(int(found[0][4]), self._hits(found, query))

    def _hits(self, found: Sequence[tuple[Any, ...]], query: Compiled) -> tuple[Hit, ...]:
        """The rows of pictures that were found; cameras and days say in which parts they are."""
        matching, values = (query.matching, query.matching_values) if query.matching else ("score >= 0.3", ())
        pictures, cameras, days = ([*dict.fromkeys(row[i] for row in found)] for i in (0, 2, 3))
        rows = self._run(
            f"SELECT {_PICTURE}, label, score, x1, y1, x2, y2, category_id, head, coalesce({matching}, FALSE) "
            "FROM detections WHERE picture IN (SELECT unnest(?)) AND list_contains(?, camera) "
            f"AND list_contains(?, day) AND {query.where} ORDER BY score DESC, head, x1, y1",
            (*values, pictures, cameras, days, *query.where_values),
        ).fetchall()
        objects: dict[str, list[Found]] = {picture: [] for picture in pictures}
        about: dict[str, tuple[Any, ...]] = {}
        for row in rows:
            about.setdefault(row[0], row[:10])
            label, score, x1, y1, x2, y2, category, head, matches = row[10:]
            if label is not None and matches:
                box = None if x1 is None else (x1, y1, x2, y2)
                objects[row[0]].append(Found(label, score, box, category, head))
        return tuple(replace(Hit(*about[picture]), objects=tuple(objects[picture])) for picture in pictures)

    def sql(self, text: str) -> Table:
        """Any SQL over the views ``detections`` and ``pictures``.

        Raises:
            UsageError: DuckDB cannot run it.
        """
        try:
            answer = self._connection.execute(text)
            rows = answer.fetchall()
        except self._errors as error:
            raise UsageError("the SQL cannot be run", found=reason(error)) from error
        return Table(tuple(column[0] for column in answer.description or ()), tuple(rows))

    def _run(self, text: str, values: Sequence[Any]) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(text, list(values))
        except self._errors as error:
            raise InputError(f"{self.folder}: its tables cannot be read", found=reason(error)) from error

    def base(self, hit: Hit) -> Bitstream:
        """Header and base of a picture; as many bytes are read as ``base_bytes`` says, in one request.

        Raises:
            InputError, FormatError: the file cannot be read.
        """
        return parse(read_bytes(self.folder.at(hit.file), hit.base_bytes))

    def stream(self, hit: Hit) -> Bitstream:
        """All that is stored of a picture.

        Raises:
            InputError, FormatError: a file cannot be read.
        """
        data = read_bytes(self.folder.at(hit.file))
        return parse(data if hit.rest is None else data + read_bytes(self.folder.at(hit.rest)))


_COLUMNS = ("source", "time", "camera", "width", "height", "source_bytes", "bytes", "base_bytes", "file", "rest")
