"""The rows of a table of values: read and write them on an open connection."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages.batch import Batch
    from kvsync.storages.sqlite.table import Table

__all__ = ["Rows"]

READ_COUNT = 500
FETCH_COUNT = 50
SCAN_COUNT = 5_000
SCAN_BYTES = 32 << 20

_UNFIT = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError)
"""What SQLite and its driver raise for a row that cannot be stored."""


class Rows:
    """The statements for the rows of one table; `kvsync.storages.sqlite.expiring` has those for rows that expire.

    Args:
        table: its name and those of its columns.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Prepare a new connection for the statements: here nothing is needed."""

    def read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent."""
        found = self._select(connection, keys)
        if set(map(type, found.values())) <= {bytes}:
            return [found.get(key) for key in keys]
        return [_readable(found[key]) if key in found else None for key in keys]

    def write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Write values, with `expect` only where the current value has that token."""
        self._refuse_changed(connection, batch)
        self._upsert(connection, batch, self._rows_of(batch))

    def delete(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Delete keys, with `expect` only where the current value has that token."""
        self._refuse_changed(connection, batch, deletes=True)
        connection.executemany(self.table.delete, [(key,) for key in batch.keys if _is_text(key)])

    def page(self, connection: sqlite3.Connection, last: str | None) -> list[tuple[Any, ...]]:
        """Return the next rows after the key `last`, ascending, each a key, a value, and what else the table has.

        Raises:
            StorageError: a key is not text, or a value is not a BLOB.
        """
        cursor = connection.execute(self.table.page(first=last is None), () if last is None else (last,))
        rows: list[tuple[Any, ...]] = []
        size = 0
        with contextlib.closing(cursor):
            while len(rows) < SCAN_COUNT and size < SCAN_BYTES:
                more = cursor.fetchmany(FETCH_COUNT)
                rows += more
                size += sum(len(row[1]) for row in more if isinstance(row[1], bytes))
                if len(more) < FETCH_COUNT:
                    break
        self._check(rows)
        return rows

    def tokens(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        """Return the tokens of the values in a page: here the BLAKE3 of each."""
        return digest_values([row[1] for row in rows])

    def _tokens_at(
        self,
        connection: sqlite3.Connection,  # noqa: ARG002 - rows that expire are asked when
        values: dict[str, bytes],
    ) -> dict[str, bytes]:
        """Return the tokens of values that have just been read."""
        return dict(zip(values, digest_values(list(values.values())), strict=True))

    def _check(self, rows: Sequence[tuple[Any, ...]]) -> None:
        if {type(row[0]) for row in rows} <= {str} and {type(row[1]) for row in rows} <= {bytes}:
            return
        for row in rows:
            key, value = row[:2]
            if not isinstance(key, str):
                message = f"table {self.table.name!r} has a key that is {_class(key)}, not text: {key!r:.200}"
                raise StorageError(message)
            if not isinstance(value, bytes):
                message = f"the row of key {key!r:.200} holds {_class(value)}, not a BLOB: rewrite or delete it"
                raise StorageError(message, key=key)

    def _rows_of(self, batch: Batch) -> list[tuple[Any, ...]]:
        """Return the parameters of the statement that writes each row."""
        return list(zip(batch.keys, batch.values, strict=True))

    def _refuse_changed(self, connection: sqlite3.Connection, batch: Batch, *, deletes: bool = False) -> None:
        if batch.expect is None:
            return
        found = self._select(connection, batch.keys)
        readable = {key: value for key, value in found.items() if isinstance(value, bytes)}
        tokens = self._tokens_at(connection, readable)
        # A row that does not hold a BLOB is neither absent nor ever what was expected.
        batch.compare([tokens.get(key, b"" if key in found else None) for key in batch.keys], deletes=deletes)
        batch.drop_refused()

    def _upsert(self, connection: sqlite3.Connection, batch: Batch, rows: Sequence[tuple[Any, ...]]) -> None:
        with contextlib.suppress(*_UNFIT):
            connection.executemany(self.table.upsert, rows)
            return
        # One of the rows cannot be stored. Find out which; the rows before it are written again.
        for row in rows:
            if not connection.in_transaction:
                message = "the database has undone the transaction: run again"
                raise StorageError(message)
            try:
                connection.execute(self.table.upsert, row)
            except _UNFIT as error:
                batch.refuse(row[0], f"the database refused it: {error!s:.300}")

    def _select(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for chunk in self._chunks(keys):
            found.update(connection.execute(self.table.select(len(chunk)), chunk))
        return found

    def _chunks(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield the keys that can be stored, in chunks for one statement each."""
        storable = keys if _are_texts(keys) else [key for key in keys if _is_text(key)]
        for start in range(0, len(storable), READ_COUNT):
            yield storable[start : start + READ_COUNT]


def _readable(value: object) -> bytes | Unreadable:
    return value if isinstance(value, bytes) else Unreadable(f"its row holds {_class(value)}, not a BLOB")


def _class(value: object) -> str:
    classes = {str: "TEXT", int: "INTEGER", float: "REAL", bytes: "a BLOB", type(None): "NULL"}
    return classes.get(type(value), type(value).__name__)


def _are_texts(keys: Sequence[str]) -> bool:
    try:
        "".join(keys).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text(key: str) -> bool:
    return _are_texts([key])
