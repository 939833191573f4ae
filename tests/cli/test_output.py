"""What reaches the terminal: no secrets, no control characters, no unwanted colours."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import PACKAGE_ROOT

from kvsync.cli.output import Output, printable, write_line
from kvsync.cli.progress import shown_progress
from kvsync.environment import Environment
from kvsync.options import Options
from kvsync.process import UNKNOWN
from kvsync.result import Progress
from kvsync.run.lock import lock
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]
    Launch = Callable[..., subprocess.Popen[str]]
    Terminals = Callable[..., tuple[int, str]]

SECRET = "hunter2"
ENVIRONMENT = {**os.environ, "PYTHONPATH": PACKAGE_ROOT}


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "redis://me:hunter2@host/0", "notes"],
        ["sync", "notes", "gopher://host/?token=hunter2"],
        ["sync", "notes", "copy", "redis://me:hunter2@host/0"],
        ["sync", "notes", "copy", "--conflict", "redis://me:hunter2@host/0"],
        ["status", "sqlite:///x.db?password=hunter2"],
        ["redis://me:hunter2@host/0"],
        ["sync", "redis://me:hun'hunter2@host/0", "notes"],
        ["sync", "notes", "redis://me:a hunter2@host/0"],
        ["sync", "notes", "redis://me:a'b\"hunter2@host/0"],
        ["sync", "notes", "redis://u:p@ss/hunter2@h/0"],
        ["status", "redis://u:12?hunter2@h/0"],
        ["plan", "notes", "postgresql://u:12#hunter2@h/0"],
        ["doctor", "s3://bucket?sas=hunter2"],
        ["sync", "notes", "copy", "redis:u:hunter2@h"],
        ["sync", "notes", "redis:/u:hunter2@h"],
        ["status", "u:hunter2@h/db"],
        ["status", "rediss;//u:p@hunter2@h"],
        ["lost", "notes", "key", "nats://u:a/hunter2@h/b"],
    ],
    ids=" ".join,
)
def test_no_secret_in_an_error(run: Run, pair: Pair, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for debug in ("", "1"):
        monkeypatch.setenv("KVSYNC_DEBUG", debug)
        for ended in (run(*arguments), run(*arguments, "--json")):
            assert ended.code in {1, 2}
            assert SECRET not in ended.out + ended.err
    assert pair


HOSTILE = ["a\x1b[31mred", "new\nline", "bell\x07", "right\u202eleft", "[bold]x", ":smile:", "é😀", "\\x1b"]


def test_hostile_keys_reach_the_terminal_escaped(run: Run, pair: Pair) -> None:
    for key in HOSTILE:
        Path("notes", key).write_bytes(b"x")
    commands = [run("plan", *pair), run("sync", *pair), run("log", pair[0])]
    Path("notes", HOSTILE[0]).write_bytes(b"changed")
    commands += [run("verify", *pair), run("sync", *pair, "--conflict", "keep-both"), run("log", pair[1])]
    for ended in commands:
        assert all(c.isprintable() or c == "\n" for c in ended.out + ended.err)
    for key in HOSTILE:
        assert repr(key) in commands[0].out
        assert repr(key) in commands[2].out
    keys = {change["key"] for change in run("log", pair[0], "--json").json["changes"]}
    assert set(HOSTILE) < keys
    assert run("plan", *pair, "--json").out.isascii()


def test_a_hostile_folder_name(run: Run, pair: Pair) -> None:
    Path(pair[0]).rename("no\x1b[2Jtes")
    ended = run("sync", "no\x1b[2Jtes", pair[1])
    assert r"no\x1b[2Jtes <-> " in ended.out
    assert "\x1b" not in run("sync", "other\x1b[2J", pair[1]).err


def test_printable() -> None:
    assert printable("plain é 😀") == "plain é 😀"
    assert printable("\ud800\x9b\u2028") == r"\ud800\x9b\u2028"


def test_characters_that_the_encoding_lacks_are_escaped(spawn: Run, pair: Pair) -> None:
    Path("notes/é😀").write_bytes(b"x")
    ended = spawn("plan", *pair, variables={"PYTHONIOENCODING": "ascii:strict"})
    assert ended.code == 0
    assert r"'\xe9\U0001f600'" in ended.out


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_no_color(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, coloured: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    write_line(stream, "text", "good")
    assert ("\x1b[32m" in stream.getvalue()) is coloured


def test_progress_without_a_terminal_is_a_line_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    ticks = iter(range(100))
    with shown_progress(Output(), monotonic=lambda: next(ticks)) as report:
        assert report is not None
        for done in range(20):
            report(Progress("push", done, 20))
    out, err = capfd.readouterr()
    assert out == ""
    assert 1 <= err.count("\n") <= 6
    assert err.startswith("kvsync: to target: ")
    with shown_progress(Output(quiet=True)) as report:
        assert report is None


def test_unlock_asks_on_a_terminal(on_terminal: Terminals, pair: Pair) -> None:
    storage, _ = open_storage(pair[0])
    lease = lock((storage,), Options(wait_seconds=0), Environment(process=lambda: UNKNOWN))
    lease.__enter__()
    code, shown = on_terminal("unlock", pair[0], answer="n\n")
    assert code == 1
    assert "held by" in shown
    assert "not unlocked" in shown
    code, shown = on_terminal("unlock", pair[0], answer="y\n")
    assert code == 0
    assert "unlocked" in shown


@pytest.mark.parametrize(("answer", "code"), [("n\n", 2), ("\n", 2), ("y\n", 0)])
def test_a_terminal_is_asked_about_a_slip(on_terminal: Terminals, pair: Pair, answer: str, code: int) -> None:
    ended, shown = on_terminal("sync", pair[0], "rel.db", answer=answer)
    assert "it looks like a SQLite database: write sqlite:///rel.db" in shown
    assert "Make a folder of exactly that name? [y/N]" in shown
    assert ended == code
    assert Path("rel.db/a").exists() is (code == 0)


def test_a_plan_asks_nothing(on_terminal: Terminals, pair: Pair) -> None:
    code, shown = on_terminal("plan", pair[0], "rel.db")
    assert code == 2
    assert "[y/N]" not in shown


def test_a_terminal_gets_a_bar_and_with_no_color_no_colours(on_terminal: Terminals, pair: Pair) -> None:
    code, shown = on_terminal("sync", *pair, variables={"NO_COLOR": "1"})
    assert code == 0
    assert "3 to the target" in shown
    assert "\x1b[3" not in shown


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
def test_a_full_disk_below_the_output_is_no_failure_of_a_storage(pair: Pair, json: list[str]) -> None:
    """As JSON it ended in a traceback; as text it said that no space is left, and not where."""
    command = [sys.executable, "-m", "kvsync", "sync", *pair, *json]
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT)
    assert ended.returncode == 1
    assert ended.stderr.startswith("kvsync: error: what was done cannot be told, since the output cannot be written")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_that_is_started_with_closed_streams_does_its_work(pair: Pair, closed: str) -> None:
    """It failed with an AttributeError once all was done."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "kvsync", "sync", *pair]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert (ended.returncode, "error" in ended.stderr) == (0, False)
    command[-3:] = ["verify", "notes", "--repair"]
    Path("notes/.kvsync/manifest").write_bytes(b"damaged")
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert (ended.returncode, "AttributeError" in ended.stderr) == (2, False)


def test_a_command_ends_quietly_when_its_reader_goes_away(launch: Launch, pair: Pair) -> None:
    child = launch("log", pair[0], "--json")
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.wait(60) == 141
    assert child.stderr.read() == ""
