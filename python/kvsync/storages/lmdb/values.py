"""The records of an LMDB storage in one transaction.

LMDB's keys have 1 to 511 bytes. A key that is longer or empty is special: its record is in a database of its own, under
the BLAKE3 of the key, and contains the key before the value.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from kvsync.native import Page, digest_values
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import lmdb

__all__ = ["DAMAGED", "KEY_BYTES_MAX", "Values"]

KEY_BYTES_MAX = 511
LENGTH_BYTES = 4
DAMAGED = "the record of this long key was changed by another program: restore the environment from a backup"
VERSION_END = b"\0"
PAGE_COUNT = 1_024
"""So many records of a scan fit into a processor's cache."""
PAGE_BYTES = 8 << 20
FETCH_COUNT = 64
PLAIN_COUNT = 4_096
"""So many records of a page in which there is nothing to look at: they stay in Python a few at a time."""


@dataclass(frozen=True, slots=True)
class Values:
    """Three databases in one transaction; a handle is None if its database does not exist.

    Attributes:
        ordinary: holds the keys that LMDB can hold.
        special: holds the others.
        index: holds the index objects, and the version of each under its name and a zero byte. Stored together, object
            and version would have to be copied once more.
    """

    transaction: lmdb.Transaction[Any]
    ordinary: Any | None
    special: Any | None
    index: Any | None

    def get(self, keys: Sequence[bytes]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order."""
        if are_ordinary(keys):
            if self.ordinary is None:
                return [None] * len(keys)
            get, handle = self.transaction.get, self.ordinary
            return [get(key, None, handle) for key in keys]
        return [self.get([key])[0] if are_ordinary([key]) else self._get_special(key) for key in keys]

    def sizes(self, keys: Sequence[bytes]) -> list[int | None]:
        """Return the size of each value, if the transaction returns views."""
        if are_ordinary(keys) and self.ordinary is not None:
            get, handle = self.transaction.get, self.ordinary
            return [None if (view := get(key, None, handle)) is None else len(view) for key in keys]
        found = self.get(keys)
        return [None if value is None or isinstance(value, Unreadable) else len(value) for value in found]

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write values; both databases exist."""
        if not are_ordinary(keys):
            ordinary = [(key, value) for key, value in zip(keys, values, strict=True) if are_ordinary([key])]
            for key, value in zip(keys, values, strict=True):
                if not are_ordinary([key]):
                    record = len(key).to_bytes(LENGTH_BYTES, "little") + key + value
                    self.transaction.put(_digest_key(key), record, db=self.special)
            keys, values = [key for key, _ in ordinary], [value for _, value in ordinary]
        if keys:
            self.put_ordinary(keys, values)

    def put_ordinary(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write values at keys that LMDB accepts as they are.

        If it does not accept one, its error propagates with some of them written. Keys that come after all existing
        ones, in order, are appended without a search.
        """
        with self.transaction.cursor(self.ordinary) as cursor:
            appends = not (cursor.last() and cursor.key() >= keys[0])
            # An iterator: a list of that many tuples would keep the cyclic collector busy.
            _, added = cursor.putmulti(zip(keys, values, strict=True), append=appends)
            if appends and added < len(keys):  # skipped: the keys that do not come after the last one
                cursor.putmulti(zip(keys, values, strict=True))

    def delete(self, keys: Sequence[bytes]) -> None:
        """Delete keys, if they exist."""
        for key in keys:
            if are_ordinary([key]):
                self.transaction.delete(key, db=self.ordinary)
            else:
                self.transaction.delete(_digest_key(key), db=self.special)

    def plain_page(self, last: bytes | None) -> Page:
        """Return some ordinary records after `last`, up to one whose key has to be looked at."""
        page = Page()
        if self.ordinary is None:
            return page
        with self.transaction.cursor(self.ordinary) as cursor:
            _move_after(cursor, last)
            records = cursor.iternext() if cursor.key() else iter(())
            while len(page) < PLAIN_COUNT and page.value_bytes < PAGE_BYTES:
                some = list(islice(records, FETCH_COUNT))
                if not page.add_rows(some) or len(some) < FETCH_COUNT:
                    break
        return page

    def page(self, last: bytes | None, reserved_keys: frozenset[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return some ordinary keys after `last`, ascending, and their values."""
        keys: list[bytes] = []
        values: list[bytes] = []
        if self.ordinary is None:
            return keys, values
        with self.transaction.cursor(self.ordinary) as cursor:
            _move_after(cursor, last)
            size = 0
            records = cursor.iternext() if cursor.key() else iter(())
            if reserved_keys:
                records = (record for record in records if record[0] not in reserved_keys)
            for key, value in islice(records, PAGE_COUNT):
                keys.append(key)
                values.append(value)
                size += len(value)
                if size >= PAGE_BYTES:
                    break
        return keys, values

    def special_keys(self) -> tuple[list[bytes], list[bytes]]:
        """Return all keys that are not ordinary, ascending, and the digests of those whose records are damaged."""
        if self.special is None:
            return [], []
        with self.transaction.cursor(self.special) as cursor:
            records = [(digest, _unpacked(record)) for digest, record in cursor.iternext()]
        whole = sorted(record[0] for _, record in records if record is not None)
        return whole, [digest for digest, record in records if record is None]

    def load(self, name: bytes) -> tuple[bytes | None, bytes | None]:
        """Return an index object and its version, each None if absent."""
        if self.index is None:
            return None, None
        get = self.transaction.get
        return get(name, None, self.index), get(name + VERSION_END, None, self.index)

    def version(self, name: bytes) -> bytes | None:
        """Return the version of an index object, or None."""
        return self.transaction.get(name + VERSION_END, None, self.index) if self.index is not None else None

    def store(self, name: bytes, data: bytes, version: bytes) -> None:
        """Write an index object and its version; the database exists."""
        self.transaction.put(name, data, db=self.index)
        self.transaction.put(name + VERSION_END, version, db=self.index)

    def remove(self, name: bytes) -> None:
        """Remove an index object and its version; the database exists."""
        self.transaction.delete(name, db=self.index)
        self.transaction.delete(name + VERSION_END, db=self.index)

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending."""
        if self.index is None:
            return []
        with self.transaction.cursor(self.index) as cursor:
            names = cursor.iternext(keys=True, values=False)
            return [name.decode() for name in names if not name.endswith(VERSION_END)]

    def _get_special(self, key: bytes) -> bytes | Unreadable | None:
        record = self.transaction.get(_digest_key(key), None, self.special) if self.special is not None else None
        if record is None:
            return None
        found = _unpacked(record)
        return found[1] if found is not None and found[0] == key else Unreadable(DAMAGED)


def _move_after(cursor: Any, last: bytes | None) -> None:
    """Move a cursor to the first record after the key `last`; to the first one of all if there is none."""
    if last is None:
        cursor.first()
    elif cursor.set_range(last) and cursor.key() == last:
        cursor.next()


def are_ordinary(keys: Sequence[bytes]) -> bool:
    """Whether LMDB accepts all of these keys as they are."""
    sizes = set(map(len, keys))
    return not sizes or (min(sizes) > 0 and max(sizes) <= KEY_BYTES_MAX)


def parts(keys: Sequence[bytes], between: Sequence[bytes]) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield ascending `keys` as slices, each with the key of `between` that follows it, if any.

    >>> list(parts([b"a", b"c"], [b"b"]))
    [(0, 1, b'b'), (1, 2, None)]
    """
    cuts = [0, *(bisect_left(keys, key) for key in between), len(keys)]
    for (start, stop), key in zip(pairwise(cuts), [*between, None], strict=True):
        yield start, stop, key


def _digest_key(key: bytes) -> bytes:
    return digest_values([key])[0]


def _unpacked(record: bytes) -> tuple[bytes, bytes] | None:
    """Return the key and the value in a record of a special key; None if it is damaged."""
    stop = LENGTH_BYTES + int.from_bytes(record[:LENGTH_BYTES], "little")
    return (record[LENGTH_BYTES:stop], record[stop:]) if LENGTH_BYTES <= stop <= len(record) else None
