"""What the catalogue of a PostgreSQL database says about a table: its columns, and what runs when it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import UsageError
from kvsync.storages.postgres.columns import KEY_TYPES, VALUE_TYPES, Column
from kvsync.storages.postgres.expires import Expires
from kvsync.storages.postgres.names import quoted
from kvsync.storages.postgres.table import Table
from kvsync.storages.postgres.times import TIME_TYPES, TimeColumn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection

    from kvsync.storages.postgres.names import Names

__all__ = ["TableState", "find_state", "find_table"]

SAMPLE_COUNT = 1000

# A domain is described by the type beneath it.
_COLUMNS = """
WITH RECURSIVE
given AS (
    SELECT c.relkind::text AS relkind, n.nspname, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef,
           a.attidentity <> '' OR a.attgenerated <> '' AS made, coalesce(l.collisdeterministic, true) AS sound,
           format_type(a.atttypid, a.atttypmod) AS shown
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE c.oid = to_regclass(%s)
),
based AS (
    SELECT attname AS name, atttypid AS type, atttypmod AS modifier FROM given
    UNION ALL
    SELECT b.name, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.modifier END
    FROM based b JOIN pg_type t ON t.oid = b.type AND t.typtype = 'd'
)
SELECT g.relkind, g.nspname, g.attname, t.typname, t.typtype::text, format_type(t.oid, -1), b.modifier, g.shown,
       g.sound, g.attnotnull, g.atthasdef OR g.made, current_setting('server_encoding')
FROM given g
JOIN based b ON b.name = g.attname
JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd'
"""
_UNIQUE = """
SELECT bool_or(i.indimmediate AND coalesce(l.collisdeterministic, true)),
       bool_and(coalesce(l.collisdeterministic, true))
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
LEFT JOIN pg_collation l ON l.oid = i.indcollation[0]
WHERE i.indrelid = to_regclass(%s) AND a.attname = %s AND i.indnkeyatts = 1
  AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
"""
# A table of just our columns, and nothing runs when it is written. To ask what runs takes four times as long.
_IS_PLAIN = """
SELECT relkind = 'r' AND NOT (relhastriggers OR relhasrules OR relrowsecurity OR relhassubclass) AND relnatts = %s
FROM pg_class WHERE oid = to_regclass(%s)
"""
_STATE = """
WITH RECURSIVE parts AS (
    SELECT to_regclass(%s)::oid AS id
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN parts ON i.inhparent = parts.id
)
SELECT coalesce(bool_or(NOT g.tgisinternal AND NOT starts_with(g.tgname, 'kvsync_journal')), false),
       coalesce(bool_or(g.tgdeferrable), false),
       EXISTS (SELECT 1 FROM pg_rewrite r JOIN parts ON r.ev_class = parts.id WHERE r.ev_enabled <> 'D'),
       row_security_active(to_regclass(%s)),
       (SELECT min(a.attname) FROM pg_attribute a
        WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
              AND NOT a.atthasdef AND a.attidentity = '' AND a.attname <> ALL (%s))
FROM parts JOIN pg_trigger g ON g.tgrelid = parts.id AND g.tgenabled <> 'D'
"""


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table is like now: whether it has rows, and what runs when it is written.

    Attributes:
        empty: it has no rows.
        triggers: it has some, which may ignore or rewrite rows.
        deferrable: some of them, or of its foreign keys, may wait for the end of the transaction.
        rules: it has some; statements that change rows can then return nothing.
        policies: row-level security applies to this role; rows can then not be copied into the table.
        required: a column that is not ours, allows no NULL and has no default; None if there is none.
    """

    empty: bool = False
    triggers: bool = False
    deferrable: bool = False
    rules: bool = False
    policies: bool = False
    required: str | None = None

    @property
    def interferes(self) -> bool:
        """Whether a row may be stored in another way than it was given."""
        return self.triggers or self.rules or self.policies


def find_state(connection: Connection[Any], table: Table) -> TableState:
    """Return what a table is like now: somebody may add a trigger at any time."""
    name, columns = table.identifier, list(table.names.columns)
    is_empty = f"NOT EXISTS (SELECT 1 FROM {name})"  # noqa: S608
    row = connection.execute(f"SELECT {is_empty}, ({_IS_PLAIN})", (len(columns), name)).fetchone()
    if row is not None and row[1]:
        return TableState(empty=row[0])
    query = f"SELECT {is_empty}, found.* FROM ({_STATE}) AS found"  # noqa: S608
    row = connection.execute(query, (name, name, name, columns)).fetchone()
    return TableState(*row) if row is not None else TableState()


def find_table(connection: Connection[Any], names: Names) -> tuple[str, Table | None]:
    """Return the schema of a storage, and its table if it exists.

    Raises:
        UsageError: it is not suitable.
    """
    rows = connection.execute(_COLUMNS, (names.in_schema(names.schema),)).fetchall()
    if not rows:
        return _schema(connection, names), None
    if rows[0][0] not in {"r", "p"}:
        message = f"{names.table!r} is not a table; name a table, not a view"
        raise UsageError(message)
    schema = str(rows[0][1])
    columns = {row[2]: _Found(*row[2:]) for row in rows}
    table = _table(names, schema, columns)
    _check_unique(connection, table, columns[names.key])
    for times in (table.expires, table.modified):
        if times is not None:
            _check_unit(connection, table, times)
    return schema, table


@dataclass(frozen=True, slots=True)
class _Found:
    """A column: its name, type and modifier (of the base type for a domain), and how PostgreSQL shows its type."""

    name: str
    kind: str
    type_kind: str
    type: str
    modifier: int
    shown: str
    deterministic: bool
    required: bool
    default: bool
    encoding: str


def _table(names: Names, schema: str, columns: Mapping[str, _Found]) -> Table:
    for name in (names.key, names.value):
        if name not in columns:
            message = f"table {names.table!r} has no column {name!r}: name it with key= and value="
            raise UsageError(message)
    return Table(
        names.in_schema(schema),
        names,
        _column(columns[names.key], KEY_TYPES, "text, varchar, bytea, an integer type or uuid"),
        _column(columns[names.value], VALUE_TYPES, "bytea, or a type whose text is the same in every session"),
        _expires(names, columns),
        _modified(names, columns),
        alone=columns.keys() <= names.columns,
    )


def _column(found: _Found, kinds: frozenset[str], wanted: str) -> Column:
    if found.kind not in kinds and not (found.type_kind == "e" and kinds is VALUE_TYPES):
        message = f"column {found.name!r} is {found.shown}: it has to be {wanted}"
        raise UsageError(message)
    if found.kind == "bytea":
        return Column(found.kind)
    if found.encoding != "UTF8":
        message = (
            f"column {found.name!r} is {found.shown} in a database with encoding {found.encoding}: "
            "use a UTF8 database, or bytea"
        )
        raise UsageError(message)
    limited = found.kind in {"varchar", "bpchar"} and found.modifier >= 4  # noqa: PLR2004 - its header
    cast = None if found.kind in {"text", "varchar"} else found.type
    return Column(found.kind, cast, found.modifier - 4 if limited else None)


def _check_unique(connection: Connection[Any], table: Table, key: _Found) -> None:
    unique, deterministic = connection.execute(_UNIQUE, (table.identifier, key.name)).fetchone() or (None, None)
    if not unique or not deterministic or not key.deterministic:
        message = (
            f"key column {key.name!r} of {table.names.table!r} needs a unique index on it alone, not deferrable, not "
            "partial, and neither it nor its unique indexes may have a nondeterministic collation"
        )
        raise UsageError(message)


def _expires(names: Names, columns: Mapping[str, _Found]) -> Expires | None:
    if names.expires is None:
        return None
    found = _times(names, columns, names.expires, "expires", "says when a row expires")
    empty = not found.required and not found.default
    return Expires(quoted(found.name), TIME_TYPES[found.kind], names.unit_ms, required=found.required, empty=empty)


def _modified(names: Names, columns: Mapping[str, _Found]) -> TimeColumn | None:
    if names.modified is None:
        return None
    found = _times(names, columns, names.modified, "modified", "says when a row was last modified")
    return TimeColumn(quoted(found.name), TIME_TYPES[found.kind], names.unit_ms)


def _times(names: Names, columns: Mapping[str, _Found], name: str, parameter: str, says: str) -> _Found:
    if name not in columns:
        message = f"table {names.table!r} has no column {name!r}: name it with {parameter}=, or add a timestamptz"
        raise UsageError(message)
    found = columns[name]
    fitting = {"ms": {"int8"}, "s": {"int8", "int4"}, "utc": {"timestamp"}}[names.unit]
    if found.kind in fitting | {"timestamptz"}:
        return found
    message = (
        f"column {name!r} is {found.shown}: a column that {says} has to be timestamptz, bigint for milliseconds, "
        "with unit=s bigint or integer for seconds, or with unit=utc a timestamp in UTC"
    )
    raise UsageError(message)


def _check_unit(connection: Connection[Any], table: Table, times: TimeColumn) -> None:
    """Refuse a column most of whose times make no sense in their unit: every row would count as expired, or as new."""
    if times.implausible is None:
        return
    query = (
        f"SELECT count(*) FILTER (WHERE said BETWEEN %s AND %s) * 2 > count(*), max(said) "  # noqa: S608 - checked
        f"FROM (SELECT {times.column} AS said FROM {table.identifier} LIMIT {SAMPLE_COUNT}) AS sample WHERE said > 1"
    )
    row = connection.execute(query, times.implausible).fetchone()
    if row is not None and row[0]:
        counted, other = ("milliseconds", "s") if times.unit_ms == 1 else ("seconds", "ms")
        message = (
            f"column {times.column} of {table.names.table!r} has times such as {row[1]}, which make no sense in "
            f"{counted}: say unit={other} in the URL if that is what they count"
        )
        raise UsageError(message)


def _schema(connection: Connection[Any], names: Names) -> str:
    if names.schema is not None:
        return names.schema
    row = connection.execute("SELECT current_schema(), current_setting('server_encoding')").fetchone()
    if row is None or row[0] is None:
        message = "the role's search path has no schema to create tables in: name one with schema="
        raise UsageError(message)
    return str(row[0])
