"""How values lie in Redis: as string keys below a prefix, or as the fields of one hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.types import Unreadable

__all__ = ["INDEX_ENDS", "Fetched", "Held", "Values", "index_key"]

INDEX_OF_STRINGS = b".kvsync\xff"
INDEX_OF_FIELDS = b".kvsync\xfe"
INDEX_ENDS = (INDEX_OF_STRINGS, INDEX_OF_FIELDS)
"""An index's key ends in a byte that UTF-8 does not have, so no key of a value, below whatever prefix, is one."""


def index_key(prefix: str, name: str | None) -> bytes:
    r"""Return the key of the hash that holds the index of a prefix, or of the hash `name`.

    >>> index_key("app:", None), index_key("", "users")
    (b'app:.kvsync\xff', b'users.kvsync\xfe')
    """
    return prefix.encode() + INDEX_OF_STRINGS if name is None else name.encode() + INDEX_OF_FIELDS


class Held(NamedTuple):
    """Values that are there, and when they expire."""

    values: list[bytes]
    expires: list[int]


class Fetched(NamedTuple):
    """Values as they were at one moment.

    `values`: each value, or its size where that is over the limit, -1 where it is no value, None if absent.
    `expires`: when they expire, wall-clock milliseconds, by position; without those that stay for ever.
    """

    values: list[bytes | int | None]
    expires: dict[int, int]


class Values(Protocol):
    """One way to lay values out; keys are bytes here, as they stand in the database.

    Times are wall-clock milliseconds, 0 for a value that stays for ever.
    """

    def name_of(self, key: str) -> bytes:
        """Return where a key's value lies."""
        ...

    def get(self, names: Sequence[bytes]) -> list[bytes | Unreadable | None]:
        """Return values."""
        ...

    def fetch(self, names: Sequence[bytes], limit: int) -> Fetched:
        """Return values, sizes of those over `limit`, and when they expire."""
        ...

    def put(self, names: Sequence[bytes], values: Sequence[bytes]) -> dict[int, str]:
        """Write values, whatever values are there; return the positions of what is no value, with what it is."""
        ...

    def drop(self, names: Sequence[bytes]) -> dict[int, str]:
        """Delete values; return the positions of what is no value, with what it is."""
        ...

    def create(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> list[int]:
        """Write where nothing is; return the positions of what was there."""
        ...

    def replace(self, names: Sequence[bytes], olds: Held, values: Sequence[bytes], expires: Sequence[int]) -> list[int]:
        """Write where the old value is; return the positions of where it was not."""
        ...

    def drop_if(self, names: Sequence[bytes], olds: Held) -> list[int]:
        """Delete where the old value is; return the positions of where another was."""
        ...

    def present(self, names: Sequence[bytes]) -> list[bool]:
        """Return for each name whether anything is there."""
        ...

    def names(self) -> Iterator[list[bytes]]:
        """Yield all names, some perhaps more than once, without the place's own part."""
        ...
