"""Buckets: S3 to S3 beside a bare concurrent copy, and how many requests that takes.

The bare copy is obstore's own interface with as many requests under way, once from a pool of threads and once from
`asyncio` behind a semaphore; the better of the two is the rival. A proxy in a process of its own adds the latency.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from servers.proxy import DroppingProxy
from servers.running import running
from servers.seaweed import ACCESS_KEY, BUCKET, REGION, SECRET_KEY

import kvsync
import workload
from bench_servers import values
from kvsync import Put
from kvsync.scan.splits import PARTS_MAX
from kvsync.storages import Storage, open_storage
from kvsync.storages.contract import has_splits
from kvsync.storages.counted import CountedStorage
from measure import FULL, Line, Report, in_turn, in_turn_prepared, seconds_of

VALUES = 2_000 if FULL else 200
ROUNDS = 3 if FULL else 1
LATENCY_SECONDS = 0.02
COPY_BAR = 1.25
LISTED = 100_000 if FULL else 10_000
LISTING_BAR = 0.15
ADOPTED = 5_000 if FULL else 200
REQUESTS_BAR = 10
IDLE_BAR = 2
TRIES = 6
"""Requests by which a first contact tries the conditions of two buckets."""
CONCURRENCY = 16

PROXY = """
import sys
from servers.proxy import DroppingProxy
with DroppingProxy(int(sys.argv[1]), delay_seconds=float(sys.argv[2]) / 2) as proxy:
    print(proxy.port, flush=True)
    sys.stdin.read()
"""

Work = Callable[[], object]


@contextmanager
def late(port: int, seconds: float) -> Iterator[int]:
    """Give a port behind which the server at `port` answers so many seconds later."""
    if not seconds:
        yield port
        return
    tests = Path(__file__).parent.parent / "tests"
    command = [sys.executable, "-c", PROXY, str(port), str(seconds)]
    with subprocess.Popen(command, cwd=tests, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate()


class Copies:
    """Copies of the same values between two new prefixes, ours and the rivals'."""

    numbers = count()

    def __init__(self, port: int, concurrency: int, size: int, *, stored: bool) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.concurrency = concurrency
        self.stored = stored
        self.values = values(size)
        self.store = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )

    def prefixes(self) -> tuple[str, str]:
        """Return two new prefixes; the source's has the values, if they are stored before."""
        source, target = (f"bench{next(self.numbers)}" for _ in range(2))
        if self.stored:
            self._threads(lambda key: self._put(source, key, self.values[key]))
        return source, target

    def open(self, prefix: str) -> Storage:
        """Return ours at a prefix."""
        url = running("s3").url_of(prefix, endpoint=self.endpoint, concurrency=str(self.concurrency))
        return open_storage(url)[0]

    def sync(self) -> Work:
        """Return a first sync."""
        source, target = map(self.open, self.prefixes())
        if self.stored:
            kvsync.commit(source, [Put(key) for key in self.values])
        changes = [] if self.stored else workload.puts(self.values)

        def work() -> None:
            result = kvsync.sync(source, target, changes=changes)
            assert (result.pushed, result.pulled) == (len(self.values), 0)

        return work

    def threads(self) -> Work:
        """Return the copy from a pool of threads."""
        source, target = self.prefixes()

        def one(key: str) -> None:
            value = self._get(source, key) if self.stored else self.values[key]
            if not self.stored:
                self._put(source, key, value)
            self._put(target, key, value)

        return partial(self._threads, one)

    def tasks(self) -> Work:
        """Return the copy from `asyncio`."""
        source, target = self.prefixes()

        async def one(key: str, turn: asyncio.Semaphore) -> None:
            async with turn:
                if self.stored:
                    value = bytes(await (await obstore.get_async(self.store, f"{source}/{key}")).bytes_async())
                else:
                    value = self.values[key]
                    await obstore.put_async(self.store, f"{source}/{key}", value)
                await obstore.put_async(self.store, f"{target}/{key}", value)

        async def every() -> None:
            turn = asyncio.Semaphore(self.concurrency)
            await asyncio.gather(*(one(key, turn) for key in self.values))

        return lambda: asyncio.run(every())

    def check(self) -> None:
        """See that each of them leaves all values in both places."""
        for make in (self.sync, self.threads, self.tasks):
            make()()
            last = next(self.numbers)
            for number in (last - 2, last - 1):
                prefix = f"bench{number}"
                assert [self._get(prefix, key) for key in self.values] == list(self.values.values())

    def _threads(self, one: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(self.concurrency) as pool:
            list(pool.map(one, self.values))

    def _get(self, prefix: str, key: str) -> bytes:
        return bytes(self.store.get(f"{prefix}/{key}").bytes())

    def _put(self, prefix: str, key: str, value: bytes) -> None:
        self.store.put(f"{prefix}/{key}", value)


CASES = {
    "": (0.0, CONCURRENCY, VALUES),
    ", 20 ms away": (LATENCY_SECONDS, CONCURRENCY, VALUES),
    ", 1 at once": (0.0, 1, VALUES // 4),
    ", 64 at once": (0.0, 64, VALUES),
    ", 20 ms away, 1 at once": (LATENCY_SECONDS, 1, VALUES // 20),
    ", 20 ms away, 64 at once": (LATENCY_SECONDS, 64, VALUES),
}


@pytest.mark.parametrize("stored", [False, True], ids=["given", "stored"])
@pytest.mark.parametrize("case", CASES)
def test_copy(report: Report, case: str, *, stored: bool) -> None:
    """Time a first sync beside the better bare copy; the bar is on 16 requests at once."""
    seconds, concurrency, size = CASES[case]
    with late(running("s3").s3, seconds) as port:
        Copies(port, concurrency, min(size, 50), stored=stored).check()
        copies = Copies(port, concurrency, size, stored=stored)
        makers = {"ours": copies.sync, "threads": copies.threads, "asyncio": copies.tasks}
        timings = in_turn_prepared(makers, ROUNDS)
    work = f"s3, {size:,} {'stored' if stored else 'given'}{case}"
    detail = {name: {"best": timing.best, "median": timing.median} for name, timing in timings.items()}
    add = partial(Line, "bucket", work, detail=detail)
    ours, rivals = timings["ours"].best, (timings["threads"].best, timings["asyncio"].best)
    bar = COPY_BAR if FULL and concurrency == CONCURRENCY else None
    report.add(add("time", ours, "s"))
    report.add(add("ours / better bare copy", ours / min(rivals), "x", bar))
    report.add(add("ours / threads", ours / rivals[0], "x"))
    report.add(add("ours / asyncio", ours / rivals[1], "x"))


@contextmanager
def far_bucket(count: int) -> Iterator[Storage]:
    """Give a bucket of so many objects that can only be listed, 20 ms away."""
    command = [sys.executable, str(Path(__file__).with_name("listing_server.py")), str(count), str(LATENCY_SECONDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield open_storage(f"s3://listed/bench?endpoint={endpoint}&access_key_id=key&secret_access_key=secret")[0]
        process.communicate()


def test_listing(report: Report) -> None:
    """Time a listing in ranges, as a second scan makes it, beside a listing by one request after another."""
    keys = [f"{number:08}" for number in range(LISTED)]
    splits = keys[:: LISTED // PARTS_MAX][1:]
    with far_bucket(LISTED) as storage:
        assert has_splits(storage)

        def work(*splits: Sequence[str]) -> None:
            assert [key for some, _ in storage.scan(*splits) for key in some] == keys

        timings = in_turn({"single": work, "ranges": partial(work, splits)}, ROUNDS)
    single, ranges = timings["single"].median, timings["ranges"].median
    add = partial(Line, "bucket", f"s3, {LISTED:,} listed, 20 ms away")
    report.add(add("time in ranges", ranges, "s"))
    report.add(add("ranges / single listing", ranges / single, "x", LISTING_BAR if FULL else None))


def test_adoption(report: Report) -> None:
    """Count the values that are downloaded at a first contact of two buckets that have the same, one with a log."""
    server = running("s3")
    store = values(ADOPTED)
    known, new = (CountedStorage(open_storage(server.url_of(f"adopt{side}"))[0]) for side in "ab")
    for storage in (known, new):
        workload.fill(storage, store)
    kvsync.commit(known, scan=True)
    for storage in (known, new):
        storage.operations.clear()
    seconds = seconds_of(partial(kvsync.sync, known, new, scan=True, trust="etag"))
    reads = sum(storage.operations[method] for storage in (known, new) for method in ("read", "read_stream"))
    assert kvsync.sync(known, new, scan=True).committed == (0, 0)
    add = partial(Line, "bucket", f"s3, {ADOPTED:,} equal objects on both sides")
    report.add(add("reads of values with trust=etag", reads, "", 0))
    report.add(add("time", seconds, "s"))


def requests(first: DroppingProxy, second: DroppingProxy, work: Work) -> list[int]:
    """Return how many requests `work` made through each proxy."""
    before = first.exchanges, second.exchanges
    work()
    return [first.exchanges - before[0], second.exchanges - before[1]]


def tell(report: Report, work: str, counts: Sequence[int], moved: int, bar: int | None = REQUESTS_BAR) -> None:
    """Report the requests of a run."""
    add = partial(Line, "bucket", work)
    report.add(add("requests beyond 2 a moved value", sum(counts) - 2 * moved, "", bar))
    report.add(add("requests to the source", counts[0], ""))
    report.add(add("requests to the target", counts[1], ""))


def test_requests(report: Report) -> None:
    """Count the requests of runs."""
    server = running("s3")
    size = 200
    with DroppingProxy(server.s3) as one, DroppingProxy(server.s3) as two:

        def pair(number: int) -> tuple[Storage, Storage]:
            return tuple(  # type: ignore[return-value]
                open_storage(server.url_of(f"count{number}{side}", endpoint=f"http://127.0.0.1:{proxy.port}"))[0]
                for side, proxy in (("a", one), ("b", two))
            )

        def changed(count: int, version: str, start: int = 0) -> list[Put]:
            return workload.puts(dict(list(values(size, version).items())[start : start + count]))

        store = values(size)
        number = next(Copies.numbers)
        a, b = pair(number)
        given = partial(kvsync.sync, a, b, changes=workload.puts(store))
        bar = REQUESTS_BAR + TRIES
        tell(report, f"s3, first sync, {size} given, buckets not tried yet", requests(one, two, given), size, bar)
        versions = map(str, count(2))

        def kept_open() -> tuple[Storage, Storage]:
            return a, b

        processes: dict[str, Callable[[], tuple[Storage, Storage]]] = {
            "": kept_open,
            "opened anew, ": partial(pair, number),
        }
        for process, storages in processes.items():
            # Another process than the one that is counted is the last one to commit.
            run = partial(kvsync.sync, *storages(), changes=changed(100, next(versions)))
            tell(report, f"s3, {process}100 given", requests(one, two, run), 100)
            kvsync.commit(pair(number)[0], changed(100, next(versions)))
            tell(
                report, f"s3, {process}100 stored, one way", requests(one, two, partial(kvsync.sync, *storages())), 100
            )
            for start, storage in zip((0, 50), pair(number), strict=True):
                kvsync.commit(storage, changed(50, next(versions), start))
            tell(report, f"s3, {process}50 stored on each", requests(one, two, partial(kvsync.sync, *storages())), 100)
            kvsync.commit(pair(number)[1], changed(50, next(versions), 50))
            run = partial(kvsync.sync, *storages(), changes=changed(50, next(versions)))
            tell(report, f"s3, {process}50 given, 50 stored on the other", requests(one, two, run), 100)
            run = partial(kvsync.sync, *storages())
            tell(report, f"s3, {process}nothing to do", requests(one, two, run), 0, IDLE_BAR)
        kvsync.sync(*pair(number), changes=changed(100, next(versions)))
        run = partial(kvsync.sync, a, b, changes=changed(100, next(versions)))
        tell(report, "s3, another was there last, 100 given", requests(one, two, run), 100)
        kvsync.sync(a, b, scan=True)
        tell(
            report, "s3, a scan that finds nothing", requests(one, two, partial(kvsync.sync, a, b, scan=True)), 0, None
        )
        given = partial(kvsync.sync, *pair(next(Copies.numbers)), changes=workload.puts(store))
        tell(report, f"s3, first sync, {size} given", requests(one, two, given), size)
        a, b = pair(next(Copies.numbers))
        workload.fill(a, store)
        kvsync.commit(a, [Put(key) for key in store])
        tell(report, f"s3, first sync, {size} stored", requests(one, two, partial(kvsync.sync, a, b)), size)
        assert workload.contents(a, list(store)) == workload.contents(b, list(store))
