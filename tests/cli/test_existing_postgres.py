"""Tables that other programs made in PostgreSQL, synced with a folder both ways, as docs/existing-data.md says."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.cli.exitcodes import DONE, FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.postgres import PostgresServer
    from servers.redis import RedisServer
    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]

DOCUMENT = (Path(__file__).parents[2] / "docs/existing-data.md").read_text(encoding="utf-8")

PGBENCH = (
    (
        "CREATE TABLE SCHEMA.pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84)) "
        "WITH (fillfactor=100)"
    ),
    "INSERT INTO SCHEMA.pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, 300) n",
    "ALTER TABLE SCHEMA.pgbench_accounts ADD PRIMARY KEY (aid)",
)
DJANGO = (
    (
        "CREATE TABLE SCHEMA.django_session (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL, "
        "expire_date timestamp with time zone NOT NULL)"
    ),
    "CREATE INDEX ON SCHEMA.django_session (session_key varchar_pattern_ops)",
    "CREATE INDEX ON SCHEMA.django_session (expire_date)",
    (
        "INSERT INTO SCHEMA.django_session VALUES ('0a1b', 'eyJ1IjoxfQ', now() + interval '14 days'), "
        "('2c3d', 'eyJ1IjoyfQ', now() - interval '1 day'), ('4e5f', 'eyJ1IjozfQ', now() + interval '1 day')"
    ),
)
RAILS = (
    (
        "CREATE TABLE SCHEMA.ar_internal_metadata (key varchar NOT NULL PRIMARY KEY, value varchar, "
        "created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL)"
    ),
    (
        "INSERT INTO SCHEMA.ar_internal_metadata VALUES ('environment', 'development', '2026-01-02 03:04:05.678901', "
        "'2026-01-02 03:04:05.678901'), ('schema_sha1', NULL, '2026-01-02 03:04:05', '2026-01-02 03:04:05')"
    ),
)
NEVER = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)


@pytest.fixture
def make(postgres_server: PostgresServer) -> Callable[..., tuple[str, str]]:
    """Give a function that runs statements, and returns the schema and the URL of the document for a table."""

    def make(table: str, *statements: str) -> tuple[str, str]:
        schema = postgres_server.schema()
        postgres_server.run(*(statement.replace("SCHEMA", schema) for statement in statements))
        found = re.search(rf'"postgresql://[^"?]*(\?table={table}\b[^"]*)"', DOCUMENT)
        assert found is not None
        return schema, f"{postgres_server.url}{found[1]}&schema={schema}"

    return make


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_pgbench_accounts(
    run: Run, tmp_path: Path, make: Callable[..., tuple[str, str]], postgres_server: PostgresServer
) -> None:
    schema, url = make("pgbench_accounts", *PGBENCH)
    folder = tmp_path / "accounts"
    assert run("sync", url, folder).code == DONE
    assert files(folder) == {str(number): "0" for number in range(1, 301)}
    postgres_server.run(f"UPDATE {schema}.pgbench_accounts SET abalance = abalance - 50 WHERE aid < 3")
    (folder / "3").write_text("75")
    (folder / "400").write_text("-5")
    (folder / "4").unlink()
    assert run("sync", url, folder).code == DONE
    assert (files(folder)["1"], files(folder)["2"]) == ("-50", "-50")
    rows = f"SELECT aid, bid, abalance, filler FROM {schema}.pgbench_accounts WHERE aid < 5 OR aid > 300 ORDER BY aid"
    blank = " " * 84
    assert postgres_server.run(rows) == [
        (1, 1, -50, blank),
        (2, 1, -50, blank),
        (3, 1, 75, blank),
        (400, None, -5, None),
    ]
    for name, text in {"007": "1", "notes": "1", "5": "1.50", "6": "much"}.items():
        (folder / name).write_text(text)
    for _ in range(2):
        ended = run("sync", url, folder, "--json")
        assert ended.code == FAILED
        assert {missing["key"] for missing in json.loads(ended.out)["missing"]} == {"007", "notes", "5", "6"}
    assert postgres_server.run(f"SELECT sum(abalance) FROM {schema}.pgbench_accounts") == [(-50 - 50 + 75 - 5,)]


def test_pgbench_fillers(
    run: Run, tmp_path: Path, make: Callable[..., tuple[str, str]], postgres_server: PostgresServer
) -> None:
    """A `char(84)` is padded with blanks, which are not part of its text."""
    schema, url = make("pgbench_accounts", *PGBENCH)
    url = url.replace("value=abalance", "value=filler")
    folder = tmp_path / "fillers"
    assert run("sync", url, folder).code == DONE
    assert set(files(folder).values()) == {""}
    (folder / "1").write_text("hello")
    (folder / "2").write_text("x" * 85)
    (folder / "3").write_text("blank ")
    assert run("sync", url, folder).code == FAILED
    assert postgres_server.run(f"SELECT aid FROM {schema}.pgbench_accounts WHERE filler <> ''") == [(1,)]
    assert postgres_server.run(f"SELECT filler FROM {schema}.pgbench_accounts WHERE aid = 1") == [("hello".ljust(84),)]


def test_django_sessions(
    run: Run, tmp_path: Path, make: Callable[..., tuple[str, str]], postgres_server: PostgresServer
) -> None:
    schema, url = make("django_session", *DJANGO)
    folder = tmp_path / "sessions"
    assert run("sync", url, folder).code == DONE
    assert files(folder) == {"0a1b": "eyJ1IjoxfQ", "4e5f": "eyJ1IjozfQ"}
    (folder / "0a1b").write_text("eyJ1IjoxLCJhIjoxfQ")
    (folder / "6a7b").write_text("eyJ1Ijo0fQ")
    (folder / "4e5f").unlink()
    (folder / "much-too-long-for-a-session-key-in-django").write_text("x")
    assert run("sync", url, folder).code == FAILED
    rows = postgres_server.run(f"SELECT * FROM {schema}.django_session ORDER BY 1")
    assert [(row[0], row[1]) for row in rows] == [
        ("0a1b", "eyJ1IjoxLCJhIjoxfQ"),
        ("2c3d", "eyJ1IjoyfQ"),
        ("6a7b", "eyJ1Ijo0fQ"),
    ]
    assert (rows[0][2], rows[2][2]) == (NEVER, NEVER)
    assert rows[1][2] < dt.datetime.now(dt.UTC)


def test_django_sessions_and_a_cache(
    make: Callable[..., tuple[str, str]], postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    """Between two storages that keep expiry, the time of a session travels along."""
    schema, url = make("django_session", *DJANGO)
    cache = f"{redis_server.url}?prefix={schema}:"
    assert kvsync.sync(url, cache, scan=True).pushed == 2
    due = int(time.time()) + 3600
    kvsync.sync(cache, url, [kvsync.Put("6a7b", b"eyJ1Ijo0fQ", expires=due)])
    said = f"SELECT extract(epoch FROM expire_date)::int FROM {schema}.django_session WHERE session_key = '6a7b'"
    assert postgres_server.run(said) == [(due,)]
    for _ in range(2):
        result = kvsync.sync(url, cache, scan=True)
        assert (result.pushed, result.pulled, result.missing) == (0, 0, [])


def test_rails_metadata(
    run: Run, tmp_path: Path, make: Callable[..., tuple[str, str]], postgres_server: PostgresServer
) -> None:
    schema, url = make("ar_internal_metadata", *RAILS)
    folder = tmp_path / "metadata"
    assert run("sync", url, folder).code == FAILED
    assert files(folder) == {"environment": "development"}
    (folder / "environment").write_text("production")
    (folder / "new").write_text("1")
    (folder / "schema_sha1").write_text("abc")
    ended = run("sync", url, folder, "--json")
    assert ended.code == FAILED
    answer = json.loads(ended.out)
    assert {entry["key"] for entry in answer["unreadable"]} == {"schema_sha1"}
    assert {entry["key"] for entry in answer["missing"]} == {"new", "schema_sha1"}
    rows = postgres_server.run(f"SELECT key, value, updated_at FROM {schema}.ar_internal_metadata ORDER BY 1")
    assert [(row[0], row[1]) for row in rows] == [("environment", "production"), ("schema_sha1", None)]
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    assert abs(rows[0][2] - now) < dt.timedelta(minutes=5)
