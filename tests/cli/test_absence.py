"""`kvsync peers`, `forget` and `accept`: what does not come back, from the shell."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Put
from kvsync.cli.exitcodes import DONE, FAILED, LOCKED, USAGE
from kvsync.environment import Environment
from kvsync.options import Options
from kvsync.run.lock import lock
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]
    Terminals = Callable[..., tuple[int, str]]


@pytest.fixture
def away(run: Run, pair: Pair) -> str:
    """Return a folder that has deleted two of its files while the database `old.db` was away."""
    run("sync", pair[0], "sqlite:///old.db")
    run("sync", *pair)
    Path("notes/a").unlink()
    Path("notes/b").unlink()
    for text in ("1", "2"):
        run("sync", *pair, "--max-delete", "100%")
        Path("notes/c").write_text(text, encoding="utf-8")
    run("sync", *pair)
    return pair[0]


def test_peers_shows_what_waits_for_each_of_them(run: Run, away: str) -> None:
    younger = run("peers", away)
    assert (younger.code, younger.err) == (DONE, "")
    assert "wait" not in younger.out
    shown = run("peers", away, "--tombstone-grace", "0s").out.splitlines()
    assert [line.partition("  ")[2].partition("  ")[2] for line in shown[:2]] == [
        "sqlite:///app.db",
        "sqlite:///old.db: 2 deletes or expired values wait for it, 2 for it alone",
    ]
    assert shown[2] == "  if one of them does not come back: `kvsync forget notes ID`"
    answer = run("peers", away, "--tombstone-grace", "0s", "--json").json
    assert answer["storage"] == away
    new, old = answer["peers"]
    assert old.keys() == {"id", "name", "seen", "forgotten", "holds_back", "alone"}
    assert (old["name"], old["holds_back"], old["alone"]) == ("sqlite:///old.db", 2, 2)
    assert (new["name"], new["holds_back"], new["forgotten"]) == ("sqlite:///app.db", 0, False)
    assert shown[1].split()[:2] == [old["id"], old["seen"]]


def test_a_storage_without_peers_says_so(run: Run, pair: Pair) -> None:
    ended = run("peers", pair[0])
    assert (ended.code, ended.out, ended.err) == (DONE, "", "notes knows no other storage\n")
    assert run("peers", pair[0], "--json").json == {"storage": "notes", "peers": []}


def test_status_names_who_holds_collection_back(run: Run, away: str) -> None:
    assert "waiting" not in run("status", away).out
    assert run("status", away, "--json").json["held_back_by"] == []
    old = run("peers", away, "--json", "--tombstone-grace", "0s").json["peers"][1]
    line = f"  waiting    2 deletes or expired values for sqlite:///old.db ({old['id']}): see `kvsync peers notes`"
    assert line in run("status", away, "--tombstone-grace", "0s").out.splitlines()
    assert run("status", away, "--json", "--tombstone-grace", "0s").json["held_back_by"] == [old]


def test_forget_says_what_follows(run: Run, away: str) -> None:
    old = run("peers", away, "--json").json["peers"][1]["id"]
    ended = run("forget", away, "sqlite:///old.db")
    assert (ended.code, ended.err) == (DONE, "")
    assert ended.out.splitlines()[0] == f"notes: {old} is forgotten"
    assert "the next sync that writes drops the old deletes" in ended.out
    assert "if it comes back, it goes on as a new storage" in ended.out
    assert f"{old}  " in run("peers", away).out
    assert run("peers", away).out.splitlines()[1].endswith("sqlite:///old.db (forgotten)")
    Path("notes/c").write_text("3", encoding="utf-8")
    assert run("sync", away, "sqlite:///app.db", "--tombstone-grace", "0s").code == DONE
    assert "delete" not in run("log", away).out
    assert run("forget", away, old, "--json").json == {"storage": "notes", "forgotten": old}


def test_what_comes_back_revives_nothing(run: Run, away: str) -> None:
    run("forget", away, "sqlite:///old.db")
    Path("notes/c").write_text("3", encoding="utf-8")
    run("sync", away, "sqlite:///app.db", "--tombstone-grace", "0s")
    with closing(sqlite3.connect("old.db")) as connection, connection:
        connection.execute("INSERT INTO kv VALUES ('its own', x'31')")
    ended = run("sync", away, "sqlite:///old.db")
    assert ended.code == DONE
    assert "  returned   sqlite:///old.db had been forgotten, and goes on as a new storage; " in ended.out
    assert sorted(path.name for path in Path("notes").rglob("*") if path.is_file() and ".kvsync" not in str(path)) == [
        "1",
        "c",
        "its own",
    ]
    assert run("verify", away, "sqlite:///old.db").code == DONE


def test_forget_refuses_whom_it_does_not_know(run: Run, away: str) -> None:
    ended = run("forget", away, "sqlite:///never.db")
    assert ended.code == USAGE
    assert ended.err.startswith("kvsync: error: no peer is called 'sqlite:///never.db'; known are ")
    assert "(sqlite:///old.db, seen " in ended.err
    assert ended.err.endswith("  where: notes\n  next: see `kvsync peers notes`\n")


def test_forget_and_accept_wait_for_the_lease(run: Run, away: str) -> None:
    storage, _ = open_storage(away)
    with lock((storage,), Options(wait_seconds=0), Environment()):
        assert run("forget", away, "sqlite:///old.db", "--wait-seconds", "0").code == LOCKED
        assert run("accept", away, "--all", "--yes", "--wait-seconds", "0").code == LOCKED


@pytest.fixture
def missing(run: Run, pair: Pair) -> str:
    """Return the URL of a database that knows of two newest values, and has lost their only holder."""
    table = "sqlite:///app.db?table=t"
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("CREATE TABLE t (key TEXT PRIMARY KEY, value BLOB CHECK (length(value) < 4))")
    run("sync", pair[0], table)
    shutil.copytree("notes", "backup")
    Path("notes/a").write_bytes(b"too long")
    Path("notes/new").write_bytes(b"too long, too")
    assert run("sync", pair[0], table).code == FAILED
    shutil.rmtree("notes")
    Path("backup").rename("notes")
    return table


def test_accept_ends_what_every_run_told(run: Run, missing: str) -> None:
    for _ in range(2):
        told = run("sync", "notes", missing)
        assert told.code == FAILED
        assert "missing    'a' in the source: neither side holds its value" in told.out
        assert "`kvsync accept` makes what is there the newest" in told.out
    ended = run("accept", missing, "a", "new", "--yes")
    assert (ended.code, ended.err) == (DONE, "")
    assert ended.out.splitlines() == [
        f"{missing}: what is there is the newest now, at 2 keys",
        "  'a': 1 byte",
        "  'new': nothing",
    ]
    assert run("sync", "notes", missing).code == DONE
    assert run("verify", "notes", missing).code == DONE
    assert Path("notes/a").read_bytes() == b"1"


def test_accept_all_answers_in_json(run: Run, missing: str) -> None:
    answer = run("accept", missing, "--all", "--yes", "--json").json
    assert answer["storage"] == missing
    assert [(change["key"], change["op"]) for change in answer["accepted"]] == [("a", "put"), ("new", "delete")]
    assert run("accept", missing, "--all", "--json").json["accepted"] == []


def test_accept_asks_first(run: Run, missing: str, on_terminal: Terminals) -> None:
    before = Path("app.db").read_bytes()
    ended = run("accept", missing, "--all")
    assert ended.code == USAGE
    assert "pass --yes if no storage holds the missing values any more" in ended.err
    code, screen = on_terminal("accept", missing, "--all", answer="n\n")
    assert code == FAILED
    assert "'a': " in screen
    assert "Does no storage hold these values any more? [y/N]" in screen
    assert Path("app.db").read_bytes() == before
    code, screen = on_terminal("accept", missing, "a", answer="y\n")
    assert code == DONE
    assert "'new': " not in screen
    assert list(kvsync.status(missing).missing) == ["new"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "accept needs keys or --all, and not both"),
        (["a", "--all"], "accept needs keys or --all, and not both"),
        (["b", "--yes"], "nothing is missing at 'b' here"),
    ],
)
def test_accept_refuses_what_is_not_missing(run: Run, missing: str, arguments: list[str], message: str) -> None:
    ended = run("accept", missing, *arguments)
    assert ended.code == USAGE
    assert message in ended.err


def test_secrets_in_the_names_of_peers_stay_out_of_sight(run: Run, pair: Pair) -> None:
    """Names of storages are without secrets already; one of an adapter of somebody else may not be."""
    other, _ = open_storage({})
    other.name = "redis://me:hunter2@host/0"
    kvsync.sync(pair[0], other, [Put("x", b"1")])
    for arguments in (["peers", pair[0]], ["peers", pair[0], "--json"], ["forget", pair[0], "nobody"]):
        ended = run(*arguments)
        assert "host" in ended.out + ended.err
        assert "hunter2" not in ended.out + ended.err
