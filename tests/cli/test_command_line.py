"""The command as people use it: short options, any order, more than two storages, a diff, completion, a manual page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import PACKAGE_ROOT, rows, statement

from kvsync.cli.exitcodes import CONFLICTS, DONE, FAILED, USAGE
from kvsync.cli.output import Output
from kvsync.cli.progress import Pace, shown_progress, words_of
from kvsync.cli.verbs import VERBS
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
    Terminals = Callable[..., tuple[int, str]]


# The order of a command line


@pytest.mark.parametrize(
    "line",
    [
        ["-n", "sync", "{0}", "{1}"],
        ["sync", "-n", "{0}", "{1}"],
        ["sync", "{0}", "{1}", "-n"],
        ["--conflict", "source", "-n", "sync", "{0}", "{1}"],
        ["--conflict=source", "--dry-run", "sync", "{0}", "{1}"],
        # A file of the name of a command is no command.
        ["--changes", "log", "--scan", "-n", "sync", "{0}", "{1}"],
    ],
    ids=" ".join,
)
def test_options_may_stand_before_or_after_the_command(run: Run, pair: Pair, line: list[str]) -> None:
    Path("log").write_bytes(b"")
    ended = run(*(token.format(*pair) for token in line))
    assert ended.out.startswith("notes <-> sqlite:///app.db (dry run: nothing is written)\n"), ended
    assert not Path("app.db").exists()


def test_short_options(run: Run, pair: Pair) -> None:
    assert run("-V").out == run("--version").out
    assert run("sync", *pair, "-nq") == (DONE, "", "")
    assert run("sync", *pair, "-q") == (DONE, "", "")
    assert rows() == {"a": b"1", "b": b"22", "user/1": b"Ada"}
    assert "guarantee  T3" in run("-v", "sync", *pair).out
    assert "guarantee" not in "".join(run(*command).out for command in (["sync", *pair], ["status", pair[0]]))
    assert "guarantee  T3" in run("status", pair[0], "-v").out


def test_what_was_moved_key_by_key(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    statement("DELETE FROM kv WHERE key = 'a'")
    for number in range(30):
        Path(f"notes/n{number:02}").write_bytes(b"xyz")
    planned = run("plan", *pair, "-v")
    assert planned.out.count("    put      ") == 30
    ended = run("sync", *pair, "-v")
    lines = ended.out.splitlines()
    assert lines[:3] == [
        "notes <-> sqlite:///app.db",
        "  30 keys copied (90 B), 1 deleted",
        "  30 to the target, 1 to the source",
    ]
    assert lines[3:33] == [f"    put      'n{number:02}' (3 bytes) to the target" for number in range(30)]
    assert lines[33] == "    delete   'a' in the source"
    assert [line.split()[0] for line in lines[34:]] == ["found", "guarantee", "took"]


def test_the_summary_says_where_the_values_are_that_lost_a_conflict(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    out = run("sync", *pair, "--conflict", "source").out
    assert "  1 key copied (4 B), 1 conflict: kvsync lost sqlite:///app.db\n" in out
    assert "'a'" in run("lost", "sqlite:///app.db").out


@pytest.mark.parametrize("columns", [60, 80])
def test_lines_fit_into_a_narrow_terminal(run: Run, pair: Pair, columns: int) -> None:
    outs = [run("sync", *pair).out, run("plan", *pair).out, run("sync", *pair).out, run("status", pair[0]).out]
    assert max(len(line) for out in outs for line in out.splitlines()) <= columns


# More than two storages


def test_more_than_two_storages_are_equal_with_one_summary(run: Run, pair: Pair) -> None:
    Path("third").mkdir()
    Path("third/c").write_bytes(b"333")
    ended = run("sync", *pair, "third")
    assert (ended.code, ended.err) == (DONE, "")
    assert ended.out.splitlines()[:2] == ["notes <-> sqlite:///app.db, third", "  8 keys copied (18 B)"]
    assert rows() == {"a": b"1", "b": b"22", "user/1": b"Ada", "c": b"333"}
    assert Path("third/user/1").read_bytes() == b"Ada"
    assert run("sync", *pair, "third").out.splitlines()[1:] == ["  nothing to do"]


def test_of_many_one_that_fails_is_told_and_the_others_are_synced(run: Run, pair: Pair) -> None:
    ended = run("sync", pair[0], "redis://127.0.0.1:1/0", pair[1])
    assert ended.code == FAILED
    assert "kvsync: error: redis://127.0.0.1:1/0: cannot connect to " in ended.err
    assert rows() == {"a": b"1", "b": b"22", "user/1": b"Ada"}
    ended = run("sync", pair[0], "redis://127.0.0.1:1/0", pair[1], "--json")
    assert ended.json.keys() == {"hub", "equal", "bytes", "runs", "failures", "seconds"}
    ((failure),) = ended.json["failures"]
    assert (failure["storage"], failure["error"]["kind"]) == ("redis://127.0.0.1:1/0", "storage")
    assert [(each["source"], each["target"]) for each in ended.json["runs"]] == [pair]


def test_of_many_the_exit_code_tells_why_they_failed(run: Run, pair: Pair) -> None:
    run("sync", *pair, "third")
    Path("notes/a").write_bytes(b"mine")
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    assert run("sync", *pair, "third", "--conflict", "fail").code == CONFLICTS
    assert run("sync", *pair, "third", "--watch").code == USAGE
    assert run("sync", *pair, "third", "-n").out.startswith("notes <-> sqlite:///app.db, third (dry run: ")
    assert run("sync", *pair, "third", "-q").err.startswith("kvsync: notes <-> sqlite:///app.db\n  conflict   'a': ")


def test_changes_of_a_file_reach_all(run: Run, pair: Pair) -> None:
    Path("changes").write_text('{"op":"put","key":"new","value":"1"}\n', encoding="utf-8")
    assert run("sync", *pair, "third", "--changes", "changes").code == DONE
    assert rows() == {"new": b"1"}
    assert [path.name for path in Path("third").iterdir() if path.is_file()] == ["new"]


# The diff of one key


def test_the_diff_of_a_text(run: Run, pair: Pair) -> None:
    Path("notes/t").write_text("one\ntwo\nthree\n", encoding="utf-8")
    run("sync", *pair)
    statement("UPDATE kv SET value = CAST('one\n2\nthree' AS BLOB) WHERE key = 't'")
    assert run("plan", *pair, "--diff", "t").out.splitlines() == [
        "notes <-> sqlite:///app.db (plan: nothing is written)",
        "  't' would change in the source",
        "--- notes",
        "+++ sqlite:///app.db",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two",
        "-three",
        "+2",
        "+three",
    ]
    answer = run("plan", *pair, "--diff", "t", "--json").json
    assert answer.keys() == {"source", "target", "key", "to", "in_source", "in_target", "text"}
    assert (answer["to"], answer["in_source"]["size"], answer["text"][4]) == ("source", 14, "-two")


def test_the_diff_of_what_is_no_text_is_sizes_and_digests(run: Run, pair: Pair) -> None:
    Path("notes/b").write_bytes(b"\xff\xfe")
    Path("notes/large").write_bytes(b"x" * (3 << 20))
    out = run("plan", *pair, "--diff", "b").out
    assert re.search(r"  source     2 bytes, [0-9a-f]{16}\n  target     nothing\n", out)
    assert "  source     3,145,728 bytes, " in run("plan", *pair, "--diff", "large").out
    assert "  nothing would change at 'none'\n" in run("plan", *pair, "--diff", "none").out
    run("sync", *pair)
    Path("changes").write_text('{"op":"put","key":"a","value":"given\\n"}\n', encoding="utf-8")
    out = run("plan", *pair, "--diff", "a", "--changes", "changes").out
    assert out.splitlines()[2:] == ["--- sqlite:///app.db", "+++ notes", "@@ -1 +1 @@", "-1", "+given"]


# Progress


def test_the_words_of_progress_have_bytes_rate_and_time_left() -> None:
    pace, moved = Pace(), Progress("push", 10, 40, 1_000_000, 5_000_000, "notes")
    assert pace.words(moved, 10.0) == ""
    later = moved._replace(done=20, bytes_done=3_000_000)
    assert words_of(later) + pace.words(later, 12.0) == "to target: 20 of 40, 3.0 MB of 5.0 MB, 1.0 MB/s, 2 s left"
    other = Progress("pull", 1, 2, 1, 2, "notes")
    assert pace.words(other, 13.0) == "", "a step begins anew"
    assert words_of(Progress("pull", 1, 2)) == "to source: 1 of 2"


def test_a_run_that_waits_says_for_whom(run: Run, pair: Pair) -> None:
    storage, _ = open_storage(pair[0])
    with lock((storage,), Options(wait_seconds=0), Environment(process=lambda: UNKNOWN)):
        ended = run("sync", *pair, "--wait-seconds", "0.2")
    assert ended.err.splitlines()[0] == "kvsync: waiting for the lease of notes"
    assert ended.err.count("waiting for the lease") == 1


def test_progress_on_a_dumb_terminal_is_lines(on_terminal: Terminals, pair: Pair) -> None:
    code, shown = on_terminal("sync", *pair, variables={"TERM": "dumb"})
    assert (code, "\x1b" in shown) == (0, False)
    assert "3 keys copied (6 B)" in shown


def test_a_bar_fits_into_sixty_columns(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    ticks = iter(range(1000))
    with shown_progress(Output(), monotonic=lambda: float(next(ticks))) as report:
        assert report is not None
        for done in range(20):
            report(Progress("push", done * 50_000, 1_000_000, done * 50_000_000_000, 10**12, "s3://bucket/" + "x" * 99))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", capfd.readouterr().err)
    assert "to target: " in shown
    assert max(len(line) for line in re.split(r"[\r\n]", shown)) <= 60


# Completion and the manual page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(run: Run, shell: str) -> None:
    script = run("completion", shell).out
    for word in (*VERBS, "--conflict", "keep-both"):
        assert word.removeprefix("--") in script, word
    assert run("completion", shell, "--json").json["script"] == script


def test_bash_takes_the_script(run: Run, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(run("completion", "bash").out, encoding="utf-8")
    test = (
        f"source {tmp_path}/script; COMP_WORDS=(kvsync sync --conf); COMP_CWORD=2; _kvsync; echo ${{COMPREPLY[@]}};"
        "COMP_WORDS=(kvsync sy); COMP_CWORD=1; _kvsync; echo ${COMPREPLY[@]};"
        "COMP_WORDS=(kvsync sync --scan --conf); COMP_CWORD=3; _kvsync; echo ${COMPREPLY[@]}"
    )
    ended = subprocess.run(["bash", "-c", test], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["--conflict", "sync", "--conflict"]


def test_the_manual_page_has_each_command_and_option_of_the_help(run: Run) -> None:
    page = run("man").out
    assert page.startswith(".TH KVSYNC 1 ")
    plain = page.replace(r"\-", "-").replace(r"\(aq", "'")
    for verb in VERBS:
        assert f".SS kvsync {verb} " in plain or f".SS kvsync {verb}\n" in plain
        for option in re.findall(r"--[a-z][a-z-]+", run(verb, "--help").out):
            assert option in plain, (verb, option)
    assert not [line for line in page.splitlines() if line.startswith("'") or re.match(r"\.(?![A-Z]{1,2}\b)", line)]


def test_the_help_fits_into_sixty_columns() -> None:
    environment = {"PYTHONPATH": PACKAGE_ROOT, "COLUMNS": "60", "PATH": "", "TERM": "dumb", "PYTHONUTF8": "1"}
    for arguments in (["--help"], ["sync", "--help"], ["run", "--help"]):
        ended = subprocess.run(
            [sys.executable, "-m", "kvsync", *arguments], capture_output=True, text=True, check=True, env=environment
        )
        assert max(map(len, ended.stdout.splitlines())) <= 60
        assert "\x1b" not in ended.stdout
