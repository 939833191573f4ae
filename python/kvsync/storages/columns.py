"""What names a storage in a table: an index belongs to one pair of columns."""

from __future__ import annotations

__all__ = ["owner_of"]


def owner_of(table: str, key: str, value: str) -> str:
    """Return the name of a storage among those of its database.

    Two columns of values in one table are two storages, as each has values of its own.

    >>> owner_of("kv", "key", "value"), owner_of("accounts", "aid", "filler")
    ('kv', 'accounts(aid,filler)')
    """
    return table if (key, value) == ("key", "value") else f"{table}({key},{value})"
