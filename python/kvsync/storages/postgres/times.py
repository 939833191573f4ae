"""A column of times, and its parts of statements."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TIME_TYPES", "TimeColumn"]

TIME_TYPES = {"timestamptz": "timestamptz", "timestamp": "timestamp", "int8": "bigint", "int4": "integer"}
"""The types that such a column may have, by the names of the catalogue."""

_SECONDS_MAX = ((1 << 63) - 1) // 1000


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column of times.

    Attributes:
        column: its identifier.
        type: `timestamptz`, `timestamp` for one in UTC, or `bigint` or `integer` for numbers.
        unit_ms: how many milliseconds one of the numbers counts.
    """

    column: str
    type: str = "timestamptz"
    unit_ms: int = 1

    @property
    def timestamp(self) -> bool:
        """Whether it is no number."""
        return self.type.startswith("timestamp")

    @property
    def milliseconds(self) -> str:
        """The expression for a row's time in milliseconds; NULL where it has none."""
        if self.timestamp:
            cut = f"extract(epoch FROM date_trunc('milliseconds', {self.converted(self.column)}))"
            return f"CASE WHEN isfinite({self.column}) THEN ({cut} * 1000)::bigint END"
        if self.unit_ms == 1:
            return f"{self.column}::bigint"
        seconds = f"greatest(least({self.column}, {_SECONDS_MAX}), -{_SECONDS_MAX})"
        return f"CASE WHEN {self.column} IS NOT NULL THEN {seconds}::bigint * {self.unit_ms} END"

    @property
    def latest(self) -> str:
        """The expression for the last millisecond that a row's time can mean: that of the second, if it counts them."""
        return f"nullif({self.milliseconds}, 0) + {self.unit_ms - 1}"

    @property
    def now(self) -> str:
        """The expression for the present time, as the column stores it."""
        if self.timestamp:
            return self.converted("statement_timestamp()")
        return f"floor(extract(epoch FROM statement_timestamp()) * {1000 // self.unit_ms})::{self.type}"

    def converted(self, moment: str) -> str:
        """Return the expression for a timestamptz, given one for what the column stores, or the other way round."""
        return moment if self.type == "timestamptz" else f"({moment} AT TIME ZONE 'UTC')"

    @property
    def implausible(self) -> tuple[int, int] | None:
        """The least and the greatest number that most likely counts in the other unit; None for a timestamp.

        In milliseconds these are times before March 1973, and in seconds times after the year 33,000.
        """
        if self.timestamp:
            return None
        return (10**8, 10**11) if self.unit_ms == 1 else (10**12, 10**15)
