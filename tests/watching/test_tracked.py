"""Watches of tracked tables look at what the journals name, and now and then at everything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import kvsync
from kvsync.watching.events import WatchRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def table(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer
) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Give the URL of a tracked table with a row, and what runs a statement on it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/app.db"
        connection: Any = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    else:
        schema = postgres_server.schema()
        url = f"{postgres_server.url}?schema={schema}"
        connection = psycopg.connect(postgres_server.url, autocommit=True)
        connection.execute(f"SET search_path = {schema}")
    with closing(connection):
        kvsync.commit(url, [kvsync.Put("first", b"1")])
        kvsync.track(url)
        yield url, connection.execute


def test_a_watch_follows_the_journal(table: tuple[str, Callable[[str], Any]]) -> None:
    url, execute = table
    mirror: dict[str, bytes] = {}
    with kvsync.watch(url, mirror, every="1h", full_every="1h") as watch:
        events = (event for event in watch if isinstance(event, WatchRun))
        first = next(events)
        assert "scan" in first.result.operations["source"]
        execute("UPDATE kv SET value = 'n'")
        run = next(event for event in events if event.result.pushed)
        assert run.reason == "hint"
        assert "listed" in run.result.operations["source"]
        assert "scan" not in run.result.operations["source"]
    assert mirror["first"] == b"n"


def test_a_full_run_of_a_watch_looks_at_everything(table: tuple[str, Callable[[str], Any]]) -> None:
    url, _ = table
    with kvsync.watch(url, {}, every="1h", full_every="1s") as watch:
        run = next(event for event in watch if isinstance(event, WatchRun) and event.reason == "full")
    assert "scan" in run.result.operations["source"]
