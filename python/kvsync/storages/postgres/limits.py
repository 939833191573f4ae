"""What a table of a PostgreSQL database does not keep as given, and what it may lose by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.storages import limits as limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from kvsync.storages.postgres.table import Table

__all__ = ["limits_of"]

# Of a partitioned table, and a parent, what its parts have counts, too.
_LIMITS = """
WITH RECURSIVE parts AS (
    SELECT to_regclass(%s)::oid AS id
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN parts ON i.inhparent = parts.id
),
columns AS (SELECT a.* FROM pg_attribute a JOIN parts ON a.attrelid = parts.id WHERE attnum > 0 AND NOT attisdropped)
SELECT ARRAY(SELECT DISTINCT tgname::text FROM pg_trigger JOIN parts ON tgrelid = id
             WHERE NOT tgisinternal AND tgenabled <> 'D' AND NOT starts_with(tgname, 'kvsync_journal')),
       ARRAY(SELECT DISTINCT rulename::text FROM pg_rewrite JOIN parts ON ev_class = id WHERE ev_enabled <> 'D'),
       row_security_active(to_regclass(%s)),
       ARRAY(SELECT DISTINCT attname::text FROM columns
             WHERE attnotnull AND NOT atthasdef AND attidentity = '' AND attname <> ALL (%s)),
       ARRAY(SELECT DISTINCT attname::text FROM columns WHERE attgenerated <> ''),
       EXISTS (SELECT 1 FROM pg_index i JOIN columns c ON c.attrelid = i.indrelid AND c.attnum = i.indkey[0]
               WHERE i.indisunique AND i.indnkeyatts = 1 AND c.attname = %s),
       EXISTS (SELECT 1 FROM pg_class JOIN parts ON oid = id WHERE relpersistence = 'u')
"""
_REFERENCES = """
SELECT DISTINCT conrelid::regclass::text, confdeltype::text FROM pg_constraint
WHERE contype = 'f' AND confrelid = to_regclass(%s) ORDER BY 1
"""
_ON_DELETE = {
    "c": "a delete also deletes the rows of {} that refer to it (ON DELETE CASCADE)",
    "n": "a delete empties columns of the rows of {} that refer to it (ON DELETE SET NULL)",
    "d": "a delete changes columns of the rows of {} that refer to it (ON DELETE SET DEFAULT)",
}
_REFUSED = "a row that rows of {} refer to is not deleted, and is refused by its key"


def limits_of(connection: Connection[Any], table: Table) -> Iterator[str]:
    """Yield what to know of a table that exists, one sentence each."""
    name, names = table.identifier, table.names
    row = connection.execute(_LIMITS, (name, name, list(names.columns), names.value)).fetchone()
    if row is None:
        return
    triggers, rules, policies, required, generated, unique, unlogged = row
    yield from limit.of_triggers(triggers)
    yield from limit.of_triggers(rules, "rules")
    if policies:
        yield (
            "row-level security applies to this role: a row that it hides is named as unreadable, and is no delete; "
            "a role that sees all rows needs no look at each row that seems gone"
        )
    yield from limit.of_required(required)
    yield from limit.of_generated(generated)
    yield from _of_types(table)
    if unique:
        yield from limit.of_unique_values()
    if unlogged:
        yield "the table is UNLOGGED: the server empties it after a crash, which looks as if all keys were deleted"
    for other, action in connection.execute(_REFERENCES, (name,)):
        yield _ON_DELETE.get(action, _REFUSED).format(other)


def _of_types(table: Table) -> Iterator[str]:
    if not table.key.binary and not table.key.plain:
        yield from limit.of_keys(_shown(table.key.type or table.key.kind, table.key.length_max))
    if table.value.plain:
        yield from limit.of_texts()
    elif not table.value.binary:
        yield from limit.of_values(_shown(table.value.type or table.value.kind, table.value.length_max))


def _shown(kind: str, length_max: int | None) -> str:
    return kind if length_max is None else f"{kind} of up to {length_max} characters"
