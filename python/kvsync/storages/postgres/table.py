"""The table of a PostgreSQL storage: its names, what its columns can store, and its statements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import UsageError
from kvsync.storages.postgres.expires import Expires, expires_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

__all__ = ["INDEX_TABLE", "Column", "Names", "Table", "find_table", "new_table", "quoted"]

INDEX_TABLE = "kvsync_index"
INLINE_BYTES = 4096
"""Values up to this size come with their row in a scan; larger ones are fetched a few at a time."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z", re.ASCII)

_COLUMNS = """
SELECT c.relkind::text, n.nspname, a.attname, t.typname, format_type(a.atttypid, a.atttypmod), a.atttypmod,
       coalesce(l.collisdeterministic, true), current_setting('server_encoding'), a.attnotnull, a.atthasdef
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.oid = to_regclass(%s)
"""
_UNIQUE = """
SELECT 1
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
LEFT JOIN pg_collation l ON l.oid = i.indcollation[0]
WHERE i.indrelid = to_regclass(%s) AND a.attname = %s AND i.indnkeyatts = 1
  AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND coalesce(l.collisdeterministic, true)
"""


def quoted(name: str) -> str:
    """Return a checked name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a table and its columns, checked against an allow-list.

    Attributes:
        schema: None to look for the table in the role's search path.
        expires: the column that says when a row expires; None if rows never do.

    Raises:
        UsageError: a name is not made of letters, digits and underscores, or the table is that of the index.
    """

    table: str = "kv"
    key: str = "key"
    value: str = "value"
    schema: str | None = None
    expires: str | None = None

    def __post_init__(self) -> None:
        """Check the names."""
        for what in ("table", "key", "value", "schema", "expires"):
            name = getattr(self, what)
            if name is not None and not _NAME.match(name):
                message = f"{what}={name!r:.200} is not a plain name: use up to 63 letters, digits and underscores"
                raise UsageError(message)
        if self.table == INDEX_TABLE:
            message = f"table={self.table!r} is reserved: name another table"
            raise UsageError(message)
        if self.key == self.value:
            message = f"key and value are both {self.key!r}: name two columns"
            raise UsageError(message)
        if self.expires in {self.key, self.value}:
            message = f"expires is {self.expires!r}, the same as key or value: name three columns"
            raise UsageError(message)

    def in_schema(self, schema: str | None) -> str:
        """Return the table's identifier."""
        return f"{quoted(schema)}.{quoted(self.table)}" if schema else quoted(self.table)


@dataclass(frozen=True, slots=True)
class Column:
    """What a column can store.

    Attributes:
        binary: it is `bytea`, not text.
        length_max: how many characters a `varchar(n)` can store; None if unlimited.
    """

    binary: bool
    length_max: int | None = None

    @property
    def type(self) -> str:
        """The type for passing its values."""
        return "bytea" if self.binary else "text"

    @property
    def plain(self) -> bool:
        """Whether it can store every text without NUL."""
        return not self.binary and self.length_max is None

    def refuses(self, text: str) -> str | None:
        """Return why a text cannot be stored, or None."""
        if "\0" in text and not self.binary:
            return "a text column cannot hold a NUL character"
        if self.length_max is not None and len(text) > self.length_max:
            # PostgreSQL would silently cut off the excess if it is blanks.
            return f"it is longer than the column's {self.length_max} characters"
        try:
            text.encode()
        except UnicodeEncodeError:
            return "it has a lone surrogate"
        return None

    def refuses_value(self, value: bytes) -> str | None:
        """Return why a value cannot be stored, or None."""
        if self.binary:
            return None
        try:
            return self.refuses(value.decode())
        except UnicodeDecodeError:
            return "it is not UTF-8, and the value column is text"


@dataclass(frozen=True, slots=True)
class Table:
    """An existing table, and its statements."""

    identifier: str
    names: Names
    key: Column
    value: Column
    expires: Expires | None = None

    @property
    def create(self) -> str:
        """The statement that creates the table."""
        expires = f", {self.expires.column} {self.expires.type}" if self.expires else ""
        columns = f'{self._key} text COLLATE "C" PRIMARY KEY, {self._value} bytea NOT NULL{expires}'
        return f"CREATE TABLE {self.identifier} ({columns})"

    @property
    def insert(self) -> str:
        """The beginning of a statement that writes arrays of keys and values, and of milliseconds if rows expire."""
        arrays = f"%b::{self.key.type}[], %b::{self.value.type}[]"
        if self.expires:
            return (
                f"INSERT INTO {self.identifier} AS held ({self._key}, {self._value}, {self.expires.column}) "  # noqa: S608
                f"SELECT given.key, given.value, {self.expires.given('given.due')} "
                f"FROM unnest({arrays}, %b::bigint[]) AS given (key, value, due) ON CONFLICT ({self._key}) "
            )
        return (
            f"INSERT INTO {self.identifier} ({self._key}, {self._value}) "  # noqa: S608 - checked names
            f"SELECT * FROM unnest({arrays}) ON CONFLICT ({self._key}) "
        )

    @property
    def upsert(self) -> str:
        """The statement that writes unconditionally."""
        expires = f", {self.expires.column} = excluded.{self.expires.column}" if self.expires else ""
        return f"{self.insert} DO UPDATE SET {self._value} = excluded.{self._value}{expires}"

    @property
    def create_rows(self) -> str:
        """The statement that writes what is absent, and returns the keys that it wrote."""
        if self.expires:
            return f"{self.upsert} WHERE NOT {self.expires.stays('held')} RETURNING held.{self._key}"
        return f"{self.insert} DO NOTHING RETURNING {self._key}"

    @property
    def copy(self) -> str:
        """The statement that takes rows as a stream; an existing key makes it fail."""
        return f"COPY {self.identifier} ({self._key}, {self._value}) FROM STDIN (FORMAT BINARY)"

    @property
    def is_empty(self) -> str:
        """The query whether the table has no rows."""
        return f"SELECT NOT EXISTS (SELECT 1 FROM {self.identifier})"  # noqa: S608 - checked names

    @property
    def delete(self) -> str:
        """The statement that deletes an array of keys."""
        return f"DELETE FROM {self.identifier} WHERE {self._key} = ANY (%b::{self.key.type}[])"  # noqa: S608

    @property
    def select(self) -> str:
        """The query for the values of an array of keys."""
        return f"{self.select_any} {self._and_stays}"

    @property
    def select_any(self) -> str:
        """The query for the values of an array of keys, including expired rows."""
        return f"SELECT {self._key}, {self._bytes} FROM {self.identifier} WHERE {self._among}"  # noqa: S608

    @property
    def select_expires(self) -> str:
        """The query for the times of an array of keys, if rows expire."""
        time = self.expires.milliseconds if self.expires else "0"
        return f"SELECT {self._key}, {time} FROM {self.identifier} WHERE {self._among} {self._and_stays}"  # noqa: S608

    @property
    def lock(self) -> str:
        """The query for an array of keys as in `scan`, which locks their rows, always in the same order."""
        order = f"ORDER BY {self._key}{self._collate} FOR UPDATE"
        return f"SELECT {self._sized} FROM {self.identifier} WHERE {self._among} {self._and_stays} {order}"  # noqa: S608

    @property
    def scan(self) -> str:
        """The query for every row, ascending by the bytes of the key.

        It returns key, value (None if it is large), size and, if rows expire, the time.
        """
        rows = f"{self.identifier} WHERE {self.expires.stays()}" if self.expires else self.identifier
        return f"SELECT {self._sized} FROM {rows} ORDER BY {self._key}{self._collate}"  # noqa: S608

    @property
    def _key(self) -> str:
        return quoted(self.names.key)

    @property
    def _value(self) -> str:
        return quoted(self.names.value)

    @property
    def _sized(self) -> str:
        size = f"octet_length({self._value})"
        time = f", {self.expires.milliseconds}" if self.expires else ""
        return f"{self._key}, CASE WHEN {size} <= {INLINE_BYTES} THEN {self._bytes} END, {size}{time}"

    @property
    def _and_stays(self) -> str:
        return f"AND {self.expires.stays()}" if self.expires else ""

    @property
    def _bytes(self) -> str:
        return self._value if self.value.binary else f"convert_to({self._value}, 'UTF8')"

    @property
    def _among(self) -> str:
        return f"{self._key} = ANY (%b::{self.key.type}[])"

    @property
    def _collate(self) -> str:
        return "" if self.key.binary else ' COLLATE "C"'


def new_table(names: Names) -> Table:
    """Return the table that a first write creates."""
    expires = Expires(quoted(names.expires)) if names.expires is not None else None
    return Table(names.in_schema(names.schema), names, Column(binary=False), Column(binary=True), expires)


def find_table(connection: Connection[Any], names: Names) -> tuple[str, Table | None]:
    """Return the schema of a storage, and its table if it exists.

    Raises:
        UsageError: it is not suitable.
    """
    rows = connection.execute(_COLUMNS, (names.in_schema(names.schema),)).fetchall()
    if not rows:
        return _schema(connection, names), None
    schema = str(rows[0][1])
    if rows[0][0] not in {"r", "p"}:
        message = f"{names.table!r} is not a table; name a table, not a view"
        raise UsageError(message)
    columns = {row[2]: row for row in rows}
    for name in (names.key, names.value):
        if name not in columns:
            message = f"table {names.table!r} has no column {name!r}: name it with key= and value="
            raise UsageError(message)
    expires = _expires(names, columns)
    table = Table(names.in_schema(schema), names, _column(columns[names.key]), _column(columns[names.value]), expires)
    if not columns[names.key][6] or not connection.execute(_UNIQUE, (table.identifier, names.key)).fetchone():
        message = (
            f"key column {names.key!r} of {names.table!r} needs a unique index on it alone, not deferrable, not "
            "partial, and with a deterministic collation"
        )
        raise UsageError(message)
    return schema, table


def _column(row: Sequence[Any]) -> Column:
    _, _, name, kind, shown, modifier, _, encoding = row[:8]
    if kind == "bytea":
        return Column(binary=True)
    if kind not in {"text", "varchar"}:
        message = f"column {name!r} is {shown}, which may change values: it has to be bytea, text or varchar"
        raise UsageError(message)
    if encoding != "UTF8":
        message = f"column {name!r} is {shown} in a database with encoding {encoding}: use a UTF8 database, or bytea"
        raise UsageError(message)
    return Column(binary=False, length_max=modifier - 4 if modifier >= 4 else None)  # noqa: PLR2004 - its header


def _expires(names: Names, columns: dict[str, Sequence[Any]]) -> Expires | None:
    if names.expires is None:
        return None
    if names.expires not in columns:
        message = f"table {names.table!r} has no column {names.expires!r}: name it with expires=, or add a timestamptz"
        raise UsageError(message)
    _, _, name, kind, shown, _, _, _, required, default = columns[names.expires]
    return expires_column(name, quoted(name), (kind, shown, required, default))


def _schema(connection: Connection[Any], names: Names) -> str:
    if names.schema is not None:
        return names.schema
    row = connection.execute("SELECT current_schema(), current_setting('server_encoding')").fetchone()
    if row is None or row[0] is None:
        message = "the role's search path has no schema to create tables in: name one with schema="
        raise UsageError(message)
    return str(row[0])
