"""Scans, beside the cheapest bare client that reads the same keys and values.

`scan` is the listing of both storages alone, with the digests of all values; `run` is a whole run that compares them
with what the last scan saw, and finds nothing; `first contact` is one of two storages without an index that hold the
same but for a hundred values. The bare client reads both sides in turn. kvsync does so, too, unless both are servers:
those it scans at the same time.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

import kvsync
import workload
from kvsync.native import Page
from kvsync.types import ANY
from measure import FULL, Line, Report, Timing, in_turn, in_turn_prepared
from rivals import Bare, BareLmdb, BarePostgres, BareRedis, BareSqlite, Make, Place, places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.storages import Storage

KEYS = {"sqlite": 1_000_000, "redis": 1_000_000, "postgres": 300_000, "lmdb": 300_000, "dict": 1_000_000}
SMOKE_KEYS = 10_000
BARS = {"sqlite": 1.5, "redis": 1.3, "postgres": 1.4, "lmdb": 2.5, "dict": 2.0}
CONTACT_BARS = {"sqlite": 2.5, "redis": 2.0, "postgres": 3.0, "lmdb": 8.0, "dict": 6.0}
DIFFERENT_COUNT = 100
ROUNDS = 5 if FULL else 2
PAGE_COUNT = 1_000


class BareDict(Bare):
    """A dict: its keys in order, and the value of each."""

    def __init__(self, store: dict[str, bytes]) -> None:
        self.store = store

    def write(self, values: dict[str, bytes]) -> None:
        self.store.update(values)

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        return {key: self.store[key] for key in keys}

    def close(self) -> None:
        """Do nothing."""


def walk(bare: Bare) -> int:
    """Read all keys and values of a place, and keep none; return how many there were."""
    return _WALKS[type(bare)](bare)


def _walk_sqlite(bare: BareSqlite) -> int:
    count = 0
    cursor = bare.connection.execute("SELECT key, value FROM kv ORDER BY key")
    while rows := cursor.fetchmany(PAGE_COUNT):
        count += len(rows)
    return count


def _walk_redis(bare: BareRedis) -> int:
    """SCAN, then MGET of each page."""
    count, cursor = 0, -1
    while cursor:
        cursor, names = bare.client.scan(max(cursor, 0), f"{bare.prefix}*", PAGE_COUNT)
        count += len(bare.client.mget(names)) if names else 0
    return count


def _walk_postgres(bare: BarePostgres) -> int:
    """A cursor of the server, a page at a time."""
    count = 0
    with bare.connection.transaction(), bare.connection.cursor("walk", binary=True) as cursor:
        cursor.execute(f"SELECT key, value FROM {bare.table} ORDER BY key")  # noqa: S608 - a schema of our own
        while rows := cursor.fetchmany(PAGE_COUNT):
            count += len(rows)
    return count


def _walk_lmdb(bare: BareLmdb) -> int:
    environment, database = bare.opened
    with environment.begin() as transaction, transaction.cursor(database) as cursor:
        last = deque(enumerate(cursor, 1), maxlen=1)
    return last[0][0]


def _walk_dict(bare: BareDict) -> int:
    store = bare.store
    return sum(1 for key in sorted(store) if store[key] is not None)


_WALKS: dict[type[Bare], Callable[..., int]] = {
    BareSqlite: _walk_sqlite,
    BareRedis: _walk_redis,
    BarePostgres: _walk_postgres,
    BareLmdb: _walk_lmdb,
    BareDict: _walk_dict,
}


def list_all(storage: Storage) -> int:
    """List a storage; return how many keys it has."""
    return sum(len(page) if isinstance(page, Page) else len(page[0]) for page in storage.scan())


def scanning_run(source: Storage, target: Storage) -> None:
    """Sync, and see that nothing was to be done."""
    result = kvsync.sync(source, target, scan=True)
    assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))


@contextmanager
def makers(kind: str) -> Iterator[Make]:
    """Give a maker of places of a kind."""
    if kind != "dict":
        with places(kind) as make:
            yield make
        return

    def make_dict() -> Place:
        return Place(workload.new_dict(), BareDict({}))

    yield make_dict


@pytest.mark.parametrize("kind", KEYS)
def test_scan_without_changes(report: Report, kind: str) -> None:
    """Time the listing of both sides, and a whole run that finds nothing to do; bare reads have places of their own."""
    count = KEYS[kind] if FULL else SMOKE_KEYS
    values = workload.values(count)
    with makers(kind) as make:
        source, target = (make().storage for _ in range(2))
        kvsync.sync(source, target, changes=workload.puts(values))
        bares = [make().bare for _ in range(2)]
        for bare in bares:
            bare.write(values)
        works: dict[str, Callable[[], object]] = {
            "bare": lambda: [walk(bare) for bare in bares],
            "scan": lambda: [list_all(storage) for storage in (source, target)],
            "run": partial(scanning_run, source, target),
        }
        for work in works.values():
            assert work() in ([count, count], None)
        timings = in_turn(works, ROUNDS)
    tell(report, f"{kind}, {count:,} keys", timings, {"scan": None, "run": BARS[kind]})


@pytest.mark.parametrize("kind", KEYS)
def test_first_contact(report: Report, kind: str) -> None:
    """Time the first run of two storages that hold the same but for a hundred values, and have no index yet."""
    count = KEYS[kind] if FULL else SMOKE_KEYS
    values = workload.values(count)
    others = values | workload.picked(values, DIFFERENT_COUNT, part=1, salt="other")
    different = [key for key in values if values[key] != others[key]]
    with makers(kind) as make:
        sides = [(make().storage, held) for held in (values, others)]
        bares = [make().bare for _ in sides]
        for (storage, held), bare in zip(sides, bares, strict=True):
            workload.fill(storage, held)
            bare.write(held)

        def contact() -> Callable[[], None]:
            for storage, held in sides:
                storage.remove(storage.objects(), ANY)
                storage.write(different, [held[key] for key in different])
            return partial(first_run, *(storage for storage, _ in sides))

        works = {"bare": lambda: lambda: [walk(bare) for bare in bares], "first contact": contact}
        timings = in_turn_prepared(works, ROUNDS)
    tell(report, f"{kind}, {count:,} keys", timings, {"first contact": CONTACT_BARS[kind]})


def first_run(source: Storage, target: Storage) -> None:
    """Sync for the first time, and see that only what differs moves."""
    result = kvsync.sync(source, target, scan=True)
    assert result.pushed + result.pulled == DIFFERENT_COUNT


def tell(report: Report, work: str, timings: dict[str, Timing], bars: dict[str, float | None]) -> None:
    """Report how ours compare with the bare read, in the middle round."""
    bare = timings["bare"]
    detail = {name: {"best": timing.best, "median": timing.median} for name, timing in timings.items()}

    def add(what: str, value: float, unit: str = "x", bar: float | None = None) -> None:
        report.add(Line("scan", work, what, value, unit, bar, detail=detail))

    for name, limit in bars.items():
        timing = timings[name]
        add(f"{name}, time", timing.median, "s")
        add(f"{name} / bare read", timing.median / bare.median, bar=limit if FULL else None)
        add(f"{name}, the same of our processor time", timing.cpu / bare.cpu)
