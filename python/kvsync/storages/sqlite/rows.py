"""The rows of a table of values: find them on an open connection, and tell what they hold.

A value is a BLOB or a text, whose bytes are its UTF-8. A key is a text, a BLOB that is UTF-8, or an integer in its one
usual form. What is neither is named, and nothing of it is taken for a value or for an absent one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from kvsync.native import Page, digest_values
from kvsync.storages.expiry import tokens_of
from kvsync.storages.sqlite.fetch import bytes_of, fetch, lenient, undecodable
from kvsync.storages.sqlite.keys import KeyKind, Raw, is_text
from kvsync.storages.sqlite.schema import Schema, inspect
from kvsync.storages.sqlite.statements import TEXT_IF_UTF8, Statements
from kvsync.storages.sqlite.times import NOW, PARSE, Unit, parse
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from kvsync.storages.sqlite.table import Table

__all__ = ["Found", "Rows", "shown_class"]

T = TypeVar("T")

READ_COUNT = 500
FETCH_COUNT = 64
SCAN_COUNT = 512
"""So many rows of a scan, with their values, fit into a processor's cache, and are too few to start the cyclic garbage
collector, which would look at each of them."""
PLAIN_COUNT = 4096
"""So many rows of a page in which there is nothing to look at: they stay in Python a few at a time."""
SCAN_BYTES = 32 << 20

AMBIGUOUS = "several rows have this key, as a text, a BLOB or an integer: delete all but one"


Columns: TypeAlias = "tuple[list[Any], list[Any], list[Any]]"
"""Rows as the database returns them, in columns: keys, values, and times where rows expire."""


class Found(NamedTuple):
    """What rows hold, in columns: keys, values, and when each expires (0: never)."""

    keys: list[str]
    values: list[bytes | Unreadable]
    times: list[int]

    def without(self, keys: Collection[str]) -> Found:
        """Return the rest."""
        if not keys:
            return self
        kept = [position for position, key in enumerate(self.keys) if key not in keys]
        return Found(
            [self.keys[position] for position in kept],
            [self.values[position] for position in kept],
            [self.times[position] for position in kept],
        )

    def sorted(self) -> Found:
        """Return the same rows, ascending by key."""
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        return Found(
            [self.keys[position] for position in order],
            [self.values[position] for position in order],
            [self.times[position] for position in order],
        )

    def tokens(self) -> list[bytes]:
        """Return the token of each value: its BLAKE3, and its time if it expires; nothing where it is unreadable."""
        readable = [value for value in self.values if isinstance(value, bytes)]
        digests = iter(digest_values(readable))
        if len(readable) == len(self.values):
            return tokens_of(list(digests), self.times)
        tokens = tokens_of([next(digests) if isinstance(value, bytes) else b"" for value in self.values], self.times)
        return [token if isinstance(value, bytes) else b"" for token, value in zip(tokens, self.values, strict=True)]

    def page(self) -> Page:
        """Return a page of a scan."""
        return Page(self.keys, self.values, self.times if any(self.times) else None)


class Rows:
    """One table on any connection to its database.

    Args:
        table: its name and those of its columns.
        clock: returns wall-clock seconds; decides what has expired.

    Attributes:
        schema: what the table is like, once it was found to exist.
        sql: its statements, from then on.
    """

    schema: Schema
    sql: Statements

    def __init__(self, table: Table, clock: Callable[[], float] = time.time) -> None:
        self.table = table
        self.name = table.name
        self.create = table.create
        self._clock = clock

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Give a new connection the functions that the statements call."""
        connection.create_function(NOW, 0, self.now_ms)
        connection.create_function(PARSE, 1, parse, deterministic=True)
        connection.create_function(TEXT_IF_UTF8, 1, text_if_utf8, deterministic=True)

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return int(self._clock() * 1000)

    def exists(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table exists; if it does, look at what it is like.

        Raises:
            UsageError: it is not suitable.
        """
        schema = inspect(connection, self.table)
        if schema is None:
            return False
        self.schema, self.sql = schema, Statements(self.table, schema)
        return True

    def read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent."""
        found = self.find(connection, keys)
        values = dict(zip(found.keys, found.values, strict=True))
        return [values.get(key) for key in keys]

    def times(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, milliseconds; 0 if never, if the key is absent, or the time is none."""
        found = self.find(connection, keys)
        times = dict(zip(found.keys, found.times, strict=True))
        return [times.get(key, 0) for key in keys]

    def modified(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified, milliseconds; None if that is not known."""
        if self.table.modified is None:
            return [None] * len(keys)
        forms = self.forms(connection, keys)
        rows = [row for some in chunks(forms) for row in fetch(connection, self.sql.modified(len(some)), some)]
        times = {self.schema.keys.text(key): self._modified(raw) for key, raw in rows}
        return [times.get(key) for key in keys]

    def _modified(self, raw: object) -> int | None:
        """Return a time of modification; of whole seconds the last millisecond, so that no edit is too early."""
        found = self.table.unit.milliseconds(raw) or None
        whole = found is not None and self.table.unit is not Unit.MILLISECONDS and found % 1000 == 0
        return found + 999 if found is not None and whole else found

    def find(self, connection: sqlite3.Connection, keys: Sequence[str], *, expired: bool = False) -> Found:
        """Return what is stored at those of `keys` that are there; `expired`: even if it has expired."""
        return self.found(self.select(connection, self.forms(connection, keys), expired=expired))

    def select(
        self, connection: sqlite3.Connection, forms: Sequence[Raw], *, expired: bool = False
    ) -> list[tuple[Any, ...]]:
        """Return the rows of keys, given in the form in which rows hold them."""
        rows: list[tuple[Any, ...]] = []
        for some in chunks(forms):
            rows += fetch(connection, self.sql.select(len(some), expired=expired), some)
        return rows

    def plain(self, connection: sqlite3.Connection) -> bool:
        """Whether a row can hold a key in the form of a new row alone."""
        if self.schema.keys is KeyKind.TEXT:
            return not connection.execute(self.sql.others).fetchone()[0]
        return self.schema.keys is KeyKind.INTEGER

    def forms(self, connection: sqlite3.Connection, keys: Sequence[str]) -> Sequence[Raw]:
        """Return every form in which a row may hold one of `keys`."""
        if self.plain(connection):
            return [form for form in self.new_forms(keys) if form is not None]
        return [form for key in keys for form in self.schema.keys.forms(key)]

    def new_forms(self, keys: Sequence[str]) -> Sequence[Raw | None]:
        """Return how a new row holds each key; None for a key that it cannot hold."""
        if self.schema.keys is KeyKind.TEXT and is_text(*keys):
            return keys
        return [self.schema.keys.new(key) for key in keys]

    def plain_page(self, connection: sqlite3.Connection, last: bytes | None) -> Page:
        """Return the next rows whose keys are texts, after the key `last`, up to one that has to be looked at."""
        page = Page()
        if self.table.expires is not None:
            return page
        try:
            with closing(connection.execute(*self._page_after(last))) as cursor:
                while len(page) < PLAIN_COUNT and page.value_bytes < SCAN_BYTES:
                    rows = cursor.fetchmany(FETCH_COUNT)
                    if not page.add_rows(rows) or len(rows) < FETCH_COUNT:
                        break
        except sqlite3.OperationalError as error:
            if not undecodable(error):
                raise
        return page

    def page(self, connection: sqlite3.Connection, last: bytes | None) -> Columns:
        """Return the next rows whose keys are texts, after the key `last`, ascending: in columns."""
        try:
            return self._page(connection, last)
        except sqlite3.OperationalError as error:
            if not undecodable(error):
                raise
        with lenient(connection):
            return self._page(connection, last)

    def found(self, rows: Sequence[tuple[Any, ...]]) -> Found:
        """Return what rows hold, whose keys can be keys; rows of one key have to follow each other."""
        keys = [row[0] for row in rows]
        if {*map(type, keys)} - {str}:
            keys = [self.schema.keys.text(key) for key in keys]
        values = [row[1] for row in rows]
        if {*map(type, values)} - {bytes}:
            values = [self._value(value) for value in values]
        times = [0] * len(rows)
        if self.table.expires is not None:
            raw = [row[2] for row in rows]
            times = [self._time(position, time, values) for position, time in enumerate(raw)] if any(raw) else times
        found = Found(keys, values, times)
        return found if len(set(keys)) == len(keys) else _without_doubles(found)

    def _page(self, connection: sqlite3.Connection, last: bytes | None) -> Columns:
        columns: Columns = ([], [], [])
        size = 0
        with closing(connection.execute(*self._page_after(last))) as cursor:
            while len(columns[0]) < SCAN_COUNT and size < SCAN_BYTES:
                rows = cursor.fetchmany(FETCH_COUNT)
                for column, items in zip(columns, zip(*rows, strict=True), strict=False):
                    column.extend(items)
                size += _size(columns[1][-len(rows) :])
                if len(rows) < FETCH_COUNT:
                    break
        return columns

    def _page_after(self, last: bytes | None) -> tuple[str, tuple[bytes, ...]]:
        return (self.sql.first_page, ()) if last is None else (self.sql.next_page, (last,))

    def _value(self, raw: object) -> bytes | Unreadable:
        if isinstance(raw, bytes):
            return raw
        if isinstance(raw, str):
            return bytes_of(raw)
        if isinstance(raw, int) and self.schema.numeric:
            return b"%d" % raw
        return Unreadable(f"its row holds {shown_class(raw)}, neither a BLOB nor a text")

    def _time(self, position: int, raw: object, values: list[bytes | Unreadable]) -> int:
        """Return when a row expires, milliseconds; make its value unreadable if that is no time."""
        found = self.table.unit.milliseconds(raw)
        if found is None:
            values[position] = Unreadable(
                f"it expires at {raw!r:.100}, which cannot be meant in unit={self.table.unit}: correct column "
                f"{self.table.expires!r}"
            )
        return found or 0


def chunks(forms: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield keys in chunks for one statement each."""
    for start in range(0, len(forms), READ_COUNT):
        yield forms[start : start + READ_COUNT]


def _size(values: Sequence[Any]) -> int:
    """Return about how many bytes values have together."""
    try:
        return sum(map(len, values))
    except TypeError:  # numbers, or NULL
        return sum(len(value) for value in values if isinstance(value, bytes | str))


def text_if_utf8(value: bytes) -> str | bytes:
    """Return a value as a text, if it is UTF-8."""
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode()
    return value


def shown_class(value: object) -> str:
    """Return SQLite's word for what a row holds."""
    classes = {str: "TEXT", int: "INTEGER", float: "REAL", bytes: "a BLOB", type(None): "NULL"}
    return classes.get(type(value), type(value).__name__)


def _without_doubles(found: Found) -> Found:
    """Return each key once; no value stands for a key of two rows."""
    rows: dict[str, tuple[bytes | Unreadable, int]] = {}
    for key, value, due in zip(*found, strict=True):
        rows[key] = (Unreadable(AMBIGUOUS), 0) if key in rows else (value, due)
    return Found(list(rows), [value for value, _ in rows.values()], [due for _, due in rows.values()])
