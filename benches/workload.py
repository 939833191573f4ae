"""Values to sync, storages to sync them between, and the bare copy that a sync is held against."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kvsync import Put
from kvsync.digesting import BATCH_COUNT
from kvsync.storages import Storage, open_storage
from kvsync.storages.counted import CountedStorage
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from kvsync.types import Expectation, Stored, Version

Make = Callable[[], Storage]
"""Makes a new, empty storage."""


def values(count: int, *, salt: str = "", seed: int = 7) -> dict[str, bytes]:
    """Return `count` small values, of 16 to 100 bytes, by key; another salt gives other values."""
    chance = random.Random(f"{seed}{salt}")
    block = chance.randbytes(1 << 16)
    found = {}
    for i in range(count):
        at = chance.randrange(len(block) - 100)
        found[f"user/{i:08d}/state"] = i.to_bytes(8, "little") + block[at : at + 8 + i % 85]
    return found


def picked(store: dict[str, bytes], count: int, *, part: int, salt: str) -> dict[str, bytes]:
    """Return new values for `count` keys of `store`, spread evenly; other parts have other keys."""
    keys = list(store)
    step = len(keys) // count
    fresh = values(count, salt=salt).values()
    return dict(zip(keys[part % step :: step], fresh, strict=False))


def puts(store: dict[str, bytes]) -> list[Put]:
    """Return the changes that a caller of `sync` makes of some values."""
    return [Put(key, value) for key, value in store.items()]


def batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut keys into batches as large as kvsync's own."""
    for start in range(0, len(keys), BATCH_COUNT):
        yield keys[start : start + BATCH_COUNT]


def copy(source: Storage, target: Storage, keys: Sequence[str]) -> None:
    """Copy some values, and do nothing else: no index, no lease, no check."""
    for batch in batches(keys):
        target.write(batch, cast("list[bytes]", source.read(batch)))


def fill(storage: Storage, store: dict[str, bytes]) -> None:
    """Write some values."""
    for batch in batches(list(store)):
        storage.write(batch, [store[key] for key in batch])


def contents(storage: Storage, keys: Sequence[str]) -> list[object]:
    """Return the values of `keys`."""
    return [value for batch in batches(keys) for value in storage.read(batch)]


def new_dict() -> Storage:
    """Return a new dict as a storage."""
    return MappingStorage({})


@contextmanager
def databases() -> Iterator[Make]:
    """Give a maker of new SQLite databases; all of them are removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="kvsync-bench-"))
    numbers = count()
    opened: list[Storage] = []

    def make() -> Storage:
        storage, _ = open_storage(f"sqlite:///{folder}/{next(numbers)}.db")
        opened.append(storage)
        return storage

    try:
        yield make
    finally:
        for storage in opened:
            storage.close()
        shutil.rmtree(folder)


class WeighedStorage(CountedStorage):
    """Counts the bytes of index objects too, read and written."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.index_bytes = 0

    def load(self, name: str) -> Stored | None:
        """Weigh what is read."""
        found = super().load(name)
        self.index_bytes += len(found.data) if found else 0
        return found

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Weigh what is read."""
        found = super().load_ranges(name, ranges)
        self.index_bytes += sum(map(len, found or ()))
        return found

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Weigh what is written."""
        self.index_bytes += len(data)
        return super().store(name, data, expect)
