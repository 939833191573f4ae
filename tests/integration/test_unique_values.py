"""A table whose values are unique: a value that moves to another key is there after one run, if that is possible."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import kvsync

if TYPE_CHECKING:
    from pathlib import Path

    from servers.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a table that has a unique index on its values."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB UNIQUE)")
        return f"sqlite:///{tmp_path}/app.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    schema = server.schema()
    server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea UNIQUE)")
    return f"{server.url}?schema={schema}"


def values(data: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in data.items() if not key.startswith(".kvsync")}


MOVES = {
    "to a new key": ({"a": b"1", "x": b"9"}, {"b": b"1", "x": b"9"}),
    "along a chain": ({"a": b"1", "b": b"2", "c": b"3", "x": b"9"}, {"b": b"1", "c": b"2", "d": b"3", "x": b"9"}),
    "along a chain, backwards": ({"b": b"1", "c": b"2", "d": b"3"}, {"a": b"1", "b": b"2", "c": b"3"}),
    "and another takes its place": ({"a": b"1", "b": b"2"}, {"a": b"3", "b": b"1"}),
}


@pytest.mark.parametrize(("before", "after"), MOVES.values(), ids=list(MOVES))
@pytest.mark.parametrize("scan", [True, False], ids=["scanned", "given"])
def test_a_value_moves_between_keys_in_one_run(
    table: str, before: dict[str, bytes], after: dict[str, bytes], scan: bool
) -> None:
    """It took two runs: the first one deleted the old key, and refused the new one."""
    data = dict(before)
    kvsync.sync(data, table, scan=True)
    if scan:
        for key in before:
            del data[key]
        data |= after
        result = kvsync.sync(data, table, scan=True, max_delete="100%")
    else:
        with kvsync.open(data) as store:
            for key in before.keys() - after.keys():
                del store[key]
            store.update(after)
        result = kvsync.sync(data, table)
    assert result.missing == []
    other: dict[str, bytes] = {}
    kvsync.sync(table, other, scan=True)
    assert values(other) == values(data) == after


def test_values_that_change_places_are_named_and_nothing_is_lost(table: str) -> None:
    """No row can be written before the other one: that takes the database itself."""
    data = {"a": b"1", "b": b"2", "c": b"3"}
    kvsync.sync(data, table, scan=True)
    data |= {"a": b"2", "b": b"1", "c": b"4"}
    result = kvsync.sync(data, table, scan=True, max_delete="100%")
    assert {missing.key for missing in result.missing} == {"a", "b"}
    assert result.pushed == 1
    assert values(data) == {"a": b"2", "b": b"1", "c": b"4"}
    data["a"] = b"5"
    assert kvsync.sync(data, table, scan=True, max_delete="100%").missing == []
    data["a"] = b"2"
    assert kvsync.sync(data, table, scan=True, max_delete="100%").missing == []
