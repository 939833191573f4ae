"""PostgreSQL behind a pooler that gives each transaction another session, and each session to many clients."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from servers.pgbouncer import PgBouncer, pgbouncer_program
from servers.pooler import LEFT_BEHIND, PoolerDouble

import kvsync
from kvsync import Delete, Put
from kvsync.storages.postgres import open_url
from kvsync.testing.conformance import listing
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers.postgres import PostgresServer

POOLERS = ["double", *(["pgbouncer"] if pgbouncer_program() else [])]
# What pgbouncer itself passes on from one client to the next.
PASSED_ON = {"setting application_name", "setting DateStyle", "setting TimeZone", "setting client_encoding"}


@pytest.fixture(params=POOLERS)
def pooler(request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path: Path) -> Callable[[int], Any]:
    """Give a maker of poolers with that many sessions."""

    def make(sessions: int) -> Any:
        if request.param == "double":
            return PoolerDouble(postgres_server.port, sessions)
        return PgBouncer(tmp_path / "pgbouncer", postgres_server.port, sessions)

    return make


@pytest.fixture
def schema(postgres_server: PostgresServer) -> str:
    return postgres_server.schema()


def left_behind(pooled: Any) -> set[str]:
    """Return what the sessions hold, of which there is one."""
    with psycopg.connect(pooled.url, autocommit=True, prepare_threshold=None) as connection:
        found = {row[0] for row in connection.execute(LEFT_BEHIND)}
    return found | set(getattr(pooled, "leaks", ())) - PASSED_ON


def test_whole_runs_leave_nothing_in_a_session(pooler: Callable[[int], Any], schema: str) -> None:
    with pooler(1) as pooled:
        url = f"{pooled.url}?schema={schema}"
        data: dict[str, bytes] = {}
        changes: list[Put | Delete] = [Put(f"k{number}", b"%d" % number) for number in range(300)]
        assert kvsync.sync(data, url, changes).pushed == 300
        assert left_behind(pooled) - PASSED_ON == set()
        for round_ in range(12):  # a client prepares a statement that it has sent five times
            result = kvsync.sync(data, url, [Put("k1", b"%d" % round_), Delete(f"k{round_ + 2}")], scan=True)
            assert (result.pushed, result.missing) == (2, [])
        assert kvsync.doctor(url).healthy
        assert left_behind(pooled) - PASSED_ON == set()


def test_every_method_leaves_nothing_in_a_session(pooler: Callable[[int], Any], schema: str) -> None:
    with pooler(1) as pooled, closing(open_url(f"{pooled.url}?schema={schema}&expires=due&modified=at")) as storage:
        for number in range(8):
            storage.write(["a", "b"], [b"%d" % number] * 2)
            storage.write_expiring(["c"], [b"1"], [4_000_000_000_000])
            storage.write(["a"], [b"x"], [listing(storage)["a"]])
            storage.read(["a", "b"])
            storage.expiries(["c"])
            storage.modified_ms(["c"])
            storage.delete(["b"])
            version = storage.store(f"segment/{number}", b"1", ABSENT)
            storage.remove([f"segment/{number}"], version)
            with storage.transaction():
                storage.write(["d"], [b"1"])
                storage.store(f"lost/{number}", b"1", ABSENT)
            with contextlib.suppress(ZeroDivisionError), storage.transaction():
                storage.write(["d"], [b"2"])
                raise ZeroDivisionError
        assert storage.read(["d"]) == [b"1"]
        assert left_behind(pooled) - PASSED_ON == set()


def test_other_clients_keep_their_settings(pooler: Callable[[int], Any], schema: str) -> None:
    """`lock_timeout` and `idle_in_transaction_session_timeout` were left in the session of whoever came next."""
    asked = "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
    with pooler(1) as pooled, psycopg.connect(pooled.url, autocommit=True, prepare_threshold=None) as other:
        before = other.execute(asked).fetchone()
        kvsync.sync({}, f"{pooled.url}?schema={schema}", [Put("a", b"1")])
        assert other.execute(asked).fetchone() == before


def test_several_that_share_sessions_write_at_once(pooler: Callable[[int], Any], schema: str) -> None:
    """A statement that one client had prepared in a session was there already for the next."""
    with pooler(3) as pooled:
        url = f"{pooled.url}?schema={schema}"
        start = threading.Barrier(4)
        with closing(open_url(url)) as first:
            first.write(["first"], [b"1"])

        def work(number: int) -> None:
            with closing(open_url(url)) as storage:
                start.wait(30)
                for round_ in range(15):
                    keys = [f"{number}/{key}" for key in range(20)]
                    with storage.transaction():
                        assert storage.write(keys, [b"%d" % round_] * 20).refused == ()
                    assert storage.read(keys) == [b"%d" % round_] * 20

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        with closing(open_url(url)) as storage:
            assert len(listing(storage)) == 81
        if isinstance(pooled, PoolerDouble):
            assert pooled.transactions > 100
            assert pooled.leaks == []


@pytest.fixture
def leaking(postgres_server: PostgresServer) -> Iterator[PoolerDouble]:
    with PoolerDouble(postgres_server.port) as pooled:
        yield pooled


@pytest.mark.parametrize(
    ("statement", "leak"),
    [
        ("SET lock_timeout = '7s'", "setting lock_timeout"),
        ("PREPARE mine AS SELECT 1", "prepared statement mine"),
        ("CREATE TEMPORARY TABLE held (a int)", "temporary table held"),
        ("SELECT pg_advisory_lock(1)", "advisory lock"),
    ],
)
def test_the_double_sees_what_is_left_behind(leaking: PoolerDouble, statement: str, leak: str) -> None:
    with psycopg.connect(leaking.url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(statement)
        connection.execute("SELECT 1")
    assert leak in leaking.leaks
