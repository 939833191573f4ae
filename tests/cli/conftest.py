"""Run the command line, in this process or in a separate one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import kvsync
from kvsync.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE_ROOT = str(Path(kvsync.__file__).parents[1])


def rows(database: str = "app.db") -> dict[str, bytes]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT key, value FROM kv"))


def statement(sql: str, *values: object, database: str = "app.db") -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql, values)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return the one JSON object on standard output."""
        assert self.out.count("\n") == 1, self.out
        answer = json.loads(self.out)
        assert isinstance(answer, dict)
        return answer

    @property
    def error(self) -> dict[str, Any]:
        """Return the error in the JSON on standard output."""
        error = self.json["error"]
        assert isinstance(error, dict)
        return error


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Return a function that runs a command in this process."""

    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@contextlib.contextmanager
def heard(number: signal.Signals) -> Iterator[None]:
    """Let children started meanwhile receive a signal, which background jobs of a shell ignore."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a command, or the Python code `script`, in a separate process."""
    children: list[subprocess.Popen[str]] = []

    def start(
        *arguments: str, script: str | None = None, variables: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        program = ["-m", "kvsync"] if script is None else ["-c", script]
        environment = {**os.environ, "PYTHONPATH": PACKAGE_ROOT, "PYTHONUTF8": "1", **(variables or {})}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
        command = [sys.executable, *program, *arguments]
        with heard(signal.SIGINT), heard(signal.SIGHUP):
            child = subprocess.Popen(command, encoding="utf-8", env=environment, **streams)
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def spawn(launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., Ended]:
    """Return a function that runs a command in a separate process."""

    def call(*arguments: str, stdin: str = "", variables: dict[str, str] | None = None) -> Ended:
        child = launch(*arguments, variables=variables)
        out, err = child.communicate(stdin, timeout=60)
        return Ended(child.returncode, out, err)

    return call


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Return a folder with three files, and the URL of a database that does not exist yet."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notes"
    (folder / "user").mkdir(parents=True)
    for key, value in {"a": b"1", "b": b"22", "user/1": b"Ada"}.items():
        (folder / key).write_bytes(value)
    return "notes", "sqlite:///app.db"


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, str]]:
    """Return a function that lists a folder, index included, as {path: content hash, time and mode}."""

    def take(place: Path) -> dict[str, str]:
        found = {}
        for path in sorted(place.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            state = path.lstat()
            found[str(path)] = f"{hashlib.sha256(content).hexdigest()} {state.st_mtime_ns} {state.st_mode}"
        return found

    return take


@pytest.fixture
def on_terminal(launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command on a terminal, and returns its exit code and what it showed."""

    def call(
        *arguments: str, answer: str = "", variables: dict[str, str] | None = None, prompt: str = "[y/N]"
    ) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        child = launch(*arguments, variables={"TERM": "xterm", **(variables or {})}, **streams)
        os.close(theirs)
        shown = b""
        while some := read_some(ours):
            shown += some
            if answer and prompt.encode() in shown:
                os.write(ours, answer.encode())
                answer = ""
        os.close(ours)
        return child.wait(30), shown.decode()

    return call


def read_some(terminal: int) -> bytes:
    """Return what is shown next, or nothing if the program has ended."""
    assert select.select([terminal], [], [], 60)[0]
    with contextlib.suppress(OSError):  # EIO: nobody has the other end open
        return os.read(terminal, 4096)
    return b""
