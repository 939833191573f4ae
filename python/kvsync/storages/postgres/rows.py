"""Read and write the rows of a PostgreSQL table, on one connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.storages.batch import Batch
from kvsync.storages.expiry import tokens_of
from kvsync.storages.postgres.connections import atomic
from kvsync.storages.postgres.failure import is_about_a_row
from kvsync.storages.postgres.table import INLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import ModuleType

    from psycopg import Connection

    from kvsync.storages.postgres.table import Table

__all__ = ["Rows"]

FETCH_BYTES = 8 << 20
SCAN_COUNT = FETCH_BYTES // INLINE_BYTES
COPY_COUNT = 64
VALUE_BYTES_MAX = (1 << 30) - (1 << 16)
"""A field is limited to 1 GiB, and the message around it needs some room, too."""


@dataclass(slots=True)
class Rows:
    """One table on one connection.

    Attributes:
        batch: the keys of the call; rows that fail are refused there.
        loading: keys are most likely absent, so try a plain COPY, which takes half the time.
        expires: when written rows expire, milliseconds by key; a row without an entry never expires.
    """

    psycopg: ModuleType
    connection: Connection[Any]
    table: Table
    batch: Batch = field(default_factory=lambda: Batch(()))
    loading: bool = False
    expires: dict[str, int] = field(default_factory=dict)

    # Reading

    def is_empty(self) -> bool:
        """Whether the table has no rows."""
        row = self.connection.execute(self.table.is_empty).fetchone()
        return row is not None and row[0] is True

    def select(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the existing values, None for NULL."""
        return self._by_key(self.table.select, keys)

    def times(self, keys: Sequence[str]) -> dict[str, int]:
        """Return when existing rows expire, 0 for never."""
        return self._by_key(self.table.select_expires, keys)

    def tokens(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Lock rows and return the tokens of their values; for NULL, one of an empty digest."""
        rows = self._ask(self.table.lock, self._storable(keys))
        found = [row[0].decode() if self.table.key.binary else row[0] for row in rows]
        return dict(zip(found, self._tokens(found, rows), strict=True))

    def scan(self, name: str) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with its token, ascending; a row that is not a key and a value is an error."""
        with self.connection.cursor(name, binary=True) as cursor:
            cursor.execute(self.table.scan)
            while rows := cursor.fetchmany(SCAN_COUNT):
                keys = self._check([row[0] for row in rows], rows)
                yield keys, self._tokens(keys, rows)

    def _by_key(self, statement: str, keys: Sequence[str]) -> dict[str, Any]:
        rows = self._ask(statement, self._storable(keys))
        return {key.decode(): value for key, value in rows} if self.table.key.binary else dict(rows)

    def _tokens(self, keys: Sequence[str], rows: Sequence[Any]) -> list[bytes]:
        digests = self._digests(keys, rows)
        return tokens_of(digests, [row[3] for row in rows]) if self.table.expires else digests

    def _digests(self, keys: Sequence[str], rows: Sequence[Any]) -> list[bytes]:
        values = [row[1] for row in rows]
        if None not in values:
            return digest_values(values)
        digests = iter(digest_values([value for value in values if value is not None]))
        sizes = {key: row[2] for key, row in zip(keys, rows, strict=True) if row[1] is None and row[2] is not None}
        large = self._large(sizes)
        return [
            next(digests) if value is not None else large.get(key, b"") for key, value in zip(keys, values, strict=True)
        ]

    def _large(self, sizes: dict[str, int]) -> dict[str, bytes]:
        """Return the digests of values that are too large to come with their row, a few at a time."""
        found: dict[str, bytes] = {}
        batch: list[str] = []
        total = 0
        for key, size in [*sizes.items(), ("", FETCH_BYTES)]:
            if batch and total + size > FETCH_BYTES:
                found_now = self._by_key(self.table.select_any, batch)
                values = {key: value for key, value in found_now.items() if value is not None}
                found.update(zip(values, digest_values(list(values.values())), strict=True))
                batch, total = [], 0
            batch.append(key)
            total += size
        return found

    # Writing

    def write(self, values: dict[str, bytes]) -> None:
        """Write values unconditionally."""
        rows = self._acceptable(values)
        if not self._loaded(rows):
            self._each(rows, self._upsert)

    def create(self, values: dict[str, bytes]) -> None:
        """Write values whose keys are absent; refuse the others."""
        rows = self._acceptable(values)
        if self._loaded(rows):
            return
        created: set[object] = set()

        def create(some: Sequence[tuple[Any, Any]]) -> None:
            created.update(row[0] for row in self._put(self.table.create_rows, some))

        self._each(rows, create)
        for key, (raw, _) in rows.items():
            if raw not in created:
                self.batch.refuse_changed(key)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete rows unconditionally."""
        rows = {key: (self._raw(key), None) for key in keys if self.table.key.refuses(key) is None}
        self._each(rows, self._remove)

    def _loaded(self, rows: dict[str, tuple[Any, Any]]) -> bool:
        """Write rows by COPY, if all of them are absent; return whether they were written."""
        if not self.loading or len(rows) < COPY_COUNT or not self._may_leave_out_times():
            return not rows
        try:
            with atomic(self.connection):
                self._copy(list(rows.values()))
        except _SuppressedError:
            self.loading = False
            return False
        except self.psycopg.Error as error:
            self.loading = False
            if not is_about_a_row(error):
                raise
            return False
        return True

    def _may_leave_out_times(self) -> bool:
        return self.table.expires is None or (self.table.expires.empty and not any(self.expires.values()))

    def _arrays(self, rows: Sequence[tuple[Any, Any]]) -> tuple[list[Any], ...]:
        arrays = ([raw for raw, _ in rows], [value for _, value in rows])
        if self.table.expires is None:
            return arrays
        return (*arrays, [self.expires.get(self._text(raw), 0) for raw, _ in rows])

    def _copy(self, rows: Sequence[tuple[Any, Any]]) -> None:
        cursor = self.connection.cursor()
        with cursor.copy(self.table.copy) as copy:
            copy.set_types([self.table.key.type, self.table.value.type])
            for row in rows:
                copy.write_row(row)
        if cursor.rowcount < len(rows):
            raise _SuppressedError

    def _upsert(self, rows: Sequence[tuple[Any, Any]]) -> None:
        cursor = self.connection.cursor(binary=True)
        cursor.execute(self.table.upsert, self._arrays(rows), prepare=True)
        if cursor.rowcount < len(rows):
            wanted = {self._text(raw): value if isinstance(value, bytes) else value.encode() for raw, value in rows}
            held = self._by_key(self.table.select_any, list(wanted))
            self._refuse_suppressed(key for key, value in wanted.items() if held.get(key) != value)

    def _remove(self, rows: Sequence[tuple[Any, Any]]) -> None:
        cursor = self.connection.cursor(binary=True)
        cursor.execute(self.table.delete, ([raw for raw, _ in rows],), prepare=True)
        if cursor.rowcount < len(rows):
            self._refuse_suppressed(self.select([self._text(raw) for raw, _ in rows]))

    def _refuse_suppressed(self, keys: Iterable[str]) -> None:
        """Refuse the keys that a trigger, a rule or a policy of the table skipped without an error."""
        for key in keys:
            self.batch.refuse(key, "a trigger, rule or policy of the table did not change the row")

    def _put(self, statement: str, rows: Sequence[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
        cursor = self.connection.cursor(binary=True)
        cursor.execute(statement, self._arrays(rows), prepare=True)
        return cursor.fetchall() if cursor.description else []

    def _ask(self, statement: str, raw: Sequence[object]) -> list[tuple[Any, ...]]:
        cursor = self.connection.cursor(binary=True)
        cursor.execute(statement, (raw,), prepare=True)
        return cursor.fetchall() if cursor.description else []

    def _each(self, rows: dict[str, tuple[Any, Any]], run: Callable[[Sequence[tuple[Any, Any]]], object]) -> None:
        """Run over all rows. If some are at fault, run over smaller and smaller parts, until only those are refused."""
        pending = [list(rows.items())] if rows else []
        while pending:
            part = pending.pop()
            try:
                with atomic(self.connection):
                    run([row for _, row in part])
            except self.psycopg.Error as error:
                if not is_about_a_row(error):
                    raise
                half = len(part) // 2
                if half:
                    pending += [part[:half], part[half:]]
                else:
                    self.batch.refuse(part[0][0], f"the database refused it: {error.diag.message_primary!s:.300}")

    # What columns can store

    def _acceptable(self, values: dict[str, bytes]) -> dict[str, tuple[Any, Any]]:
        """Return each key's row for its columns, in one order for all writers; refuse what the columns cannot store.

        Rows are locked in the order of writing: writers of different orders would deadlock.
        """
        values = dict(sorted(self._in_time(values).items(), key=itemgetter(0)))
        key_column, value_column = self.table.key, self.table.value
        plain = key_column.plain and value_column.binary and _are_plain(values)
        if plain and max(map(len, values.values()), default=0) <= VALUE_BYTES_MAX:
            return dict(zip(values, values.items(), strict=True))
        rows: dict[str, tuple[Any, Any]] = {}
        for key, value in values.items():
            reason = key_column.refuses(key) or value_column.refuses_value(value)
            if reason is None and len(value) > VALUE_BYTES_MAX:
                reason = "its row is larger than PostgreSQL's limit of 1 GiB"
            if reason is None:
                rows[key] = (self._raw(key), value if value_column.binary else value.decode())
            else:
                self.batch.refuse(key, reason)
        return rows

    def _in_time(self, values: dict[str, bytes]) -> dict[str, bytes]:
        """Return the values that expire no later than the column can store; refuse the others."""
        limit = self.table.expires.milliseconds_max if self.table.expires else 0
        late = {key for key, due in self.expires.items() if due > limit and key in values}
        for key in late:
            self.batch.refuse(
                key, f"it expires later than {limit} milliseconds after 1970, which the column cannot store"
            )
        return {key: value for key, value in values.items() if key not in late} if late else values

    def _storable(self, keys: Sequence[str]) -> list[Any]:
        if self.table.key.plain and _are_plain(keys):
            return list(keys)
        return [self._raw(key) for key in keys if self.table.key.refuses(key) is None]

    def _text(self, raw: str | bytes) -> str:
        return raw.decode() if isinstance(raw, bytes) else raw

    def _raw(self, key: str) -> str | bytes:
        return key.encode() if self.table.key.binary else key

    def _check(self, keys: Sequence[object], rows: Sequence[Any]) -> list[str]:
        """Return stored keys as texts; a row that is not a key and a value is an error."""
        checked = [_text(key) for key in keys] if self.table.key.binary or None in keys else list(keys)
        for key, row in zip(checked, rows, strict=True):
            if key is None:
                message = f"the table has a row whose key is {_shown(row[0])}: give it another key or delete it"
                raise StorageError(message)
            if row[2] is None:
                message = f"the row of key {key!r:.200} holds NULL: give it a value or delete it"
                raise StorageError(message, key=str(key))
        return checked  # type: ignore[return-value]


class _SuppressedError(Exception):
    """A row was skipped without an error."""


def _text(key: object) -> str | None:
    if not isinstance(key, bytes):
        return key if isinstance(key, str) else None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _shown(key: object) -> str:
    return f"not UTF-8: {key!r:.200}" if isinstance(key, bytes) else "NULL"


def _are_plain(keys: Iterable[str]) -> bool:
    """Whether no key has a NUL or a lone surrogate."""
    joined = "".join(keys)
    if "\0" in joined:
        return False
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True
