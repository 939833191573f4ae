"""docs/cli.md describes every command, option and error."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvsync import errors
from kvsync.cli.app import app
from kvsync.cli.exitcodes import exit_code_of
from kvsync.cli.failure import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_command_and_option_is_documented() -> None:
    commands = [name for name in app if not name.startswith("-")]
    assert len(commands) == 23
    for name in commands:
        assert f"| `{name}" in TEXT
        for argument in app[name].assemble_argument_collection():
            for option in argument.names:
                if option.startswith("--"):
                    assert option in TEXT, (name, option)


@pytest.mark.parametrize("command", ["plan", "sync", "verify", "status", "doctor", "log", "lost", "peers", "compact"])
def test_every_field_of_json_is_documented(command: str, run: Callable[..., Ended], pair: tuple[str, str]) -> None:
    """What may have been deleted, and what was restored, was in the result of `sync` alone."""
    run("sync", *pair)
    fields = run(command, *(pair if command in {"plan", "sync"} else pair[:1]), "--json").json
    described = re.search(rf"^- `{command}`: (.*?)(?=^- `|^$)", TEXT, re.MULTILINE | re.DOTALL)
    assert described is not None
    assert not [field for field in fields if f"`{field}`" not in described[1]]


@pytest.mark.parametrize(
    "error",
    [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.KvsyncError)],
)
def test_every_error_is_documented_with_its_exit_code(error: type[errors.KvsyncError]) -> None:
    if error in {errors.KvsyncError, errors.LockError}:
        return
    instance = error.__new__(error)
    rows = [line for line in TEXT.splitlines() if f"`{kind_of(instance, usage=False)}`" in line]
    assert any(row.endswith(f"| {exit_code_of(instance)} |") for row in rows)


def test_the_first_screen_of_the_readme_is_what_a_new_user_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Ended]
) -> None:
    """Each command is run as it stands there, and prints what stands below it, but for the time."""
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    for name in ("a", "b", "c"):
        Path("notes", name).write_bytes(b"8 bytes.")
    (screen,) = re.findall(r"^```\n(\$ kvsync sync notes usb\n.*?)^```", README, re.MULTILINE | re.DOTALL)
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", screen, re.MULTILINE)
    assert len(steps) == 8
    for command, expected in steps:
        words = shlex.split(command)
        if words[0] == "kvsync":
            out = run(*words[1:]).out
        else:
            out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
            time.sleep(0.02)  # a file's time is no more exact than some milliseconds
        assert TIME.sub("TIME", out) == TIME.sub("TIME", expected), command
    assert Path("notes/today.txt").read_bytes() == b"call Ada\n"
