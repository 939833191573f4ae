"""Write and delete rows: one that the table refuses or changes is refused alone, and leaves nothing behind."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.sqlite.keys import INTEGERS, integer_of
from kvsync.storages.sqlite.rows import AMBIGUOUS, Rows, chunks, text_if_utf8
from kvsync.storages.sqlite.times import NEVER_MS
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.batch import Batch
    from kvsync.storages.sqlite.keys import Raw

__all__ = ["Writer"]

SAVEPOINT = "kvsync_part"

_UNFIT = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError)
"""What SQLite and its driver raise for a row that cannot be stored."""


@dataclass(frozen=True, slots=True)
class Task:
    """One key of a call: what is to be done to its row.

    Attributes:
        key: as the caller names it.
        raw: as the row holds it, or as a new row is to hold it.
        exists: there is a row already.
        value: what to write; None to delete the row.
        due: when it is to expire, milliseconds.
        parameters: those of the statement.
    """

    key: str
    raw: Raw
    exists: bool
    value: bytes | None = None
    due: int = 0
    parameters: tuple[Any, ...] = ()


class Writer:
    """Does one call's work on the rows of a table, within a transaction.

    Args:
        connection: to the database.
        rows: the table.
        batch: the keys of the call; those that are not done are refused there.
    """

    def __init__(self, connection: sqlite3.Connection, rows: Rows, batch: Batch) -> None:
        self._connection = connection
        self._rows = rows
        self._batch = batch

    def write(self) -> None:
        """Write values, with `expect` only where the current value has that token."""
        self._refuse_changed()
        times = self._columns_of_times()
        if self._rows.schema.upserts and self._rows.plain(self._connection) and self._upserted(times):
            return
        # Some row is not that simple, or cannot be stored: find out which.
        self._each(self._tasks(times), self._put)

    def delete(self) -> None:
        """Delete keys, with `expect` only where the current value has that token."""
        self._refuse_changed(deletes=True)
        forms = self._rows.forms(self._connection, self._batch.keys)
        if not self._rows.schema.watched and self._rows.plain(self._connection) and self._removed(forms):
            return
        self._each([Task(self._text(raw), raw, exists=True) for raw in self._present()], self._remove)

    def _refuse_changed(self, *, deletes: bool = False) -> None:
        batch = self._batch
        if batch.expect is None:
            return
        found = self._rows.find(self._connection, batch.keys)
        tokens = dict(zip(found.keys, found.tokens(), strict=True))
        for key, value in zip(found.keys, found.values, strict=True):
            if isinstance(value, Unreadable):
                batch.refuse(key, value.reason, changed=True)
        batch.compare([tokens.get(key) for key in batch.keys], deletes=deletes)
        batch.drop_refused()

    # What to write

    def _columns_of_times(self) -> list[list[Any]]:
        """Return the columns of times to write, parallel to the batch; refuse the times that a column cannot hold."""
        table, schema = self._rows.table, self._rows.schema
        columns: list[list[Any]] = []
        if schema.expires is not None:
            times = self._batch.expires or [0] * len(self._batch.keys)
            never = table.unit.stored(NEVER_MS, real=schema.expires.real) if schema.expires.required else None
            stored = [table.unit.stored(due, real=schema.expires.real) if due else never for due in times]
            late = {key for key, due, raw in zip(self._batch.keys, times, stored, strict=True) if due and raw is None}
            for key in late:
                self._batch.refuse(key, f"it expires later than column {table.expires!r} can store")
            columns.append([raw for key, raw in zip(self._batch.keys, stored, strict=True) if key not in late])
            self._batch.drop_refused()
            self._batch.expires = [table.unit.milliseconds(raw) or 0 for raw in columns[0]]
        if schema.modified is not None:
            now = table.unit.stored(self._rows.now_ms(), real=schema.modified.real)
            columns.append([now] * len(self._batch.keys))
        return columns

    def _upserted(self, times: list[list[Any]]) -> bool:
        """Write all rows by one statement each; return False if one of them cannot be written so."""
        values: Sequence[str | bytes] = self._batch.values
        if self._rows.schema.textual:
            values = [text_if_utf8(value) for value in self._batch.values]
            if {*map(type, values)} - {str}:
                return False
        keys = self._rows.new_forms(self._batch.keys)
        if None in keys:
            return False
        try:
            self._connection.executemany(self._rows.sql.upsert, zip(values, *times, keys, strict=True))
        except _UNFIT as error:
            self._check_transaction(error)
            return False
        return True

    def _removed(self, keys: Sequence[Raw]) -> bool:
        """Delete all rows by one statement each; return False if one of them cannot be deleted."""
        try:
            self._connection.executemany(self._rows.sql.delete, [(key,) for key in keys])
        except _UNFIT as error:
            self._check_transaction(error)
            return False
        return True

    def _tasks(self, times: list[list[Any]]) -> list[Task]:
        """Return what to do for each key of the batch; refuse what no row can hold."""
        held, tasks = self._held(), []
        expires = self._batch.expires or [0] * len(self._batch.keys)
        for key, value, due, *stored in zip(self._batch.keys, self._batch.values, expires, *times, strict=True):
            rows = held.get(key, {})
            raw = next(iter(rows), None) if rows else self._rows.schema.keys.new(key)
            shown = self._shown(value, rows.get(raw, "") if raw is not None else "")
            if len(rows) > 1:
                self._batch.refuse(key, AMBIGUOUS)
            elif raw is None:
                self._batch.refuse(key, f"column {self._rows.table.key!r} holds {self._rows.schema.keys.value}")
            elif shown is None:
                kind = "texts that are UTF-8" if self._rows.schema.textual else INTEGERS
                self._batch.refuse(key, f"column {self._rows.table.value!r} holds {kind}")
            else:
                tasks.append(Task(key, raw, bool(rows), value, due, (shown, *stored, raw)))
        return tasks

    def _held(self) -> dict[str, dict[Raw, str]]:
        """Return the rows of each key that has some: the key as it is stored, and the storage class of the value."""
        # In UTF-16, SQLite takes some keys for others: only what was asked for is meant.
        wanted = set(self._batch.keys)
        held: dict[str, dict[Raw, str]] = {}
        for some in chunks(self._rows.forms(self._connection, self._batch.keys)):
            for raw, kind in self._connection.execute(self._rows.sql.kinds(len(some)), some):
                if self._text(raw) in wanted:
                    held.setdefault(self._text(raw), {})[raw] = kind
        return held

    def _shown(self, value: bytes, held: str) -> int | str | bytes | None:
        """Return a value as its row is to hold it, where `held` is the storage class of the present one.

        A column declared as text gets texts, one declared as a number integers. A row that holds something else may go
        on doing so: a row of text stays one while its value is UTF-8.
        """
        schema = self._rows.schema
        shown = text_if_utf8(value) if schema.textual or schema.numeric or held == "text" else value
        if schema.textual:
            return None if isinstance(shown, bytes) and held != "blob" else shown
        if not schema.numeric:
            return shown
        number = integer_of(shown) if isinstance(shown, str) else None
        if number is None and held in {"text", "blob"}:
            return shown if held == "text" else value
        return number

    # Doing it

    def _put(self, tasks: Sequence[Task]) -> None:
        sql = self._rows.sql
        self._connection.executemany(sql.update, [task.parameters for task in tasks if task.exists])
        self._connection.executemany(sql.insert, [task.parameters for task in tasks if not task.exists])

    def _remove(self, tasks: Sequence[Task]) -> None:
        self._connection.executemany(self._rows.sql.delete, [(task.raw,) for task in tasks])

    def _each(self, tasks: list[Task], run: Callable[[Sequence[Task]], None]) -> None:
        """Run over all tasks. If some are at fault, run over smaller parts until only those are refused."""
        pending, done, parts = [tasks] if tasks else [], list[Task](), 0
        while pending:
            part = pending.pop()
            try:
                faults = self._tried(part, run)
            except _UNFIT as error:
                self._check_transaction(error)
                half = len(part) // 2
                if half:
                    pending += [part[half:], part[:half]]
                    continue
                faults = {part[0].key: f"the database refused it: {error!s:.300}"}
            if not faults:
                done += part
                parts += 1
                continue
            self._refuse(faults)
            rest = [task for task in part if task.key not in faults]
            pending += [rest] if rest else []
        if parts > 1 and self._rows.schema.watched:  # a trigger may have changed the row of another key
            self._refuse(self._faults(done))

    def _tried(self, part: Sequence[Task], run: Callable[[Sequence[Task]], None]) -> dict[str, str]:
        """Run over a part; undo it if it fails, or if a row is not as it was to be. Return which ones, and why."""
        self._connection.execute(f"SAVEPOINT {SAVEPOINT}")
        try:
            run(part)
            faults = self._faults(part) if self._rows.schema.watched else {}
            if faults:
                self._connection.execute(f"ROLLBACK TO {SAVEPOINT}")
        except _UNFIT:
            if self._connection.in_transaction:
                self._connection.execute(f"ROLLBACK TO {SAVEPOINT}")
                self._connection.execute(f"RELEASE {SAVEPOINT}")
            raise
        self._connection.execute(f"RELEASE {SAVEPOINT}")
        return faults

    def _faults(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Look at rows that were written or deleted; return the keys where the table has something else, and why."""
        rows = self._rows.select(self._connection, [task.raw for task in tasks], expired=True)
        found = self._rows.found(rows)
        held = {key: (value, due) for key, value, due in zip(*found, strict=True)}
        faults = {}
        for task in tasks:
            there = held.get(task.key)
            if task.value is None:
                if there is not None:
                    faults[task.key] = "the table kept the row: a trigger ignores the delete"
            elif there is None:
                faults[task.key] = "the table did not store the row: a trigger ignores or changes it"
            elif there != (task.value, task.due):
                faults[task.key] = "the table stored another value: a trigger or the type of the column changes it"
        return faults

    def _refuse(self, faults: dict[str, str]) -> None:
        for key, reason in faults.items():
            self._batch.refuse(key, reason)

    def _present(self) -> list[Raw]:
        """Return the keys that are there; refuse those that have two rows."""
        held = self._held()
        self._refuse({key: AMBIGUOUS for key, rows in held.items() if len(rows) > 1})
        return [raw for rows in held.values() if len(rows) == 1 for raw in rows]

    def _text(self, raw: Raw) -> str:
        key = self._rows.schema.keys.text(raw)
        assert key is not None  # noqa: S101 - it was looked for by its text
        return key

    def _check_transaction(self, error: Exception) -> None:
        """Make sure that the transaction is still open.

        Raises:
            StorageError: the database has undone it.
        """
        if self._connection.in_transaction:
            return
        message = (
            f"the database undid the whole transaction ({error!s:.300}): a trigger of {self._rows.name!r} that says "
            "RAISE(ROLLBACK) has to say RAISE(ABORT), which refuses its row alone"
        )
        raise StorageError(message) from error
