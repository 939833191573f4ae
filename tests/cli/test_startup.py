"""A command starts fast: it loads what it needs, and no more."""

from __future__ import annotations

import subprocess
import sys
from inspect import signature
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from variants import amount

import kvsync
from kvsync.cli.plain import call_of
from kvsync.cli.verbs import VERBS, function_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

SLOW = {
    *("asyncio", "concurrent.futures", "ctypes", "email", "hashlib", "http", "importlib.metadata", "ipaddress"),
    *("logging", "pathlib", "secrets", "shutil", "socket", "sqlite3", "ssl", "tempfile", "urllib"),
    *("attr", "cyclopts", "docutils", "psycopg", "pygments", "redis", "rich"),
}
"""Modules that take long to load, and that a run over two folders has no use for."""

OURS = {
    "kvsync.cli.app",
    "kvsync.cli.failure",
    "kvsync.audit",
    "kvsync.diagnosis",
    "kvsync.inspection",
    "kvsync.losers",
    "kvsync.watching",
    "kvsync.cli.watch",
    "kvsync.cli.many",
    "kvsync.config.file",
    "kvsync.many",
    "tomllib",
    "difflib",
}


def loaded_by(code: str) -> set[str]:
    """Return the modules that some code loads in a process of its own."""
    code += "\nimport sys\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stderr.split("\n"))


def command(*tokens: object) -> str:
    root = str(kvsync.__path__[0]).removesuffix("/kvsync")
    return f"import sys; sys.path.insert(0, {root!r})\nfrom kvsync.cli import main\nmain({list(map(str, tokens))})"


def test_a_run_over_folders_loads_nothing_slow(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "a").write_bytes(b"1")
    assert not loaded_by(command("sync", one, other)) & ((SLOW | OURS) - {"ctypes"})  # to exchange files
    assert (other / "a").read_bytes() == b"1"
    assert not loaded_by(command("sync", one, other)) & (SLOW | OURS)


def test_a_run_over_databases_loads_nothing_that_is_slow_and_for_others(tmp_path: Path) -> None:
    one, other = f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db"
    kvsync.commit(one, [kvsync.Put("a", b"1")])
    assert not loaded_by(command("sync", one, other)) & ((SLOW | OURS) - {"sqlite3", "urllib", "ipaddress"})
    assert kvsync.sync(one, other).pushed == 0


def test_the_package_loads_what_is_used() -> None:
    loaded = loaded_by(command("--version"))
    assert not loaded & (OURS | {"kvsync.api", "cyclopts", "rich"})


def test_every_name_of_the_package_can_be_imported() -> None:
    names = set(kvsync.__all__) - {"Policy"}  # an alias has no name
    assert {name: getattr(kvsync, name).__name__ for name in names} == {name: name for name in names}
    assert "keep-both" in str(kvsync.Policy)
    assert set(kvsync.__all__) <= set(dir(kvsync))
    with pytest.raises(AttributeError, match="has no attribute 'sink'"):
        kvsync.sink  # type: ignore[attr-defined]  # noqa: B018


def test_no_module_has_the_name_of_an_export() -> None:
    """Once it were loaded, the name would mean the module."""
    assert not {module.name for module in iter_modules(kvsync.__path__)} & set(kvsync.__all__)


OPTIONS = {
    *("--json", "--quiet", "--yes", "--all", "--dry-run", "--scan", "--no-scan", "--repair", "--refill", "--force"),
    *(
        "--discard",
        "--keep",
        "--no-json",
        "--help",
        "-h",
        "--version",
        "--",
        "-",
        "-q",
        "-n",
        "-v",
        "-nv",
        "-V",
        "--dry_run",
        "--empty-keys",
    ),
}
VALUED = {
    *("--changes", "--max-delete", "--conflict", "--guard", "--lease-seconds", "--wait-seconds", "--from", "--output"),
    *("--max-drift-seconds", "--tombstone-grace", "--folder", "--sqlite", "--con", "--run.guard"),
}
VALUES = [
    *("a", "b c", "", "none", "None", "5", "50%", "1.5", "1e3", "0x10", "1_0", " 7", "-5", "-", "latest", "LATEST"),
    *("keep-both", "keep_both", "check", "true", "é", "a=b", "=", "*", "30d", "inf", "sqlite:///x?a=1"),
]

tokens = st.one_of(
    st.sampled_from(VALUES).map(lambda value: [value]),
    st.sampled_from(sorted(OPTIONS)).map(lambda name: [name]),
    st.tuples(st.sampled_from(sorted(VALUED)), st.sampled_from(VALUES)).map(list),
    st.tuples(st.sampled_from(sorted(VALUED | OPTIONS)), st.sampled_from(VALUES)).map(lambda pair: ["=".join(pair)]),
)


def all_of(function: Callable[..., int], args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
    bound = signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


@settings(max_examples=amount(150, 20_000), deadline=None)
@given(st.sampled_from(sorted(VERBS)), st.lists(tokens, max_size=5))
@example("sync", [["a"], ["b"]])
@example("accept", [["a"], ["b"], ["c"]])
@example("completion", [["a"]])
def test_a_plain_command_line_means_what_the_parser_says(verb: str, groups: list[list[str]]) -> None:
    from kvsync.cli.app import app

    line = [verb, *(token for group in groups for token in group)]
    call: Any = call_of(line)
    if call is not None:
        function, bound, _ = app.parse_args(line, exit_on_error=False, print_error=False)
        assert function == call.func == function_of(verb)
        assert all_of(function, call.args, call.keywords) == all_of(function, bound.args, bound.kwargs)


@pytest.mark.parametrize(
    "line",
    [
        "sync a b --quiet",
        "sync a b c -q -n -v",
        "sync a b --conflict=keep-both --max-delete 50% --no-scan --json",
        "plan a b --wait-seconds 0.5 --lease-seconds 60",
        "sync a b --watch --every 10s --full-every 2h --heartbeat file",
        "verify a",
        "verify a b --repair --yes",
        "status a --json",
        "accept a x y z --yes",
        "accept a --all",
        "lost a key --from 1f --output file",
        "commit a --changes file",
        "demo --keep",
        "storages",
    ],
)
def test_usual_command_lines_are_plain(line: str) -> None:
    assert call_of(line.split()) is not None


@pytest.mark.parametrize(
    "line", ["", "sync", "sync a", "plan a b c", "sync a b --help", "sink a b", "--help", "demo x"]
)
def test_what_needs_the_parser_is_left_to_it(line: str) -> None:
    assert call_of(line.split()) is None
