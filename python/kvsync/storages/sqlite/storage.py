"""A table of a SQLite database as a storage.

`sqlite:///app.db` is a path relative to the working directory, `sqlite:////var/app.db` an absolute one. Values are
stored in the table `kv(key, value)`, or in the one that `?table=&key=&value=` name; `expires=` names a column that
says when they expire (`kvsync.storages.sqlite.expiring`), `modified=` one that says when they were last modified. The
index is in `kvsync_index`.

The first write creates file and tables. A new file gets write-ahead logging; an existing one keeps its journal mode.
Every commit is durable, except for the lease's, which a crash may undo.

Values are BLOBs and texts. What else a row holds is unreadable, and says so.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, ObjectMismatch, Support, Tier
from kvsync.storages.dry_probe import rolled_back
from kvsync.storages.path import absolute
from kvsync.storages.sqlite.database import Database
from kvsync.storages.sqlite.index import VERSION_BYTES, Index
from kvsync.storages.sqlite.journal import TableJournal
from kvsync.storages.sqlite.limits import limits_of
from kvsync.storages.sqlite.listing import Listing
from kvsync.storages.sqlite.rows import Rows, chunks
from kvsync.storages.sqlite.table import Table
from kvsync.storages.sqlite.writing import Writer
from kvsync.types import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages.contract import Pages
    from kvsync.storages.hints import Wake
    from kvsync.storages.journal import Journal
    from kvsync.storages.sqlite.hints import DatabaseHints
    from kvsync.types import Expectation, Skipped, Stored, Unreadable, Version

__all__ = ["SqliteStorage"]

BESIDE = ("-wal", "-shm", "-journal")
"""How the names of SQLite's own files beside a database end."""

BUSY_SECONDS = 5.0
"""How long a call waits for another writer, by default."""


class SqliteStorage:
    """A table of a SQLite database as a storage; several threads may use it.

    Args:
        path: the database's file.
        table: the table's name and those of its columns.
        name: what messages call it; by default its URL.
        busy_timeout: seconds to wait for locks of others.
        clock: returns wall-clock seconds; decides what has expired, and is when rows are modified.
        sleep: waits that many seconds.
        random_bytes: returns that many random bytes, for the versions of index objects.

    Raises:
        UsageError: the table has a column of expiry: that is `ExpiringSqliteStorage`.
    """

    capabilities = Capabilities(
        Tier.TRANSACTIONAL,
        distance="mapped",
        supports=frozenset(
            {
                Support.TRANSACTION,
                Support.IDENTITY,
                Support.FILES,
                Support.SKIPPED,
                Support.DRY_PROBE,
                Support.LIMITS,
                Support.HINTS,
                Support.RANGES,
                Support.JOURNAL,
            }
        ),
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: Table | None = None,
        name: str | None = None,
        busy_timeout: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.path = os.fspath(path)
        self.table = table or Table()
        if (self.table.expires is not None) != (Support.EXPIRY in self.capabilities.supports):
            message = "a table with expires= is an ExpiringSqliteStorage, and only that is one"
            raise UsageError(message)
        self._rows = Rows(self.table, clock)
        self._listing = Listing(self._rows)
        self.name = name or f"sqlite:///{self.path}"
        self.identity = f"sqlite:{os.path.realpath(self.path)}?{self.table.owner}"
        self._random_bytes = random_bytes
        self._absolute_path = absolute(self.path)  # opened on first use
        self._database = Database(
            self._absolute_path, self.name, prepare=self._rows.prepare, busy_timeout=busy_timeout, sleep=sleep
        )
        self._index = Index(self.table.owner)
        self._journal = TableJournal(self.table, self._index, random_bytes)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The rows that the last scan skipped, as their keys cannot be keys here; the first hundred."""
        return self._listing.skipped

    def __repr__(self) -> str:
        """Return the class and the storage's name."""
        return f"SqliteStorage({self.name!r})"

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key that is absent.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._database.reading(self._rows) as connection:
            return [None] * len(keys) if connection is None else self._rows.read(connection, keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current value has that token.

        Raises:
            StorageError: the database cannot be written.
        """
        if not keys:
            return Written()
        batch = Batch(keys, values, expect)
        with self._database.writing(self._rows) as connection:
            Writer(connection, self._rows, batch).write()
        return batch.written()

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current value has that token.

        Raises:
            StorageError: the database cannot be written.
        """
        if not self._database.has(self._rows):
            return Written()
        batch = Batch(keys, expect=expect)
        with self._database.writing() as connection:
            Writer(connection, self._rows, batch).delete()
        return batch.written()

    def scan(self) -> Pages:
        """Yield every key with the token of its value, in UTF-8 byte order.

        Raises:
            StorageError: the database cannot be read.
        """
        self._listing = listing = Listing(self._rows)
        yield from listing.batches(lambda: self._database.reading(self._rows))

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        with self._database.reading(self._index) as connection:
            return None if connection is None else self._index.load(connection, name)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return ranges of an index object, or None; see `SupportsRanges`.

        Raises:
            StorageError: it cannot be read.
        """
        with self._database.reading(self._index) as connection:
            return None if connection is None else self._index.load_ranges(connection, name, ranges)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: the database cannot be written.
        """
        version = self._random_bytes(VERSION_BYTES)
        with self._database.writing(self._index, durable=name != "lease") as connection:
            self._index.store(connection, name, data, version, expect)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; skip absent ones, unless a version is expected.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: the database cannot be written.
        """
        if not names:
            return
        if self._database.has(self._index):
            with self._database.writing(durable=list(names) != ["lease"]) as connection:
                self._index.remove(connection, names, expect)
        elif isinstance(expect, bytes):
            raise ObjectMismatch(names[0])

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._database.reading(self._index) as connection:
            return [] if connection is None else self._index.names(connection)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified, by the column `modified=`; None where that does not say.

        Raises:
            StorageError: the database cannot be read.
        """
        if self.table.modified is None:
            return [None] * len(keys)
        with self._database.reading(self._rows) as connection:
            return [None] * len(keys) if connection is None else self._rows.modified(connection, keys)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything done inside atomically on leaving, or undo it on an exception.

        Raises:
            UsageError: one is open already.
            StorageError: it cannot be begun or committed; nothing of it is kept.
        """
        with self._database.transaction():
            last = self._last_noted()
            yield
            self._forget_own(last)

    def _last_noted(self) -> int | None:
        """Return the number of the last row of the journal; None where nothing is noted."""
        with self._database.reading(self._journal) as connection:
            return None if connection is None else self._journal.last(connection)

    def _forget_own(self, last: int | None) -> None:
        """Forget what the journal noted in this transaction of ours, which logs what it wrote.

        What triggers of others have written nobody has logged, so then all of it is left to the next scan.
        """
        if last is None or not self._database.has(self._rows) or self._rows.schema.watched:
            return
        with self._database.writing() as connection:
            self._journal.forget_after(connection, last)

    def track(self) -> bool:
        """Begin to note changes in the journal; see `SupportsJournal`.

        Raises:
            UsageError: the table has a rule by which `REPLACE` removes rows that nothing can note.
            StorageError: the database cannot be written.
        """
        with self._database.writing(self._rows) as connection:
            return self._journal.make(connection)

    def untrack(self) -> bool:
        """Remove the journal and its triggers; see `SupportsJournal`.

        Raises:
            StorageError: the database cannot be written.
        """
        with self._database.writing() as connection:
            return self._journal.unmake(connection)

    def journal(self, count_max: int) -> Journal | None:
        """Return what the journal says; see `SupportsJournal`.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._database.reading(self._rows) as connection:
            return None if connection is None else self._journal.read(connection, self._rows.schema.keys, count_max)

    def settle(self, position: bytes, scope: bytes = b"") -> None:
        """Forget what the journal noted up to a position; see `SupportsJournal`.

        Raises:
            StorageError: the database cannot be written.
        """
        with self._database.writing() as connection:
            self._journal.settle(connection, position, scope)

    def listed(self, keys: Sequence[str]) -> Pages:
        """Yield those of some ascending keys that are there, as `scan` does.

        Raises:
            StorageError: the database cannot be read.
        """
        for some in chunks(keys):
            with self._database.reading(self._rows) as connection:
                if connection is None:
                    return
                yield self._rows.find(connection, some).sorted().page()

    def files(self) -> list[str]:
        """Return the paths of the database, and of what SQLite keeps beside it."""
        path = os.path.realpath(self._absolute_path)
        return [path, *(path + suffix for suffix in BESIDE)]

    def limits(self) -> list[str]:
        """Return what the table does not keep as given.

        Raises:
            StorageError: the database cannot be read.
        """
        with self._database.reading(self._rows) as connection:
            return [] if connection is None else list(limits_of(connection, self._rows))

    def hints(self, _wake: Wake) -> DatabaseHints:
        """Notice commits by other connections, to whatever table."""
        from kvsync.storages.sqlite.hints import DatabaseHints  # noqa: PLC0415 - most runs need none

        return DatabaseHints(self._database, self._absolute_path, self.name)

    def unmade(self) -> str:
        """Return that the database, or its table, does not exist, if so.

        Raises:
            StorageError: the database cannot be read.
        """
        if not os.path.lexists(self._absolute_path):
            return f"the database {self.path!r:.300}"
        return "" if self._database.has(self._rows) else f"the table {self.table.name!r} in {self.path!r:.300}"

    @contextlib.contextmanager
    def dry_probe(self) -> Iterator[str]:
        """Probe without leaving anything behind; see `SupportsDryProbe`.

        Raises:
            StorageError: the database cannot be written.
        """
        if not os.path.exists(self._absolute_path):
            yield self.unmade()
        else:
            with rolled_back(self):
                yield ""

    def close(self) -> None:
        """Close the database; an uncommitted transaction is undone."""
        self._database.close()
