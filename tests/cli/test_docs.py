"""docs/cli.md describes every command, option and error."""

from __future__ import annotations

import inspect
import re
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

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_command_and_option_is_documented() -> None:
    commands = [name for name in app if not name.startswith("-")]
    assert len(commands) == 18
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
