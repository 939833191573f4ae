"""What is special about LMDB: one environment a process, long keys, full maps, and databases of others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import lmdb
import pytest
from storage_stories import (
    held_lease_is_reported_at_once,
    is_made_equal_with_a_dict,
    path_goes_on_meaning_the_same,
    reads_as_empty,
    transactions_do_not_nest,
)

import kvsync
from kvsync import Put
from kvsync.digesting import BATCH_BYTES, read_batches
from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages import open_storage
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.lmdb import LmdbStorage, open_url, parse_size
from kvsync.storages.lmdb.database import Database
from kvsync.storages.lmdb.environment import SharedEnvironment
from kvsync.storages.lmdb.names import Names
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY, Skipped, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = [*("", "x" * 512, "x" * 100_000, "é" * 256, "b" * 600), "\U0010ffff" * 200]


@pytest.fixture
def opening() -> Iterator[Callable[..., LmdbStorage]]:
    """Give a function that opens a storage, which the fixture closes."""
    with ExitStack() as stack:

        def open_one(place: Any, **options: Any) -> LmdbStorage:
            is_url = isinstance(place, str) and place.startswith("lmdb:")
            return stack.enter_context(closing(open_url(place) if is_url else LmdbStorage(place, **options)))

        yield open_one


@pytest.mark.parametrize(
    "url",
    [
        "lmdb://host/dir",
        "lmdb:///",
        "lmdb:///a?map_size=many",
        "lmdb:///a?map_size=0",
        "lmdb:///a?map_size=-1",
        "lmdb:///a?map_size=1X",
        "lmdb:///a?map_size=9999999P",
        "lmdb:///a?table=kv",
        "lmdb:///a?db=.kvsync/index/kv",
        "lmdb:///a?db=" + "x" * 401,
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_storage(url)
    assert caught.value.storage == url


def test_sizes() -> None:
    assert [parse_size(text) for text in ("1", "4K", "4KiB", "1g", "2 TB")] == [1, 4096, 4096, 1 << 30, 2 << 40]


def test_paths_are_as_for_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_url("lmdb:///sub/rel"), open_url(f"lmdb:///{tmp_path}/sub/rel?db=kv")
    assert relative.identity == absolute.identity
    assert relative.write(["a"], [b"1"]).refused == ()
    assert absolute.read(["a"]) == [b"1"]
    assert sorted(os.listdir(tmp_path / "sub/rel")) == ["data.mdb", "kvsync.lock", "lock.mdb"]
    other = open_url("lmdb:///sub/rel?db=other")
    assert other.identity != relative.identity
    for storage in (relative, absolute, other):
        storage.close()


def test_a_relative_path_is_that_of_the_time_of_its_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path_goes_on_meaning_the_same("lmdb:///", tmp_path, monkeypatch)


def test_an_environment_of_others_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own path is relative to where it was opened; found elsewhere, its lease would exclude nobody."""
    monkeypatch.chdir(tmp_path)
    with lmdb.open("e", max_dbs=8) as environment, closing(LmdbStorage(environment)) as handed:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        version = handed.store("lease", b"1", ABSENT)
        assert "kvsync.lease" in os.listdir(tmp_path / "e")
        with closing(LmdbStorage(tmp_path / "e")) as other:
            assert other.load("lease") == (b"1", version)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("kvsync.storages.extras.import_module", refuse)
    with pytest.raises(UsageError, match=r"pip install 'kvsync\[lmdb\]'"):
        open_storage("lmdb:///a")


def test_only_a_write_creates_the_environment(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path / "a")
    reads_as_empty(storage)
    assert os.listdir(tmp_path) == []
    storage.write(["x"], [b"1"])
    assert os.listdir(tmp_path) == ["a"]


def test_reading_makes_no_database(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    with lmdb.open(str(tmp_path), max_dbs=2) as environment:
        environment.open_db(b"theirs")
    storage = opening(tmp_path)
    assert storage.read(["x"]) == [None]
    assert listing(storage) == {}
    storage.delete(["x"], [None])
    storage.remove(["lease"], ANY)
    assert storage.objects() == []
    storage.close()
    with lmdb.open(str(tmp_path), max_dbs=2) as environment:
        assert environment.dbs() == [b"theirs"]


def test_what_another_process_made_is_read(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    """LMDB gives a lasting handle only to a writer: a storage that only reads has to do without."""
    first = opening(tmp_path)
    first.write(["a", "x" * 600], [b"1", b"2"])
    version = first.store("manifest", b"M", ABSENT)
    first.close()
    second = opening(tmp_path)
    assert second.load("manifest") == (b"M", version)
    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(second.read, ["a", "x" * 600]) for _ in range(200)]
        assert all(read.result() == [b"1", b"2"] for read in reads)
    assert list(listing(second)) == ["a", "x" * 600]
    assert second.objects() == ["manifest"]
    second.write(["b"], [b"3"])
    assert second.read(["a", "b"]) == [b"1", b"3"]


def test_keys_that_lmdb_cannot_hold_are_held(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path)
    keys = [*LONG, *(f"{letter}{number}" for letter in "abxyz\U0010ffff" for number in range(3)), "x" * 511]
    values = [key.encode() * 2 for key in keys]
    assert storage.write(keys, values).refused == ()
    assert storage.read(keys) == values
    tokens = listing(storage)
    assert tokens == dict(zip(keys, digest_values(values), strict=True))
    written = storage.write(LONG, [b"new"] * len(LONG), [tokens[LONG[0]], None, *(tokens[key] for key in LONG[2:])])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [(LONG[1], True)]
    assert storage.read(LONG) == [b"new", values[1], *[b"new"] * (len(LONG) - 2)]
    refused = storage.delete(LONG, [tokens[LONG[0]], *[None] * (len(LONG) - 1)]).refused
    assert [refusal.key for refusal in refused] == LONG
    assert storage.delete([*LONG, "none" * 200]).refused == ()
    assert sorted(listing(storage)) == sorted(set(keys) - set(LONG))


def test_lone_surrogates_are_refused(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path)
    written = storage.write(["ok", "\ud800"], [b"1", b"2"])
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("\ud800", False)]
    assert storage.read(["\ud800", "ok"]) == [None, b"1"]
    assert storage.delete(["\ud800", "ok"]).refused == ()
    assert listing(storage) == {}


def test_pages_of_a_scan(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path)
    keys = [f"{number:06d}" for number in range(12_000)] + ["y" * 511, "y" * 512, "z"]
    storage.write(keys, [b"1"] * len(keys))
    storage.write(["000100", "z"], [bytes(10 << 20)] * 2)
    assert list(listing(storage)) == keys
    seen: list[str] = []
    for some, _ in storage.scan():
        seen += some
        storage.delete(["006000", "y" * 512])  # a scan goes on from where it was
    assert seen == [key for key in keys if key not in {"006000", "y" * 512}]


def test_a_key_that_is_no_text_is_named_and_stops_nothing(tmp_path: Path) -> None:
    """One such key failed the whole scan, and so every run."""
    with lmdb.open(str(tmp_path), max_dbs=1) as environment, environment.begin(write=True) as transaction:
        for key in (b"\xff\xfe", b"a", b"z"):
            transaction.put(key, b"1", db=environment.open_db(b"kv", txn=transaction))
    with closing(LmdbStorage(tmp_path)) as storage:
        assert list(listing(storage)) == ["a", "z"]
        assert storage.skipped == (Skipped("\\xff\\xfe", "its name is not UTF-8, as a key is", harmless=False),)
    data: dict[str, bytes] = {"mine": b"2"}
    result = kvsync.sync(f"lmdb:///{tmp_path}", data, scan=True)
    assert [(entry.key, entry.side) for entry in result.unreadable] == [("\\xff\\xfe", "source")]
    assert (result.pushed, result.pulled) == (2, 1)


def test_a_record_that_another_program_damaged_stops_nothing(
    tmp_path: Path, opening: Callable[..., LmdbStorage]
) -> None:
    """The scan failed, and so every run; the key was named by no error."""
    data = {"a": b"1", "x" * 600: b"1", "y" * 600: b"1"}
    kvsync.sync(data, f"lmdb:///{tmp_path}", scan=True)
    with lmdb.open(str(tmp_path), max_dbs=8) as environment, environment.begin(write=True) as transaction:
        special = environment.open_db(b".kvsync/long/kv", txn=transaction)
        transaction.put(digest_values([b"x" * 600])[0], b"\xff", db=special)
    storage = opening(tmp_path)
    assert list(listing(storage)) == ["a", "y" * 600]
    assert [entry.harmless for entry in storage.skipped] == [False]
    assert isinstance(storage.read(["x" * 600])[0], Unreadable)
    assert storage.sizes(["x" * 600, "y" * 600]) == [None, 1]
    (token,) = digest_values([b"1"])
    for expect in (None, token):
        assert storage.write(["x" * 600], [b"2"], [expect]).refused[0].changed
        assert storage.delete(["x" * 600], [expect]).refused[0].changed
    result = kvsync.sync(data, storage, scan=True)
    assert "x" * 600 in [entry.key for entry in result.unreadable]
    assert data["x" * 600] == b"1"
    storage.write(["x" * 600], [b"3"])
    assert storage.read(["x" * 600]) == [b"3"]


def test_a_value_whose_key_became_the_name_of_a_database_is_no_delete(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=8) as environment, environment.begin(write=True) as transaction:
        for key in (b"a", b"b", b"c", b"d"):
            transaction.put(key, b"1")
    data: dict[str, bytes] = {}
    url = f"lmdb:///{tmp_path}?db="
    kvsync.sync(url, data, scan=True)
    with lmdb.open(str(tmp_path), max_dbs=8) as environment:
        with environment.begin(write=True) as transaction:
            transaction.delete(b"a")
        environment.open_db(b"a")
    result = kvsync.sync(url, data, scan=True)
    assert [(entry.key, entry.reason) for entry in result.unreadable] == [
        ("a", "it is the name of a database of this environment")
    ]
    assert data["a"] == b"1"
    with closing(open_url(url)) as storage:
        assert storage.delete(["a"]).refused[0].key == "a"
        assert list(listing(storage)) == ["b", "c", "d"]
        assert [(entry.name, entry.harmless) for entry in storage.skipped] == [("a", True)]


def test_values_of_others_in_the_unnamed_database(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    with lmdb.open(str(tmp_path), max_dbs=2) as environment:
        environment.open_db(b"sub")
        with environment.begin(write=True) as transaction:
            transaction.put(b"theirs", b"1")
    storage = opening(tmp_path)
    for call in (lambda: storage.read(["theirs"]), lambda: storage.write(["a"], [b"1"]), lambda: listing(storage)):
        with pytest.raises(UsageError, match=r"\?db=") as caught:
            call()
        assert caught.value.storage == storage.name
    assert opening(f"lmdb:///{tmp_path}?db=kv").read(["theirs"]) == [None]
    unnamed = opening(f"lmdb:///{tmp_path}?db=")
    assert list(listing(unnamed)) == ["theirs"]
    unnamed.store("manifest", b"M", ABSENT)
    written = unnamed.write(["sub", ".kvsync/index/", "b", ""], [b"1"] * 4)
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [
        ("sub", False),
        (".kvsync/index/", False),
    ]
    assert [refusal.key for refusal in unnamed.delete(["sub", ".kvsync/index/"]).refused] == ["sub", ".kvsync/index/"]
    database = Unreadable("it is the name of a database of this environment")
    assert unnamed.read(["sub", ".kvsync/index/", "b", ""]) == [database, database, b"1", b"1"]
    assert list(listing(unnamed)) == ["", "b", "theirs"]
    assert unnamed.load("manifest") is not None
    assert opening(tmp_path, database="sub").read(["theirs"]) == [None]


@pytest.mark.parametrize("kind", ["dupsort", "integerkey", "reverse_key"])
def test_databases_that_do_not_fit(tmp_path: Path, kind: str, opening: Callable[..., LmdbStorage]) -> None:
    with lmdb.open(str(tmp_path), max_dbs=2) as environment:
        environment.open_db(b"kv", None, kind == "reverse_key", kind == "dupsort", True, kind == "integerkey")
    storage = opening(tmp_path)
    for call in (lambda: storage.read(["a"]), lambda: storage.write(["a"], [b"1"])):
        with pytest.raises(UsageError, match=kind):
            call()


def test_a_full_map_says_so_and_a_larger_one_goes_on(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    data: dict[str, bytes] = {}
    changes = [Put(f"{number:05d}", bytes(1000)) for number in range(2000)]
    with pytest.raises(StorageError, match=r"larger map_size="):
        kvsync.sync(data, f"lmdb:///{tmp_path}/a?map_size=1M", changes=changes)
    storage = opening(tmp_path / "a", map_size=1 << 20)
    assert listing(storage) == {}
    with pytest.raises(StorageError, match="failed before this call"), storage.transaction():
        storage.write(["a"], [b"1"])
        with pytest.raises(StorageError, match=r"larger map_size="):
            storage.write(["b"], [bytes(2 << 20)])
        storage.write(["c"], [b"1"])
    assert listing(storage) == {}
    assert storage.write(["a"], [b"1"]).refused == ()
    storage.close()
    assert kvsync.sync(data, f"lmdb:///{tmp_path}/a?map_size=64M").pushed == 2000
    assert len(listing(opening(tmp_path / "a"))) == 2001


def test_what_is_no_environment(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    (tmp_path / "file").write_bytes(b"no environment" * 1000)
    for place, text in (("file", "not an LMDB environment"), ("file/sub", "check the path")):
        with pytest.raises(StorageError, match=text) as caught:
            opening(tmp_path / place).write(["a"], [b"1"])
        assert caught.value.storage is not None


def test_one_environment_that_somebody_else_opened(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    environment = lmdb.open(str(tmp_path), max_dbs=8)
    with pytest.raises(StorageError, match="already open"):
        opening(tmp_path).read(["a"])
    handed = opening(environment)
    handed.write(["a"], [b"1"])
    by_path = opening(tmp_path)  # now it is known
    assert by_path.read(["a"]) == [b"1"]
    handed.close()
    by_path.close()
    assert environment.stat()["entries"] == 3
    environment.close()


def test_closed_is_closed_and_an_open_transaction_is_undone(
    tmp_path: Path, opening: Callable[..., LmdbStorage]
) -> None:
    storage, other = opening(tmp_path), opening(tmp_path)
    storage.write(["a"], [b"1"])
    transaction = storage.transaction()
    transaction.__enter__()
    storage.write(["a"], [b"2"])
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        storage.read(["a"])
    with pytest.raises(StorageError, match="closed"):
        transaction.__exit__(None, None, None)
    assert other.read(["a"]) == [b"1"]
    assert other.write(["a"], [b"3"]).refused == ()


def test_transactions_do_not_nest(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    transactions_do_not_nest(opening(tmp_path))


def test_two_databases_of_one_environment(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    """LMDB has one writer: what would wait for itself for ever is an error, and readers wait for nobody."""
    one, two = opening(tmp_path, database="one"), opening(tmp_path, database="two")
    one.store("manifest", b"1", ABSENT)
    assert two.objects() == []
    with one.transaction():
        one.write(["a"], [b"1"])
        with pytest.raises(StorageError, match="busy"):
            two.write(["a"], [b"2"])
        assert two.read(["a"]) == [None]
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(one.read, ["a"]).result(10) == [None]
            assert pool.submit(two.read, ["a"]).result(10) == [None]
        assert one.read(["a"]) == [b"1"]
    two.write(["a"], [b"2"])
    assert (one.read(["a"]), two.read(["a"])) == ([b"1"], [b"2"])
    urls = [f"lmdb:///{tmp_path}?db={name}" for name in ("three", "four", "five")]
    changes = [Put(f"{number:05d}", bytes(100)) for number in range(10_000)]
    kvsync.sync(urls[0], urls[1], changes=changes)
    assert kvsync.sync(urls[1], urls[2]).pushed == 10_000
    assert len(listing(opening(urls[2]))) == 10_000


def test_who_looks_at_a_held_lease_waits_for_nobody(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path)
    version = storage.store("lease", b"1", ABSENT)
    with ThreadPoolExecutor(1) as pool, storage.transaction():
        second = storage.store("lease", b"2", version)
        for expect in (ABSENT, version, b"other"):
            with pytest.raises(ObjectMismatch):
                pool.submit(storage.store, "lease", b"x", expect).result(5)
        assert pool.submit(storage.load, "lease").result(5) == (b"2", second)


@pytest.mark.parametrize(("key", "value"), [(b"manifest", None), (b"manifest\0", None), (b"manifest\0", b"short")])
def test_an_object_of_which_somebody_took_a_part_is_named(
    tmp_path: Path, opening: Callable[..., LmdbStorage], key: bytes, value: bytes | None
) -> None:
    """It lies beside its version, and neither is there alone."""
    environment = lmdb.open(str(tmp_path), max_dbs=8)
    storage = opening(environment)
    storage.store("manifest", b"M", ABSENT)
    with environment.begin(write=True) as transaction:
        database = environment.open_db(b".kvsync/index/kv", txn=transaction)
        transaction.delete(key, db=database)
        if value is not None:
            transaction.put(key, value, db=database)
    with pytest.raises(StorageError, match="changed by another program"):
        storage.load("manifest")
    with pytest.raises(ObjectMismatch):
        storage.store("manifest", b"X", ABSENT)
    environment.close()


def _in_child(storage: LmdbStorage, answers: Any) -> None:
    answers.put(storage.read(["parent", "open"]))
    storage.write(["child"], [b"1"])
    answers.put(storage.read(["parent", "child"]))
    storage.close()


def test_a_forked_child_has_an_environment_of_its_own(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path)
    storage.write(["parent"], [b"1"])
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with storage.transaction():
        storage.write(["open"], [b"1"])
        child = context.Process(target=_in_child, args=(storage, answers))
        child.start()
        assert answers.get(timeout=30) == [b"1", None]  # it waits for our transaction to write
    assert answers.get(timeout=30) == [b"1", b"1"]
    child.join(30)
    assert child.exitcode == 0
    assert storage.read(["parent", "child", "open"]) == [b"1"] * 3
    assert storage.write(["after"], [b"1"]).refused == ()


def test_a_dict_and_an_environment_are_made_equal(tmp_path: Path) -> None:
    url = f"lmdb:///{tmp_path}/a"
    data = is_made_equal_with_a_dict(url, [f"user/{number}" * (1 + 99 * (number % 7 == 0)) for number in range(500)])
    before = (tmp_path / "a/data.mdb").read_bytes()
    refresh = kvsync.sync(data, url)
    assert (refresh.pushed, refresh.pulled) == (0, 0)
    assert (tmp_path / "a/data.mdb").read_bytes() == before


def test_a_scan_finds_what_applications_wrote(tmp_path: Path) -> None:
    data: dict[str, bytes] = {}
    url = f"lmdb:///{tmp_path}?db="
    with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as transaction:
        for number in range(50):
            transaction.put(b"k%d" % number, b"v%d" % number)
    assert kvsync.sync(data, url, scan=True).pulled == 50
    with lmdb.open(str(tmp_path), max_dbs=4) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"k1", b"new")
        transaction.delete(b"k2")
    assert kvsync.sync(data, url, scan=True).pulled == 2
    assert (data["k1"], "k2" in data) == (b"new", False)
    refresh = kvsync.sync(data, url, scan=True)
    assert (refresh.pushed, refresh.pulled) == (0, 0)


def test_a_held_lease_is_reported_at_once(tmp_path: Path) -> None:
    held_lease_is_reported_at_once(f"lmdb:///{tmp_path}")


def test_every_commit_is_durable_and_the_lease_is_none(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    storage = opening(tmp_path / "e")
    storage.write(["a"], [b"1"])
    shared: Any = storage._database._shared
    flags = shared.environment.flags()
    assert flags["metasync"]
    assert flags["sync"]
    assert not flags["writemap"]
    last = shared.environment.info()["last_txnid"]
    version = storage.store("lease", b"held", ABSENT)
    storage.remove(["lease"], storage.store("lease", b"held", version))
    assert shared.environment.info()["last_txnid"] == last


def test_a_process_that_stands_still_in_a_transaction_keeps_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB waits without an end, and not even Ctrl-C ends it."""
    monkeypatch.setattr("kvsync.storages.lmdb.environment.WAIT_SECONDS", 0.5)
    program = (
        "import sys, time\n"
        "from kvsync.storages.lmdb import LmdbStorage\n"
        "storage = LmdbStorage(sys.argv[1])\n"
        "with storage.transaction():\n"
        "    storage.write(['a'], [b'1'])\n"
        "    print('there', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "e")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGSTOP)
        with closing(LmdbStorage(tmp_path / "e")) as storage:
            assert storage.read(["a"]) == [None]
            with pytest.raises(StorageError, match="another process"):
                storage.write(["b"], [b"2"])
            process.kill()
            process.wait()
            assert storage.write(["b"], [b"2"]).refused == ()
            assert storage.read(["a", "b"]) == [None, b"2"]


def test_order_of_writes(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    """Keys that come after all others are appended; whatever else comes, in whatever order, is written as well."""
    storage = opening(tmp_path)
    expected: dict[str, bytes] = {}
    for number, keys in enumerate(["bcd", "efg", "gh", "a", "zyx", "zzz", "yz", "{|}", "bcd", "~}~"]):
        values = [f"{number}{i}".encode() for i in range(len(keys))]
        assert storage.write(list(keys), values).refused == ()
        expected |= dict(zip(keys, values, strict=True))
        assert storage.read(list(expected)) == list(expected.values())
    assert list(listing(storage)) == sorted(expected)


def test_sizes_of_values(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    """Sizes are told of what is there, in a transaction of what it has written so far, too."""
    storage = opening(tmp_path)
    assert storage.sizes(["a"]) == [None]
    storage.write(["a", "b", LONG[1]], [b"1", b"", b"123"])
    assert storage.sizes(["b", "none", "a", LONG[1], LONG[2], "\ud800"]) == [0, None, 1, 3, None, None]
    assert storage.sizes(["b", "a"]) == [0, 1]
    with storage.transaction():
        storage.write(["a", "c"], [b"12", b"1234"])
        assert storage.sizes(["a", "c", "b", LONG[1]]) == [2, 4, 0, 3]
        storage.write(["d"], [b"5"])
        assert storage.sizes(["d", "none"]) == [1, None]
    assert storage.read(["a", "c", "d"]) == [b"12", b"1234", b"5"]


def test_large_values_are_digested_alone(tmp_path: Path, opening: Callable[..., LmdbStorage]) -> None:
    """Eight values of 32 MiB, guessed into one read, once took 256 MiB at a time."""
    storage = opening(tmp_path)
    size = BATCH_BYTES // 2 + 1
    storage.write(["a", "b", "c", "d"], [b"1", bytes(size), bytes(size), bytes(2 * size)])
    found = [
        (keys, [len(value) for value in values if isinstance(value, bytes)])
        for keys, values in read_batches(storage, list("abcd"))
    ]
    assert found == [(["a", "b"], [1, size]), (["c"], [size]), (["d"], [2 * size])]


def test_databases_that_are_just_being_made_are_no_values(tmp_path: Path) -> None:
    """LMDB counts them before anybody can see them: its newest meta page is written, and not yet flushed."""
    database = Database(lmdb, str(tmp_path), Names(), storage="x", map_size=1 << 20, given=None, assumed=True)
    with lmdb.open(str(tmp_path), max_dbs=8) as environment:

        class Ahead:
            def stat(self) -> dict[str, int]:
                return {"entries": 3}

            def __getattr__(self, name: str) -> Any:
                return getattr(environment, name)

        shared = SharedEnvironment(lmdb, Ahead(), str(tmp_path), closes=False)  # type: ignore[arg-type]
        database._check_assumed(shared)
