"""A table of a PostgreSQL database as a storage.

`postgresql://user:password@host:port/database?table=kv&key=key&value=value&schema=` names it. Other parameters are
libpq's (`sslmode`, `connect_timeout`, `application_name` and so on); `lock_timeout` is how many seconds to wait for
locks of others. TLS is verified unless the server is on this machine or the URL says otherwise.

Values are stored in the table `kv(key text collate "C", value bytea)`, which the first write creates, or in an existing
one with a unique key column (`kvsync.storages.postgres.columns`). `expires=` names a column that says when a row
expires (`kvsync.storages.postgres.expires`). An expired row is absent for every method, and stays in the table until
its key is written or deleted. `modified=` names a column that says when a row was last modified; kvsync sets it when it
writes.

A row that the table does not keep as it was given, since a trigger, a rule, a policy or a type changes or ignores it,
is refused, and what was written of it is undone.

Nothing is left in the session of a connection, so a pooler may give each transaction another one.

The index is in the table `kvsync_index` of the same schema. Values, segment and manifest are committed atomically.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, ObjectMismatch, Support, Tier, has_expiry
from kvsync.storages.dry_probe import rolled_back
from kvsync.storages.expiry import write_unexpiring, written_with_digests
from kvsync.storages.hints import NoHintsError
from kvsync.storages.postgres.conditions import delete_if, write_if
from kvsync.storages.postgres.connections import Connections, library
from kvsync.storages.postgres.database import Database
from kvsync.storages.postgres.hidden import find_hidden, may_hide
from kvsync.storages.postgres.index import VERSION_BYTES
from kvsync.storages.postgres.journal import MARK_BYTES, OWN, TableJournal
from kvsync.storages.postgres.limits import limits_of
from kvsync.storages.postgres.names import Names
from kvsync.storages.postgres.rows import NULL_VALUE, SCAN_COUNT, Rows
from kvsync.storages.postgres.tables import Tables
from kvsync.storages.postgres.writing import Writer
from kvsync.storages.url import redact
from kvsync.types import Stored, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg import Connection

    from kvsync.native import Page
    from kvsync.storages.contract import Pages
    from kvsync.storages.hints import Wake
    from kvsync.storages.journal import Journal
    from kvsync.storages.postgres.hints import JournalHints
    from kvsync.types import Expectation, Skipped, Version, Written

__all__ = ["LOCK_SECONDS", "PostgresStorage"]

LOCK_SECONDS = 10.0


class PostgresStorage:
    """A table of a PostgreSQL database as a storage; several threads may use it.

    A thread within `transaction` sees its own writes; the others see what is committed.

    Args:
        connect: returns a new psycopg connection, which belongs to the storage: it configures, keeps and closes it.
        names: of the table and its columns.
        name: what messages call it.
        identity: equal for all handles of this table; None if not known.
        lock_seconds: how long a statement waits for locks of others.
        scrub: removes secrets from a message.
        random_bytes: returns that many random bytes, for the versions of index objects.
    """

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        *,
        names: Names | None = None,
        name: str = "postgresql:",
        identity: str | None = None,
        lock_seconds: float = LOCK_SECONDS,
        scrub: Callable[[str], str] = redact,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.name = name
        self.identity = identity or ""
        self._psycopg = library()
        self._names = names = names or Names()
        supports = {Support.TRANSACTION, Support.DRY_PROBE, Support.SKIPPED, Support.LIMITS, Support.RANGES}
        supports |= {Support.JOURNAL, Support.HINTS}
        supports |= {Support.IDENTITY} if identity is not None else set()
        supports |= {Support.EXPIRY} if names.expires is not None else set()
        self.capabilities = Capabilities(Tier.TRANSACTIONAL, distance="network", supports=frozenset(supports))
        self._connections = Connections(connect, storage=name, lock_seconds=lock_seconds)
        self._tables = Tables(self._psycopg, self._connections, names)
        self._database = Database(self._psycopg, self._connections, self._tables, storage=name, scrub=scrub)
        self._random_bytes = random_bytes
        self._numbers = itertools.count()
        self.skipped: tuple[Skipped, ...] = ()
        self._is_tracked = False

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"PostgresStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        A row that row-level security hides from this role is not absent; see `kvsync.storages.postgres.hidden`.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> tuple[dict[str, bytes | None], bool]:
            table = self._tables.find(connection)
            if table is None or not keys:
                return {}, False
            found = Rows(connection, table).select(keys)
            return found, len(found) < len(keys) and may_hide(connection, table)

        found, may_be_hidden = self._database.call(work)
        if None not in found.values() and not may_be_hidden:
            return [found.get(key) for key in keys]
        reasons = {key: NULL_VALUE for key, value in found.items() if value is None}
        if may_be_hidden:
            reasons |= self._hidden([key for key in dict.fromkeys(keys) if key not in found])
        return [Unreadable(reasons[key]) if key in reasons else found.get(key) for key in keys]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current value has that token.

        Raises:
            StorageError: the database cannot be written.
        """
        return self._write(partial(Batch, keys, values, expect)).written()

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write values that expire at `expires[i]` (0: never), with `expect` only where the token is the current one.

        Raises:
            StorageError: the database cannot be written.
        """
        if not has_expiry(self):
            batch = Batch(keys, values, expect, expires)
            return write_unexpiring(self, batch, "it expires, and the URL names no column for that (expires=)")
        return written_with_digests(self._write(partial(Batch, keys, values, expect, expires)))

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> dict[str, int]:
            table = self._tables.find(connection)
            return Rows(connection, table).times(keys) if table is not None and keys else {}

        found = self._database.call(work)
        return [found.get(key, 0) for key in keys]

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that token.

        Raises:
            StorageError: the database cannot be written.
        """

        def work(writer: Writer) -> None:
            if expect is None:
                writer.delete(dict.fromkeys(keys))
            else:
                delete_if(writer)

        return self._change(partial(Batch, keys, expect=expect), work, create=False).written()

    def scan(self) -> Pages:
        """Yield every key with its token, in UTF-8 byte order, all from one snapshot.

        The token is the BLAKE3 of the value, followed by the time when it expires, if it does. It is empty for a row
        that holds NULL. Rows without a key are in `skipped` afterwards.

        Raises:
            StorageError: the database cannot be read.
        """
        skipped: list[Skipped] = []
        with self._database.snapshot() as connection:
            table = self._tables.find(connection)
            if table is not None:
                rows, name = Rows(connection, table), f"kvsync_scan_{next(self._numbers)}"
                yield from rows.scan(name, skipped, alone=connection is not self._connections.pinned())
        self.skipped = tuple(skipped)

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """

        def work(connection: Connection[Any]) -> Stored | None:
            return self._tables.index(connection).load(connection, name)

        return self._database.call(work, undefined=lambda: None)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an index object, or None; see `SupportsRanges`.

        Raises:
            StorageError: it cannot be read.
        """

        def work(connection: Connection[Any]) -> list[bytes] | None:
            return self._tables.index(connection).load_ranges(connection, name, ranges)

        return self._database.call(work, undefined=lambda: None)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: the database cannot be written, or the outcome is unknown.
        """
        version = self._random_bytes(VERSION_BYTES)

        def work(connection: Connection[Any]) -> None:
            self._tables.index(connection).store(connection, name, data, version, expect)

        def make() -> None:
            self._database.call(self._tables.make_index, writes=True)
            self._database.call(work)

        self._database.call(work, undefined=make)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the database cannot be written, or the outcome is unknown.
        """
        if not names:
            return

        def work(connection: Connection[Any]) -> None:
            self._tables.index(connection).remove(connection, names, expect)

        def absent() -> None:
            if isinstance(expect, bytes):
                raise ObjectMismatch(names[0]) from None

        self._database.call(work, undefined=absent)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> list[str]:
            return self._tables.index(connection).names(connection)

        return self._database.call(work, undefined=list)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified, as the column that the URL names says; None without one.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> dict[str, int | None]:
            table = self._tables.find(connection)
            return Rows(connection, table).modified(keys) if table is not None else {}

        found = self._database.call(work) if keys and self._names.modified is not None else {}
        times = [found.get(key) for key in keys]
        return [time if time is not None and time > 0 else None for time in times]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that this thread does inside atomically on leaving, or undo it on an exception.

        Raises:
            UsageError: this thread has one open already.
            StorageError: it cannot be begun or committed; or the connection was lost during the commit, and the
                outcome is unknown.
        """
        with self._database.transaction():
            if self._is_tracked:
                self._database.call(self._note_no_more)
            yield

    def _note_no_more(self, connection: Connection[Any]) -> None:
        """Have the journal not note what this transaction of ours writes, which is logged within it.

        What triggers of others write nobody logs, so then all of it is noted, and left to the next scan.
        """
        table = self._tables.find(connection)
        if table is not None and not self._tables.state(connection, table).interferes:
            connection.execute(OWN)

    def track(self) -> bool:
        """Begin to note changes in the journal; see `SupportsJournal`.

        Raises:
            UsageError: the table has parts that can change without its triggers.
            StorageError: the database cannot be written, or the role does not own the table.
        """
        mark, version = self._random_bytes(MARK_BYTES), self._random_bytes(VERSION_BYTES)

        def work(connection: Connection[Any]) -> bool:
            if self._tables.find(connection) is None:
                self._tables.make(connection)
            return self._table_journal(connection).make(mark, version)

        if not self._has_index():
            self._database.call(self._tables.make_index, writes=True)
        self._is_tracked = True
        return self._database.call(work, writes=True)

    def untrack(self) -> bool:
        """Remove the journal and its triggers; see `SupportsJournal`.

        Raises:
            StorageError: the database cannot be written, or the role does not own the table.
        """
        self._is_tracked = False
        if not self._has_index():
            return False
        return self._database.call(lambda connection: self._table_journal(connection).unmake(), writes=True)

    def journal(self, count_max: int) -> Journal | None:
        """Return what the journal says; see `SupportsJournal`.

        Raises:
            StorageError: the database cannot be read.
        """
        found = self._database.call(lambda connection: self._table_journal(connection).read(count_max))
        self._is_tracked = found is not None
        return found

    def settle(self, position: bytes, scope: bytes = b"") -> None:
        """Forget what the journal noted up to a position; see `SupportsJournal`.

        Raises:
            StorageError: the database cannot be written.
        """
        mark, version = self._random_bytes(MARK_BYTES) + scope, self._random_bytes(VERSION_BYTES)

        def work(connection: Connection[Any]) -> None:
            self._table_journal(connection).settle(position, mark, version)

        self._database.call(work, writes=True)

    def listed(self, keys: Sequence[str]) -> Pages:
        """Yield those of some ascending keys that are there, as `scan` does.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> Page | None:
            table = self._tables.find(connection)
            return Rows(connection, table).page_of(some) if table is not None else None

        for start in range(0, len(keys), SCAN_COUNT):
            some = keys[start : start + SCAN_COUNT]
            page = self._database.call(work)
            if page is not None:
                yield page

    def hints(self, _wake: Wake) -> JournalHints:
        """Notice what the journal notes; without one, nothing is noticed.

        Raises:
            NoHintsError: the table is not tracked.
            StorageError: the database cannot be read.
        """
        from kvsync.storages.postgres.hints import JournalHints  # noqa: PLC0415 - most runs need none

        def has_news(snapshot: str) -> tuple[bool, str]:
            return self._database.call(lambda connection: self._table_journal(connection).has_news(snapshot))

        if self.journal(count_max=0) is None:
            message = "it is not tracked (`kvsync track`)"
            raise NoHintsError(message)
        return JournalHints(has_news)

    def _table_journal(self, connection: Connection[Any]) -> TableJournal:
        table, index = self._tables.find(connection), self._tables.index(connection)
        return TableJournal(connection, index.schema, self._names.in_schema(index.schema), table, index)

    def _has_index(self) -> bool:
        return self._database.call(lambda connection: self._tables.index(connection).exists(connection))

    def limits(self) -> list[str]:
        """Return what the table does not keep as given, and may lose by itself.

        Raises:
            StorageError: the database cannot be read.
        """

        def work(connection: Connection[Any]) -> list[str]:
            table = self._tables.find(connection)
            return list(limits_of(connection, table)) if table is not None else []

        return self._database.call(work)

    def unmade(self) -> str:
        """Return that the table does not exist, if so.

        Raises:
            StorageError: the database cannot be read.
        """
        found = self._database.call(self._tables.find) is not None
        return "" if found else f"the table {self._tables.name!r} in the database"

    @contextlib.contextmanager
    def dry_probe(self) -> Iterator[str]:
        """Probe without leaving anything behind; see `SupportsDryProbe`.

        Raises:
            StorageError: the database cannot be written.
        """
        with rolled_back(self):
            yield ""

    def close(self) -> None:
        """Close the connections; an uncommitted transaction is undone."""
        self._connections.close()

    def _hidden(self, keys: Sequence[str]) -> dict[str, str]:
        def work(connection: Connection[Any]) -> dict[str, str]:
            table = self._tables.find(connection)
            return find_hidden(self._psycopg, Rows(connection, table), keys) if table is not None else {}

        return self._database.call(work, writes=True)

    def _write(self, make: Callable[[], Batch]) -> Batch:
        def work(writer: Writer) -> None:
            batch, expires = writer.batch, writer.rows.table.expires
            if expires is not None:
                # A timestamptz has an earliest time. A value that expired at 1 has expired, too.
                batch.expires = [expires.rounded(max(due, 1)) if due else 0 for due in batch.expires]
                writer.expires = {key: due for key, due in zip(batch.keys, batch.expires, strict=False) if due}
            if batch.expect is None:
                writer.write(dict(zip(batch.keys, batch.values, strict=True)))
            else:
                write_if(writer)

        return self._change(make, work, create=True)

    def _change(self, make: Callable[[], Batch], work: Callable[[Writer], None], *, create: bool) -> Batch:
        """Write or delete the rows of a batch, all within one transaction."""

        def call(connection: Connection[Any]) -> Batch:
            batch = make()  # for each attempt, since a call is repeated if the server has undone it
            table = self._tables.find(connection) or (self._tables.make(connection) if create else None)
            if table is None:
                return batch
            state = self._tables.state(connection, table)
            writer = Writer(self._psycopg, Rows(connection, table), batch, state, loading=state.empty)
            work(writer)
            if state.empty and not writer.loading:
                self._tables.has_rows()
            return batch

        batch = make()
        return self._database.call(call, writes=True) if batch.keys else batch
