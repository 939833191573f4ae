"""What a table of a SQLite database does not keep as given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.storages import limits as limit
from kvsync.storages.sqlite.keys import KeyKind
from kvsync.storages.sqlite.schema import needed_columns, other_triggers

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from kvsync.storages.sqlite.rows import Rows

__all__ = ["limits_of"]


def limits_of(connection: sqlite3.Connection, rows: Rows) -> Iterator[str]:
    """Yield what to know of a table that exists, one sentence each."""
    table, schema = rows.table, rows.schema
    name = table.name.lower()
    yield from limit.of_triggers(other_triggers(connection, table))
    yield from limit.of_required(needed_columns(connection, table))
    columns = connection.execute(f'PRAGMA table_xinfo("{table.name}")').fetchall()
    yield from limit.of_generated(column[1] for column in columns if column[6] in {2, 3})
    if schema.keys is KeyKind.INTEGER:
        yield from limit.of_keys("integer")
    if schema.textual:
        yield from limit.of_texts()
    elif schema.numeric:
        yield from limit.of_values(_declared(columns, table.value))
    if _is_unique(connection, table.name, table.value):
        yield from limit.of_unique_values()
    yield from _references(connection, name)


def _declared(columns: list[Any], name: str) -> str:
    return next(str(column[2]) for column in columns if column[1].lower() == name.lower())


def _is_unique(connection: sqlite3.Connection, table: str, column: str) -> bool:
    for index in connection.execute(f'PRAGMA index_list("{table}")').fetchall():
        quoted = index[1].replace('"', '""')
        parts = [part[2] for part in connection.execute(f'PRAGMA index_info("{quoted}")')]
        if index[2] and len(parts) == 1 and str(parts[0]).lower() == column.lower():
            return True
    return False


def _references(connection: sqlite3.Connection, name: str) -> Iterator[str]:
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = []
    for table in tables:
        quoted = table.replace('"', '""')
        keys = connection.execute(f'PRAGMA foreign_key_list("{quoted}")').fetchall()
        if any(str(key[2]).lower() == name for key in keys):
            found.append(table)
        if table.lower() == name and keys:
            yield "its foreign keys are not enforced: a row may refer to one that does not exist"
    if found:
        yield f"other tables refer to it ({', '.join(sorted(found))}): a delete leaves their rows as they are"
