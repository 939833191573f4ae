"""The column of a PostgreSQL table that says when a row expires, and its parts of statements.

It is a `timestamptz`, a `timestamp` in UTC, or a number of milliseconds or seconds. NULL means never, and so does 0 in
a number or `infinity` in a timestamp. A column that does not allow NULL says never with the last day of the year 9999,
which applications can read, unlike `infinity`. Rows expire by the server's clock at the start of each statement, not at
the start of a transaction, which may be long ago.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvsync.storages.postgres.times import TimeColumn

__all__ = ["FAR_MS", "Expires"]

BIGINT_MAX = (1 << 63) - 1
INTEGER_MAX = (1 << 31) - 1
TIMESTAMP_MAX = 1 << 49
"""The latest milliseconds, in the year 19808, that a timestamptz represents exactly."""
FAR_MS = 253_402_214_400_000
"""9999-12-31T00:00:00Z: never, where a column does not allow NULL. It is a date in every time zone of Python, too."""


@dataclass(frozen=True, slots=True)
class Expires(TimeColumn):
    """A column of times at which rows expire.

    Attributes:
        required: it does not allow NULL.
        empty: it is NULL in a row that is written without it.
    """

    required: bool = False
    empty: bool = True

    @property
    def milliseconds_max(self) -> int:
        """The latest time that it represents exactly."""
        if self.timestamp:
            return TIMESTAMP_MAX
        return (INTEGER_MAX if self.type == "integer" else BIGINT_MAX // self.unit_ms) * self.unit_ms

    @property
    def due(self) -> str:
        """The expression for a row's time in milliseconds, 0 for never."""
        if not self.required:
            return f"coalesce({self.milliseconds}, 0)"
        return f"coalesce(nullif({self.milliseconds}, {self._never_ms}), 0)"

    def rounded(self, milliseconds: int) -> int:
        """Return the time as it is stored: in whole seconds if the column counts them, never too early."""
        time = milliseconds if self.timestamp else -(-milliseconds // self.unit_ms) * self.unit_ms
        return 0 if self.required and time == self._never_ms else time

    def stays(self, table: str = "") -> str:
        """Return the condition that a row has not expired, in a statement that calls the table so."""
        column = f"{table}.{self.column}" if table else self.column
        if self.timestamp:
            return f"({column} IS NULL OR {self.converted(column)} > statement_timestamp())"
        now = f"extract(epoch FROM statement_timestamp()) * {1000 // self.unit_ms}"
        return f"({column} IS NULL OR {column} = 0 OR {column} > {now})"

    def given(self, milliseconds: str) -> str:
        """Return the expression for the column's value, given one for milliseconds."""
        never = self._stored(str(self._never_ms)) if self.required else "NULL"
        return f"CASE WHEN {milliseconds} <> 0 THEN {self._stored(milliseconds)} ELSE {never} END"

    @property
    def _never_ms(self) -> int:
        return INTEGER_MAX * self.unit_ms if self.type == "integer" else FAR_MS

    def _stored(self, milliseconds: str) -> str:
        if not self.timestamp:
            return f"({milliseconds} / {self.unit_ms})::{self.type}"
        # Whole seconds and the rest separately: together they have more digits than a double.
        rest = f"mod({milliseconds}, 1000) * interval '1 millisecond'"
        return self.converted(f"(to_timestamp({milliseconds} / 1000) + {rest})")
