"""The SQL of one table, whose names are checked and quoted.

Each comparison and order of keys is BINARY, whatever the collation of the column: the index that makes keys unique
byte by byte is the one that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.sqlite.keys import KeyKind

if TYPE_CHECKING:
    from kvsync.storages.sqlite.schema import Schema
    from kvsync.storages.sqlite.table import Table

__all__ = ["TEXT_IF_UTF8", "Statements"]

TEXT_IF_UTF8 = "kvsync_text"
"""The SQL function that makes a text of bytes that are UTF-8."""

# ruff: noqa: S608 - every statement is made of checked names


class Statements:
    """The statements for one table.

    Those that write take the value, the times that the table has, and at last the key.

    Attributes:
        delete: deletes one key.
        insert: inserts one row, and breaks no rule of the table, whatever its `ON CONFLICT` clauses say.
        update: changes one row.
        upsert: inserts or changes one row; a value stays text where the row holds text.
        others: tells whether rows have keys that are not texts.
        keys: reads all keys.
        odd_keys: reads the keys that are not texts, except for NULL.
        nulls: counts the rows without a key.
        first_page: reads the rows whose keys are texts, in their order.
        next_page: reads those after a key, given as its bytes.
    """

    def __init__(self, table: Table, schema: Schema) -> None:
        key, value = f'"{table.key}" COLLATE BINARY', f'"{table.value}"'
        times = [f'"{name}"' for name in (table.expires, table.modified) if name is not None]
        written = [value, *times]
        self._table, self._key = f'"{table.name}"', key
        self._found = ", ".join([f'"{table.key}"', value, *times[: table.expires is not None]])
        self._kind = f'"{table.key}", typeof({value})'
        self._times = f'"{table.key}", "{table.modified}"'
        stays = f" AND {table.unit.stays(times[0])}" if table.expires is not None else ""
        self._stays = stays
        self.delete = f"DELETE FROM {self._table} WHERE {key} = ?"
        self.insert = (
            f'INSERT OR ABORT INTO {self._table} ({", ".join(written)}, "{table.key}") '
            f"VALUES ({', '.join('?' * (len(written) + 1))})"
        )
        sets = ", ".join(f"{column} = ?" for column in written)
        self.update = f"UPDATE OR ABORT {self._table} SET {sets} WHERE {key} = ?"
        taken = {column: f"excluded.{column}" for column in written}
        if not schema.textual:
            kept = f"CASE typeof({self._table}.{value}) WHEN 'text' THEN {TEXT_IF_UTF8}({taken[value]})"
            taken[value] = f"{kept} ELSE {taken[value]} END"
        changes = ", ".join(f"{column} = {new}" for column, new in taken.items())
        # Integers have no collation, and the number of a row is no index that could be named with one.
        unique = f'"{table.key}"' if schema.keys is KeyKind.INTEGER else key
        self.upsert = f"{self.insert} ON CONFLICT ({unique}) DO UPDATE SET {changes}"
        blobs, numbers = (f"FROM {self._table} WHERE {key} {range_}" for range_ in (">= x''", "< ''"))
        self.others = f"SELECT EXISTS(SELECT 1 {blobs}) OR EXISTS(SELECT 1 {numbers})"
        self.odd_keys = f'SELECT "{table.key}" {blobs}{stays} UNION ALL SELECT "{table.key}" {numbers}{stays}'
        self.keys = f'SELECT "{table.key}" FROM {self._table} WHERE {key} IS NOT NULL{stays}'
        self.nulls = "" if schema.key_required else f"SELECT count(*) FROM {self._table} WHERE {key} IS NULL{stays}"
        page = f"SELECT {self._found} FROM {self._table} WHERE"
        self.first_page = f"{page} {key} >= '' AND {key} < x''{stays} ORDER BY {key}"
        self.next_page = f"{page} {key} > CAST(? AS TEXT) AND {key} < x''{stays} ORDER BY {key}"

    def select(self, count: int, *, expired: bool = False) -> str:
        """Return the statement that reads key, value and, if rows expire, the time of `count` keys."""
        return self._among(self._found, count) + ("" if expired else self._stays)

    def kinds(self, count: int) -> str:
        """Return the statement that reads which of `count` keys there are, and the storage class of each value."""
        return self._among(self._kind, count)

    def modified(self, count: int) -> str:
        """Return the statement that reads when `count` rows were modified."""
        return self._among(self._times, count) + self._stays

    def _among(self, columns: str, count: int) -> str:
        return f"SELECT {columns} FROM {self._table} WHERE {self._key} IN ({','.join('?' * count)})"
