"""How commands end: the exit code, and an error of one to three lines on standard error."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.cli.exitcodes import BUDGET, CONFLICTS, DONE, FAILED, LOCKED, USAGE
from kvsync.environment import Environment
from kvsync.options import Options
from kvsync.process import UNKNOWN
from kvsync.run.lock import lock
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]


def assert_error(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended
    assert ended.out == ""
    assert 1 <= ended.err.count("\n") <= 3, ended.err
    assert ended.err.startswith("kvsync: error: ")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync"],
        ["sync", "notes"],
        ["plan", "notes", "copy", "third"],
        ["sync", "notes", "copy", "--nonsense"],
        ["sync", "notes", "copy", "--conflict", "mine"],
        ["sync", "notes", "copy", "--guard", "dog"],
        ["sync", "notes", "copy", "--max-delete", "many"],
        ["sync", "notes", "copy", "--max-delete", "-1"],
        ["sync", "notes", "copy", "--max-delete", "101%"],
        ["sync", "notes", "copy", "--lease-seconds", "0"],
        ["sync", "notes", "copy", "--lease-seconds", "nan"],
        ["sync", "notes", "copy", "--wait-seconds", "soon"],
        ["sync", "notes", "gopher://host/x"],
        ["sync", "notes", "sqlite://host/x.db"],
        ["sync", "notes", "file://relative"],
        ["sync", "", "notes"],
        ["sync", "notes", "some.db"],
        ["sync", "notes", "copy", "--changes", "no such file"],
        ["frobnicate"],
        ["unlock"],
        ["demo", "--folder", "no such folder"],
        ["demo", "--sqlite", "some.db"],
    ],
    ids=" ".join,
)
def test_usage(run: Run, pair: Pair, arguments: list[str]) -> None:
    Path("some.db").write_bytes(b"")
    assert_error(run(*arguments), USAGE, "next: ")
    if arguments[0] != "frobnicate":
        ended = run(*arguments, "--json")
        assert ended.code == USAGE
        assert ended.error["kind"] in {"usage", "same-storage"}
    assert not Path("copy").exists()
    assert not Path(pair[0], ".kvsync").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "notes", "notes"],
        ["sync", "notes", "./notes"],
        ["plan", "notes", "notes/../notes"],
        ["verify", "notes", "notes"],
    ],
    ids=" ".join,
)
def test_one_storage_twice(run: Run, pair: Pair, arguments: list[str]) -> None:
    assert_error(run(*arguments), USAGE, "source and target are the same storage; name two different ones")
    assert run(*arguments, "--json").error["kind"] == "same-storage"
    assert not Path(pair[0], ".kvsync").exists()


@pytest.mark.parametrize("command", ["sync", "commit"])
def test_a_change_of_a_value_that_is_nowhere_leaves_nothing_behind(run: Run, pair: Pair, command: str) -> None:
    """Nothing was done, says the exit code; a folder stayed, and two leases that said `interrupted`."""
    Path("changes").write_text('{"op":"put","key":"nowhere"}', encoding="utf-8")
    storages = [pair[0], "new/copy"] if command == "sync" else [pair[0]]
    assert_error(run(command, *storages, "--changes", "changes"), USAGE, "'nowhere'", "give the value")
    assert not Path("new").exists()
    assert not Path(pair[0], ".kvsync").exists()
    run("sync", pair[0], "copy")
    assert_error(run(command, *storages, "--changes", "changes"), USAGE, "'nowhere'")
    assert "lease      free\n" in run("status", pair[0]).out


def test_a_file_is_refused_with_the_url_of_a_database(run: Run, pair: Pair) -> None:
    Path("some.db").write_bytes(b"")
    assert_error(run("sync", *pair[:1], "some.db"), USAGE, "sqlite:///some.db")


@pytest.mark.parametrize("command", ["sync", "plan", "verify"])
@pytest.mark.parametrize("missing", ["gone", "file:///gone/for/good", "sqlite:///gone.db"])
def test_a_missing_source_is_never_an_empty_one(run: Run, pair: Pair, command: str, missing: str) -> None:
    assert_error(run(command, missing, pair[0]), FAILED, "does not exist: check the spelling", "gone")
    error = run(command, missing, pair[0], "--json").error
    assert error["kind"] == "storage"
    assert "gone" in error["storage"]
    assert not Path("gone.db").exists()


@pytest.mark.parametrize("command", ["commit", "status", "log", "compact", "unlock"])
def test_a_missing_storage(run: Run, pair: Pair, command: str) -> None:
    for missing in ("gone", "sqlite:///gone.db"):
        assert_error(run(command, missing), FAILED, "does not exist")
    assert not Path("gone").exists()
    assert not Path("gone.db").exists()
    assert pair


def test_verify_needs_both(run: Run, pair: Pair) -> None:
    assert_error(run("verify", *pair), FAILED, "the database 'app.db' does not exist")


def test_a_storage_that_fails(run: Run, pair: Pair) -> None:
    assert_error(run("sync", pair[0], "sqlite:///no/folder/x.db"), FAILED, "where: sqlite:///no/folder/x.db")
    Path("text.db").write_text("this is no database\n" * 100, encoding="utf-8")
    assert_error(run("sync", pair[0], "sqlite:///text.db"), FAILED, "where: sqlite:///text.db")


def test_conflicts_left(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("UPDATE kv SET value = x'00' WHERE key = 'a'")
    assert_error(run("sync", *pair, "--conflict", "fail"), CONFLICTS, "'a'", "--conflict latest")
    assert_error(run("plan", *pair, "--conflict", "fail"), CONFLICTS, "'a'")
    ended = run("sync", *pair, "--conflict", "fail", "--json")
    assert ended.code == CONFLICTS
    assert ended.error["kind"] == "conflict"
    assert [conflict["key"] for conflict in ended.error["conflicts"]] == ["a"]
    assert Path("notes/a").read_bytes() == b"mine"


def test_locked(run: Run, pair: Pair) -> None:
    storage, _ = open_storage(pair[0])
    with lock((storage,), Options(wait_seconds=0), Environment()):
        for arguments in (["sync", *pair], ["commit", pair[0]]):
            ended = run(*arguments, "--wait-seconds", "0")
            assert_error(ended, LOCKED, "locked by ", "where: notes", "kvsync unlock notes`")
        assert run("compact", pair[0], "--wait-seconds", "0").code == LOCKED
        error = run("sync", *pair, "--wait-seconds", "0", "--json").error
        assert error.keys() == {"kind", "message", "storage", "key", "owner", "expires"}
        assert (error["kind"], error["storage"]) == ("lock-held", "notes")
        assert error["expires"].endswith("Z")
        assert run("sync", *pair, "--dry-run").code == DONE
    assert run("sync", *pair).code == DONE


def test_a_lease_lost_during_a_run(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> None:
        message = "lost the lease"
        raise kvsync.LockLostError(message, storage="notes")

    monkeypatch.setattr("kvsync.api.sync", lose)
    assert_error(run("sync", *pair), LOCKED, "lost the lease", "run again")


def test_a_run_stopped_by_its_budget(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    for name in ("a", "b"):
        Path("notes", name).unlink()
    assert_error(run("sync", *pair, "--max-delete", "50%"), BUDGET, "2 of 3 keys", "where: notes", "--max-delete")
    assert_error(run("plan", *pair, "--max-delete", "50%"), BUDGET)
    assert_error(run("commit", pair[0], "--max-delete", "50%"), BUDGET)
    error = run("sync", *pair, "--max-delete", "50%", "--json").error
    assert (error["kind"], error["deleted"], error["overwritten"], error["known"]) == ("budget", ["a", "b"], [], 3)
    assert_error(run("sync", *pair, "--max-delete", "1"), BUDGET)
    assert run("sync", *pair, "--max-delete", "2").code == DONE


def test_the_error_of_the_budget_shows_how_to_go_on(run: Run, pair: Pair) -> None:
    """It named no key, and no command that shows them."""
    run("sync", *pair)
    for name in ("a", "b"):
        Path("notes", name).unlink()
    for options in (["--max-delete", "1"], ["--max-delete=1", "--json", "--dry-run"]):
        err = run("sync", *pair, "--conflict", "source", *options).err
        assert "more than --max-delete allows: 'a', 'b'\n" in err
        assert "`kvsync plan notes sqlite:///app.db --conflict source --max-delete 100%`" in err
    command = shlex.split(err.split("`")[1])[1:]
    assert [change["key"] for change in run(*command, "--json").json["to_target"]] == ["a", "b"]
    go_on = err.partition("run again with ")[2].split()
    assert run("sync", *pair, *go_on).code == DONE


def test_the_budget_of_a_commit_names_no_plan(run: Run, pair: Pair) -> None:
    run("commit", pair[0])
    Path("notes/a").unlink()
    assert_error(run("commit", pair[0], "--max-delete", "0"), BUDGET, "'a'", "run again with --max-delete 1")


def test_a_folder_that_lost_all_its_files(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    shutil.rmtree("notes/user")
    for name in ("a", "b"):
        Path("notes", name).unlink()
    again = "`kvsync verify notes OTHER --refill`"
    assert_error(run("sync", *pair), BUDGET, "all 3 keys are gone", "--max-delete='100%'", again)
    assert run("sync", *pair, "--max-delete", "100%").code == DONE


def test_a_folder_without_its_index_is_filled_again(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    shutil.rmtree("notes/user")
    shutil.rmtree("notes/.kvsync")
    for name in ("a", "b"):
        Path("notes", name).unlink()
    assert run("sync", *pair).code == DONE
    assert Path("notes/a").exists()


def test_a_damaged_index_is_named(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/.kvsync/manifest").write_bytes(b"nonsense")
    assert_error(run("sync", *pair), FAILED, "where: notes, index object manifest", "`kvsync verify notes --repair`")
    error = run("status", pair[0], "--json").error
    assert (error["kind"], error["name"]) == ("index-damaged", "manifest")


def test_unlock_takes_a_lease_that_cannot_be_read(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/.kvsync/lease").write_bytes(b"nonsense")
    assert_error(run("sync", *pair), FAILED, "index object lease", "`kvsync unlock notes`")
    assert run("unlock", pair[0], "--yes").code == DONE
    assert run("sync", *pair).code == DONE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "a", "b", "c"], "the command takes no further argument, but got 'c'"),
        (["sync", "a"], "TARGET is missing"),
        (["sync", "a", "b", "--changes"], "--changes needs a value"),
        (["sync", "a", "b", "--quite"], "unknown option --quite; did you mean --quiet?"),
        (["sync", "a", "b", "--xyzzy=1"], "unknown option --xyzzy\n"),
        (["sync", "a", "b", "--conflict", "lates"], "or fail, not 'lates'; did you mean latest?"),
        (["sync", "a", "b", "--wait-seconds", "soon"], "--wait-seconds must be a number, not 'soon'"),
        (["sync", "a", "b", "--json=3"], "--json must be given without a value, not '3'"),
        (["sync", "a", "b", "--quiet", "--quiet"], "--quiet is given twice"),
        (["snyc", "a", "b"], "unknown command 'snyc'; did you mean sync?; commands are sync, plan"),
        (["--quite", "sync", "a", "b"], "there is no command, or none that has the option '--quite'"),
        (["--force", "sync", "a", "b"], "there is no command, or none that has the option '--force'"),
        (["status", ""], "the name of a storage is empty"),
        (["status", "sqlite:///a.db?tabel=x"], "unknown parameter 'tabel' in the URL"),
    ],
    ids=" ".join,
)
def test_slips_are_told_in_plain_words(run: Run, arguments: list[str], words: str) -> None:
    ended = run(*arguments)
    assert ended.code == USAGE
    assert words in ended.err
    assert run(*arguments, "--json").error["kind"] == "usage"


def test_help_is_named_for_the_command(run: Run) -> None:
    assert_error(run("snyc", "a", "b"), USAGE, "`kvsync --help`", "did you mean sync?")
    assert_error(run("sync", "a"), USAGE, "`kvsync sync --help`")


def test_unlock_without_a_terminal_needs_yes(run: Run, pair: Pair) -> None:
    storage, _ = open_storage(pair[0])
    with lock((storage,), Options(wait_seconds=0), Environment(process=lambda: UNKNOWN)):
        assert_error(run("unlock", pair[0]), USAGE, "--yes", "cannot be seen from here", "where: notes")
        assert "lease      held by" in run("status", pair[0]).out


def test_an_unexpected_error(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        message = "redis://me:hunter2@host is odd"
        raise RuntimeError(message)

    monkeypatch.setattr("kvsync.api.sync", break_down)
    assert_error(run("sync", *pair), FAILED, "unexpected RuntimeError: redis://me:***@host", "KVSYNC_DEBUG=1")
    assert run("sync", *pair, "--json").error["kind"] == "internal"
    monkeypatch.setenv("KVSYNC_DEBUG", "1")
    ended = run("sync", *pair)
    assert "Traceback" in ended.err
    assert "hunter2" not in ended.err
