"""`kvsync.toml`: names of storages, pairs and groups, and what is told where something in it is wrong."""

from __future__ import annotations

import json
import os
import tomllib
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from variants import amount

import kvsync
from kvsync.cli.exitcodes import BUDGET, DONE, FAILED, USAGE
from kvsync.cli.init import quoted
from kvsync.config import found_file
from kvsync.config.file import option_names, read
from kvsync.config.places import place_of
from kvsync.options import Options
from kvsync.storages.url import parse_url, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]
    Terminals = Callable[..., tuple[int, str]]

FILE = """\
[storages]
files = "notes"
app = "sqlite:///app.db"
copy = { url = "sqlite:///copy.db", table = "kept" }

[pairs.notes]
source = "files"
target = "app"
conflict = "keep-both"

[pairs.backup]
source = "app"
target = "copy"

[groups]
nightly = ["notes", "backup"]
"""


@pytest.fixture
def file(pair: Pair) -> Path:
    assert pair
    path = Path("kvsync.toml")
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_pair_is_synced_by_its_name(run: Run, file: Path) -> None:
    ended = run("run", "notes")
    assert (ended.code, ended.err) == (DONE, "")
    assert ended.out.splitlines()[:2] == ["notes: files <-> app", "  3 keys copied (6 B)"]
    assert len(kvsync.log("sqlite:///app.db")) == 3
    assert run("run", "notes").out.splitlines()[1:] == ["  nothing to do"]
    assert file.exists()


def test_all_pairs_run_in_the_order_of_the_file_and_a_group_in_its_own(run: Run, file: Path) -> None:
    for arguments in (["--all"], ["nightly"], ["nightly", "notes"]):
        answer = run("run", *arguments, "--json").json
        assert [(each["pair"], each["source"], each["target"]) for each in answer["pairs"]] == [
            ("notes", "files", "app"),
            ("backup", "app", "copy"),
        ]
    assert len(kvsync.log("sqlite:///copy.db?table=kept")) == 3
    assert file.exists()


def test_a_dry_run_of_a_pair_writes_nothing(run: Run, file: Path) -> None:
    ended = run("-v", "run", "notes", "-n")
    assert "notes: files <-> app (dry run: nothing is written)" in ended.out
    assert "    put      'user/1' (3 bytes) to the target" in ended.out
    assert not Path("app.db").exists()
    assert file.exists()


BAD = """
[pairs.unknown]
source = "files"
target = "ap"

[pairs.misspelt]
source = "files"
target = "app"
conflct = "latest"

[pairs.wrong]
source = "files"
target = "app"
conflict = "newest"

[pairs.text]
source = "files"
target = "app"
keep_lost = "no"

[pairs.half]
source = "files"

[pairs.gone]
source = "./gone"
target = "app"

[pairs.last]
source = "./notes"
target = "sqlite:///last.db"
"""

PROBLEMS = {
    "unknown": "there is no storage 'ap', which [pairs.unknown] names; did you mean app?",
    "misspelt": "unknown key 'conflct' in [pairs.misspelt]; did you mean conflict?",
    "wrong": "[pairs.wrong]: unknown conflict policy 'newest'; choose one of latest, source",
    "text": "[pairs.text]: keep_lost must be true or false, not 'no'",
    "half": "[pairs.half] needs target: the name of a storage",
    "gone": "does not exist: check the spelling",
}


def test_a_pair_that_is_wrong_or_fails_stops_none_of_the_others(run: Run, file: Path) -> None:
    file.write_text(FILE + BAD, encoding="utf-8")
    ended = run("run", "--all", "--json")
    assert ended.code == FAILED, "they failed for different reasons"
    pairs = {each["pair"]: each for each in ended.json["pairs"]}
    assert {name for name, each in pairs.items() if "error" in each} == PROBLEMS.keys()
    for name, problem in PROBLEMS.items():
        assert problem in pairs[name]["error"]["message"]
        assert f"error: {name}: " in ended.err
    assert pairs["last"]["pushed"] == 3
    assert "warning: 6 of 9 pairs failed" in ended.err
    assert run("run", "unknown", "half").code == USAGE, "they failed for the same reason"


def test_pairs_shows_the_file_and_what_is_wrong_with_it(run: Run, file: Path) -> None:
    ended = run("pairs")
    assert (ended.code, ended.err) == (DONE, "")
    assert "  pair     notes    files <-> app, conflict=keep-both" in ended.out
    assert "  storage  copy     sqlite:///copy.db?table=kept" in ended.out
    assert "  group    nightly  notes, backup" in ended.out
    file.write_text(FILE + BAD + "[storages.x]\nurl = 5\n", encoding="utf-8")
    ended = run("pairs", "--json")
    assert ended.code == USAGE
    assert ended.json.keys() == {"config", "storages", "pairs", "groups", "problems"}
    assert len(ended.json["problems"]) == 6
    assert ended.json["pairs"][0] == {
        "name": "notes",
        "source": "files",
        "target": "app",
        "options": {"conflict": "keep-both"},
        "problem": None,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[storage]\n", "unknown key 'storage'; did you mean storages?"),
        ("[storages]\n'a/b' = 'x'\n", "'a/b' in [storages] cannot be a name"),
        ("pairs = 5\n", "pairs must be a table"),
        ("[pairs.a]\n[groups]\na = []\n", "'a' is a pair and a group"),
        ("[storages\n", "is no TOML: "),
        ("\0", "is no TOML: "),
    ],
)
def test_a_file_whose_outline_is_wrong_is_an_error(run: Run, file: Path, text: str, problem: str) -> None:
    file.write_text(text, encoding="utf-8")
    for command in (["pairs"], ["run", "--all"]):
        ended = run(*command)
        assert ended.code == USAGE
        assert problem in ended.err


def test_every_option_of_a_run_can_stand_in_the_file() -> None:
    """The file knows no options of its own: what is declared as an option of a run is one of a pair."""
    assert set(option_names()) == set(Options.__dataclass_fields__) - {
        *("on_progress", "cancel"),
        *(name for name, field in Options.__dataclass_fields__.items() if not field.init),
    }
    assert {"direction", "conflict", "max_bytes", "keep_lost", "tombstone_grace"} <= set(option_names())


def test_every_option_of_the_file_is_one_of_the_function_that_makes_the_run() -> None:
    assert set(option_names()) <= signature(kvsync.sync).parameters.keys()


def test_a_name_is_taken_wherever_a_storage_is_named(run: Run, file: Path) -> None:
    run("run", "--all")
    Path("notes/a").write_bytes(b"changed")
    assert "files <-> app" in run("sync", "files", "app").out
    assert run("status", "app").out.startswith("app\n")
    for verb in ("doctor", "log", "lost", "peers", "compact", "unlock", "verify", "commit"):
        assert run(verb, "app").code == DONE, verb
    assert run("verify", "files", "app", "--json").json["equal"]
    assert "nothing to do" in run("plan", "files", "./notes/../app.db").out or file.exists()
    assert run("status", "ap").err.startswith("kvsync: error: the folder 'ap' does not exist")


def test_storages_are_named_where_their_ids_were(run: Run, file: Path) -> None:
    run("run", "notes")
    assert "  peers      files\n" in run("status", "app").out
    assert "  knows      changes of files up to " in run("status", "app").out
    assert "  files                    put 1 B  'a'" in run("log", "app").out
    answer = run("status", "app", "--json").json
    assert answer["names"][answer["peers"][0]] == "files"
    assert "files" in run("log", "app", "--json").json["names"].values()
    assert run("forget", "app", "files").code == DONE
    assert file.exists()


def test_an_error_tells_the_name_and_no_secret(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunt:er2@/?#%")
    text = '[storages]\nfiles = "notes"\ncache = { url = "redis://me@127.0.0.1:1/0", password = "${SECRET}" }\n'
    file.write_text(text + '[pairs.p]\nsource = "files"\ntarget = "cache"\n', encoding="utf-8")
    for debug in ("", "1"):
        monkeypatch.setenv("KVSYNC_DEBUG", debug)
        for command in (["run", "p"], ["sync", "files", "cache"], ["status", "cache"], ["run", "p", "--json"]):
            ended = run(*command)
            assert ended.code == FAILED
            assert "hunt" not in ended.out + ended.err
            assert "where: cache\n" in ended.err
    assert "hunt" not in run("pairs").out


def test_a_name_that_is_also_that_of_another_folder_has_to_be_told_apart(run: Run, file: Path) -> None:
    run("run", "notes")
    Path("app").mkdir()
    for command in (["status", "app"], ["sync", "files", "app"]):
        ended = run(*command)
        assert ended.code == USAGE
        assert "write ./app for that, or give --config" in ended.err
    assert run("status", "./app", "--json").json["replica"] is None
    assert run("status", "app", "--config", file, "--json").json["replica"] is not None
    assert run(f"--config={file}", "status", "app").code == DONE
    # The storage itself is no other folder.
    file.write_text('[storages]\nnotes = "notes"\n', encoding="utf-8")
    assert run("status", "notes").code == DONE


def test_the_file_is_found_upwards_and_its_paths_begin_there(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = file.resolve().parent
    (top / "a/b").mkdir(parents=True)
    monkeypatch.chdir(top / "a/b")
    assert found_file() == str(top / "kvsync.toml")
    assert run("run", "--all").code == DONE
    assert (top / "app.db").exists()
    assert not list((top / "a/b").iterdir())
    assert "3 changes" in run("status", "files").out
    monkeypatch.chdir("/")
    assert "there is no kvsync.toml here or in a folder above" in run("run", "--all").err
    assert run("run", "--all", "--config", top / "kvsync.toml").code == DONE
    assert "cannot be read: No such file" in run("pairs", "--config", "/nowhere.toml").err
    assert "--config needs the path of a file" in run("pairs", "--config").err


def test_a_file_that_others_may_write_is_not_trusted(run: Run, file: Path) -> None:
    """Whoever writes it can have commands run."""
    file.chmod(0o666)
    ended = run("run", "--all")
    assert ended.code == USAGE
    assert "anybody may write" in ended.err
    assert run("status", "./notes").code == DONE, "no name, so nobody asks the file"
    file.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        assert "belongs to another user" in run("status", "files").err
    assert run("run", "--all", "--config", file).code == DONE


def test_secrets_come_from_the_environment_or_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "cache")
    monkeypatch.delenv("MISSING", raising=False)
    path = tmp_path / "kvsync.toml"
    path.write_text(
        """
[storages]
plain = "redis://${HOST}/0"
home = "~/notes"
folder = { url = "my notes?", links = "follow" }
lmdb = "lmdb:///a%20b?db=x"
missing = "redis://${MISSING}/0"
twice = { url = "redis://u:p@h/0", password = "x" }
[storages.command]
url = "redis://me@cache/0?prefix=a:"
password_command = ["printf", "s3cr%%t@\\nmore"]
timeout = 5
[storages.failing]
url = "redis://h/0"
password_command = "false"
[storages.silent]
url = "redis://h/0"
password_command = "true"
[storages.absent]
url = "redis://h/0"
password_command = "/no/such/command"
""",
        encoding="utf-8",
    )
    config = read(str(path))
    assert str(config.place("plain")) == "redis://cache/0"
    assert str(config.place("home")) == os.path.expanduser("~/notes")
    assert str(config.place("folder")) == f"file://{tmp_path}/my%20notes%3F?links=follow"
    assert str(config.place("lmdb")) == f"lmdb:///{tmp_path}/a%20b?db=x"
    command = config.place("command")
    assert str(command) == "redis://me:s3cr%25t%40@cache/0?prefix=a:&timeout=5"
    assert (command.name, "s3cr" in repr(command), redact(command)) == (
        "command",
        False,
        "redis://me:***@cache/0?prefix=a:&timeout=5",
    )
    for name, problem in {
        "missing": "the environment variable MISSING, which the storage 'missing' needs, is not set",
        "twice": "has one already",
        "failing": "failed with exit code 1",
        "silent": "printed nothing",
        "absent": "cannot be run: No such file",
    }.items():
        with pytest.raises(kvsync.UsageError, match=problem):
            config.place(name)


@settings(max_examples=amount(50, 2000), deadline=None)
@given(st.text(min_size=1))
@example("a b:c/d?e#f%g@h")
def test_a_password_of_any_characters_reaches_the_server_as_it_is(password: str) -> None:
    entry = {"url": "redis://me@cache:1/0?prefix=x", "password": password.replace("${", "")}
    url = parse_url(place_of("cache", entry, "/"))
    endpoint = url.endpoint()
    assert (endpoint.user, endpoint.password) == ("me", entry["password"])
    assert (endpoint.host, endpoint.port, url.path, url.query) == ("cache", 1, "/0", {"prefix": "x"})
    assert str(url) == "redis://me:***@cache:1/0?prefix=x"


@settings(max_examples=amount(50, 2000), deadline=None)
@given(st.text())
@example('\x7f\x00"\\')
def test_what_init_quotes_is_read_back(text: str) -> None:
    assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}


def test_a_run_over_its_budget_names_the_commands_that_go_on(run: Run, file: Path) -> None:
    for number in range(9):
        Path(f"notes/{number}").write_bytes(b"")
    run("run", "notes")
    for number in range(9):
        Path(f"notes/{number}").unlink()
    ended = run("run", "notes")
    assert ended.code == BUDGET
    assert "look at all of it with `kvsync run notes --max-delete 9 -n -v`; if it is intended, run " in ended.err
    assert "    delete   '8' in the target" in run("run", "notes", "-n", "-v", "--max-delete", "100%").out
    assert run("run", "notes", "--max-delete", "9").code == DONE
    assert file.exists()


def test_a_new_option_works_in_the_file(run: Run, file: Path) -> None:
    file.write_text(FILE.replace('conflict = "keep-both"', 'direction = "push"\nmax_bytes = "1kB"'), encoding="utf-8")
    assert run("run", "notes").out.startswith("notes: files -> app\n")
    Path("notes/large").write_bytes(bytes(2000))
    ended = run("run", "notes")
    assert ended.code == BUDGET
    assert "if it is intended, run `kvsync run notes --max-bytes " in ended.err
    assert run("run", "notes", "--max-bytes", "1MB").code == DONE


def test_init_writes_a_file_that_runs(run: Run, pair: Pair) -> None:
    ended = run("init", *pair, "--pair", "my-notes", "--conflict", "keep-both", "--json")
    assert ended.json == {"config": "kvsync.toml", "pair": "my-notes", "variables": []}
    assert run("run", "my-notes").code == DONE
    assert Path("app.db").exists()
    config = read("kvsync.toml")
    assert config.pair("my-notes").options == {"scan": True, "conflict": "keep-both"}
    assert list(config.storages) == ["notes", "app"]
    assert "kvsync.toml exists: edit it" in run("init", *pair).err


def test_init_writes_no_password(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run("init", pair[0], "redis://me:hunter2@cache/0?prefix=x", "--target-name", "my.cache")
    assert ended.code == DONE
    text = Path("kvsync.toml").read_text(encoding="utf-8")
    assert "hunter2" not in text + ended.out + ended.err
    assert "MY_CACHE_PASSWORD" in ended.err
    monkeypatch.setenv("MY_CACHE_PASSWORD", "hunter2")
    assert str(read("kvsync.toml").place("my.cache")) == "redis://me:hunter2@cache/0?prefix=x"
    Path("kvsync.toml").unlink()
    ended = run("init", pair[0], "s3://bucket?secret_access_key=hunter2")
    assert (ended.code, "holds a secret" in ended.err) == (USAGE, True)
    assert not Path("kvsync.toml").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["notes"], ["notes", "x/notes"], ["notes", "other", "--pair", "a/b"]], ids=" ".join
)
def test_init_without_a_terminal_needs_all_that_it_cannot_ask(run: Run, pair: Pair, arguments: list[str]) -> None:
    ended = run("init", *arguments)
    wrong = arguments[1:] != ["x/notes"]
    assert (ended.code == USAGE) is wrong
    assert Path("kvsync.toml").exists() is not wrong
    assert pair


def test_init_asks_on_a_terminal(on_terminal: Terminals, pair: Pair) -> None:
    code, shown = on_terminal("init", pair[0], pair[1], answer="\n\n\ny\n", prompt="Its name [notes]")
    assert code == 0, shown
    assert "Write that to kvsync.toml? [y/N]" in shown
    assert list(read("kvsync.toml").pairs) == ["notes"]


def test_the_json_of_a_run_is_that_of_each_sync(run: Run, file: Path) -> None:
    answer = run("run", "notes", "--json").json
    (fields,) = answer["pairs"]
    assert fields.keys() == {"pair", *run("sync", "./notes", "sqlite:///app.db", "--json").json}
    assert json.dumps(answer).isascii()
    assert file.exists()
