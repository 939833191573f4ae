"""The times in a table's columns: milliseconds, seconds, or ISO texts in UTC, and what is none of these.

A time that cannot be meant is never taken for one. Read as milliseconds, the seconds of today are a day in January
1970: each live row would count as expired.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum

__all__ = ["NEVER_MS", "NOW", "PARSE", "Unit", "parse"]

NOW = "kvsync_now_ms"
"""The SQL function that is the storage's clock."""

PARSE = "kvsync_parse_ms"
"""The SQL function that reads the bytes of an ISO text, as `parse` does."""

PLAUSIBLE_MS = 100_000_000_000
"""No time before 3 March 1973 is meant as one; as seconds, the same number is a day in the year 5138."""

NEVER_MS = 253_402_300_799_000
"""The last second of the year 9999 means never, where a column does not allow NULL."""

_LATEST_MS = NEVER_MS + 1_000
_INTEGER_MAX = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unit(StrEnum):
    """What a column of times holds."""

    MILLISECONDS = "ms"
    SECONDS = "s"
    ISO = "iso"

    @property
    def declared(self) -> str:
        """The type with which kvsync declares such a column."""
        return "TEXT" if self is Unit.ISO else "INTEGER"

    def milliseconds(self, raw: object) -> int | None:
        """Return a time in milliseconds since 1970, 0 for never (NULL, 0, the last second of 9999), None for no time.

        >>> Unit.SECONDS.milliseconds(1_764_332_718), Unit.MILLISECONDS.milliseconds(1_764_332_718)
        (1764332718000, None)
        >>> Unit.ISO.milliseconds("2026-11-28 12:25:18.5")
        1795868718500
        """
        if raw is None or raw == 0:
            return 0
        found = _from_text(raw) if self is Unit.ISO else self._from_number(raw)
        if found is None or not PLAUSIBLE_MS <= found <= self._latest:
            return None
        return 0 if found == NEVER_MS else found

    def stored(self, time_ms: int, *, real: bool = False) -> int | float | str | None:
        """Return a time as a column holds it, None if it cannot; `real`: the column holds fractions of seconds.

        Whole seconds are rounded up, so that nothing expires early. A time that nobody means becomes the first
        plausible one, which is in the past, too.
        """
        time_ms = max(time_ms, PLAUSIBLE_MS)
        if time_ms > (_LATEST_MS - 1 if self is Unit.ISO else self._latest):
            return None
        if self is Unit.MILLISECONDS:
            return time_ms
        if self is Unit.SECONDS:
            return time_ms / 1000 if real else -(-time_ms // 1000)
        text = (_EPOCH + timedelta(milliseconds=time_ms)).strftime("%Y-%m-%d %H:%M:%S")
        return f"{text}.{time_ms % 1000:03}" if time_ms % 1000 else text

    def stays(self, column: str) -> str:
        """Return the condition that a row has not expired; what is no time stays, too."""
        if self is Unit.ISO:
            # As a BLOB, since the driver raises an error for an argument that is a text and not UTF-8.
            parsed = f"CASE typeof({column}) WHEN 'text' THEN {PARSE}(CAST({column} AS BLOB)) END"
            return f"coalesce({parsed} > (SELECT {NOW}()), 1)"
        # The function is in a query of its own, so that it is called once instead of once for each row.
        divisor, least = ("", PLAUSIBLE_MS) if self is Unit.MILLISECONDS else (" / 1000.0", PLAUSIBLE_MS // 1000)
        return f"({column} IS NULL OR {column} < {least} OR {column} > (SELECT {NOW}(){divisor}))"

    def fitting(self, times: list[object]) -> Unit | None:
        """Return the other unit in which all of these are times, if in this one none of them is."""
        if not times or any(self.milliseconds(raw) is not None for raw in times):
            return None
        others = (unit for unit in Unit if all(unit.milliseconds(raw) is not None for raw in times))
        return next(others, None)

    @property
    def _latest(self) -> int:
        return _INTEGER_MAX if self is Unit.MILLISECONDS else _LATEST_MS

    def _from_number(self, raw: object) -> int | None:
        if not isinstance(raw, int | float) or not math.isfinite(raw):
            return None
        return round(raw if self is Unit.MILLISECONDS else raw * 1000)


def parse(text: bytes) -> int | None:
    """Return the time of an ISO text in milliseconds, from its bytes in UTF-8 or UTF-16; None if it is none, or never.

    >>> parse(b"2026-11-28 12:25:18.5")
    1795868718500
    """
    # In UTF-16, each byte of ASCII has a zero byte beside it.
    return Unit.ISO.milliseconds(text.replace(b"\0", b"").decode("ascii", "replace")) or None


def _from_text(raw: object) -> int | None:
    if not isinstance(raw, str):
        return None
    try:
        parsed = datetime.fromisoformat(raw)
    except ValueError:
        return None
    # Without an offset it is UTC, as SQLite's own functions have it.
    known = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    return (known - _EPOCH) // timedelta(milliseconds=1)
