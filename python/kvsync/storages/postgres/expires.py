"""The column of a PostgreSQL table that says when a row expires, and its parts of statements.

It is a `timestamptz`, or a `bigint` of wall-clock milliseconds. NULL means never, and so does 0 in a bigint or
`infinity` in a timestamptz. Rows expire by the server's clock at the start of each statement, not at the start of a
transaction, which may be long ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Expires", "expires_column"]

BIGINT_MAX = (1 << 63) - 1
TIMESTAMP_MAX = 1 << 49
"""The latest milliseconds, in the year 19808, that a timestamptz represents exactly."""


@dataclass(frozen=True, slots=True)
class Expires:
    """A column of times.

    Attributes:
        column: its identifier.
        timestamp: it is a timestamptz, not a bigint.
        empty: it is NULL in a row that is written without it.
    """

    column: str
    timestamp: bool = True
    empty: bool = True

    @property
    def type(self) -> str:
        """Its type, as for a new table."""
        return "timestamptz" if self.timestamp else "bigint"

    @property
    def milliseconds_max(self) -> int:
        """The latest time that it represents exactly."""
        return TIMESTAMP_MAX if self.timestamp else BIGINT_MAX

    @property
    def milliseconds(self) -> str:
        """The expression for a row's time, 0 for never."""
        if not self.timestamp:
            return f"coalesce({self.column}, 0)"
        cut = f"extract(epoch FROM date_trunc('milliseconds', {self.column}))"
        return f"CASE WHEN isfinite({self.column}) THEN ({cut} * 1000)::bigint ELSE 0 END"

    def stays(self, table: str = "") -> str:
        """Return the condition that a row has not expired, in a statement that calls the table so."""
        column = f"{table}.{self.column}" if table else self.column
        if self.timestamp:
            return f"({column} IS NULL OR {column} > statement_timestamp())"
        return f"({column} IS NULL OR {column} = 0 OR {column} > extract(epoch FROM statement_timestamp()) * 1000)"

    def given(self, milliseconds: str) -> str:
        """Return the expression for the column's value, given one for milliseconds."""
        if not self.timestamp:
            return f"nullif({milliseconds}, 0)"
        # Whole seconds and the rest separately: together they have more digits than a double.
        moment = f"to_timestamp({milliseconds} / 1000) + mod({milliseconds}, 1000) * interval '1 millisecond'"
        return f"CASE WHEN {milliseconds} <> 0 THEN {moment} END"


def expires_column(name: str, identifier: str, row: Sequence[Any]) -> Expires:
    """Return a column of an existing table: `row` has its type, its readable type, NOT NULL, and DEFAULT.

    Raises:
        UsageError: it is not suitable.
    """
    kind, shown, required, default = row
    if kind not in {"timestamptz", "int8"} or required:
        message = (
            f"column {name!r} is {shown}{' NOT NULL' if required else ''}: a column that says when a row expires "
            "has to be timestamptz, or bigint for milliseconds, and to allow NULL"
        )
        raise UsageError(message)
    return Expires(identifier, timestamp=kind == "timestamptz", empty=not default)
