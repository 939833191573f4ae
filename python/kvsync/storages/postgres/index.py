"""The index objects of a PostgreSQL storage: rows of the table `kvsync_index`, in the schema of the storage's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.postgres.connections import atomic
from kvsync.storages.postgres.names import INDEX_TABLE, quoted
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import Connection

    from kvsync.types import Expectation

__all__ = ["VERSION_BYTES", "Index"]

VERSION_BYTES = 8
LEASE = "lease"

OFFSET_MAX = 1 << 30
"""No value is larger, and PostgreSQL counts its bytes with 32 bits."""


@dataclass(frozen=True, slots=True)
class Index:
    """The statements over the index objects of one storage.

    The version of an object is a random number, so that an object that is removed and created again gets another one.

    Attributes:
        schema: where the table of all indices is.
        owner: names the storage among all of the schema.
        run: runs one statement that writes, and returns how many rows it wrote.
    """

    schema: str
    owner: str
    run: Callable[[Connection[Any], str, Mapping[str, Any] | Sequence[Any]], int]

    @property
    def identifier(self) -> str:
        """The index table's identifier."""
        return f"{quoted(self.schema)}.{INDEX_TABLE}"

    def create(self, connection: Connection[Any]) -> None:
        """Create the table of all indices of the schema."""
        with atomic(connection):
            connection.execute(
                f"CREATE TABLE {self.identifier} "
                '(tbl text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, data bytea NOT NULL, '
                "version bigint NOT NULL, PRIMARY KEY (tbl, name))"
            )
            # Objects are already compressed, if that pays.
            connection.execute(f"ALTER TABLE {self.identifier} ALTER COLUMN data SET STORAGE EXTERNAL")

    def exists(self, connection: Connection[Any]) -> bool:
        """Return whether the table of all indices of the schema exists."""
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (self.identifier,)).fetchone()
        return row is not None and bool(row[0])

    def load(self, connection: Connection[Any], name: str) -> Stored | None:
        """Return an object, or None."""
        query = f"SELECT data, version FROM {self.identifier} WHERE tbl = %s AND name = %s"  # noqa: S608
        row = connection.cursor(binary=True).execute(query, (self.owner, name)).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], bytes) or not isinstance(row[1], int):
            message = f"table {INDEX_TABLE} is not as kvsync creates it: rename it, and let kvsync create a new one"
            raise StorageError(message)
        return Stored(row[0], row[1].to_bytes(VERSION_BYTES, "little", signed=True))

    def load_ranges(
        self, connection: Connection[Any], name: str, ranges: Sequence[tuple[int, int]]
    ) -> list[bytes] | None:
        """Return ranges of an object, each cut at its end, or None."""
        query = (
            "SELECT substring(data FROM place.start FOR place.length) "  # noqa: S608
            f"FROM {self.identifier}, unnest(%s::int[], %s::int[]) WITH ORDINALITY AS place (start, length, number) "
            "WHERE tbl = %s AND name = %s ORDER BY place.number"
        )
        starts = [min(offset, OFFSET_MAX) + 1 for offset, _ in ranges]
        lengths = [length for _, length in ranges]
        cursor = connection.cursor(binary=True)
        rows = cursor.execute(query, (starts, lengths, self.owner, name)).fetchall()
        return [data for (data,) in rows] or None

    def store(self, connection: Connection[Any], name: str, data: bytes, version: bytes, expect: Expectation) -> None:
        """Write an object.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
        """
        values = {"tbl": self.owner, "name": name, "data": data, "version": _number(version)}
        if isinstance(expect, bytes):
            values["old"] = _number(expect)
        if self.run(connection, self._write(name, expect), values) != 1:
            raise ObjectMismatch(name)

    def _write(self, name: str, expect: Expectation) -> str:
        row = "%(tbl)s, %(name)s, %(data)s, %(version)s"
        columns = f"INSERT INTO {self.identifier} (tbl, name, data, version)"
        current = f"SELECT 1 FROM {self.identifier} WHERE tbl = %(tbl)s AND name = %(name)s"  # noqa: S608
        if expect is ABSENT:
            # To look first avoids waiting for a transaction that is changing the row, as it may renew a lease.
            given = f"SELECT {row} WHERE NOT EXISTS ({current})" if name == LEASE else f"VALUES ({row})"
            return f"{columns} {given} ON CONFLICT DO NOTHING"
        if expect is ANY:
            change = "DO UPDATE SET data = excluded.data, version = excluded.version"
            return f"{columns} VALUES ({row}) ON CONFLICT (tbl, name) {change}"
        # A lease that a long transaction has just renewed is locked until the transaction ends. It is held: do not
        # wait.
        free = f"AND EXISTS ({current} AND version = %(old)s FOR UPDATE SKIP LOCKED)" if name == LEASE else ""
        return (
            f"UPDATE {self.identifier} SET data = %(data)s, version = %(version)s "  # noqa: S608
            f"WHERE tbl = %(tbl)s AND name = %(name)s AND version = %(old)s {free}"
        )

    def remove(self, connection: Connection[Any], names: Sequence[str], expect: Expectation) -> None:
        """Remove objects.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
        """
        statement = f"DELETE FROM {self.identifier} WHERE tbl = %s AND name = ANY (%s)"  # noqa: S608
        if isinstance(expect, bytes):
            values = (self.owner, [*names], _number(expect))
            if self.run(connection, f"{statement} AND version = %s", values) != 1:
                raise ObjectMismatch(names[0])
        elif expect is ANY:
            self.run(connection, statement, (self.owner, [*names]))
        elif present := sorted(set(names) & set(self.names(connection))):
            raise ObjectMismatch(present[0])

    def names(self, connection: Connection[Any]) -> list[str]:
        """Return the names of all objects, ascending."""
        query = f"SELECT name FROM {self.identifier} WHERE tbl = %s ORDER BY name"  # noqa: S608
        return [str(row[0]) for row in connection.execute(query, (self.owner,))]


def _number(version: bytes) -> int | None:
    return int.from_bytes(version, "little", signed=True) if len(version) == VERSION_BYTES else None
