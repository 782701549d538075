"""The language of queries, and its translation to SQL.

    query  := any { "," any }                               all of them
    any    := all { "or" all }
    all    := one { "and" one }
    one    := "not" one | "(" query ")" | CLASS [OP NUMBER] | FIELD OP VALUE | ("since" | "before") WHEN
    WHEN   := "now" | "today" | "yesterday" | DATE | DATE"T"TIME | NUMBER UNIT "ago"
    UNIT   := "minutes" | "hours" | "days" | "weeks"
    OP     := ">" | ">=" | "<" | "<=" | "=" | "!="

A class without a number wants a score of at least 0.3. Words of more than one, and classes that are called like a
field, stand in quotes where they would be misread. ``*`` in a text value stands for anything. Times are UTC.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vcm.errors import UsageError
from vcm.structures import COCO_NAMES, DEFAULT_SCORE

__all__ = ["Compiled", "QueryError", "compile_query"]

_NUMBERS = ("width", "height", "bytes", "base_bytes", "source_bytes")
_TEXTS = ("camera", "source", "head", "picture")
_TIMES = ("time", "day")
_FIELDS = (*_NUMBERS, *_TEXTS, *_TIMES)
_KEYWORDS = ("and", "or", "not", "since", "before")
_UNITS = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_OPS = (">=", "<=", "!=", ">", "<", "=")
_TOKEN = re.compile(
    r"""\s*(?:"(?P<quoted>[^"]*)"|(?P<op>>=|<=|!=|[<>=])|(?P<mark>[(),])|(?P<word>[^\s"<>=!(),]+))""", re.VERBOSE
)
_MAX_DEPTH = 50


class QueryError(UsageError):
    """A query is not well formed.

    Attributes:
        position: of the word that is wrong, characters from the start, the first being 1.
    """

    def __init__(self, what: str, position: int, *, expected: object = None, found: object = None) -> None:
        super().__init__(f"query, character {position}: {what}", expected=expected, found=found)
        self.position = position


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query as SQL over the table of detections.

    Attributes:
        where: a condition on rows; ``TRUE`` if there is none.
        where_values: of its question marks.
        having: a condition on a picture's rows together.
        having_values: of its question marks.
        matching: a condition on rows: the objects that the query is about; ``None`` where it names no class.
        matching_values: of its question marks.
    """

    where: str
    where_values: tuple[Any, ...]
    having: str
    having_values: tuple[Any, ...]
    matching: str | None
    matching_values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class _Condition:
    """SQL on rows. ``about``: a class, of which one row is enough; else a field, which is one for all rows."""

    sql: str
    values: tuple[Any, ...]
    about: bool


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str  # and, or, not
    parts: tuple[_Node | _Condition, ...]


def compile_query(text: str, *, now: datetime | None = None, labels: Callable[[], Collection[str]] = tuple) -> Compiled:
    """Translate a query.

    Args:
        text: the query; empty: every picture.
        now: what relative times count from, UTC without a zone.
        labels: gives the classes of the archive; asked only for a class that is none of COCO's.

    Raises:
        QueryError: it is not well formed, or no head knows a class of it.
    """
    parser = _Parser(text, now or datetime.now(UTC).replace(tzinfo=None), labels)
    tree = parser.query() if text.strip() else _Node("and", ())
    parser.end()
    top = _flat(tree)
    rows = [part for part in top if _only_fields(part)]
    groups = [part for part in top if not _only_fields(part)]
    where, where_values = _join(rows, _row_sql)
    having, having_values = _join(groups, _group_sql)
    classes = [c for part in top for c in _classes(part, True)]
    if (
        classes
        and any(not _has_not(part) and _only_classes(part) for part in groups)
        and not any(map(_has_not, groups))
    ):
        # A picture that matches has a row of one of these classes, and the other rows change nothing.
        every = tuple(dict.fromkeys(c.values[0] for c in classes))
        where = f"{where} AND label IN ({', '.join('?' * len(every))})"
        where_values = (*where_values, *every)
    matching = " OR ".join(f"({c.sql})" for c in classes) or None
    return Compiled(
        where, where_values, having, having_values, matching, tuple(v for c in classes for v in c.values)
    )  # fmt: skip


def _join(parts: list[_Node | _Condition], sql: Callable[[_Node | _Condition], tuple[str, tuple[Any, ...]]]) -> Any:
    made = [sql(part) for part in parts]
    return " AND ".join(text for text, _ in made) or "TRUE", tuple(v for _, values in made for v in values)


def _flat(node: _Node | _Condition) -> list[_Node | _Condition]:
    if isinstance(node, _Node) and node.kind == "and":
        return [inner for part in node.parts for inner in _flat(part)]
    return [node]


def _only_fields(node: _Node | _Condition) -> bool:
    return not node.about if isinstance(node, _Condition) else all(map(_only_fields, node.parts))


def _only_classes(node: _Node | _Condition) -> bool:
    return node.about if isinstance(node, _Condition) else all(map(_only_classes, node.parts))


def _has_not(node: _Node | _Condition) -> bool:
    return isinstance(node, _Node) and (node.kind == "not" or any(map(_has_not, node.parts)))


def _classes(node: _Node | _Condition, wanted: bool) -> list[_Condition]:
    """Conditions on classes that are wanted, not those that are ruled out."""
    if isinstance(node, _Condition):
        return [node] if node.about and wanted else []
    return [c for part in node.parts for c in _classes(part, wanted != (node.kind == "not"))]


def _sql(node: _Node | _Condition, leaf: Callable[[_Condition], str]) -> tuple[str, tuple[Any, ...]]:
    if isinstance(node, _Condition):
        return leaf(node), node.values
    parts = [_sql(part, leaf) for part in node.parts]
    values = tuple(v for _, inner in parts for v in inner)
    if node.kind == "not":
        return f"NOT {parts[0][0]}", values
    return f"({f' {node.kind.upper()} '.join(text for text, _ in parts)})", values


def _row_sql(node: _Node | _Condition) -> tuple[str, tuple[Any, ...]]:
    return _sql(node, lambda c: f"({c.sql})")


def _group_sql(node: _Node | _Condition) -> tuple[str, tuple[Any, ...]]:
    return _sql(node, lambda c: f"coalesce(bool_or({c.sql}), FALSE)")


class _Parser:
    def __init__(self, text: str, now: datetime, labels: Callable[[], Collection[str]]) -> None:
        self._now, self._labels, self._depth, self._at = now, labels, 0, 0
        self._tokens: list[_Token] = []
        position = 0
        while text[position:].strip():
            found = _TOKEN.match(text, position)
            start = position + len(text[position:]) - len(text[position:].lstrip())
            if found is None:
                what = "a quotation mark is not closed" if text[start] == '"' else f"cannot read {text[start]!r}"
                raise QueryError(what, start + 1)
            kind = str(found.lastgroup)
            self._tokens.append(_Token(kind, found[kind], start + 1))
            position = found.end()
        self._end = _Token("end", "the end", len(text) + 1)

    def query(self) -> _Node | _Condition:
        return self._list("and", self._any, lambda: self._takes(","))

    def end(self) -> None:
        if self._next.kind != "end":
            raise self._wrong("and, or, a comma, or the end")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else self._end

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _takes(self, *words: str) -> bool:
        token = self._next
        if token.kind in ("word", "mark") and token.text.lower() in words:
            self._at += 1
            return True
        return False

    def _wrong(self, expected: str) -> QueryError:
        token = self._next
        return QueryError("cannot be understood", token.position, expected=expected, found=token.text)

    def _list(self, kind: str, part: Callable[[], _Node | _Condition], more: Callable[[], bool]) -> _Node | _Condition:
        parts = [part()]
        while more():
            parts.append(part())
        return parts[0] if len(parts) == 1 else _Node(kind, tuple(parts))

    def _any(self) -> _Node | _Condition:
        return self._list("or", self._all, lambda: self._takes("or"))

    def _all(self) -> _Node | _Condition:
        return self._list("and", self._one, lambda: self._takes("and"))

    def _one(self) -> _Node | _Condition:
        start = self._next
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise QueryError("too many brackets in each other", start.position, expected=f"at most {_MAX_DEPTH}")
        try:
            if self._takes("not"):
                return _Node("not", (self._one(),))
            if self._takes("("):
                inner = self.query()
                if not self._takes(")"):
                    raise self._wrong("a closing bracket")
                return inner
            if self._takes("since"):
                return _Condition(f"time >= ?{self._day('>=')}", self._moments(self._when(), 2), False)
            if self._takes("before"):
                return _Condition(f"time < ?{self._day('<=')}", self._moments(self._when(), 2), False)
            return self._term()
        finally:
            self._depth -= 1

    @staticmethod
    def _day(op: str) -> str:
        """The same for whole days, which lets parts of other days be passed over."""
        return f" AND day {op} CAST(? AS DATE)"

    @staticmethod
    def _moments(when: datetime, count: int) -> tuple[Any, ...]:
        return (when, *(when.date().isoformat() for _ in range(count - 1)))

    def _term(self) -> _Condition:
        token = self._take()
        if token.kind == "quoted":
            return self._class(token.text, token)
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            self._at -= 1
            raise self._wrong("a class, a field, since or before")
        name = token.text.lower()
        if name in _FIELDS and self._next.kind == "op":
            return self._field(name)
        words = [token.text]
        while self._next.kind == "word" and self._next.text.lower() not in _KEYWORDS:
            words.append(self._take().text)
        return self._class(" ".join(words), token)

    def _class(self, label: str, token: _Token) -> _Condition:
        if label not in COCO_NAMES:
            there = self._labels()
            if label not in there:
                close = difflib.get_close_matches(label, [*COCO_NAMES, *there], 1)
                expected = f"one of the archive's, such as {close[0]}" if close else "one of the archive's"
                raise QueryError("no such class", token.position, expected=expected, found=label)
        if self._next.kind != "op":
            return _Condition("label = ? AND score >= ?", (label, DEFAULT_SCORE), True)
        op = self._take().text
        return _Condition(f"label = ? AND score {op} ?", (label, self._number()), True)

    def _number(self) -> float:
        token = self._next
        try:
            value = float(token.text) if token.kind == "word" else None
        except ValueError:
            value = None
        if value is None or not abs(value) < 1e15:
            raise self._wrong("a number")
        self._at += 1
        return value

    def _field(self, name: str) -> _Condition:
        op = self._take()
        if name in _NUMBERS:
            return _Condition(f"{name} {op.text} ?", (self._number(),), False)
        if name == "time":
            return _Condition(f"time {op.text} ?", (self._when(),), False)
        if name == "day":
            return _Condition(f"day {op.text} CAST(? AS DATE)", (self._when().date().isoformat(),), False)
        if op.text not in ("=", "!="):
            raise QueryError("text has no order", op.position, expected="= or !=", found=op.text)
        if self._next.kind not in ("word", "quoted"):
            raise self._wrong(f"the value of {name}")
        value = self._take().text
        if "*" in value:
            # Only the star: brackets and question marks are in names.
            escaped = re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%")
            return _Condition(f"{name} {'NOT ' if op.text == '!=' else ''}LIKE ? ESCAPE '\\'", (escaped,), False)
        return _Condition(f"{name} {op.text} ?", (value,), False)

    def _when(self) -> datetime:
        token, today = self._next, self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        expected = "today, yesterday, now, a date like 2026-11-24 or 2026-11-24T18:30, or a time like 2 hours ago"
        if token.kind not in ("word", "quoted"):
            raise self._wrong(expected)
        word = token.text.lower()
        self._at += 1
        if word in ("now", "today", "yesterday"):
            return {"now": self._now, "today": today, "yesterday": today - timedelta(days=1)}[word]
        if word.isascii() and word.isdecimal() and len(word) <= 6:
            unit = self._take().text.lower().removesuffix("s")
            if unit in _UNITS and self._takes("ago"):
                try:
                    return self._now - timedelta(seconds=int(word) * _UNITS[unit])
                except OverflowError:
                    pass
            self._at = self._tokens.index(token)
            raise self._wrong(expected)
        try:
            when = datetime.fromisoformat(token.text)
        except ValueError:
            self._at -= 1
            raise self._wrong(expected) from None
        return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
