"""Places on real servers, each in a corner of its own, used through the servers' own clients where they can be."""

from __future__ import annotations

import itertools
import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import obstore
import psycopg
import redis
from obstore.store import S3Store
from places import RESERVED, Place, hashed
from servers.running import running
from servers.seaweed import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    from pathlib import Path

_numbers = itertools.count(1)
_turn = threading.Lock()


def corner() -> str:
    """Return a name that no other place has."""
    return f"place{os.getpid()}x{next(_numbers)}"


@cache
def redis_pool() -> redis.ConnectionPool:
    """Return the connections by which all applications write: a new one for each value would cost more than it."""
    return redis.ConnectionPool.from_url(running("redis").url)


@cache
def postgres_connection() -> psycopg.Connection[Any]:
    """Return the connection by which all applications write: a new one, too, would cost more than that."""
    return psycopg.connect(running("postgres").url, autocommit=True, prepare_threshold=None)


class RedisPlace(Place):
    kind = "redis"

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = prefix or f"{corner()}:"
        self.target = f"{running('redis').url}?prefix={self.prefix}"

    def client(self) -> redis.Redis:
        return redis.Redis(connection_pool=redis_pool())

    def put(self, key: str, value: bytes) -> None:
        with self.client() as client:
            client.set(self.prefix + key, value)

    def delete(self, key: str) -> None:
        with self.client() as client:
            client.delete(self.prefix + key)

    def names(self) -> list[bytes]:
        """Return the names of all, the index's too, which are no UTF-8."""
        with self.client() as client:
            found: list[bytes] = list(client.scan_iter(match=f"{self.prefix}*", count=1000))
        return sorted(set(found))

    def values(self) -> dict[str, bytes]:
        names = [name for name in self.names() if b"\xff" not in name]
        with self.client() as client:
            values: Any = client.mget(names) if names else []
        return {name.decode().removeprefix(self.prefix): value for name, value in zip(names, values, strict=True)}

    def photograph(self) -> str:
        with self.client() as client:
            return hashed(repr([(name, client.dump(name)) for name in self.names()]).encode())

    def copy(self, place: Path) -> Place:
        other = RedisPlace()
        with self.client() as client:
            for name in self.names():
                client.copy(name, other.prefix.encode() + name.removeprefix(self.prefix.encode()))
        return other


class PostgresPlace(Place):
    kind = "postgres"

    def __init__(self, schema: str | None = None) -> None:
        self.schema = schema or running("postgres").schema()
        self.target = f"{running('postgres').url}?schema={self.schema}"

    def run(self, statement: str, row: tuple[object, ...] = ()) -> list[Any]:
        connection = postgres_connection()
        with _turn:
            connection.execute(f"SET search_path TO {self.schema}")
            if connection.execute("SELECT to_regclass('kv')").fetchone() == (None,):
                connection.execute('CREATE TABLE kv (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL)')
            cursor = connection.execute(statement, row)
            return cursor.fetchall() if cursor.description else []

    def put(self, key: str, value: bytes) -> None:
        self.run("INSERT INTO kv VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", (key, value))

    def delete(self, key: str) -> None:
        self.run("DELETE FROM kv WHERE key = %s", (key,))

    def values(self) -> dict[str, bytes]:
        return dict(self.run("SELECT key, value FROM kv"))

    def tables(self) -> list[str]:
        return [name for (name,) in self.run("SELECT tablename FROM pg_tables WHERE schemaname = %s", (self.schema,))]

    def photograph(self) -> str:
        rows = [(name, sorted(map(repr, self.run(f"TABLE {name}")))) for name in sorted(self.tables()) if name != "kv"]
        return hashed(repr((rows, sorted(self.values().items()))).encode())

    def copy(self, place: Path) -> Place:
        other = PostgresPlace()
        other.values()
        for name in self.tables():
            if name != "kv":
                self.run(f"CREATE TABLE {other.schema}.{name} (LIKE {self.schema}.{name} INCLUDING ALL)")
            self.run(f"INSERT INTO {other.schema}.{name} SELECT * FROM {self.schema}.{name}")
        return other


class DatedPostgresPlace(PostgresPlace):
    """A table whose application keeps in a column when it modified a row."""

    kind = "dated postgres"

    def __init__(self) -> None:
        super().__init__()
        self.target += "&modified=changed"
        self.run("ALTER TABLE kv ADD COLUMN changed timestamptz NOT NULL DEFAULT now()")

    def put(self, key: str, value: bytes) -> None:
        change = "UPDATE SET value = EXCLUDED.value, changed = now()"
        self.run(f"INSERT INTO kv VALUES (%s, %s) ON CONFLICT (key) DO {change}", (key, value))


class S3Place(Place):
    kind = "s3"

    def __init__(self) -> None:
        self.prefix = corner()
        self.target = running("s3").url_of(self.prefix)
        self.client: S3Store | None = None

    def store(self) -> S3Store:
        """Return a client, which takes longer to make than a value to write."""
        self.client = self.client or S3Store(
            "kvsync",
            prefix=self.prefix,
            endpoint=running("s3").endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        return self.client

    def put(self, key: str, value: bytes) -> None:
        obstore.put(self.store(), key, value)

    def delete(self, key: str) -> None:
        obstore.delete(self.store(), key)

    def everything(self) -> dict[str, bytes]:
        store = self.store()
        names = [str(meta["path"]) for batch in obstore.list(store) for meta in batch]
        return {name: obstore.get(store, name).bytes().to_bytes() for name in names}

    def values(self) -> dict[str, bytes]:
        return {name: data for name, data in self.everything().items() if not name.startswith(RESERVED)}

    def photograph(self) -> str:
        return hashed(repr(sorted(self.everything().items())).encode())

    def copy(self, place: Path) -> Place:
        other = S3Place()
        for name, data in self.everything().items():
            other.put(name, data)
        return other


class AdaptedPlace(Place):
    """A place that is written through its adapter, by another handle."""

    def put(self, key: str, value: bytes) -> None:
        with self.storage() as storage:
            assert not storage.write([key], [value]).refused

    def delete(self, key: str) -> None:
        with self.storage() as storage:
            assert not storage.delete([key]).refused

    def values(self) -> dict[str, bytes]:
        with self.storage() as storage:
            keys = [key for some, _ in storage.scan() for key in some]
            found = storage.read(keys)
        return {key: value for key, value in zip(keys, found, strict=True) if isinstance(value, bytes)}

    def photograph(self) -> str:
        return hashed(repr((sorted(self.values().items()), sorted(self.objects().items()))).encode())

    def copy_to(self, other: Place) -> Place:
        for key, value in self.values().items():
            other.put(key, value)
        for name, data in self.objects().items():
            other.replace(name, data)
        return other


class NatsPlace(AdaptedPlace):
    kind = "nats"

    def __init__(self) -> None:
        self.target = running("nats").url(corner())

    def copy(self, place: Path) -> Place:
        return self.copy_to(NatsPlace())


class GcsPlace(AdaptedPlace):
    kind = "gcs"

    def __init__(self) -> None:
        self.target = running("gcs").url_of(corner())

    def copy(self, place: Path) -> Place:
        return self.copy_to(GcsPlace())


class AzurePlace(AdaptedPlace):
    """Only where `make test-azure` brings a server."""

    kind = "azure"

    def __init__(self) -> None:
        self.target = running("azure").url_of(corner())

    def copy(self, place: Path) -> Place:
        return self.copy_to(AzurePlace())


class LmdbPlace(AdaptedPlace):
    kind = "lmdb"

    def __init__(self, path: Path) -> None:
        self.target = f"lmdb:///{path}"

    def copy(self, place: Path) -> Place:
        return self.copy_to(LmdbPlace(place))


def make_on_server(kind: str, folder: Path, name: str) -> Place:
    """Return a new, empty place of `kind`."""
    if kind == "lmdb":
        return LmdbPlace(folder / f"{name}.lmdb")
    places: dict[str, type[Place]] = {
        "redis": RedisPlace,
        "postgres": PostgresPlace,
        "dated postgres": DatedPostgresPlace,
        "s3": S3Place,
        "nats": NatsPlace,
        "gcs": GcsPlace,
        "azure": AzurePlace,
    }
    return places[kind]()
