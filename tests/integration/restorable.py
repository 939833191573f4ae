"""Storages that are saved, put back and copied as their users do it: files, dumps, objects."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import obstore
import psycopg
import redis
from places import FolderPlace, Place, SqlitePlace
from server_places import LmdbPlace, PostgresPlace, RedisPlace, S3Place
from servers.redis import RedisServer
from servers.running import running

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KINDS", "Restorable", "restorable"]

_numbers = itertools.count(1)


class Restorable:
    """A storage in use, of which backups are made.

    Attributes:
        place: the storage.
        folder: where it and its backups are.
    """

    place: Place

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fresh(self) -> Path:
        """Return a path where nothing is yet."""
        return self.folder / f"backup{next(_numbers)}"

    def save(self) -> Any:
        """Make a backup of all, index included."""
        raise NotImplementedError

    def put_back(self, saved: Any) -> None:
        """Put a backup in the place of the storage."""
        raise NotImplementedError

    def copy(self, saved: Any) -> Place:
        """Return another storage, made of a backup."""
        raise NotImplementedError

    def close(self) -> None:
        """End what runs."""


class SqliteFile(Restorable):
    """A database with an application that has it open, so that much of it is in its `-wal`: both files are copied."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "app.db"
        self.place = SqlitePlace(self.path)
        self.place.values()
        self.start()

    def start(self) -> None:
        self.application = sqlite3.connect(self.path)
        self.application.execute("PRAGMA journal_mode = wal")
        self.application.execute("PRAGMA wal_autocheckpoint = 0")
        self.application.execute("SELECT count(*) FROM kv").fetchone()

    def save(self) -> Path:
        saved = self.fresh()
        saved.mkdir()
        self._copy(self.path, saved / "app.db")
        assert (saved / "app.db-wal").stat().st_size > 0
        return saved

    def put_back(self, saved: Path) -> None:
        self.application.close()
        for end in ("", "-wal", "-shm"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        self._copy(saved / "app.db", self.path)
        self.start()

    def copy(self, saved: Path) -> Place:
        other = self.fresh().with_suffix(".db")
        self._copy(saved / "app.db", other)
        return SqlitePlace(other)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        for end in ("", "-wal"):
            if Path(f"{source}{end}").exists():
                shutil.copyfile(f"{source}{end}", f"{target}{end}")

    def close(self) -> None:
        self.application.close()


class Folder(Restorable):
    """A folder, by `cp -a`."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        super().__init__(folder)
        self.clock = clock
        (folder / "notes").mkdir()
        self.place: FolderPlace = FolderPlace(folder / "notes", clock)

    def save(self) -> Path:
        return self._copy(self.place.path, self.fresh())

    def put_back(self, saved: Path) -> None:
        shutil.rmtree(self.place.path)
        self._copy(saved, self.place.path)

    def copy(self, saved: Path) -> Place:
        return FolderPlace(self._copy(saved, self.fresh()), self.clock)

    @staticmethod
    def _copy(source: Path, target: Path) -> Path:
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)
        return target


class OwnRedisPlace(RedisPlace):
    """A prefix of a server of its own."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__("app:")
        self.server = server
        self.target = f"{server.url}?prefix=app:"

    def client(self) -> redis.Redis:
        client: redis.Redis = redis.Redis.from_url(self.server.url)
        return client


class RedisDump(Restorable):
    """A server that writes its dump, and is started from one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers: list[RedisServer] = []
        self.place: OwnRedisPlace = OwnRedisPlace(self._started(folder / "redis", None))

    def _started(self, place: Path, saved: Path | None) -> RedisServer:
        server = RedisServer(place, appendonly="no")
        if saved is not None:
            shutil.copyfile(saved, place / "dump.rdb")
        self.servers.append(server)
        server.start()
        return server

    def save(self) -> Path:
        saved = self.fresh()
        assert self.place.server.ask("SAVE").startswith(b"+OK")
        shutil.copyfile(self.place.server.folder / "dump.rdb", saved)
        return saved

    def put_back(self, saved: Path) -> None:
        self.place.server.kill()
        shutil.copyfile(saved, self.place.server.folder / "dump.rdb")
        self.place.server.start()

    def copy(self, saved: Path) -> Place:
        return OwnRedisPlace(self._started(self.fresh(), saved))

    def close(self) -> None:
        for server in self.servers:
            server.stop()


class OwnPostgresPlace(PostgresPlace):
    """A database of its own."""

    def __init__(self, database: str) -> None:
        self.url = running("postgres").url.replace("/postgres", f"/{database}")
        super().__init__("public")
        self.target = self.url

    def run(self, statement: str, row: tuple[object, ...] = ()) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute('CREATE TABLE IF NOT EXISTS kv (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL)')
            cursor = connection.execute(statement, row)
            return cursor.fetchall() if cursor.description else []


class PostgresDump(Restorable):
    """A database, by `pg_dump` and `pg_restore`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.made: list[str] = []
        self.place: OwnPostgresPlace = self._database(f"app{os.getpid()}x{next(_numbers)}")

    def _database(self, name: str) -> OwnPostgresPlace:
        running("postgres").run(f"CREATE DATABASE {name} TEMPLATE template0")
        self.made.append(name)
        return OwnPostgresPlace(name)

    @staticmethod
    def _program(name: str, *arguments: str) -> None:
        subprocess.run([str(running("postgres").programs / name), *arguments], check=True)

    def save(self) -> Path:
        saved = self.fresh()
        self._program("pg_dump", "-Fc", "-f", str(saved), self.place.url)
        return saved

    def put_back(self, saved: Path) -> None:
        running("postgres").run(f"DROP DATABASE {self.made[0]} WITH (FORCE)")
        self._program("pg_restore", "-d", self._database(self.made[0]).url, str(saved))

    def copy(self, saved: Path) -> Place:
        other = self._database(f"copy{os.getpid()}x{next(_numbers)}")
        self._program("pg_restore", "-d", other.url, str(saved))
        return other

    def close(self) -> None:
        running("postgres").run(*(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in self.made))


class Bucket(Restorable):
    """A prefix of a bucket, whose objects are copied and put back one by one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place: S3Place = S3Place()

    def save(self) -> dict[str, bytes]:
        return self.place.everything()

    def put_back(self, saved: dict[str, bytes]) -> None:
        store = self.place.store()
        for name in self.place.everything():
            obstore.delete(store, name)
        for name, data in saved.items():
            obstore.put(store, name, data)

    def copy(self, saved: dict[str, bytes]) -> Place:
        other = S3Place()
        for name, data in saved.items():
            other.put(name, data)
        return other


class LmdbDirectory(Restorable):
    """An environment, by LMDB's own copy, put back as a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "app.lmdb"
        self.place = LmdbPlace(self.path)

    def save(self) -> Path:
        saved = self.fresh()
        saved.mkdir()
        with lmdb.open(str(self.path), max_dbs=8, readonly=True) as environment:
            environment.copy(str(saved))
        return saved

    def put_back(self, saved: Path) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(saved, self.path)

    def copy(self, saved: Path) -> Place:
        other = self.fresh()
        shutil.copytree(saved, other)
        return LmdbPlace(other)


KINDS = ("sqlite", "folder", "redis", "postgres", "s3", "lmdb")


def restorable(kind: str, folder: Path, clock: Callable[[], float]) -> Restorable:
    """Return a new, empty storage of a kind."""
    if kind == "folder":
        return Folder(folder, clock)
    kinds: dict[str, type[Restorable]] = {
        "sqlite": SqliteFile,
        "redis": RedisDump,
        "postgres": PostgresDump,
        "s3": Bucket,
        "lmdb": LmdbDirectory,
    }
    return kinds[kind](folder)
