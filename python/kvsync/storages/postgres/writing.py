"""Write and delete the rows of a PostgreSQL table, within one transaction, and see that the table kept them."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from kvsync.storages.batch import NOT_EXPECTED, Batch
from kvsync.storages.postgres.catalogue import TableState
from kvsync.storages.postgres.connections import atomic
from kvsync.storages.postgres.failure import is_about_a_row, refusal
from kvsync.storages.postgres.hidden import find_hidden
from kvsync.storages.postgres.rows import NULL_VALUE, Rows, are_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from kvsync.storages.postgres.table import Table

__all__ = ["Writer"]

COPY_COUNT = 64
VALUE_BYTES_MAX = (1 << 30) - (1 << 16)
"""A field is limited to 1 GiB, and the message around it needs some room, too."""
FEATURE_NOT_SUPPORTED = "0A000"

_UNCHANGEABLE = "row-level security does not let this role change the row"
_UNDELETED = "a trigger, rule or policy of the table keeps the row"

Part = dict[str, tuple[Any, Any]]
"""Rows by key: what the two columns store."""


@dataclass(slots=True)
class Writer:
    """The rows of one call.

    Attributes:
        batch: the keys of the call; rows that fail are refused there.
        state: what runs when the table is written.
        loading: keys are most likely absent, so try a plain COPY, which takes half the time.
        expires: when written rows expire, milliseconds by key; a row without an entry never expires.
    """

    psycopg: ModuleType
    rows: Rows
    batch: Batch
    state: TableState = field(default_factory=TableState)
    loading: bool = False
    expires: dict[str, int] = field(default_factory=dict)

    def write(self, values: dict[str, bytes]) -> None:
        """Write values unconditionally."""
        part = self._acceptable(values)
        if not self._loaded(part):
            self._each(part, self._put)

    def create(self, values: dict[str, bytes]) -> None:
        """Write values whose keys are absent; refuse the others."""
        part = self._acceptable(values)
        if not self._loaded(part):
            self._each(part, self._create)

    def refuse_hidden(self, keys: Sequence[str]) -> None:
        """Refuse the keys at which no row is visible, and one may be."""
        self._refuse(self._hidden(keys))

    def refuse_barred(self, keys: Sequence[str]) -> None:
        """Refuse the keys whose rows could not be locked, since policies hide them, or do not let them be changed."""
        if self.state.policies and keys:
            self._refuse(self._unchangeable(keys))
            self._refuse(self._hidden([key for key in keys if key not in self.batch.refused]))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete rows unconditionally."""
        self._each({key: (self.rows.raw(key), None) for key in keys if self._key_fits(key)}, self._remove)

    @property
    def _table(self) -> Table:
        return self.rows.table

    def _key_fits(self, key: str) -> bool:
        return self._table.key.refuses(key) is None

    # Parts of a call

    def _each(self, rows: Part, run: Callable[[Part], dict[str, str]]) -> None:
        """Run over all rows; refuse those that are at fault, and redo the rest without them.

        If the database does not say which row fails, run over smaller and smaller parts.
        """
        pending = [rows] if rows else []
        while pending:
            part = pending.pop()
            try:
                self._together(part, run)
            except _UnkeptError as error:
                self._refuse(error.reasons)
                rest = {key: row for key, row in part.items() if key not in error.reasons}
                pending += [rest] if rest else []
            except self.psycopg.Error as error:
                if not is_about_a_row(error, policies=self.state.policies):
                    raise
                if len(part) == 1:
                    self._refuse(dict.fromkeys(part, refusal(error)))
                else:
                    pending += _halves(part)

    def _together(self, part: Part, run: Callable[[Part], dict[str, str]]) -> None:
        """Run over rows; if `run` returns reasons to refuse some of them, undo all of it."""
        with atomic(self.rows.connection):
            if self.state.deferrable:
                # What waits for the end of the transaction would fail all of it then, and not this row now.
                self.rows.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            if reasons := run(part):
                raise _UnkeptError(reasons)

    def _refuse(self, reasons: dict[str, str]) -> None:
        for key, reason in reasons.items():
            self.batch.refuse(key, reason, changed=reason == NOT_EXPECTED)

    def _loaded(self, part: Part) -> bool:
        """Write rows by COPY, if all of them are absent; return whether they were written."""
        if not part or not self._may_copy(len(part)):
            return not part
        try:
            self._together(part, self._copy)
        except _UnkeptError:
            self.loading = False
        except self.psycopg.Error as error:
            self.loading = False
            about_a_row = is_about_a_row(error, policies=self.state.policies)
            if not about_a_row and error.sqlstate != FEATURE_NOT_SUPPORTED:
                raise
        return self.loading

    def _may_copy(self, count: int) -> bool:
        if not self.loading or count < COPY_COUNT or self._required or self.state.rules or self.state.policies:
            return False
        expires = self._table.expires
        stays_empty = expires is None or (expires.empty and not any(self.expires.values()))
        return stays_empty and self._table.modified is None

    # What is run; each returns the keys to refuse, and why

    def _copy(self, part: Part) -> dict[str, str]:
        cursor = self.rows.connection.cursor()
        with cursor.copy(self._table.copy) as copy:
            if self._table.copies_binary:
                columns = (self._table.key, self._table.value)
                copy.set_types(["bytea" if column.binary else "text" for column in columns])
            for row in part.values():
                copy.write_row(row)
        return self._unkept(part, cursor.rowcount)

    def _put(self, part: Part) -> dict[str, str]:
        if self.state.rules:
            return self._put_plainly(part)
        if self._required is not None:
            reasons, others = self._returned(part, self._table.update_rows(expired=False))
            return reasons | self._unchangeable(others)
        return self._unkept(part, self._run(self._table.upsert(careful=self._careful), part).rowcount)

    def _put_plainly(self, part: Part) -> dict[str, str]:
        """Write rows of a table with rules, which allow no more than plain statements."""
        self._run(self._table.update, part)
        self._run(self._table.insert, part)
        return self._unkept(part, 0)

    def _create(self, part: Part) -> dict[str, str]:
        if self.state.rules:
            return self._held(part) or self._put_plainly(part)
        if self._required is not None:
            reasons, others = self._returned(part, self._table.update_rows(expired=True))
        else:
            reasons, others = self._returned(part, self._table.create_rows(careful=self._careful))
        return reasons | self._held(others)

    def _returned(self, part: Part, statement: str) -> tuple[dict[str, str], list[str]]:
        """Run a statement that returns the keys it wrote; return what to refuse, and the keys that it did not write."""
        written = {self.rows.text(key) for (key,) in self._run(statement, part).fetchall()}
        others = [key for key in part if key not in written]
        kept = {key: row for key, row in part.items() if key in written}
        return self._unkept(kept, len(kept)) | dict.fromkeys(others, self._why_absent), others

    def _remove(self, part: Part) -> dict[str, str]:
        keys = [raw for raw, _ in part.values()]
        removed = self.rows.connection.cursor(binary=True).execute(self._table.delete, (keys,)).rowcount
        if removed == len(part) and not self.state.interferes:
            return {}
        kept = dict.fromkeys(self.rows.times(list(part)), _UNDELETED)
        if removed + len(kept) == len(part):
            return kept
        return kept | self._hidden([key for key in part if key not in kept])

    def _unchangeable(self, keys: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(self.rows.select(keys), _UNCHANGEABLE) if self.state.policies else {}

    def _hidden(self, keys: Sequence[str]) -> dict[str, str]:
        return find_hidden(self.psycopg, self.rows, keys) if self.state.policies else {}

    def _run(self, statement: str, part: Part) -> Any:
        arrays: list[list[Any]] = [[raw for raw, _ in part.values()], [value for _, value in part.values()]]
        if self._table.expires is not None:
            arrays.append([self.expires.get(key, 0) for key in part])
        return self.rows.connection.cursor(binary=True).execute(statement, arrays)

    @property
    def _required(self) -> str | None:
        """The column for which no row can be inserted, unless a trigger or a rule fills it."""
        return None if self.state.triggers or self.state.rules else self.state.required

    @property
    def _careful(self) -> bool:
        return not self._table.alone or self.state.interferes

    # What the table kept

    def _unkept(self, part: Part, written: int) -> dict[str, str]:
        """Return the keys whose rows are not as they were given, if that is possible at all."""
        if written == len(part) and not self.state.interferes and self._table.value.exact:
            return {}
        stored = self.rows.stored(list(part))
        return {
            key: self._why_unkept
            for key, (_, value) in part.items()
            if stored.get(key) != (_digest(value), self.expires.get(key, 0))
        }

    def _held(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the keys that exist, and why they cannot be created."""
        held = self.rows.select(list(keys))
        return {key: NULL_VALUE if value is None else NOT_EXPECTED for key, value in held.items()}

    @property
    def _why_absent(self) -> str:
        if self._required is None:
            return self._why_unkept
        return f"the database cannot insert it: column {self._required!r} allows no NULL; give that column a default"

    @property
    def _why_unkept(self) -> str:
        if self.state.interferes or self._table.value.exact:
            return "a trigger, rule or policy of the table ignores or rewrites the row"
        return f"the column is {self._table.value.type}: PostgreSQL shows another text for this value"

    # What columns can store

    def _acceptable(self, values: dict[str, bytes]) -> Part:
        """Return each key's row for its columns, in one order for all writers; refuse what the columns cannot store.

        Rows are locked in the order of writing: writers of different orders would deadlock.
        """
        values = dict(sorted(self._in_time(values).items(), key=itemgetter(0)))
        key_column, value_column = self._table.key, self._table.value
        plain = key_column.plain and value_column.binary and are_plain(values)
        if plain and max(map(len, values.values()), default=0) <= VALUE_BYTES_MAX:
            return dict(zip(values, values.items(), strict=True))
        rows: Part = {}
        for key, value in values.items():
            reason = key_column.refuses(key) or value_column.refuses_value(value)
            if reason is None and len(value) > VALUE_BYTES_MAX:
                reason = "its row is larger than PostgreSQL's limit of 1 GiB"
            if reason is None:
                rows[key] = (self.rows.raw(key), value if value_column.binary else value.decode())
            else:
                self.batch.refuse(key, reason)
        return rows

    def _in_time(self, values: dict[str, bytes]) -> dict[str, bytes]:
        """Return the values that expire no later than the column can store; refuse the others."""
        limit = self._table.expires.milliseconds_max if self._table.expires else 0
        late = {key for key, due in self.expires.items() if due > limit and key in values}
        for key in late:
            self.batch.refuse(
                key, f"it expires later than {limit} milliseconds after 1970, which the column cannot store"
            )
        return {key: value for key, value in values.items() if key not in late} if late else values


class _UnkeptError(Exception):
    """Rows were not kept as they were given, for these `reasons`."""

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


def _halves(part: Part) -> list[Part]:
    rows = list(part.items())
    half = len(rows) // 2
    return [dict(rows[:half]), dict(rows[half:])]


def _digest(value: str | bytes) -> bytes:
    return sha256(value if isinstance(value, bytes) else value.encode()).digest()
