"""What is special about PostgreSQL: URLs and TLS, tables of others, locks, lost connections, and secrets."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from servers.postgres import PASSWORD, SECURED, PostgresServer
from storage_stories import (
    held_lease_is_reported_at_once,
    is_made_equal_with_a_dict,
    transactions_do_not_nest,
    two_tables_have_an_index_each,
)

import kvsync
from kvsync import Delete, Put
from kvsync.errors import StorageError, UsageError
from kvsync.native import digest_values
from kvsync.storages import open_storage, redact
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.postgres import PostgresStorage, open_url
from kvsync.storages.postgres.names import Names
from kvsync.storages.postgres.rows import Rows
from kvsync.storages.postgres.url import locate
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT, ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KNOWN = {default.keyword.decode() for default in psycopg.pq.Conninfo.get_defaults()}


@pytest.fixture
def schema(postgres_server: PostgresServer) -> str:
    return postgres_server.schema()


@pytest.fixture
def url(postgres_server: PostgresServer, schema: str) -> str:
    return f"{postgres_server.url}?schema={schema}"


@pytest.fixture
def opening() -> Iterator[Callable[[str], PostgresStorage]]:
    """Give a function that opens a storage, which the fixture closes."""
    with ExitStack() as stack:

        def open_one(url: str) -> PostgresStorage:
            return stack.enter_context(closing(open_url(url)))

        yield open_one


@pytest.fixture
def storage(url: str) -> Iterator[PostgresStorage]:
    opened = open_url(url)
    yield opened
    opened.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """Give a server that the test may kill."""
    with PostgresServer(tmp_path / "server") as server:
        yield server


# URLs


def test_what_a_url_says() -> None:
    place = locate(
        "postgresql://me:p%40ss@127.0.0.1:5433/db?table=t&key=k&value=v&schema=s&lock_timeout=2&application_name=x",
        KNOWN,
    )
    assert place.names == Names("t", "k", "v", "s")
    assert place.lock_seconds == 2
    wanted = {"host": "127.0.0.1", "port": "5433", "user": "me", "password": "p@ss", "dbname": "db"}
    assert wanted.items() <= place.parameters.items()
    assert place.parameters["application_name"] == "x"
    assert "sslmode" not in place.parameters
    assert "p@ss" not in repr(place)
    assert "p%40ss" not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/db?tabel=t",
        "postgresql://h/db?table=a%20b",
        "postgresql://h/db?table=kvsync_index",
        "postgresql://h/db?key=a&value=a",
        "postgresql://h/db?schema=",
        "postgresql://h/db?table=" + "x" * 64,
        "postgresql://h/db/more",
        "postgresql://h:no/db",
        "postgresql://h/db?lock_timeout=0",
        "postgresql://h/db?lock_timeout=soon",
        "postgresql://h/db?service=x",
        "postgresql://h/db?client_encoding=LATIN1",
        "postgresql://h/db?host=other",
        "postgresql://h/db?sslmode=a&sslmode=b",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_storage(url)
    assert caught.value.storage == redact(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "", "%2Ftmp%2Fsocket"])
def test_this_machine_needs_no_tls(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    assert "sslmode" not in locate(f"postgresql://{host}/db", KNOWN).parameters


def test_tls_is_verified_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLMODE", raising=False)
    for url in ("postgresql://db.example.org/db", "postgresql:///db?host=localhost,db.example.org"):
        parameters = locate(url, KNOWN).parameters
        assert parameters["sslmode"] == "verify-full"
        assert parameters["sslrootcert"]
    assert locate("postgresql://db.example.org/db?sslmode=prefer", KNOWN).parameters["sslmode"] == "prefer"
    own = locate("postgresql://db.example.org/db?sslrootcert=/ca.pem", KNOWN).parameters
    assert (own["sslmode"], own["sslrootcert"]) == ("verify-full", "/ca.pem")
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").write_text("")
    assert "sslrootcert" not in locate("postgresql://db.example.org/db", KNOWN).parameters
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert "sslmode" not in locate("postgresql://db.example.org/db", KNOWN).parameters
    monkeypatch.setenv("PGHOST", "db.example.org")
    monkeypatch.delenv("PGSSLMODE")
    assert locate("postgresql:///db", KNOWN).parameters["sslmode"] == "verify-full"


def test_a_server_without_tls_is_not_taken_where_tls_was_asked_for(postgres_server: PostgresServer) -> None:
    storage = open_url(f"{postgres_server.url}?sslmode=verify-full")
    with pytest.raises(StorageError, match="TLS parameters"):
        storage.read(["a"])


def test_one_storage_by_several_names(postgres_server: PostgresServer) -> None:
    port = postgres_server.port
    same = [f"postgresql://{host}:{port}/postgres?schema=s" for host in ("127.0.0.1", "localhost", "a:b@[::1]")]
    identities = {open_url(url).identity for url in same}
    assert len(identities) == 1
    assert open_url(f"postgresql://localhost:{port}/postgres?schema=s&table=t").identity not in identities
    assert open_url(f"postgresql://localhost:{port}/other?schema=s").identity not in identities


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("kvsync.storages.extras.import_module", refuse)
    with pytest.raises(UsageError, match=r"pip install 'kvsync\[postgresql\]'"):
        open_storage("postgresql://localhost/db")

    def without_libpq(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("kvsync.storages.extras.import_module", without_libpq)
    with pytest.raises(UsageError, match=r"pip install 'kvsync\[postgresql\]'"):
        open_storage("postgresql://localhost/db")


# Failures and secrets


def test_nothing_is_connected_before_the_first_call(opening: Callable[[str], PostgresStorage]) -> None:
    storage = opening("postgresql://me:hunter2@127.0.0.1:1/db")
    for call in (lambda: storage.read(["a"]), lambda: storage.store("lease", b"L", ABSENT), lambda: listing(storage)):
        with pytest.raises(StorageError, match=r"refused.*check that the server runs") as caught:
            call()
        assert caught.value.storage == storage.name
        assert "hunter2" not in str(caught.value)
    assert "hunter2" not in storage.name + repr(storage)


def test_a_wrong_password(
    postgres_server: PostgresServer, schema: str, opening: Callable[[str], PostgresStorage]
) -> None:
    place = f"127.0.0.1:{postgres_server.port}/postgres?schema={schema}"
    storage = opening(f"postgresql://{SECURED}:{quote(PASSWORD, safe='')}@{place}")
    assert storage.write(["a"], [b"1"]).refused == ()
    assert storage.store("manifest", b"M", ABSENT)
    assert PASSWORD not in storage.name + repr(storage) + storage.identity
    wrong = opening(f"postgresql://{SECURED}:geheim77@{place}")
    with pytest.raises(StorageError, match="authentication failed") as caught:
        wrong.read(["a"])
    assert "geheim77" not in str(caught.value)
    in_query = opening(f"postgresql://{SECURED}@{place}&password=geheim77")
    with pytest.raises(StorageError) as caught:
        in_query.read(["a"])
    assert "geheim77" not in str(caught.value) + in_query.name


@pytest.mark.parametrize(
    ("change", "text"), [("nowhere?schema=x", "database"), ("postgres?schema=not_there", "schema does not exist")]
)
def test_what_is_not_there(
    postgres_server: PostgresServer, change: str, text: str, opening: Callable[[str], PostgresStorage]
) -> None:
    storage = opening(postgres_server.url.replace("postgres?", "").rpartition("/")[0] + "/" + change)
    with pytest.raises(StorageError, match=text):
        storage.write(["a"], [b"1"])


def test_a_role_that_may_not_write(
    postgres_server: PostgresServer, schema: str, storage: PostgresStorage, opening: Callable[[str], PostgresStorage]
) -> None:
    storage.write(["a"], [b"1"])
    postgres_server.run(f"GRANT SELECT ON {schema}.kv TO {SECURED}")
    place = f"127.0.0.1:{postgres_server.port}/postgres?schema={schema}"
    other = opening(f"postgresql://{SECURED}:{quote(PASSWORD, safe='')}@{place}")
    assert other.read(["a"]) == [b"1"]
    with pytest.raises(StorageError, match="grant it"):
        other.write(["a"], [b"2"])


def test_a_server_that_is_killed_and_comes_back(
    own_server: PostgresServer, opening: Callable[[str], PostgresStorage]
) -> None:
    storage = opening(own_server.url)
    storage.write(["a"], [b"1"])
    version = storage.store("lease", b"L", ABSENT)
    own_server.restart()
    assert storage.read(["a"]) == [b"1"]  # a connection that died while idle is replaced unnoticed
    own_server.kill()
    for call in (lambda: storage.read(["a"]), lambda: storage.write(["a"], [b"2"]), lambda: storage.load("lease")):
        with pytest.raises(StorageError):
            call()
    own_server.start()
    assert storage.load("lease") == (b"L", version)
    storage.remove(["lease"], version)
    assert storage.write(["a"], [b"2"]).refused == ()
    storage.close()


def test_a_server_that_is_killed_within_a_transaction(
    own_server: PostgresServer, opening: Callable[[str], PostgresStorage]
) -> None:
    storage = opening(own_server.url)
    storage.write(["a"], [b"1"])
    with pytest.raises(StorageError) as caught, storage.transaction():
        storage.write(["a"], [b"2"])
        own_server.restart()
        storage.write(["b"], [b"2"])
    assert "run again" in str(caught.value)
    assert storage.read(["a", "b"]) == [b"1", None]
    with storage.transaction():
        storage.write(["b"], [b"3"])
    assert storage.read(["a", "b"]) == [b"1", b"3"]
    storage.close()


def test_a_commit_whose_answer_is_lost_says_so(
    own_server: PostgresServer, opening: Callable[[str], PostgresStorage]
) -> None:
    storage = opening(own_server.url)
    with pytest.raises(StorageError, match="outcome of the last write is unknown"), storage.transaction():
        storage.write(["a"], [b"1"])
        own_server.kill()
    own_server.start()
    assert storage.read(["a"]) == [None]


def test_a_transaction_whose_connection_ended_is_not_taken_for_committed(
    storage: PostgresStorage, postgres_server: PostgresServer
) -> None:
    """Leaving the block must say so, also where whoever is inside swallowed the error of a call."""
    storage.write(["a"], [b"1"])
    with pytest.raises(StorageError, match="which was undone"), storage.transaction():
        storage.write(["a"], [b"2"])
        connection = storage._connections.pinned()
        assert connection is not None
        postgres_server.run(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        with pytest.raises(StorageError):
            storage.read(["a"])
    assert storage.read(["a"]) == [b"1"]


def test_closed_is_closed(url: str, opening: Callable[[str], PostgresStorage]) -> None:
    storage = opening(url)
    storage.write(["a"], [b"1"])
    transaction = storage.transaction()
    transaction.__enter__()
    storage.write(["a"], [b"2"])
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        storage.read(["a"])
    with pytest.raises(StorageError, match="closed"):
        transaction.__exit__(None, None, None)
    again = opening(url)
    assert again.read(["a"]) == [b"1"]
    again.close()


def test_transactions_do_not_nest(storage: PostgresStorage) -> None:
    transactions_do_not_nest(storage)


def test_it_keeps_few_connections(storage: PostgresStorage, postgres_server: PostgresServer, schema: str) -> None:
    storage.write(["a"], [b"1"])
    barrier = threading.Barrier(12)

    def read(_: int) -> object:
        barrier.wait(30)
        return storage.read(["a"])

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(read, range(12))) == [[b"1"]] * 12
    query = f"SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ '\\m{schema}\\M'"
    deadline = time.monotonic() + 10
    while postgres_server.run(query)[0][0] > 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert 1 <= postgres_server.run(query)[0][0] <= 4


# Tables of others


def test_opening_and_reading_make_nothing(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str
) -> None:
    assert storage.read(["a"]) == [None]
    assert listing(storage) == {}
    assert storage.objects() == []
    storage.delete(["a"])
    storage.remove(["lease"], ANY)
    query = f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' ORDER BY 1"
    assert postgres_server.run(query) == []
    storage.write(["a"], [b"1"])
    storage.store("manifest", b"M", ABSENT)
    assert postgres_server.run(query) == [("kv",), ("kvsync_index",)]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ("key text PRIMARY KEY, value timestamptz", "'value' is timestamp with time zone"),
        ("key text PRIMARY KEY, value real", "'value' is real"),
        ("key numeric PRIMARY KEY, value bytea", "'key' is numeric"),
        ("key char(10) PRIMARY KEY, value bytea", r"'key' is character\(10\)"),
        ("key text, value bytea", "unique"),
        ("key text, value bytea, other int, UNIQUE (key, other)", "unique"),
        ("key text UNIQUE DEFERRABLE, value bytea", "unique"),
        ("id text PRIMARY KEY, value bytea", "no column 'key'"),
        ("key text PRIMARY KEY, data bytea", "no column 'value'"),
    ],
)
def test_tables_that_do_not_fit(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str, columns: str, text: str
) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.kv ({columns})")
    for call in (lambda: storage.read(["a"]), lambda: storage.write(["a"], [b"1"]), lambda: listing(storage)):
        with pytest.raises(UsageError, match=text) as caught:
            call()
        assert caught.value.storage == storage.name


def test_partial_indexes_views_and_folding_collations_do_not_fit(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str
) -> None:
    postgres_server.run(
        f"CREATE TABLE {schema}.kv (key text, value bytea)",
        f"CREATE UNIQUE INDEX ON {schema}.kv (key) WHERE value IS NOT NULL",
    )
    with pytest.raises(UsageError, match="partial"):
        storage.read(["a"])
    postgres_server.run(f"DROP TABLE {schema}.kv", f"CREATE VIEW {schema}.kv AS SELECT 'a' AS key, 'b'::bytea AS value")
    with pytest.raises(UsageError, match="not a view"):
        storage.read(["a"])
    if "en-x-icu" not in postgres_server.collations():
        return  # this server was built without ICU, and so has no collation that folds
    folding = f"{schema}.folding"
    postgres_server.run(
        f"DROP VIEW {schema}.kv",
        f"CREATE COLLATION {folding} (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    )
    for column, index in (
        (f"text COLLATE {folding}", f"(key COLLATE {folding})"),
        (f"text COLLATE {folding}", '(key COLLATE "C")'),
        # By this index "A" conflicts with "a", and what was meant for the one is written to the other.
        ("text PRIMARY KEY", f"(key COLLATE {folding})"),
    ):
        postgres_server.run(
            f"DROP TABLE IF EXISTS {schema}.kv",
            f"CREATE TABLE {schema}.kv (key {column}, value bytea)",
            f"CREATE UNIQUE INDEX ON {schema}.kv {index}",
        )
        with pytest.raises(UsageError, match="deterministic"):
            storage.write(["a", "A"], [b"1", b"2"])


def test_a_column_of_text_takes_only_text(
    postgres_server: PostgresServer, schema: str, url: str, opening: Callable[[str], PostgresStorage]
) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.notes (name varchar(5) UNIQUE, body text)")
    storage = opening(f"{url}&table=notes&key=name&value=body")
    values = {
        "a": "é\r\n ".encode(),
        "b": b"\xff",
        "c": b"a\0b",
        "toolong": b"1",
        "d    ": b"2",
        "e     ": b"3",
        "": b"",
    }
    written = storage.write(list(values), list(values.values()))
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [
        ("b", False),
        ("c", False),
        ("toolong", False),
        ("e     ", False),
    ]
    assert storage.read(list(values)) == [values["a"], None, None, None, b"2", None, b""]
    assert listing(storage)["a"] == digest_values([values["a"]])[0]
    postgres_server.run(f"INSERT INTO {schema}.notes VALUES ('x', 'line\nend')")
    assert storage.read(["x"]) == [b"line\nend"]


def test_rows_of_other_kinds_are_named(storage: PostgresStorage, postgres_server: PostgresServer, schema: str) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.kv (key bytea UNIQUE, value bytea)")
    storage.write(["a"], [b"1"])
    postgres_server.run(f"INSERT INTO {schema}.kv VALUES ('n', NULL)")
    assert storage.read(["a", "n", "none"]) == [b"1", Unreadable("its row holds NULL"), None]
    tokens = listing(storage)
    assert tokens == {"a": digest_values([b"1"])[0], "n": b""}
    for expect in (None, digest_values([b""])[0], b""):
        for written in (storage.write(["n", "n2"], [b"x", b"y"], [expect, None]), storage.delete(["n"], [expect])):
            assert [(refusal.key, refusal.reason) for refusal in written.refused] == [("n", "its row holds NULL")]
        storage.delete(["n2"])
    assert storage.write(["n"], [b"x"]).refused == ()
    for statement, text in (("('\\xff', 'v')", "not UTF-8"), ("(NULL, 'v')", "no key")):
        postgres_server.run(f"INSERT INTO {schema}.kv VALUES {statement}")
        assert set(listing(storage)) == {"a", "n"}
        assert [(text in entry.reason, entry.harmless) for entry in storage.skipped] == [(True, False)]
        postgres_server.run(f"DELETE FROM {schema}.kv WHERE key IS NULL OR key = '\\xff'")
    assert set(listing(storage)) == {"a", "n"}
    assert storage.skipped == ()


def test_a_row_that_breaks_a_rule_of_its_table_is_refused_alone(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str
) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY CHECK (key <> 'bad'), value bytea)")
    keys = [f"key {number}" for number in range(300)]
    keys[123] = "bad"
    for expect in ([None] * 300, None):
        written = storage.write(keys, [b"1"] * 300, expect)
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("bad", False)]
        assert "kv_key_check" in written.refused[0].reason
        assert len(listing(storage)) == 299


def test_keys_that_text_cannot_hold(storage: PostgresStorage) -> None:
    keys = ["a\0b", "ok", "\ud800", "x" * 100_000]
    written = storage.write(keys, [b"1"] * 4)
    assert [(refusal.key, refusal.changed) for refusal in written.refused][:2] == [("a\0b", False), ("\ud800", False)]
    assert storage.read(["ok", "a\0b", "\ud800"]) == [b"1", None, None]
    assert storage.delete(["a\0b", "\ud800", "ok"]).refused == ()
    digits = "".join(f"{number:05d}" for number in range(20_000))
    written = storage.write([digits, "ok"], [b"1", b"2"])  # an index entry has to fit into a third of a page
    assert [(refusal.key, refusal.changed) for refusal in written.refused] == [(digits, False)]
    assert storage.read(["ok"]) == [b"2"]


def test_the_tables_of_one_schema_have_an_index_each(url: str, opening: Callable[[str], PostgresStorage]) -> None:
    two_tables_have_an_index_each(opening(f"{url}&table=first"), opening(f"{url}&table=Second"))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_pages_that_are_requested_ahead(storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """While one page is looked at, the next one is on its way: also over values that have to be asked for."""
    monkeypatch.setattr("kvsync.storages.postgres.rows.SCAN_COUNT", size)
    values = {str(number): bytes(9000) if number in {2, 3, 7} else b"%d" % number for number in range(8)}
    storage.write(list(values), list(values.values()))
    whole = dict(zip(values, digest_values(list(values.values())), strict=True))
    assert listing(storage) == whole
    pages = storage.scan()
    keys, _ = next(pages)
    assert len(keys) == min(size, 8)
    storage.write(["0", "7"], [b"new", b"new"])
    assert storage.read(["0"]) == [b"new"]
    rest = {key: token for page in pages for key, token in zip(*page, strict=True)}
    assert rest == {key: token for key, token in whole.items() if key not in keys}, "one snapshot"
    with storage.transaction():
        assert listing(storage) == whole | dict.fromkeys(["0", "7"], digest_values([b"new"])[0])
        storage.delete(["0"])
        assert [storage.read(keys) for keys, _ in storage.scan()] == [storage.read(keys) for keys, _ in storage.scan()]
    left = storage.scan()
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert len(listing(storage)) == 7


def test_a_connection_that_ends_during_a_scan_is_an_error(
    postgres_server: PostgresServer, storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsync.storages.postgres.rows.SCAN_COUNT", 2)
    storage.write(list("abcdefgh"), [b"1"] * 8)
    pages = storage.scan()
    next(pages)
    postgres_server.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE 'FETCH FORWARD 2 FROM%'"
    )
    with pytest.raises(StorageError):
        list(pages)
    assert len(listing(storage)) == 8


def test_large_values_are_scanned_in_order(storage: PostgresStorage) -> None:
    values = {f"k{number:02d}": os.urandom(1 + (3 << 20) * (number % 3 == 0)) for number in range(20)}
    storage.write(list(values), list(values.values()))
    assert listing(storage) == dict(zip(values, digest_values(list(values.values())), strict=True))
    tokens = listing(storage)
    written = storage.write(list(values), [b"new"] * 20, [*list(tokens.values())[:19], bytes(32)])
    assert [refusal.key for refusal in written.refused] == ["k19"]


def test_tables_that_several_make_at_once_are_made_once(
    postgres_server: PostgresServer, opening: Callable[[str], PostgresStorage]
) -> None:
    count = 6
    for _ in range(4):
        fresh = f"{postgres_server.url}?schema={postgres_server.schema()}"
        storages = [opening(fresh) for _ in range(count)]
        together = threading.Barrier(count)

        def first_write(number: int, storages: list[PostgresStorage] = storages, start: Any = together) -> None:
            storages[number].objects()
            start.wait(10)
            storages[number].store(f"probe/{number}", b"1", ABSENT)

        with ThreadPoolExecutor(count) as threads:
            list(threads.map(first_write, range(count)))
        assert storages[0].objects() == [f"probe/{number}" for number in range(count)]


def test_a_first_load_meets_keys_that_are_there(
    storage: PostgresStorage, url: str, opening: Callable[[str], PostgresStorage]
) -> None:
    """Into an empty table values go by COPY; that fails where somebody else wrote meanwhile, and must lose nothing."""
    keys = [f"{number:04d}" for number in range(200)]
    storage.write(keys[:100], [b"1"] * 100)
    other = opening(url)
    other.write(keys[150:160], [b"other"] * 10)
    assert storage.write(keys[100:], [b"2"] * 100).refused == ()
    assert storage.read(keys) == [b"1"] * 100 + [b"2"] * 100
    fresh = opening(url + "&table=second")
    fresh.write(keys[:70], [b"1"] * 70)
    written = fresh.write(keys, [b"2"] * 200, [None] * 200)
    assert [refusal.key for refusal in written.refused] == keys[:70]
    assert fresh.read(keys) == [b"1"] * 70 + [b"2"] * 130


def test_a_key_twice_in_a_batch(storage: PostgresStorage) -> None:
    assert storage.write(["a", "b", "a"], [b"1", b"2", b"3"]).refused == ()
    assert storage.read(["a", "b"]) == [b"3", b"2"]


# Locks and races


def test_a_locked_row_says_so(storage: PostgresStorage, url: str, opening: Callable[[str], PostgresStorage]) -> None:
    storage.write(["a", "b"], [b"1", b"1"])
    hasty = opening(url + "&lock_timeout=0.2")
    tokens = listing(storage)
    with storage.transaction():
        storage.write(["a"], [b"2"])
        for expect in (None, [tokens["a"]]):
            with pytest.raises(StorageError, match="raise lock_timeout") as caught:
                hasty.write(["a"], [b"3"], expect)
            assert caught.value.storage == hasty.name
        assert hasty.read(["a"]) == [b"1"]
        assert hasty.write(["b"], [b"3"]).refused == ()
    assert [r.changed for r in hasty.write(["a"], [b"3"], [tokens["a"]]).refused] == [True]
    assert storage.read(["a", "b"]) == [b"2", b"3"]


def test_a_call_that_fails_within_a_transaction_undoes_all_of_it_and_later_calls_say_why(
    storage: PostgresStorage, url: str, opening: Callable[[str], PostgresStorage]
) -> None:
    """Whoever swallows the error, as a write that looks whether it landed after all, must not hide the cause."""
    storage.write(["a"], [b"1"])
    storage.store("manifest", b"1", ABSENT)
    hasty = opening(url + "&lock_timeout=0.2")
    hasty.load("manifest")
    with storage.transaction():
        storage.store("manifest", b"2", ANY)
        with pytest.raises(StorageError, match="which was undone"), hasty.transaction():
            hasty.write(["a"], [b"3"])
            for call in (partial(hasty.store, "manifest", b"3", ANY), partial(hasty.load, "manifest")):
                with pytest.raises(StorageError, match="raise lock_timeout"):
                    call()
    assert hasty.read(["a"]) == [b"1"]
    assert hasty.load("manifest") == storage.load("manifest")
    with hasty.transaction():
        hasty.write(["a"], [b"4"])
    assert storage.read(["a"]) == [b"4"]


def test_a_lease_renewed_within_a_transaction_is_held_and_nobody_waits(
    storage: PostgresStorage, url: str, opening: Callable[[str], PostgresStorage]
) -> None:
    other = opening(url)
    first = storage.store("lease", b"1", ABSENT)
    started = time.monotonic()
    with storage.transaction():
        second = storage.store("lease", b"2", first)
        for expect in (ABSENT, first, second):
            with pytest.raises(ObjectMismatch):
                other.store("lease", b"x", expect)
        assert other.load("lease") == (b"1", first)
    assert time.monotonic() - started < 5
    assert other.load("lease") == (b"2", second)


def test_two_that_write_the_same_keys_do_not_deadlock(
    storage: PostgresStorage, url: str, opening: Callable[[str], PostgresStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order they were given the keys in: rows are locked in one order."""
    monkeypatch.setattr("kvsync.storages.postgres.database.ATTEMPTS", 1)
    keys = [f"{number:03d}" for number in range(400)]
    storage.write(keys, [b"0"] * 400)
    others = [opening(url), opening(url)]

    def write(number: int) -> None:
        mine = keys if number else keys[::-1]
        for _ in range(10):
            assert others[number].write(mine, [b"%d" % number] * 400).refused == ()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert len(set(storage.read(keys))) <= 2


def test_a_call_that_the_server_ends_for_a_deadlock_is_done_again(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str
) -> None:
    storage.write(["a", "b"], [b"0"] * 2)
    with psycopg.connect(postgres_server.url) as other, ThreadPoolExecutor(1) as pool:
        update = f"UPDATE {schema}.kv SET value = 'theirs' WHERE key = %s"
        other.execute("SET deadlock_timeout = '60s'")  # so that the server ends ours
        other.execute(update, ("b",))
        writing = pool.submit(storage.write, ["a", "b"], [b"ours"] * 2)  # holds "a" and waits for "b"
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '\\m{schema}\\M'"
        while not postgres_server.run(waiting):
            time.sleep(0.01)
        other.execute(update, ("a",))
        other.commit()
        assert writing.result(30).refused == ()
    assert storage.read(["a", "b"]) == [b"ours"] * 2


def test_a_thread_reads_what_is_committed_while_another_is_in_a_transaction(storage: PostgresStorage) -> None:
    storage.write(["a"], [b"1"])
    with ThreadPoolExecutor(1) as pool, storage.transaction():
        storage.write(["a"], [b"2"])
        assert pool.submit(storage.read, ["a"]).result() == [b"1"]
        assert storage.read(["a"]) == [b"2"]
        assert list(listing(storage)) == ["a"]


def test_commits_are_durable_where_the_server_does_not_care(
    own_server: PostgresServer, opening: Callable[[str], PostgresStorage]
) -> None:
    own_server.run("ALTER ROLE kvsync SET synchronous_commit = off", "ALTER ROLE kvsync SET lock_timeout = 1")
    storage = opening(own_server.url)
    with storage._connections.use() as connection, storage._connections.begun(connection):
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("10s",)
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


def _in_child(storage: PostgresStorage, answers: Any) -> None:
    storage.write(["child"], [b"1"])
    answers.put(storage.read(["parent", "child", "open"]))
    storage.close()


def test_a_forked_child_has_connections_of_its_own(storage: PostgresStorage) -> None:
    storage.write(["parent"], [b"1"])
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with storage.transaction():
        storage.write(["open"], [b"1"])
        child = context.Process(target=_in_child, args=(storage, answers))
        child.start()
        assert answers.get(timeout=30) == [b"1", b"1", None]
        child.join(30)
        assert child.exitcode == 0
        assert storage.read(["parent", "child", "open"]) == [b"1"] * 3
    assert storage.read(["open"]) == [b"1"]


# End to end


def test_a_dict_and_a_table_are_made_equal(url: str, postgres_server: PostgresServer) -> None:
    data = is_made_equal_with_a_dict(url, [f"user/{number}" for number in range(500)])
    before = postgres_server.run("SELECT pg_current_wal_insert_lsn()")
    again = kvsync.sync(data, url)
    assert (again.pushed, again.pulled) == (0, 0)
    assert not {"store", "write", "begin"} & set(again.operations["target"])
    assert postgres_server.run("SELECT pg_current_wal_insert_lsn()") == before


def test_two_tables_of_one_database(url: str, opening: Callable[[str], PostgresStorage]) -> None:
    """The thread that reads one while the other is in a transaction has a connection of its own."""
    one, two = f"{url}&table=one", f"{url}&table=two"
    kvsync.sync(one, two, changes=[Put(f"{number:05d}", bytes(100)) for number in range(10_000)])
    third = f"{url}&table=three"
    assert kvsync.sync(two, third).pushed == 10_000
    storage = opening(third)
    assert len(listing(storage)) == 10_000


def test_scans_find_what_applications_wrote(url: str, postgres_server: PostgresServer, schema: str) -> None:
    data: dict[str, bytes] = {}
    postgres_server.run(
        f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value text, seen int DEFAULT 7)",
        f"INSERT INTO {schema}.kv SELECT 'k' || n, 'v' || n FROM generate_series(1, 50) n",
    )
    assert kvsync.sync(data, url, scan=True).pulled == 50
    postgres_server.run(
        f"UPDATE {schema}.kv SET value = 'new' WHERE key = 'k1'", f"DELETE FROM {schema}.kv WHERE key = 'k2'"
    )
    assert kvsync.sync(data, url, scan=True).pulled == 2
    assert (data["k1"], "k2" in data) == (b"new", False)
    data["k3"] = b"mine"
    assert kvsync.sync(data, url, scan=True).pushed == 1
    assert postgres_server.run(f"SELECT value, seen FROM {schema}.kv WHERE key = 'k3'") == [("mine", 7)]
    again = kvsync.sync(data, url, scan=True)
    assert (again.pushed, again.pulled) == (0, 0)


def test_a_held_lease_is_reported_at_once(url: str) -> None:
    held_lease_is_reported_at_once(url)


def test_what_is_created_between_a_look_and_a_delete_stays(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete of a key that is expected to be absent deleted what somebody put there at that moment."""
    storage.write(["a"], [b"1"])
    tokens = Rows.tokens

    def late(self: Rows, keys: Sequence[str]) -> dict[str, bytes]:
        found = tokens(self, keys)
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            connection.execute(f"INSERT INTO {schema}.kv VALUES ('new', 'theirs')")
        return found

    monkeypatch.setattr(Rows, "tokens", late)
    assert storage.delete(["a", "new"], [digest_values([b"1"])[0], None]).refused == ()
    assert storage.read(["a", "new"]) == [None, b"theirs"]


def test_what_a_trigger_suppresses_is_refused_and_never_taken_for_done(postgres_server: PostgresServer) -> None:
    """Protected rows and soft deletes: the peer's newer value was taken back, and its deletes undone, a run later."""
    schema = postgres_server.schema()
    postgres_server.run(
        f'CREATE TABLE {schema}.kv (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL)',
        f"INSERT INTO {schema}.kv SELECT 'frozen/' || n, 'old' FROM generate_series(1, 5) n",
        f"CREATE FUNCTION {schema}.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        f"CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON {schema}.kv FOR EACH ROW "
        f"WHEN (OLD.key LIKE 'frozen/%') EXECUTE FUNCTION {schema}.keep()",
        f"CREATE TRIGGER never BEFORE INSERT ON {schema}.kv FOR EACH ROW "
        f"WHEN (NEW.key LIKE 'draft/%') EXECUTE FUNCTION {schema}.keep()",
    )
    url = f"{postgres_server.url}?schema={schema}"
    peer: dict[str, bytes] = {}
    kvsync.sync(peer, url, scan=True)
    assert peer["frozen/1"] == b"old"
    changes: list[Put | Delete]
    changes = [Put("frozen/1", b"new"), Delete("frozen/2"), Put("draft/1", b"d"), Put("plain", b"p"), Delete("none")]
    for _ in range(3):
        result = kvsync.sync(peer, url, changes, scan=True)
        changes = []
        assert {missing.key for missing in result.missing} == {"frozen/1", "frozen/2", "draft/1"}
        assert (peer["frozen/1"], peer["draft/1"], peer["plain"]) == (b"new", b"d", b"p")
        assert "frozen/2" not in peer
    with closing(open_url(url)) as storage:
        assert storage.read(["frozen/1", "frozen/2", "draft/1", "plain"]) == [b"old", b"old", None, b"p"]
        many = {f"draft/{number}": b"x" for number in range(500)} | {f"fine/{number}": b"x" for number in range(500)}
        refused = storage.write(list(many), list(many.values())).refused
        assert {refusal.key for refusal in refused} == {key for key in many if key.startswith("draft/")}


def test_doctor_makes_no_table(storage: PostgresStorage, postgres_server: PostgresServer, schema: str) -> None:
    found = kvsync.doctor(storage)
    assert (found.healthy, found.unmade) == (True, "")
    assert found.probe is not None
    assert found.probe.sound
    with psycopg.connect(postgres_server.url) as connection:
        rows = connection.execute("SELECT 1 FROM information_schema.tables WHERE table_schema = %s", (schema,))
        assert rows.fetchall() == []
    kvsync.commit(storage, [Put("a", b"1")])
    assert kvsync.doctor(storage).healthy
