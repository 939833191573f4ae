"""Values that lost a conflict, kept in the storage that held them (docs/index-format.md, kind 5)."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from kvsync.errors import IndexDamagedError
from kvsync.index.objects import field_error, is_uint, pack, unpack
from kvsync.native import KIND_LOST, digest_values
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.types import Change

__all__ = ["LOST_PREFIX", "LostValue", "decode_lost", "drop_lost", "keep_lost", "kept_lost"]

LOST_PREFIX = "lost/"

BYTES_MAX: Final = 1 << 20
"""An object holds several values of up to this many bytes together, or a single larger one."""

FIELDS = ("key", "origin", "stamp", "flags", "digest", "value")
STAMP_DIGITS = 16


class LostValue(NamedTuple):
    """A value that lost a conflict, or that a restored one replaced: the change that it belonged to, and the value."""

    key: str
    origin: int
    stamp: int
    flags: int
    digest: bytes
    value: bytes

    def __repr__(self) -> str:
        """Return what it is, without the value."""
        return f"LostValue(key={self.key!r}, id={self.id!r})"

    @classmethod
    def of(cls, change: Change, value: bytes) -> LostValue:
        """Return what `change` set."""
        key, origin, stamp, flags, _, digest, _ = change
        return cls(key, origin, stamp, flags, digest, value)

    @property
    def id(self) -> str:
        """What names it among the lost values of its storage; ids ascend with time."""
        return f"{self.stamp:016x}-{self.origin:016x}-{self.digest[:4].hex()}"


def keep_lost(storage: Storage, values: Iterable[LostValue]) -> list[tuple[str, list[LostValue]]]:
    """Store values, many small ones in one object; return the name of each object, and what it holds.

    Raises:
        StorageError: the storage failed.
    """
    kept = []
    for batch in _batches(sorted(values, key=_age)):
        name, data = _sealed(batch)
        storage.store(name, data, ANY)
        kept.append((name, batch))
    return kept


def kept_lost(storage: Storage) -> Iterator[LostValue]:
    """Yield the values that are kept, each once, oldest first.

    Raises:
        IndexDamagedError: an object fails its checks; the values of the others were yielded before.
    """
    damage: IndexDamagedError | None = None
    waiting: list[tuple[str, LostValue]] = []
    last = ""
    # Objects ascend by the oldest value in each, so what is older than that waits for no other object.
    for name in [*storage.objects(), ""]:
        if name and not name.startswith(LOST_PREFIX):
            continue
        stamp = name.removeprefix(LOST_PREFIX)[:STAMP_DIGITS]
        while waiting and (not name or waiting[0][0][:STAMP_DIGITS] < stamp):
            lost_id, value = heappop(waiting)
            if lost_id != last:
                yield value
            last = lost_id
        there = storage.load(name) if name else None
        try:
            for value in decode_lost(there.data, name, storage.name) if there is not None else ():
                heappush(waiting, (value.id, value))
        except IndexDamagedError as error:
            damage = damage or error
    if damage is not None:
        raise damage


def drop_lost(storage: Storage, ids: set[str], before_write: Callable[[], None]) -> set[str]:
    """Remove values for good, wherever they are kept; return the ids of those that were there.

    What else an object holds is kept in a new one first. `before_write` is called before each write, to keep the lease.

    Raises:
        LockLostError: from `before_write`.
        StorageError: the storage failed.
    """
    dropped: set[str] = set()
    for name in storage.objects():
        there = storage.load(name) if name.startswith(LOST_PREFIX) else None
        if there is None:
            continue
        try:
            values = decode_lost(there.data, name, storage.name)
        except IndexDamagedError:  # it stays, and is told where somebody asks for it
            continue
        rest = [value for value in values if value.id not in ids]
        if len(rest) < len(values):
            before_write()
            keep_lost(storage, rest)
            storage.remove([name], ANY)
            dropped.update(ids.intersection(value.id for value in values))
    return dropped


def decode_lost(data: bytes, name: str, storage: str) -> list[LostValue]:
    """Read an object of kept values.

    Raises:
        IndexDamagedError: it fails its checks.
    """
    fields = unpack(KIND_LOST, data, (name, *FIELDS), storage)
    columns: list[Any] = [fields[field] for field in FIELDS]
    if not columns[0] or any(type(column) is not list or len(column) != len(columns[0]) for column in columns):
        raise field_error(storage, name, "fields")
    keys, origins, stamps, flags, digests, values = columns
    if not set(map(type, keys)) <= {str} or not set(map(type, values)) <= {bytes}:
        raise field_error(storage, name, "fields")
    if not all(map(is_uint, [*origins, *stamps, *flags])):
        raise field_error(storage, name, "numbers")
    if digest_values(values) != digests:
        raise field_error(storage, name, "values")
    if name != _name(columns):
        raise field_error(storage, name, "name")
    return list(map(LostValue, *columns))


def _age(value: LostValue) -> tuple[int, int]:
    return value.stamp, value.origin


def _batches(values: Iterable[LostValue]) -> Iterator[list[LostValue]]:
    batch: list[LostValue] = []
    size = 0
    for value in values:
        size += len(value.value)
        if batch and size > BYTES_MAX:
            yield batch
            batch, size = [], len(value.value)
        batch.append(value)
    if batch:
        yield batch


def _name(columns: Sequence[Sequence[Any]]) -> str:
    """Return the name of an object: the stamp of its first value, which is the oldest, and what it holds.

    Kept again, the same values have the same name, and no others have it.
    """
    _, _, stamps, *_ = columns
    described = msgpack.packb(columns[:-1], use_bin_type=True)
    return f"{LOST_PREFIX}{stamps[0]:016x}-{digest_values([described])[0][:16].hex()}"


def _sealed(values: Sequence[LostValue]) -> tuple[str, bytes]:
    """Return the name below `.kvsync/` and the bytes of the object."""
    columns = list(zip(*values, strict=True))
    name = _name(columns)
    return name, pack(KIND_LOST, {"name": name, **dict(zip(FIELDS, columns, strict=True))})
