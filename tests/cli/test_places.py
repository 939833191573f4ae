"""What a command creates, and the names that it takes for slips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from kvsync.cli.exitcodes import DONE, FAILED, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run: TypeAlias = Callable[..., Ended]
    Pair: TypeAlias = tuple[str, str]


def test_what_a_run_creates_is_told(run: Run, pair: Pair) -> None:
    assert "creates    the database 'app.db', the target" in run("plan", *pair).out
    assert "creates    the database 'app.db', the target" in run("sync", *pair, "--dry-run").out
    assert "created    the database 'app.db', the target" in run("sync", *pair).out
    assert run("sync", *pair, "--json").json["created"] == {}
    assert run("sync", "notes", "copy", "--json").json["created"] == {"target": "the folder 'copy'"}


@pytest.mark.parametrize("command", ["sync", "plan", "verify"])
def test_a_misspelt_table_is_never_an_empty_storage(run: Run, pair: Pair, command: str) -> None:
    run("sync", *pair)
    ended = run(command, "sqlite:///app.db?table=kw", "notes")
    assert ended.code == FAILED
    assert "the table 'kw' in 'app.db' does not exist" in ended.err
    assert "sqlite:///app.db?table=kw" in ended.err
    assert "nothing to do" in run("sync", *pair).out


def test_a_source_that_gets_changes_may_be_new(run: Run, pair: Pair) -> None:
    Path("changes").write_text('{"op":"put","key":"given","value":"1"}\n', encoding="utf-8")
    assert run("sync", "new", "notes").code == FAILED
    assert "created    the folder 'new', the source" in run("sync", "new", "notes", "--changes", "changes").out
    assert Path("notes/given").read_bytes() == b"1"
    assert run("commit", "sqlite:///other.db", "--changes", "changes").code == DONE
    assert pair


@pytest.mark.parametrize("name", ["~/x", " ", "rel.db", "127.0.0.1:6379", "host:4222", "app.sqlite"])
def test_a_slip_is_an_error_without_a_terminal(run: Run, pair: Pair, name: str) -> None:
    before = set(Path().rglob("*"))
    for command in ("sync", "plan"):
        for places in (("notes", name), (name, "notes")):
            ended = run(command, *places)
            assert ended.code == USAGE
            assert f"there is no folder {name!r}, and " in ended.err
            assert run(command, *places, "--json").error["kind"] == "usage"
    assert set(Path().rglob("*")) == before
    assert pair


def test_a_run_that_does_not_scan_gets_a_hint(run: Run, pair: Pair) -> None:
    for command in ("sync", "plan"):
        ended = run(command, *pair, "--no-scan")
        assert "  hint       neither storage has a log" in ended.out
        assert ended.err == ""
        assert "neither storage has a log" in run(command, *pair, "--no-scan", "--json").json["hint"]
    assert run("sync", *pair, "--json").json["hint"] is None


def test_a_database_within_the_folder_is_left_out(run: Run, pair: Pair) -> None:
    url = "sqlite:///notes/notes.db"
    assert "'notes.db-wal' in notes belong to the other storage, and are left out" in run("plan", pair[0], url).out
    assert "3 to the target, 0 to the source" in run("sync", pair[0], url).out
    assert "nothing to do" in run("sync", pair[0], url).out
    assert "its files are in the folder" in run("doctor", url).out
    assert run("doctor", url, "--json").json["notes"]
    assert run("doctor", pair[0], "--json").json["notes"] == []
