"""A table of a PostgreSQL database as a storage.

`postgresql://user:password@host:port/database?table=kv&key=key&value=value&schema=` names it; other parameters
are libpq's (`sslmode`, `connect_timeout`, `application_name` and so on), and `lock_timeout` says how many seconds to
wait for others' locks. TLS is verified unless the server is on this machine or the URL says otherwise.

Values lie in the table `kv(key text collate "C", value bytea)`, which the first write makes, or in one that was
there: its key column is text, varchar or bytea and unique, its value column bytea, text or varchar. `expires=` names a
column that says when a row expires (`kvsync.storages.postgres.expires`): a row past its time is absent for every
method, and stays in the table until something is written at its key, or deletes it.

The index lies in the table `kvsync_index` of the same schema. Values, segment and manifest are committed as one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from typing import TYPE_CHECKING, Any, TypeVar

from kvsync.errors import StorageError, UsageError
from kvsync.storages.base import ObjectMismatch
from kvsync.storages.expiry import lasting_only, noted
from kvsync.storages.postgres.connections import Connections, UnreachedError, atomic, library
from kvsync.storages.postgres.failure import failure, is_passing, unreached
from kvsync.storages.postgres.index import VERSION_BYTES, Index
from kvsync.storages.postgres.rows import NOT_EXPECTED, Rows
from kvsync.storages.postgres.table import Names, find_table, new_table
from kvsync.storages.postgres.url import locate
from kvsync.storages.rehearsal import undone
from kvsync.storages.url import redact
from kvsync.types import Capabilities, Stored, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg import Connection

    from kvsync.storages.postgres.table import Table
    from kvsync.types import Expectation, Version

__all__ = ["PostgresStorage", "open_url"]

T = TypeVar("T")

ATTEMPTS = 4
UNDEFINED_TABLE = "42P01"


def open_url(url: str) -> PostgresStorage:
    """Return the storage of a `postgresql://` URL; nothing is connected before the first call.

    Raises:
        UsageError: the URL is malformed, or psycopg is not installed.
    """
    psycopg = library()
    place = locate(url, {default.keyword.decode() for default in psycopg.pq.Conninfo.get_defaults()})
    return PostgresStorage(
        lambda: psycopg.connect(**place.parameters),
        names=place.names,
        name=place.name,
        identity=place.identity,
        lock_seconds=place.lock_seconds,
        scrub=place.endpoint.scrub,
    )


class PostgresStorage:
    """A table of a PostgreSQL database as a storage; several threads may use it.

    A thread that is within `transaction` sees its own writes; the others see what is committed.

    Args:
        connect: returns a new psycopg connection, which is then the storage's own: it is configured, kept and closed.
        names: of the table and its columns.
        name: what messages call it.
        identity: the same for every handle of this table, if that is known.
        lock_seconds: how long a statement waits for others' locks.
        scrub: takes secrets out of a message.
        random_bytes: gives that many random bytes; versions of index objects are made of them.
    """

    capabilities = Capabilities(tier="T1", transactional=True, blocking=True, compress=True, versions=False)

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        *,
        names: Names | None = None,
        name: str = "postgresql:",
        identity: str | None = None,
        lock_seconds: float = 10.0,
        scrub: Callable[[str], str] = redact,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.name = name
        if identity is not None:
            self.identity = identity
        self._psycopg = library()
        self._connections = Connections(connect, storage=name, lock_seconds=lock_seconds)
        self._names = names or Names()
        self.capabilities = dataclasses.replace(self.capabilities, expiry=self._names.expires is not None)
        self._scrub = scrub
        self._random_bytes = random_bytes
        self._numbers = itertools.count()
        self._schema: str | None = None
        self._table: Table | None = None
        self._fresh_table: Table | None = None
        self._loading: bool | None = None

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"PostgresStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> dict[str, bytes | None]:
            table = self._find(connection)
            return self._rows(connection, table).select(keys) if table is not None and keys else {}

        with self._errors():
            found = self._call(work)
        if None not in found.values():
            return [found.get(key) for key in keys]
        return [
            Unreadable("its row holds NULL") if key in found and found[key] is None else found.get(key) for key in keys
        ]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the value there has that token.

        Raises:
            StorageError: the database cannot be written.
        """
        return self._write(keys, values, None, expect)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values, each until `expires[i]` (0: for ever), with `expect` only where there is that token.

        Raises:
            StorageError: the database cannot be written.
        """
        if not self.capabilities.expiry:
            return lasting_only(self, keys, values, expires, expect, "it expires, and no column is named for that")
        return noted(keys, values, expires, self._write(keys, values, expires, expect).refused)

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 where never, or where there is none.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> dict[str, int]:
            table = self._find(connection)
            return self._rows(connection, table).times(keys) if table is not None and keys else {}

        with self._errors():
            found = self._call(work)
        return [found.get(key, 0) for key in keys]

    def _write(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int] | None,
        expect: Sequence[bytes | None] | None,
    ) -> Written:
        if not keys:
            return Written()
        given = dict(zip(keys, values, strict=True))
        expected = dict(zip(keys, expect, strict=True)) if expect is not None else None
        # What has passed already is passed at 1, too; a timestamptz does not reach back for ever.
        times = {key: max(due, 1) for key, due in zip(keys, expires or (), strict=False) if due}

        def work(rows: Rows) -> None:
            rows.expires = times
            if expected is None:
                rows.write(given)
                return
            unexpected = _unexpected(rows, {key: token for key, token in expected.items() if token is not None})
            rows.write(
                {key: given[key] for key, token in expected.items() if token is not None and key not in unexpected}
            )
            rows.create({key: given[key] for key, token in expected.items() if token is None})

        return self._change(keys, work, create=True, as_one=expected is not None)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the value there has that token.

        Raises:
            StorageError: the database cannot be written.
        """
        if not keys:
            return Written()
        expected = dict(zip(keys, expect, strict=True)) if expect is not None else None

        def work(rows: Rows) -> None:
            unexpected = _unexpected(rows, expected, absent_is_fine=True) if expected is not None else set()
            # What is expected to be absent, and is: nothing locks a row that is not there, so one may appear just now.
            absent = {key for key, token in (expected or {}).items() if token is None}
            rows.delete([key for key in dict.fromkeys(keys) if key not in unexpected and key not in absent])

        return self._change(keys, work, create=False, as_one=expected is not None)

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with its token, ascending by UTF-8 bytes, all from one snapshot.

        The token is the BLAKE3 of the value, followed by the time at which it expires, if it does.

        Raises:
            StorageError: the database cannot be read, or a row is no key and value.
        """
        with self._errors(), self._connections.use() as connection, contextlib.ExitStack() as stack:
            if connection is not self._connections.pinned():
                stack.enter_context(atomic(connection))
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            table = self._find(connection)
            if table is not None:
                yield from self._rows(connection, table).scan(f"kvsync_scan_{next(self._numbers)}")

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        with self._errors():
            try:
                return self._call(lambda connection: self._index(connection).load(connection, name))
            except self._psycopg.errors.UndefinedTable:
                return None

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it is not as expected; nothing was written.
            StorageError: the database cannot be written, or whether it was written is not known.
        """
        version = self._random_bytes(VERSION_BYTES)

        def work(connection: Connection[Any]) -> None:
            self._index(connection).store(connection, name, data, version, expect)

        with self._errors():
            try:
                self._call(work)
            except self._psycopg.errors.UndefinedTable:
                self._call(self._make_index)
                self._call(work)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; absent ones are passed over, where `expect` allows it.

        Raises:
            ObjectMismatch: one is not as expected; nothing was removed.
            StorageError: the database cannot be written, or whether it was written is not known.
        """
        if not names:
            return
        with self._errors():
            try:
                self._call(lambda connection: self._index(connection).remove(connection, names, expect))
            except self._psycopg.errors.UndefinedTable:
                if isinstance(expect, bytes):
                    raise ObjectMismatch(names[0]) from None

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._errors():
            try:
                return self._call(lambda connection: self._index(connection).names(connection))
            except self._psycopg.errors.UndefinedTable:
                return []

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return None for each key: a table does not say."""
        return [None] * len(keys)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that this thread does inside as one on leaving, or undo it on an exception.

        Raises:
            UsageError: this thread has one open already.
            StorageError: it cannot be begun or committed; or the connection was lost while it was committed, and
                whether it was is not known.
        """
        with self._errors(), self._connections.pin() as connection:
            try:
                with atomic(connection):
                    yield
                    self._connections.pinned()  # raises if it was closed meanwhile
            finally:
                self._loading = self._fresh_table = None

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[str]:
        """See `kvsync.storages.rehearsal`.

        Raises:
            StorageError: the database cannot be written.
        """
        with undone(self):
            yield ""

    def close(self) -> None:
        """Close the connections; what a transaction has not committed is undone."""
        self._connections.close()

    # One call

    def _call(self, work: Callable[[Connection[Any]], T]) -> T:
        """Do `work` on a connection; within a transaction, undo what it did if it fails.

        What the server has undone because of others is done again: its outcome is certain, unlike that of a call
        whose connection was lost.
        """
        if self._connections.pinned() is not None:
            with self._connections.use() as connection, atomic(connection):
                return work(connection)
        for attempt in itertools.count(1):
            try:
                with self._connections.use() as connection:
                    return work(connection)
            except self._psycopg.Error as error:
                if attempt == ATTEMPTS or not is_passing(error):
                    raise
        raise AssertionError

    def _change(self, keys: Sequence[str], work: Callable[[Rows], None], *, create: bool, as_one: bool) -> Written:
        def call(connection: Connection[Any]) -> Written:
            table = self._find(connection) or (self._made(connection) if create else None)
            if table is None:
                return Written()
            rows = self._rows(connection, table)
            if create:
                rows.loading = rows.is_empty() if self._loading is None else self._loading
            with atomic(connection) if as_one else contextlib.nullcontext():
                work(rows)
            if create:
                self._loading = rows.loading
            return Written(tuple(rows.refused[key] for key in dict.fromkeys(keys) if key in rows.refused))

        with self._errors():
            return self._call(call)

    def _rows(self, connection: Connection[Any], table: Table) -> Rows:
        return Rows(self._psycopg, connection, table)

    # Tables

    def _find(self, connection: Connection[Any]) -> Table | None:
        within = self._connections.pinned() is not None
        known = self._table or (self._fresh_table if within else None)
        if known is not None:
            return known
        schema, table = find_table(connection, self._names)
        if self._schema is None:
            # From now on that one: an index must not move because a table appears elsewhere in the search path.
            self._schema = schema
            self._names = dataclasses.replace(self._names, schema=schema)
        if within:  # a rollback would take it away again
            self._fresh_table = table
        else:
            self._table = table
        return table

    def _made(self, connection: Connection[Any]) -> Table:
        statement = new_table(self._names).create
        self._make(connection, lambda: connection.execute(statement))
        table = self._find(connection)
        if table is None:
            message = f"table {self._names.table!r} was dropped just now: run again"
            raise StorageError(message)
        return table

    def _index(self, connection: Connection[Any]) -> Index:
        if self._schema is None:
            self._find(connection)
        return Index(str(self._schema), self._names.table)

    def _make_index(self, connection: Connection[Any]) -> None:
        self._make(connection, lambda: self._index(connection).create(connection))

    def _make(self, connection: Connection[Any], create: Callable[[], object]) -> None:
        """Make a table, unless somebody else makes it at this moment."""
        errors = self._psycopg.errors
        # Which of them it is depends on how far the other one has come: the table, its row type, a catalogue's key.
        taken = (errors.DuplicateTable, errors.DuplicateObject, errors.UniqueViolation)
        try:
            with atomic(connection):
                create()
        except taken:
            pass

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, UsageError) as error:
            error.storage = error.storage or self.name
            raise
        except UnreachedError as error:
            raise unreached(storage=self.name, text=self._scrub(str(error))) from error
        except self._psycopg.Error as error:
            if error.sqlstate == UNDEFINED_TABLE:
                self._table = None
            raise failure(error, storage=self.name, text=self._scrub(str(error))) from error


def _unexpected(rows: Rows, expected: dict[str, bytes | None], *, absent_is_fine: bool = False) -> set[str]:
    """Lock rows; refuse those that do not hold what is expected, and return their keys."""
    tokens = rows.tokens(list(expected)) if expected else {}
    changed = {
        key
        for key, wanted in expected.items()
        if tokens.get(key) != wanted and not (absent_is_fine and key not in tokens)
    }
    for key in changed:
        rows.refuse(key, NOT_EXPECTED, changed=True)
    return changed
