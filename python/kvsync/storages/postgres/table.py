"""The table of a PostgreSQL storage, and its statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.storages.postgres.columns import Column
from kvsync.storages.postgres.expires import Expires
from kvsync.storages.postgres.names import quoted
from kvsync.storages.postgres.times import TimeColumn

if TYPE_CHECKING:
    from kvsync.storages.postgres.names import Names

__all__ = ["INLINE_BYTES", "Table", "new_table"]

INLINE_BYTES = 4096
"""Values up to this size come with their row in a scan; larger ones are fetched a few at a time."""


@dataclass(frozen=True, slots=True)
class Table:
    """An existing table, and its statements.

    Attributes:
        alone: it has no other columns, so that inserting a row that exists meets nothing but that row.
    """

    identifier: str
    names: Names
    key: Column
    value: Column
    expires: Expires | None = None
    modified: TimeColumn | None = None
    alone: bool = True

    @property
    def create(self) -> str:
        """The statement that creates the table."""
        times = [f", {times.column} {times.type}" for times in (self.expires, self.modified) if times]
        columns = f'{self._key} text COLLATE "C" PRIMARY KEY, {self._value} bytea NOT NULL{"".join(times)}'
        return f"CREATE TABLE {self.identifier} ({columns})"

    # Writing. The parameters are arrays of keys, of values, and of milliseconds if rows expire.

    def upsert(self, *, careful: bool) -> str:
        """Return the statement that writes; `careful` where inserting a row that exists may meet more than that row.

        It affects, or returns, as many rows as it wrote.
        """
        return self._update_and_insert("") if careful else f"{self._inserting} {self._or_update('')}"

    def create_rows(self, *, careful: bool) -> str:
        """Return the statement that writes what is absent, and returns the keys that it wrote."""
        if careful:
            return self._update_and_insert(self._expired)
        otherwise = self._or_update(self._expired) if self.expires else f"ON CONFLICT ({self._key}) DO NOTHING"
        return f"{self._inserting} {otherwise} RETURNING {self.key.text(self._held_key)}"

    @property
    def update(self) -> str:
        """The statement that changes the rows that exist."""
        return self._changing("", self._from)

    def update_rows(self, *, expired: bool) -> str:
        """Return the statement that changes rows that exist, or only expired ones, and returns their keys."""
        changing = self._changing(self._expired if expired else "", self._from)
        return f"{changing} RETURNING {self.key.text(self._held_key)}"

    @property
    def insert(self) -> str:
        """The statement that inserts the rows that do not exist."""
        return f"INSERT INTO {self.identifier} {self._rows(self._from)} WHERE {self._is_absent}"

    @property
    def copy(self) -> str:
        """The statement that takes rows as a stream; an existing key makes it fail."""
        form = "(FORMAT BINARY)" if self.copies_binary else ""
        return f"COPY {self.identifier} ({self._key}, {self._value}) FROM STDIN {form}"

    @property
    def copies_binary(self) -> bool:
        """Whether both columns take what we have in PostgreSQL's binary form."""
        return not self.key.type and not self.value.type

    @property
    def delete(self) -> str:
        """The statement that deletes an array of keys."""
        return f"DELETE FROM {self.identifier} WHERE {self._among}"  # noqa: S608 - checked names

    # Reading

    @property
    def select(self) -> str:
        """The query for the values of an array of keys."""
        return f"{self.select_any} {self._and_stays}"

    @property
    def select_any(self) -> str:
        """The query for the values of an array of keys, including expired rows."""
        return f"SELECT {self._shown_key}, {self._bytes} FROM {self.identifier} WHERE {self._among}"  # noqa: S608

    @property
    def select_keys(self) -> str:
        """The query for those of an array of keys that have a row, including expired ones."""
        return f"SELECT {self._shown_key} FROM {self.identifier} WHERE {self._among}"  # noqa: S608 - checked names

    @property
    def select_stored(self) -> str:
        """The query for the SHA-256 of what an array of keys holds, including expired rows, and when it expires."""
        due = self.expires.due if self.expires else "0"
        what = f"{self._shown_key}, sha256({self._bytes}), {due}"
        return f"SELECT {what} FROM {self.identifier} WHERE {self._among}"  # noqa: S608 - checked names

    @property
    def select_expires(self) -> str:
        """The query for the times at which the rows of an array of keys expire."""
        time = self.expires.due if self.expires else "0"
        return f"SELECT {self._shown_key}, {time} FROM {self.identifier} WHERE {self._among} {self._and_stays}"  # noqa: S608

    @property
    def select_modified(self) -> str:
        """The query for the times at which the rows of an array of keys were modified."""
        time = self.modified.latest if self.modified else "NULL::bigint"
        return f"SELECT {self._shown_key}, {time} FROM {self.identifier} WHERE {self._among} {self._and_stays}"  # noqa: S608

    @property
    def lock(self) -> str:
        """The query for an array of keys as in `scan`, which locks their rows, always in the same order."""
        order = f"ORDER BY {self._sorted_key} FOR UPDATE"
        return f"SELECT {self._sized} FROM {self.identifier} WHERE {self._among} {self._and_stays} {order}"  # noqa: S608

    @property
    def scan(self) -> str:
        """The query for every row, ascending by the bytes of the key.

        It returns key, value (None if it is large), the size if it is large and, if rows expire, the time.
        """
        rows = f"{self.identifier} WHERE {self.expires.stays()}" if self.expires else self.identifier
        return f"SELECT {self._sized} FROM {rows} ORDER BY {self._sorted_key}"  # noqa: S608 - checked names

    @property
    def select_listed(self) -> str:
        """The query for those of an array of keys that are there, as `scan` returns them."""
        rows = f"{self.identifier} WHERE {self._among} {self._and_stays}"
        return f"SELECT {self._sized} FROM {rows} ORDER BY {self._sorted_key}"  # noqa: S608 - checked names

    # Parts of statements

    def _update_and_insert(self, only: str) -> str:
        """Return the statement that updates rows that exist, if they are as `only` says, and inserts the others.

        An upsert would insert first: it fails for a row that exists if another column takes no default, and runs the
        triggers of an insert.
        """
        unchanged = f"NOT EXISTS (SELECT 1 FROM changed WHERE changed.{self._key} = given.key)"  # noqa: S608
        absent = f"AND {self._is_absent}" if only else ""
        changing, inserting = self._changing(only, "given"), self._rows("given")
        return (
            f"WITH given AS (SELECT * FROM {self._from}), "  # noqa: S608 - checked names
            f"changed AS ({changing} RETURNING {self._held_key}), "
            f"made AS (INSERT INTO {self.identifier} AS held {inserting} WHERE {unchanged} {absent} "
            f"{self._or_update(only)} RETURNING {self._held_key}) "
            f"SELECT {self._shown_key} FROM changed UNION ALL SELECT {self._shown_key} FROM made"
        )

    def _changing(self, only: str, given: str) -> str:
        sets = ", ".join(f"{column} = {said}" for column, said in list(self._assigned.items())[1:])
        where = f"held.{self._key} = given.key {f'AND {only}' if only else ''}"
        return f"UPDATE {self.identifier} AS held SET {sets} FROM {given} WHERE {where}"  # noqa: S608 - checked names

    def _or_update(self, only: str) -> str:
        sets = ", ".join(f"{column} = excluded.{column}" for column in list(self._assigned)[1:])
        return f"ON CONFLICT ({self._key}) DO UPDATE SET {sets} {f'WHERE {only}' if only else ''}"

    @property
    def _inserting(self) -> str:
        given = f"unnest({', '.join(self._arrays)}) AS given ({self._given_columns})"
        return f"INSERT INTO {self.identifier} AS held {self._rows(given)}"

    def _rows(self, given: str) -> str:
        return f"({', '.join(self._assigned)}) SELECT {', '.join(self._assigned.values())} FROM {given}"  # noqa: S608

    @property
    def _from(self) -> str:
        """What is written, as a table.

        The arrays are sub-queries, so that the planner cannot see how long they are: for thousands of keys it would
        read the whole table rather than look them up.
        """
        hidden = ", ".join(f"(SELECT {array})" for array in self._arrays)
        return f"unnest({hidden}) AS given ({self._given_columns})"

    @property
    def _arrays(self) -> list[str]:
        return [self.key.array, self.value.array, *(["%b::bigint[]"] if self.expires else [])]

    @property
    def _given_columns(self) -> str:
        return "key, value, due" if self.expires else "key, value"

    @property
    def _assigned(self) -> dict[str, str]:
        """The columns that are written, and what is written to them."""
        assigned = {self._key: "given.key", self._value: "given.value"}
        if self.expires:
            assigned[self.expires.column] = self.expires.given("given.due")
        if self.modified:
            assigned[self.modified.column] = self.modified.now
        return assigned

    @property
    def _expired(self) -> str:
        return f"NOT {self.expires.stays('held')}" if self.expires else "false"

    @property
    def _is_absent(self) -> str:
        return f"NOT EXISTS (SELECT 1 FROM {self.identifier} AS there WHERE there.{self._key} = given.key)"  # noqa: S608

    @property
    def _key(self) -> str:
        return quoted(self.names.key)

    @property
    def _value(self) -> str:
        return quoted(self.names.value)

    @property
    def _held_key(self) -> str:
        return f"held.{self._key}"

    @property
    def _shown_key(self) -> str:
        return self.key.text(self._key)

    @property
    def _sorted_key(self) -> str:
        return self._shown_key if self.key.binary else f'{self._shown_key} COLLATE "C"'

    @property
    def _sized(self) -> str:
        size = f"octet_length({self.value.text(self._value)})"
        time = f", {self.expires.due}" if self.expires else ""
        is_large = f"CASE WHEN {size} > {INLINE_BYTES} THEN"
        return f"{self._shown_key}, {is_large} NULL ELSE {self._bytes} END, {is_large} {size} END{time}"

    @property
    def _and_stays(self) -> str:
        return f"AND {self.expires.stays()}" if self.expires else ""

    @property
    def _bytes(self) -> str:
        return self.value.value_bytes(self._value)

    @property
    def _among(self) -> str:
        """The condition that a key is in an array, which is a sub-query for the same reason as in `_from`."""
        return f"{self._key} = ANY ((SELECT {self.key.array})::{self.key.array_type})"


def new_table(names: Names) -> Table:
    """Return the table that a first write creates."""
    expires = Expires(quoted(names.expires)) if names.expires is not None else None
    modified = TimeColumn(quoted(names.modified)) if names.modified is not None else None
    return Table(names.in_schema(names.schema), names, Column("text"), Column("bytea"), expires, modified)
