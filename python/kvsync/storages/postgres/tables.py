"""The table of a PostgreSQL storage and that of its index: looked up once, created by the first write."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.postgres.catalogue import TableState, find_state, find_table
from kvsync.storages.postgres.connections import atomic
from kvsync.storages.postgres.index import Index
from kvsync.storages.postgres.table import new_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from psycopg import Connection

    from kvsync.storages.postgres.connections import Connections
    from kvsync.storages.postgres.names import Names
    from kvsync.storages.postgres.table import Table

__all__ = ["Tables"]


class Tables:
    """What is known about the two tables.

    Args:
        psycopg: the module.
        connections: tells whether this thread is within a transaction.
        names: of the storage's table and its columns.

    Attributes:
        has_index: the table of the index objects was seen, and not only within a transaction that may be undone.
    """

    def __init__(self, psycopg: ModuleType, connections: Connections, names: Names) -> None:
        self._psycopg = psycopg
        self._connections = connections
        self._names = names
        self._schema: str | None = None
        self._table: Table | None = None
        self._fresh_table: Table | None = None
        self._state: TableState | None = None
        self.has_index = False

    @property
    def name(self) -> str:
        """The name of the storage's table, without its schema."""
        return self._names.table

    def find(self, connection: Connection[Any]) -> Table | None:
        """Return the storage's table, or None if it does not exist.

        Raises:
            UsageError: it is not suitable.
        """
        within = self._connections.pinned() is not None
        known = self._table or (self._fresh_table if within else None)
        if known is not None:
            return known
        schema, table = find_table(connection, self._names)
        if self._schema is None:
            # Keep that one: an index must not move because a table appears elsewhere in the search path.
            self._schema = schema
            self._names = dataclasses.replace(self._names, schema=schema)
        if within:  # a rollback would remove it again
            self._fresh_table = table
        else:
            self._table = table
        return table

    def make(self, connection: Connection[Any]) -> Table:
        """Create the storage's table, and return it.

        Raises:
            UsageError: somebody else has just created it, and it is not suitable.
            StorageError: somebody has just dropped it.
        """
        statement = new_table(self._names).create
        self._make(connection, lambda: connection.execute(statement))
        table = self.find(connection)
        if table is None:
            message = f"table {self._names.table!r} has just been dropped: run again"
            raise StorageError(message)
        return table

    def state(self, connection: Connection[Any], table: Table) -> TableState:
        """Return what the storage's table is like now; within a transaction, what it was like at its first write."""
        if self._connections.pinned() is None:
            return find_state(connection, table)
        if self._state is None:
            self._state = find_state(connection, table)
        return self._state

    def has_rows(self) -> None:
        """Remember within a transaction that the table was not as empty as it seemed."""
        if self._state is not None:
            self._state = dataclasses.replace(self._state, empty=False)

    def index(self, connection: Connection[Any]) -> Index:
        """Return the statements for the index objects; their table need not exist."""
        if self._schema is None:
            self.find(connection)
        return Index(str(self._schema), self._names.owner, self._connections.run)

    def note_index(self) -> None:
        """Remember that the table of the index objects was seen, unless a rollback would remove it again."""
        self.has_index = self.has_index or self._connections.pinned() is None

    def make_index(self, connection: Connection[Any]) -> None:
        """Create the table of the index objects."""
        self._make(connection, lambda: self.index(connection).create(connection))

    def forget(self) -> None:
        """Look up both tables again: one was dropped."""
        self._table = None
        self._state = None
        self.has_index = False

    def forget_uncommitted(self) -> None:
        """Look up again what was found within a transaction, which has ended."""
        self._fresh_table = None
        self._state = None

    def _make(self, connection: Connection[Any], create: Callable[[], object]) -> None:
        """Create a table, unless somebody else is creating it."""
        errors = self._psycopg.errors
        # Which error it is depends on how far the other one has come: the table, its row type, a catalogue's key.
        taken = (errors.DuplicateTable, errors.DuplicateObject, errors.UniqueViolation)
        try:
            with atomic(connection):
                create()
        except taken:
            pass
