"""Find out whether a row that seems absent is there, and row-level security hides it.

A unique index knows no policies: where a row is hidden, another one with its key cannot be inserted. So rows are
inserted and undone. They get what an ordinary new row would, but draw no numbers from sequences, as nothing undoes
that. A column that has to be filled is filled as in a row that is visible, since that most likely meets all checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.storages.postgres.columns import VALUE_TYPES
from kvsync.storages.postgres.failure import is_about_all
from kvsync.storages.postgres.names import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from psycopg import Connection

    from kvsync.storages.postgres.rows import Rows
    from kvsync.storages.postgres.table import Table

__all__ = ["find_hidden", "may_hide"]

HIDDEN = "row-level security hides its row from this role: use a role that sees all rows"
_UNKNOWN = (
    "row-level security may hide its row from this role, which cannot find out ({}): use a role that sees all rows"
)

UNIQUE_VIOLATION = "23505"
LEAST = -(1 << 15)
"""The least number of the smallest integer type; sequences begin at 1."""

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE '%%nextval(%%', false),
       a.atttypid = ANY (ARRAY['int2', 'int4', 'int8']::regtype[]),
       a.attnotnull,
       a.atthasdef
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
"""
_INDEXES = """
WITH parts AS (SELECT to_regclass(%s)::oid AS id UNION SELECT relid FROM pg_partition_tree(to_regclass(%s))),
indexes AS (
    SELECT c.relname::text AS name, i.indnkeyatts = 1 AND a.attname IS NOT NULL AS of_key
    FROM parts
    JOIN pg_index i ON i.indrelid = parts.id AND (i.indisunique OR i.indisexclusion)
    JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attname = %s
)
SELECT (SELECT array_agg(name) FROM indexes WHERE of_key),
       EXISTS (SELECT 1 FROM indexes WHERE NOT of_key),
       EXISTS (SELECT 1 FROM parts JOIN pg_class c ON c.oid = parts.id WHERE c.relhasrules)
       OR EXISTS (SELECT 1 FROM parts JOIN pg_trigger g ON g.tgrelid = parts.id WHERE NOT g.tgisinternal)
"""
_EMPTY = "''"
_BY_KIND = {
    "bool": "false",
    "int2": "0",
    "int4": "0",
    "int8": "0",
    "json": "'null'",
    "jsonb": "'null'",
    "numeric": "0",
    "uuid": "'00000000-0000-0000-0000-000000000000'",
}


_INHERITED = """
SELECT EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
               WHERE c.oid = to_regclass(%s) AND c.relkind <> 'p')
"""


def may_hide(connection: Connection[Any], table: Table) -> bool:
    """Return whether row-level security applies to this role, so that rows may be hidden from it."""
    row = connection.execute("SELECT row_security_active(to_regclass(%s))", (table.identifier,)).fetchone()
    return row is not None and bool(row[0])


def find_hidden(psycopg: ModuleType, rows: Rows, keys: Sequence[str]) -> dict[str, str]:
    """Return the keys at which a row is hidden, or may be, and the reason; call it within a transaction.

    Raises:
        psycopg.Error: the server failed.
    """
    seen = rows.present(keys)
    absent = [key for key in rows.storable(keys) if key not in seen]
    if not absent:
        return {}
    inherited = rows.connection.execute(_INHERITED, (rows.table.identifier,)).fetchone()
    if inherited is not None and inherited[0]:
        return dict.fromkeys(absent, _UNKNOWN.format("other tables inherit from it, and no unique index spans them"))
    return _Trial(psycopg, rows, *_prepared(rows)).hidden(absent)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that may be filled; `numbered`: its default draws a number from a sequence."""

    name: str
    type: str
    numbered: bool
    integer: bool
    required: bool
    default: bool


@dataclass(frozen=True, slots=True)
class _Trial:
    """Inserts rows and undoes that.

    Attributes:
        statement: inserts an array of keys.
        of_key: the unique indexes that are on the key alone.
        others: there are other ones, which can keep a row out, too.
        hooks: there are triggers or rules, which can ignore a row, or change its key.
    """

    psycopg: ModuleType
    rows: Rows
    statement: str
    of_key: frozenset[str]
    others: bool
    hooks: bool

    def hidden(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the keys at which no row can be inserted, and the reason; try many at once where all are alike."""
        found: dict[str, str] = {}
        pending = [keys]
        while pending:
            part = pending.pop()
            if len(part) == 1:
                found.update(dict.fromkeys(part, why) if (why := self._why(part)) else {})
                continue
            count = self._count(part)
            if count == 0 and not self.others and not self.hooks:
                found.update(dict.fromkeys(part, HIDDEN))
            elif count != len(part):
                half = len(part) // 2
                pending += [part[half:], part[:half]]
        return found

    def _count(self, keys: Sequence[str]) -> int | None:
        """Return how many of some rows can be inserted; None if that cannot be found out for all of them at once."""
        try:
            return self._insert(keys, "ON CONFLICT DO NOTHING")
        except self.psycopg.Error as error:
            if is_about_all(error):
                raise
            return None

    def _why(self, keys: Sequence[str]) -> str:
        """Return why the row of one key cannot be inserted; empty if it can be."""
        try:
            return "" if self._insert(keys, "") else _UNKNOWN.format("a trigger or rule ignores or changes new rows")
        except self.psycopg.Error as error:
            if is_about_all(error):
                raise
            if error.sqlstate == UNIQUE_VIOLATION and error.diag.constraint_name in self.of_key:
                return HIDDEN
            return _UNKNOWN.format(f"{error.diag.message_primary!s:.200}")

    def _insert(self, keys: Sequence[str], otherwise: str) -> int:
        connection, raw = self.rows.connection, [self.rows.raw(key) for key in keys]
        with connection.transaction(force_rollback=True):
            count = connection.cursor(binary=True).execute(f"{self.statement} {otherwise}", (raw,)).rowcount
            return min(count, len(self.rows.present(keys))) if self.hooks else count


def _prepared(rows: Rows) -> tuple[str, frozenset[str], bool, bool]:
    """Return the statement that inserts keys, the indexes on the key alone, and whether others, or hooks, exist."""
    table, connection = rows.table, rows.connection
    columns = [_Column(*row) for row in connection.execute(_COLUMNS, (table.identifier,))]
    key = table.names.key
    found = connection.execute(_INDEXES, (table.identifier, table.identifier, key)).fetchone()
    of_key, others, hooks = found or ((), True, True)
    filled = {column.name: said for column in columns if (said := _filled(table, column))}
    likened = ", ".join(quoted(column.name) for column in columns if filled.get(column.name, "").startswith("like_it."))
    source = f"unnest({table.key.array}) WITH ORDINALITY AS given (key, number)"
    if likened:
        source += f" LEFT JOIN (SELECT {likened} FROM {table.identifier} LIMIT 1) AS like_it ON true"  # noqa: S608
    statement = (
        f"INSERT INTO {table.identifier} ({', '.join(map(quoted, filled))}) OVERRIDING SYSTEM VALUE "  # noqa: S608
        f"SELECT {', '.join(filled.values())} FROM {source}"
    )
    return statement, frozenset(of_key), others, hooks


def _filled(table: Table, column: _Column) -> str:
    """Return the expression for what a column gets; empty for its default."""
    ours = {table.names.key: "given.key", table.names.value: _value(table, column)}
    if table.expires is not None:
        ours[str(table.names.expires)] = table.expires.given("0::bigint")
    if table.modified is not None:
        ours[str(table.names.modified)] = table.modified.now
    if column.name in ours:
        return ours[column.name]
    if column.numbered and column.integer:
        return f"({LEAST} + given.number)::{column.type}"
    if column.numbered and not column.required:
        return "NULL"
    return f"like_it.{quoted(column.name)}" if column.required and not column.default else ""


def _value(table: Table, column: _Column) -> str:
    """Return a small value that the column most likely takes."""
    if not column.required:
        return "NULL"
    if table.value.kind not in VALUE_TYPES:
        return f"(enum_range(NULL::{table.value.type}))[1]"
    return f"{_BY_KIND.get(table.value.kind, _EMPTY)}::{column.type}"
