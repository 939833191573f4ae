"""Tables that other programs made, synced with a folder both ways by the commands of docs/existing-data.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlite_tables import ask, execute

import kvsync
from kvsync.cli.exitcodes import DONE, FAILED, USAGE
from kvsync.testing import ExpiringStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]

DOCUMENT = (Path(__file__).parents[2] / "docs/existing-data.md").read_text(encoding="utf-8")

DJANGO = (
    (
        'CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY, "session_data" text NOT NULL, '
        '"expire_date" datetime NOT NULL)'
    ),
    'CREATE INDEX "django_session_expire_date_a5c62663" ON "django_session" ("expire_date")',
    "INSERT INTO django_session VALUES ('0a1b', 'eyJ1IjoxfQ', '2099-01-01 10:00:00.123456')",
    "INSERT INTO django_session VALUES ('2c3d', 'eyJ1IjoyfQ', '2020-01-01 00:00:00')",
)
KEYV = (
    "CREATE TABLE keyv(key VARCHAR(255) PRIMARY KEY, value TEXT)",
    """INSERT INTO keyv VALUES ('keyv:theme', '{"value":"dark","expires":null}'), ('keyv:n', '{"value":1}')""",
)
RAILS = (
    (
        'CREATE TABLE "ar_internal_metadata" ("key" varchar NOT NULL PRIMARY KEY, "value" varchar, '
        '"created_at" datetime(6) NOT NULL, "updated_at" datetime(6) NOT NULL)'
    ),
    (
        "INSERT INTO ar_internal_metadata VALUES ('environment', 'development', '2026-01-02 03:04:05.678901', "
        "'2026-01-02 03:04:05.678901'), ('schema_sha1', NULL, '2026-01-02 03:04:05', '2026-01-02 03:04:05')"
    ),
)
PGBENCH = (
    "CREATE TABLE pgbench_accounts (aid integer NOT NULL PRIMARY KEY, bid int, abalance int, filler char(84))",
    "INSERT INTO pgbench_accounts VALUES (3, 1, 0, 'three'), (7, 1, 5, 'seven'), (10, 1, 0, 'ten')",
)


def url_of(table: str, without: str = "") -> str:
    """Return the URL with which the document names a table."""
    found = re.search(rf'"sqlite:///\S*(\?table={table}\b[^"]*)"', DOCUMENT)
    assert found is not None
    return f"sqlite:///app.db{found[1].replace(without, '')}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "folder"


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_django_sessions(run: Run, folder: Path) -> None:
    execute("app.db", *DJANGO)
    url = url_of("django_session")
    assert run("sync", url, folder).code == DONE
    assert files(folder) == {"0a1b": "eyJ1IjoxfQ"}
    (folder / "4e5f").write_text("eyJ1IjozfQ")
    (folder / "0a1b").write_text("eyJ1IjoxLCJhIjoxfQ")
    assert run("sync", url, folder).code == DONE
    assert ask("app.db", "SELECT *, typeof(session_data) FROM django_session ORDER BY 1") == [
        ("0a1b", "eyJ1IjoxLCJhIjoxfQ", "9999-12-31 23:59:59", "text"),
        ("2c3d", "eyJ1IjoyfQ", "2020-01-01 00:00:00", "text"),
        ("4e5f", "eyJ1IjozfQ", "9999-12-31 23:59:59", "text"),
    ]
    execute("app.db", "DELETE FROM django_session WHERE session_key IN ('2c3d', '4e5f')")
    assert run("sync", url, folder).code == DONE
    assert files(folder) == {"0a1b": "eyJ1IjoxLCJhIjoxfQ"}
    assert "nothing to do" in run("sync", url, folder).out


def test_django_sessions_without_their_time(run: Run, folder: Path) -> None:
    execute("app.db", *DJANGO)
    wrong = run("sync", url_of("django_session", without="&unit=iso"), folder)
    assert wrong.code == USAGE
    assert "add unit=iso to the URL" in wrong.err
    url = url_of("django_session", without="&expires=expire_date&unit=iso")
    assert run("sync", url, folder).code == DONE
    assert sorted(files(folder)) == ["0a1b", "2c3d"]
    (folder / "4e5f").write_text("new")
    (folder / "0a1b").write_text("edited")
    ended = run("sync", url, folder)
    assert ended.code == FAILED
    assert "'4e5f' in the source: the database refused it: NOT NULL constraint failed" in ended.out
    assert ask("app.db", "SELECT session_data FROM django_session ORDER BY session_key") == ["edited", "eyJ1IjoyfQ"]
    assert (folder / "4e5f").read_text() == "new"


def test_django_sessions_and_a_storage_that_keeps_expiry(folder: Path) -> None:
    execute("app.db", *DJANGO)
    peer = ExpiringStorage()
    kvsync.sync(url_of("django_session"), peer, scan=True)
    due = 4_070_944_800_123
    assert peer.expiries(["0a1b", "2c3d"]) == [due, 0]
    peer.write_expiring(["4e5f"], [b"new"], [due + 1])
    for _ in range(2):
        result = kvsync.sync(url_of("django_session"), peer, scan=True)
    assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
    assert ask("app.db", "SELECT expire_date FROM django_session WHERE session_key <> '2c3d'") == [
        "2099-01-01 10:00:00.123456",
        "2099-01-01 10:00:00.124",
    ]


def test_keyv(run: Run, folder: Path) -> None:
    execute("app.db", *KEYV)
    assert run("sync", url_of("keyv"), folder).code == DONE
    assert files(folder) == {"keyv:theme": '{"value":"dark","expires":null}', "keyv:n": '{"value":1}'}
    (folder / "keyv:theme").write_text('{"value":"light","expires":null}')
    (folder / "keyv:new").write_text('{"value":2}')
    (folder / "keyv:n").unlink()
    (folder / "photo").write_bytes(b"\xff\xd8")
    ended = run("sync", url_of("keyv"), folder)
    assert ended.code == FAILED
    assert "'photo' in the source: column 'value' holds texts that are UTF-8" in ended.out
    assert ask("app.db", "SELECT *, typeof(value) FROM keyv ORDER BY key") == [
        ("keyv:new", '{"value":2}', "text"),
        ("keyv:theme", '{"value":"light","expires":null}', "text"),
    ]
    (folder / "photo").unlink()
    assert run("sync", url_of("keyv"), folder).code == DONE


def test_rails_metadata(run: Run, folder: Path) -> None:
    execute("app.db", *RAILS)
    url = url_of("ar_internal_metadata")
    ended = run("sync", url, folder)
    assert ended.code == FAILED
    assert "'schema_sha1' in the source: its row holds NULL" in ended.out
    assert files(folder) == {"environment": "development"}
    (folder / "environment").write_text("production")
    (folder / "new").write_text("x")
    (folder / "schema_sha1").write_text("x")
    ended = run("sync", url, folder)
    assert ended.code == FAILED
    assert "'new' in the source: the database refused it: NOT NULL constraint failed" in ended.out
    rows = ask("app.db", "SELECT key, value, updated_at > '2026-01-03' FROM ar_internal_metadata ORDER BY key")
    assert rows == [("environment", "production", 1), ("schema_sha1", None, 0)]


def test_pgbench_accounts(run: Run, folder: Path) -> None:
    execute("app.db", *PGBENCH)
    url = url_of("pgbench_accounts")
    assert run("sync", url, folder).code == DONE
    assert files(folder) == {"3": "three", "7": "seven", "10": "ten"}
    (folder / "7").write_text("changed")
    (folder / "21").write_text("new")
    (folder / "3").unlink()
    for name in ("007", "notes"):
        (folder / name).write_text("x")
    ended = run("sync", url, folder)
    assert ended.code == FAILED
    for name in ("007", "notes"):
        assert f"'{name}' in the source: column 'aid' holds integers" in ended.out
    assert ask("app.db", "SELECT * FROM pgbench_accounts ORDER BY aid") == [
        (7, 1, 5, "changed"),
        (10, 1, 0, "ten"),
        (21, None, None, "new"),
    ]


def test_pgbench_balances(run: Run, folder: Path) -> None:
    execute("app.db", *PGBENCH)
    url = url_of("pgbench_accounts").replace("filler", "abalance")
    assert run("sync", url, folder).code == DONE
    assert files(folder) == {"3": "0", "7": "5", "10": "0"}
    (folder / "7").write_text("-12")
    (folder / "10").write_text("a lot")
    ended = run("sync", url, folder)
    assert ended.code == FAILED
    assert "'10' in the source: column 'abalance' holds integers" in ended.out
    assert ask("app.db", "SELECT aid, abalance, filler FROM pgbench_accounts") == [
        (3, 0, "three"),
        (7, -12, "seven"),
        (10, 0, "ten"),
    ]
