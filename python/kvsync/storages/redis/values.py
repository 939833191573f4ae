"""Layouts of values in Redis: as string keys below a prefix, or as the fields of one hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.types import Unreadable

__all__ = ["INDEX_ENDS", "Fetched", "Held", "Values", "index_key"]

INDEX_OF_STRINGS = b".kvsync\xff"
INDEX_OF_FIELDS = b".kvsync\xfe"
INDEX_ENDS = (INDEX_OF_STRINGS, INDEX_OF_FIELDS)
"""An index's key ends in a byte that UTF-8 does not have, so it is not the key of a value below any prefix."""


def index_key(prefix: str, name: str | None) -> bytes:
    r"""Return the key of the hash that holds the index of a prefix, or of the hash `name`.

    >>> index_key("app:", None), index_key("", "users")
    (b'app:.kvsync\xff', b'users.kvsync\xfe')
    """
    return prefix.encode() + INDEX_OF_STRINGS if name is None else name.encode() + INDEX_OF_FIELDS


class Held(NamedTuple):
    """Current values, and when they expire."""

    values: list[bytes]
    expires: list[int]


class Fetched(NamedTuple):
    """Values as they were at one moment.

    `values`: each value, or its size if that is over the limit, -1 if it is not a value, None if absent.
    `expires`: when they expire, wall-clock milliseconds, by position; without those that never expire.
    """

    values: list[bytes | int | None]
    expires: dict[int, int]


class Values(Protocol):
    """A layout of values; keys are bytes here, as in the database.

    Times are wall-clock milliseconds, 0 for a value that never expires.
    """

    def name_of(self, key: str) -> bytes:
        """Return the name under which a key's value is stored."""
        ...

    def get(self, names: Sequence[bytes]) -> list[bytes | Unreadable | None]:
        """Return values."""
        ...

    def fetch(self, batches: Iterable[Sequence[bytes]], limit: int) -> Iterator[Fetched]:
        """Yield for each batch values, sizes of those over `limit`, and when they expire.

        While the caller works on one batch, the server may be busy with the next ones.
        """
        ...

    def put(self, names: Sequence[bytes], values: Sequence[bytes]) -> dict[int, str]:
        """Write values unconditionally; return the positions of keys that are not values, with their types."""
        ...

    def drop(self, names: Sequence[bytes]) -> dict[int, str]:
        """Delete values; return the positions of keys that are not values, with their types."""
        ...

    def create(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> list[int]:
        """Write where a name is absent; return the positions of the others."""
        ...

    def replace(self, names: Sequence[bytes], olds: Held, values: Sequence[bytes], expires: Sequence[int]) -> list[int]:
        """Write where the old value is the current one; return the positions of the others."""
        ...

    def drop_if(self, names: Sequence[bytes], olds: Held) -> list[int]:
        """Delete where the old value is the current one; return the positions of other values."""
        ...

    def present(self, names: Sequence[bytes]) -> list[bool]:
        """Return whether each name exists."""
        ...

    def names(self) -> Iterator[list[bytes]]:
        """Yield all names, some perhaps more than once, without the location's own part."""
        ...
