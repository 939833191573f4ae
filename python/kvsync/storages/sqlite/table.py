"""The table of a SQLite storage: its names, and the statement that creates it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvsync.errors import UsageError
from kvsync.storages.columns import owner_of
from kvsync.storages.sqlite.times import Unit

__all__ = ["INDEX_TABLE", "JOURNAL_TABLE", "Table"]

INDEX_TABLE = "kvsync_index"
JOURNAL_TABLE = "kvsync_journal"
"""One row for each table that is tracked; how the names of our tables and triggers for one of them begin."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Table:
    """The names of a table and its columns, checked against an allow-list.

    Attributes:
        expires: the column that says when a row expires, or None.
        modified: the column that says when a row was last modified, or None.
        unit: what both of these columns hold.

    Raises:
        UsageError: a name is not made of letters, digits and underscores, is used twice, or is that of the index.
    """

    name: str = "kv"
    key: str = "key"
    value: str = "value"
    expires: str | None = None
    modified: str | None = None
    unit: Unit = Unit.MILLISECONDS

    def __post_init__(self) -> None:
        """Check the names."""
        columns = {"key": self.key, "value": self.value, "expires": self.expires, "modified": self.modified}
        named = {what: name for what, name in columns.items() if name is not None}
        for what, name in {"table": self.name, **named}.items():
            if not _NAME.match(name):
                message = f"{what}={name!r:.200} is not a plain name: use letters, digits and underscores"
                raise UsageError(message)
        if self.name.lower() == INDEX_TABLE or self.name.lower().startswith(("sqlite_", JOURNAL_TABLE)):
            message = f"table={self.name!r} is reserved: name another table"
            raise UsageError(message)
        users: dict[str, str] = {}
        for what, name in named.items():
            other = users.setdefault(name.lower(), what)
            if other != what:
                message = f"{other} and {what} are both {name!r}: name {len(named)} columns"
                raise UsageError(message)

    @property
    def owner(self) -> str:
        """The name of the storage among all of the database: of its table, and its columns if they are not the usual.

        To SQLite, `KV` is `kv`.
        """
        return owner_of(self.name.lower(), self.key.lower(), self.value.lower())

    @property
    def create(self) -> str:
        """The statement that creates the table."""
        times = "".join(f', "{name}" {self.unit.declared}' for name in (self.expires, self.modified) if name)
        return (
            f'CREATE TABLE IF NOT EXISTS "{self.name}" '
            f'("{self.key}" TEXT PRIMARY KEY, "{self.value}" BLOB NOT NULL{times}) WITHOUT ROWID'
        )
