"""Storages as an application sees them: it writes plainly, beside kvsync, and looks at everything that is there."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack

from kvsync.environment import Environment
from kvsync.storages import open_storage
from kvsync.storages.contract import Support
from kvsync.storages.wrapper import WrappedStorage
from kvsync.types import ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from kvsync.storages.contract import Storage

START = 1_700_000_000.0
RESERVED = ".kvsync/"

KINDS = ("dict", "folder", "sqlite")
SERVER_KINDS = ("redis", "postgres", "s3", "lmdb", "nats")
SERVER_PAIRS = [
    ("sqlite", "redis"),
    ("folder", "s3"),
    ("postgres", "redis"),
    ("s3", "s3"),
    ("lmdb", "nats"),
    ("dict", "postgres"),
    ("gcs", "folder"),
]
UNLIKE = [("dict", "folder"), ("folder", "sqlite"), ("sqlite", "dict"), *SERVER_PAIRS]
PAIRS = [(one, other) for one in KINDS for other in KINDS] + SERVER_PAIRS

Target: TypeAlias = Any


class Clock:
    """Wall clock and monotonic clock in one, which moves by a little with every look, and by `sleep`."""

    def __init__(self, start: float = START, tick: float = 0.005) -> None:
        self.now = start
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def environment(self) -> Environment:
        """Return an environment in which this is the only time there is."""
        return Environment(clock=self, monotonic=self, sleep=self.sleep)


class Place:
    """One storage, written and read without kvsync.

    Attributes:
        target: what to hand to kvsync.
    """

    kind: str
    target: Target

    def put(self, key: str, value: bytes) -> None:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def values(self) -> dict[str, bytes]:
        raise NotImplementedError

    def photograph(self) -> str:
        """Return a hash of every byte, index included."""
        raise NotImplementedError

    def copy(self, place: Path) -> Place:
        """Return another storage with the same bytes, index included."""
        raise NotImplementedError

    def drop_index(self) -> None:
        """Remove everything that kvsync keeps here."""
        with self.storage() as storage:
            storage.remove(storage.objects(), ANY)

    @contextmanager
    def storage(self) -> Iterator[Storage]:
        """Open it as kvsync would."""
        storage, owned = open_storage(self.target)
        try:
            yield storage
        finally:
            if owned:
                storage.close()

    def objects(self) -> dict[str, bytes]:
        """Return every index object."""
        with self.storage() as storage:
            found = {name: storage.load(name) for name in storage.objects()}
        return {name: there.data for name, there in found.items() if there is not None}

    def replace(self, name: str, data: bytes) -> None:
        """Overwrite an index object."""
        with self.storage() as storage:
            storage.store(name, data, ANY)

    def lost(self) -> dict[str, list[bytes]]:
        """Return the kept values that lost a conflict, by key."""
        found: dict[str, list[bytes]] = {}
        for name, data in self.objects().items():
            if name.startswith("lost/"):
                body = msgpack.unpackb(data[24:])
                for key, value in zip(body["key"], body["value"], strict=True):
                    found.setdefault(key, []).append(value)
        return found


class DictPlace(Place):
    kind = "dict"

    def __init__(self, target: dict[str, bytes] | None = None) -> None:
        self.target = {} if target is None else target

    def put(self, key: str, value: bytes) -> None:
        self.target[key] = value

    def delete(self, key: str) -> None:
        del self.target[key]

    def values(self) -> dict[str, bytes]:
        return {key: value for key, value in self.target.items() if not key.startswith(RESERVED)}

    def photograph(self) -> str:
        return hashed(repr(sorted(self.target.items())).encode())

    def copy(self, place: Path) -> Place:
        return DictPlace(dict(self.target))


class FolderPlace(Place):
    """A folder; keys are to be plain relative paths. Files bear the time of `clock`."""

    kind = "folder"

    def __init__(self, path: Path, clock: Callable[[], float] | None = None) -> None:
        self.path = path
        self.target = str(path)
        self.clock = clock

    def put(self, key: str, value: bytes) -> None:
        file = self.path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value)
        if self.clock is not None:
            now = int(self.clock() * 1e9)
            os.utime(file, ns=(now, now))

    def delete(self, key: str) -> None:
        (self.path / key).unlink()

    def values(self) -> dict[str, bytes]:
        files = {str(path.relative_to(self.path)): path for path in self.path.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in files.items() if not name.startswith(RESERVED)}

    def photograph(self) -> str:
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        facts = [(str(path), path.read_bytes(), path.stat().st_mtime_ns) for path in files]
        return hashed(repr(facts).encode())

    def copy(self, place: Path) -> Place:
        shutil.copytree(self.path, place)
        return FolderPlace(place, self.clock)


class SqlitePlace(Place):
    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = f"sqlite:///{path}"

    def _run(self, statement: str, row: Sequence[object] = ()) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
            return connection.execute(statement, row).fetchall()

    def put(self, key: str, value: bytes) -> None:
        self._run("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def delete(self, key: str) -> None:
        self._run("DELETE FROM kv WHERE key = ?", (key,))

    def values(self) -> dict[str, bytes]:
        return dict(self._run("SELECT key, value FROM kv"))

    def photograph(self) -> str:
        beside = self.path.with_name(self.path.name + "-wal")
        return hashed(self.path.read_bytes() + (beside.read_bytes() if beside.exists() else b""))

    def copy(self, place: Path) -> Place:
        shutil.copyfile(self.path, place)
        return SqlitePlace(place)


class Hooked(WrappedStorage):
    """A storage around another, which calls `before` and `after` with the name of each operation and its arguments.

    It supports transactions and the tokens of single keys where the inner one does, and nothing else.
    """

    def __init__(
        self,
        target: Target,
        before: Callable[..., object] | None = None,
        after: Callable[..., object] | None = None,
    ) -> None:
        super().__init__(open_storage(target)[0])
        supports = self.inner.capabilities.supports & {Support.TRANSACTION, Support.TOKENS}
        self.capabilities = replace(self.inner.capabilities, supports=supports)
        self.before, self.after = before, after

    def around(self, method: str, call: Any, *arguments: Any, **options: Any) -> Any:
        if method in {"begin", "commit"}:
            return call()
        if self.before is not None:
            self.before(method, *arguments)
        result = call(*arguments, **options)
        if self.after is not None:
            self.after(method, *arguments)
        return result


class Blind(Hooked):
    """A storage in which some values cannot be read for now."""

    def __init__(self, target: Target, *keys: str) -> None:
        super().__init__(target)
        self.keys = set(keys)

    def read(self, keys: Any) -> Any:
        found = self.inner.read(keys)
        return [
            Unreadable("the disk has a bad sector") if key in self.keys and value is not None else value
            for key, value in zip(keys, found, strict=True)
        ]

    def scan(self, splits: Any = ()) -> Any:
        for keys, tokens in super().scan(splits):
            yield keys, [b"" if key in self.keys else token for key, token in zip(keys, tokens, strict=True)]


class Picky(dict[str, bytes]):
    """A mapping that refuses what `refuses` names, for as long as it names it."""

    def __init__(self, refuses: Callable[[str, bytes], bool]) -> None:
        super().__init__()
        self.refuses = refuses

    def __setitem__(self, key: str, value: bytes) -> None:
        if not key.startswith(RESERVED) and self.refuses(key, value):
            message = "value too long for this column"
            raise ValueError(message)
        super().__setitem__(key, value)


def make(kind: str, folder: Path, name: str, clock: Callable[[], float] | None = None) -> Place:
    """Return a new, empty place of `kind`."""
    if kind == "dict":
        return DictPlace()
    if kind == "folder":
        (folder / name).mkdir()
        return FolderPlace(folder / name, clock)
    if kind == "sqlite":
        return SqlitePlace(folder / f"{name}.db")
    from server_places import make_on_server

    return make_on_server(kind, folder, name)


def plain(mapping: dict[str, bytes]) -> dict[str, bytes]:
    """Return the values of a mapping without the index in it."""
    return {key: value for key, value in mapping.items() if not key.startswith(RESERVED)}


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
