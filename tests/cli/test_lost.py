"""`kvsync lost` and `kvsync restore`: a value that lost a conflict can be had back from the shell."""

from __future__ import annotations

import base64
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvsync.cli.exitcodes import DONE, FAILED, LOCKED, USAGE
from kvsync.environment import Environment
from kvsync.options import Options
from kvsync.run.lock import lock
from kvsync.storages import open_storage
from kvsync.types import ANY

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]
    Launch = Callable[..., subprocess.Popen[str]]
    Terminals = Callable[..., tuple[int, str]]

THEIRS = bytes(range(256)) + b"\r\n"


def row(key: str) -> bytes:
    with closing(sqlite3.connect("app.db")) as connection:
        (value,) = connection.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        assert isinstance(value, bytes)
        return value


@pytest.fixture
def lost_in_sqlite(run: Run, pair: Pair) -> str:
    """Return the URL of a database that keeps its losing value of the key `a`; the folder has won."""
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("UPDATE kv SET value = ? WHERE key = 'a'", (THEIRS,))
    assert run("sync", *pair, "--conflict", "source").code == DONE
    return pair[1]


def test_the_message_of_a_conflict_names_the_command_to_type(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("UPDATE kv SET value = x'00' WHERE key = 'a'")
    said = run("sync", *pair, "--conflict", "target").out
    assert "the target wins; the other value is kept, and `kvsync restore notes a` puts it back" in said
    command = shlex.split(said.partition("`")[2].partition("`")[0])
    assert run(*command[1:]).code == DONE
    assert run("sync", *pair).code == DONE
    assert row("a") == b"mine"


def test_the_json_of_a_conflict_names_it_too(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("UPDATE kv SET value = x'00' WHERE key = 'a'")
    (conflict,) = run("sync", *pair, "--conflict", "source", "--json").json["conflicts"]
    (command,) = conflict["restore"]
    assert command.startswith("kvsync restore sqlite:///app.db a --from ")
    assert run(*shlex.split(command)[1:]).code == DONE
    assert row("a") == b"\0"


def test_restoring_is_a_change_that_the_next_sync_moves_and_can_be_undone(
    run: Run, pair: Pair, lost_in_sqlite: str
) -> None:
    ended = run("restore", lost_in_sqlite, "a")
    assert (ended.code, ended.err) == (DONE, "")
    assert "'a' has its value of 2" in ended.out
    assert row("a") == THEIRS
    assert run("sync", *pair, "--json").json["pulled"] == 1
    assert Path("notes/a").read_bytes() == THEIRS
    assert run("restore", lost_in_sqlite, "a").code == DONE
    assert run("sync", *pair).code == DONE
    assert Path("notes/a").read_bytes() == b"mine"
    assert run("verify", *pair).code == DONE


def test_lost_lists(run: Run, lost_in_sqlite: str) -> None:
    answer = run("lost", lost_in_sqlite, "--json").json
    (value,) = answer["lost"]
    assert answer["storage"] == lost_in_sqlite
    assert value.keys() == {"id", "key", "time", "stamp", "origin", "size", "digest"}
    assert (value["key"], value["size"]) == ("a", len(THEIRS))
    line = run("lost", lost_in_sqlite).out
    assert line == f"{value['id']}  {value['time']}  {len(THEIRS):>10,} B  'a'\n"
    (value,) = run("lost", lost_in_sqlite, "a", "--json").json["lost"]
    assert base64.b64decode(value["value_base64"]) == THEIRS
    assert run("lost", "notes").err == "no value that lost a conflict is kept in notes\n"
    assert run("lost", "notes", "--json").json == {"storage": "notes", "lost": []}


def test_lost_writes_a_value_byte_by_byte(launch: Launch, run: Run, lost_in_sqlite: str) -> None:
    with Path("piped").open("wb") as file:
        assert launch("lost", lost_in_sqlite, "a", stdout=file).wait(60) == DONE
    assert Path("piped").read_bytes() == THEIRS
    assert run("lost", lost_in_sqlite, "a", "--output", "file").code == DONE
    assert Path("file").read_bytes() == THEIRS
    answer = run("lost", lost_in_sqlite, "a", "--output", "file", "--json").json
    assert (answer["output"], answer["lost"][0]["key"]) == ("file", "a")
    refused = run("lost", lost_in_sqlite, "a", "--output", "no/such/folder")
    assert refused.code == USAGE
    assert "cannot write no/such/folder: No such file or directory" in refused.err


def test_which_value_is_meant(run: Run, pair: Pair, lost_in_sqlite: str) -> None:
    run("restore", lost_in_sqlite, "a")
    newer, older = (v["id"] for v in reversed(run("lost", lost_in_sqlite, "a", "--json").json["lost"]))
    for given in (older, older[:-2]):
        assert run("lost", lost_in_sqlite, "a", "--from", given, "--output", "file").code == DONE
        assert Path("file").read_bytes() == THEIRS
    assert run("restore", lost_in_sqlite, "a", "--from", newer).code == DONE
    assert row("a") == b"mine"
    many = run("restore", lost_in_sqlite, "a", "--from", "0")
    assert many.code == USAGE
    assert "values of 'a' are kept with an id that begins with '0'; give more of it" in many.err
    none = run("restore", lost_in_sqlite, "a", "--from", "f")
    assert none.code == USAGE
    assert "no value of 'a' that lost a conflict is kept here with an id that begins with 'f'" in none.err
    assert "see `kvsync lost sqlite:///app.db`" in none.err
    assert pair


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["restore", "notes", "a"], "no value of 'a' that lost a conflict is kept here"),
        (["restore", "notes"], "KEY is missing"),
        (["lost", "notes", "a", "--output", "x"], "no value of 'a' that lost a conflict is kept here"),
        (["lost", "notes", "--output", "x"], "--output needs a KEY"),
        (["lost", "notes", "--from", "x"], "--from needs a KEY"),
        (["lost", "notes", "--discard"], "--discard needs a KEY or --all"),
        (["lost", "notes", "a", "--discard", "--all"], "and not both"),
        (["lost", "notes", "--all"], "--all goes with --discard"),
        (["lost", "notes", "a", "--json", "--output", "-"], "choose one"),
        (["lost", "notes", "a", "--discard", "--output", "x"], "choose --output or --discard"),
    ],
    ids=" ".join,
)
def test_slips(run: Run, pair: Pair, arguments: list[str], words: str) -> None:
    ended = run(*arguments)
    assert ended.code == USAGE
    assert words in ended.err
    if "--json" not in arguments:
        assert run(*arguments, "--json").error["kind"] == "usage"
    assert not Path("x").exists()
    assert pair


def test_discarding_asks_first(run: Run, lost_in_sqlite: str) -> None:
    refused = run("lost", lost_in_sqlite, "a", "--discard")
    assert refused.code == USAGE
    assert "pass --yes" in refused.err
    assert len(run("lost", lost_in_sqlite, "--json").json["lost"]) == 1
    assert run("lost", lost_in_sqlite, "b", "--discard", "--yes", "--json").json["discarded"] == 0
    assert run("lost", lost_in_sqlite, "a", "--discard", "--yes", "--json").json["discarded"] == 1
    assert run("lost", lost_in_sqlite, "--json").json["lost"] == []
    assert run("lost", lost_in_sqlite, "--discard", "--all", "--json").json["discarded"] == 0


def test_what_is_damaged_is_named_after_all_others(run: Run, pair: Pair, lost_in_sqlite: str) -> None:
    (value,) = run("lost", lost_in_sqlite, "--json").json["lost"]
    storage, _ = open_storage(lost_in_sqlite)
    name = f"lost/{int(value['id'][:16], 16) - 1:016x}{value['id'][16:]}"
    storage.store(name, b"nonsense", ANY)
    storage.close()
    ended = run("lost", lost_in_sqlite)
    assert ended.code == FAILED
    assert value["id"] in ended.out
    assert f"index object {name}" in ended.err
    assert "all else is intact" in ended.err
    assert run("restore", lost_in_sqlite, "a").code == DONE
    assert run("sync", *pair).code == DONE


def test_restoring_needs_the_lease(run: Run, lost_in_sqlite: str) -> None:
    storage, _ = open_storage(lost_in_sqlite)
    with lock((storage,), Options(wait_seconds=0), Environment()):
        assert run("restore", lost_in_sqlite, "a", "--wait-seconds", "0").code == LOCKED
    storage.close()
    assert row("a") == b"mine"


def test_a_key_that_begins_with_a_dash_or_holds_spaces(run: Run, pair: Pair) -> None:
    for name in ("-rf", "two words"):
        Path("notes", name).write_bytes(b"old")
    run("sync", *pair)
    for name in ("-rf", "two words"):
        Path("notes", name).write_bytes(b"mine")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("UPDATE kv SET value = x'00' WHERE key IN ('-rf', 'two words')")
    said = run("sync", *pair, "--conflict", "source").out
    for line in (line for line in said.splitlines() if "`" in line):
        assert run(*shlex.split(line.split("`")[1])[1:]).code == DONE
    assert row("-rf") == row("two words") == b"\0"


def test_on_a_terminal(on_terminal: Terminals, run: Run, lost_in_sqlite: str) -> None:
    code, shown = on_terminal("lost", lost_in_sqlite, "a")
    assert code == DONE
    assert f"{len(THEIRS)} B" in shown
    assert "\0" not in shown
    code, shown = on_terminal("lost", lost_in_sqlite, "--discard", "--all", answer="n\n")
    assert code == FAILED
    assert "Remove 1 value for good? [y/N]" in shown
    assert len(run("lost", lost_in_sqlite, "--json").json["lost"]) == 1
    code, shown = on_terminal("lost", lost_in_sqlite, "--discard", "--all", answer="y\n")
    assert code == DONE
    assert run("lost", lost_in_sqlite, "--json").json["lost"] == []


def test_restoring_to_and_fro_keeps_each_value_once(run: Run, lost_in_sqlite: str) -> None:
    """Each time added a copy of a value that was kept already."""
    for expected in (THEIRS, b"mine", THEIRS, b"mine", THEIRS):
        assert run("restore", lost_in_sqlite, "a").code == DONE
        assert row("a") == expected
    kept = run("lost", lost_in_sqlite, "a", "--json").json["lost"]
    values = [base64.b64decode(lost["value_base64"]) for lost in kept]
    assert sorted(values) == sorted([THEIRS, b"mine"])


def test_a_restore_that_is_refused_speaks_of_no_other_changes(run: Run, lost_in_sqlite: str) -> None:
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("CREATE TRIGGER no BEFORE UPDATE ON kv BEGIN SELECT RAISE(ABORT, 'not now'); END")
    said = run("restore", lost_in_sqlite, "a")
    assert said.code == FAILED
    assert "not now" in said.err
    assert "other changes" not in said.err
