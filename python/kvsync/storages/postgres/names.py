"""The names of a PostgreSQL table and its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvsync.errors import UsageError
from kvsync.storages.columns import owner_of

__all__ = ["INDEX_TABLE", "JOURNAL_TABLE", "Names", "quoted"]

INDEX_TABLE = "kvsync_index"
JOURNAL_TABLE = "kvsync_journal"
"""One row for each table that is tracked; how the names of all that we make for one of them begin."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z", re.ASCII)
_COLUMNS = ("key", "value", "expires", "modified")


def quoted(name: str) -> str:
    """Return a checked name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a table and its columns, checked against an allow-list.

    Attributes:
        schema: None to look for the table in the role's search path.
        expires: the column that says when a row expires; None if rows never do.
        modified: the column that says when a row was last modified; None if no column does.
        unit: what numbers in these two columns count: "ms" or "s", since 1970; "utc" if they are a `timestamp` in UTC.

    Raises:
        UsageError: a name is not made of letters, digits and underscores, or the table is that of the index.
    """

    table: str = "kv"
    key: str = "key"
    value: str = "value"
    schema: str | None = None
    expires: str | None = None
    modified: str | None = None
    unit: str = "ms"

    def __post_init__(self) -> None:
        """Check the names."""
        for what in ("table", "schema", *_COLUMNS):
            name = getattr(self, what)
            if name is not None and not _NAME.match(name):
                message = f"{what}={name!r:.200} is not a plain name: use up to 63 letters, digits and underscores"
                raise UsageError(message)
        if self.table == INDEX_TABLE or self.table.startswith(JOURNAL_TABLE):
            message = f"table={self.table!r} is reserved: name another table"
            raise UsageError(message)
        if self.unit not in {"ms", "s", "utc"}:
            message = f"unit={self.unit!r:.200} is not ms, s or utc: say what the numbers in the column count"
            raise UsageError(message)
        self._check_columns()

    @property
    def columns(self) -> set[str]:
        """The columns that are ours."""
        return {name for what in _COLUMNS if (name := getattr(self, what)) is not None}

    @property
    def owner(self) -> str:
        """The name of the storage among all of the schema: of its table, and its columns if they are not the usual."""
        return owner_of(self.table, self.key, self.value)

    @property
    def unit_ms(self) -> int:
        """How many milliseconds one of the numbers counts."""
        return 1000 if self.unit == "s" else 1

    def in_schema(self, schema: str | None) -> str:
        """Return the table's identifier."""
        return f"{quoted(schema)}.{quoted(self.table)}" if schema else quoted(self.table)

    def _check_columns(self) -> None:
        named: dict[str, str] = {}
        for what in _COLUMNS:
            name = getattr(self, what)
            if name in named:
                message = f"{named[name]} and {what} are both {name!r}: name two columns"
                raise UsageError(message)
            if name is not None:
                named[name] = what
