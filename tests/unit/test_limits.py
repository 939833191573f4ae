"""What a table, bucket or server does not keep as given is told before anybody runs into it."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from servers.postgres import PASSWORD, SECURED
from servers.redis import RedisServer

import kvsync
from kvsync.cli import main
from kvsync.storages import open_storage
from kvsync.storages.bucket import lifecycle
from kvsync.storages.limits import has_limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from servers.nats import NatsServer
    from servers.postgres import PostgresServer
    from servers.seaweed import SeaweedServer


def limits(url: str) -> list[str]:
    storage, _ = open_storage(url)
    with closing(storage):
        assert has_limits(storage)
        return storage.limits()


def check(found: Sequence[str], *parts: str) -> None:
    """Check that each sentence has its part, and that there are no others."""
    missing = [part for part in parts if not any(part in sentence for sentence in found)]
    assert not missing, f"{missing} of {found}"
    assert len(found) == len(parts), found


TRIGGER = "CREATE TRIGGER {} BEFORE INSERT ON kv WHEN NEW.key = 'x' BEGIN SELECT RAISE(IGNORE); END"

SQLITE: dict[str, tuple[list[str], list[str]]] = {
    "kvsync's own": (["CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"], []),
    "triggers": (
        ["CREATE TABLE kv (key TEXT PRIMARY KEY, value)", *(TRIGGER.format(name) for name in "gfedcba")],
        ["triggers (a, b, c, d, e and 2 more): a row that one of them ignores"],
    ),
    "columns": (
        [
            "CREATE TABLE kv (key INTEGER PRIMARY KEY, value TEXT UNIQUE, owner TEXT NOT NULL)",
            "ALTER TABLE kv ADD COLUMN size INTEGER AS (length(value))",
        ],
        [
            "(owner): rows that exist are updated, and new keys are refused",
            "calculates columns of each row (size)",
            "keys are of the type integer",
            "values are texts: bytes that are not UTF-8",
            "values that change places are refused",
        ],
    ),
    "numbers": (["CREATE TABLE kv (key TEXT PRIMARY KEY, value DECIMAL(9, 2))"], ["of the type DECIMAL(9, 2)"]),
    "references": (
        [
            "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, up TEXT REFERENCES other)",
            "CREATE TABLE other (name TEXT PRIMARY KEY)",
            "CREATE TABLE item (k TEXT REFERENCES KV (key) ON DELETE CASCADE)",
        ],
        ["(item): a delete leaves their rows as they are", "its foreign keys are not enforced"],
    ),
}


@pytest.mark.parametrize(("statements", "parts"), SQLITE.values(), ids=list(SQLITE))
def test_limits_of_sqlite(tmp_path: Path, statements: list[str], parts: list[str]) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    check(limits(f"sqlite:///{tmp_path}/app.db"), *parts)
    assert limits(f"sqlite:///{tmp_path}/new.db") == []
    assert not (tmp_path / "new.db").exists()


POSTGRES: dict[str, tuple[list[str], list[str]]] = {
    "plain": (["CREATE TABLE SPACE.kv (key text PRIMARY KEY, value bytea)"], []),
    "what runs": (
        [
            "CREATE TABLE SPACE.kv (key text PRIMARY KEY, value bytea)",
            "CREATE FUNCTION SPACE.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "CREATE TRIGGER ignore BEFORE INSERT ON SPACE.kv FOR EACH ROW EXECUTE FUNCTION SPACE.f()",
            "CREATE TRIGGER off BEFORE INSERT ON SPACE.kv FOR EACH ROW EXECUTE FUNCTION SPACE.f()",
            "ALTER TABLE SPACE.kv DISABLE TRIGGER off",
            "CREATE RULE keep AS ON DELETE TO SPACE.kv DO INSTEAD NOTHING",
            "ALTER TABLE SPACE.kv ENABLE ROW LEVEL SECURITY",
        ],
        ["has triggers (ignore):", "has rules (keep):", "row-level security applies to this role"],
    ),
    "columns": (
        [
            "CREATE UNLOGGED TABLE SPACE.kv (key uuid PRIMARY KEY, value varchar(9) UNIQUE, owner text NOT NULL)",
            "ALTER TABLE SPACE.kv ADD size int GENERATED ALWAYS AS (length(value)) STORED",
        ],
        [
            "(owner): rows that exist are updated, and new keys are refused",
            "calculates columns of each row (size)",
            "keys are of the type uuid",
            "values are of the type varchar of up to 9 characters",
            "values that change places are refused",
            "UNLOGGED: the server empties it",
        ],
    ),
    "references": (
        [
            "CREATE TABLE SPACE.kv (key text PRIMARY KEY, value bytea)",
            *(
                f"CREATE TABLE SPACE.{name} (k text REFERENCES SPACE.kv {action})"
                for name, action in {
                    "a": "",
                    "c": "ON DELETE CASCADE",
                    "d": "ON DELETE SET DEFAULT",
                    "n": "ON DELETE SET NULL",
                    "r": "ON DELETE RESTRICT",
                }.items()
            ),
        ],
        [
            "rows of SPACE.a refer to is not deleted",
            "deletes the rows of SPACE.c",
            "changes columns of the rows of SPACE.d",
            "empties columns of the rows of SPACE.n",
            "rows of SPACE.r refer to is not deleted",
        ],
    ),
    "texts": (["CREATE TABLE SPACE.kv (key text PRIMARY KEY, value text)"], ["values are texts"]),
    "parts": (
        [
            "CREATE TABLE SPACE.kv (key text PRIMARY KEY, value bytea) PARTITION BY HASH (key)",
            "CREATE TABLE SPACE.part PARTITION OF SPACE.kv FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            "CREATE FUNCTION SPACE.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "CREATE TRIGGER ignore BEFORE INSERT ON SPACE.part FOR EACH ROW EXECUTE FUNCTION SPACE.f()",
        ],
        ["has triggers (ignore):"],
    ),
}


@pytest.mark.parametrize(("statements", "parts"), POSTGRES.values(), ids=list(POSTGRES))
def test_limits_of_postgres(postgres_server: PostgresServer, statements: list[str], parts: list[str]) -> None:
    schema = postgres_server.schema()
    postgres_server.run(
        *(statement.replace("SPACE", schema) for statement in statements), f"GRANT ALL ON {schema}.kv TO {SECURED}"
    )
    password = "".join(f"%{byte:02X}" for byte in PASSWORD.encode())
    place = f"127.0.0.1:{postgres_server.port}/postgres?schema={schema}"
    check(limits(f"postgresql://{SECURED}:{password}@{place}"), *(part.replace("SPACE", schema) for part in parts))
    assert limits(f"{postgres_server.url}?schema={schema}&table=new") == []


def test_limits_of_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    assert limits(redis_server.url) == []
    with RedisServer(tmp_path, appendonly="no", maxmemory_policy="allkeys-lru") as server:
        url = f"{server.url}?evicting=allow"
        check(limits(url), "may evict keys (maxmemory-policy allkeys-lru)", "keeps nothing on disk")
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info", "-config")
        check(limits(url.replace("//", "//app:pw@")), "does not tell whether it may evict keys")
        server.ask("CONFIG", "SET", "save", "60 1")
        check(limits(url), "may evict keys")


def test_limits_of_nats(nats_server: NatsServer) -> None:
    nats_server.make("limits_plain")
    nats_server.make("limits_aged", ttl=3600, storage="memory")
    assert limits(nats_server.url("limits_plain")) == []
    assert limits(nats_server.url("limits_absent")) == []
    check(limits(nats_server.url("limits_aged", "?evicting=allow")), "drops values by itself", "in the server's memory")


RULES = """<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Rule><ID>tmp</ID><Filter><Prefix>app/tmp/</Prefix></Filter><Status>Enabled</Status>
  <Expiration><Days>7</Days></Expiration></Rule>
<Rule><ID>all</ID><Filter><And><Prefix></Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter>
  <Status>Enabled</Status><Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>
<Rule><ID>other</ID><Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>
<Rule><ID>off</ID><Prefix></Prefix><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>
<Rule><ID>markers</ID><Prefix></Prefix><Status>Enabled</Status>
  <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>
<Rule><ID>old</ID><Prefix></Prefix><Status>Enabled</Status>
  <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>
</LifecycleConfiguration>"""


ONE_RULE = RULES.partition("<Rule><ID>all")[0] + "</LifecycleConfiguration>"


def test_rules_of_a_lifecycle() -> None:
    found = list(lifecycle.limits_of(ET.fromstring(RULES), "app/"))  # noqa: S314 - our own
    check(found, "('tmp') deletes objects by itself", "('all') moves objects to another storage class")


def test_limits_of_s3(seaweed_server: SeaweedServer) -> None:
    bucket = seaweed_server.new_bucket()
    try:
        url = seaweed_server.url_of("app", bucket=bucket)
        assert limits(url) == []
        seaweed_server.set_lifecycle(bucket, ONE_RULE)
        check(limits(url), "('tmp') deletes objects by itself")
        check(
            limits(url.replace("secret_access_key=", "secret_access_key=x")), "cannot be found out (the server answers"
        )
    finally:
        seaweed_server.remove_bucket(bucket)


def test_doctor_prints_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value)")
        connection.execute(TRIGGER.format("guard"))
        connection.commit()
    url = f"sqlite:///{tmp_path}/app.db"
    assert main(["doctor", url]) == 0
    assert "limit                         the table has triggers (guard)" in capsys.readouterr().out
    assert main(["doctor", "--json", url]) == 0
    (sentence,) = json.loads(capsys.readouterr().out)["limits"]
    assert "guard" in sentence
    assert kvsync.doctor({}).limits == []


def test_doctor_names_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of mode 000 was passed over in silence: its status says nothing of that."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"1")
    open_file = os.open

    def denied(path: str, *arguments: int, **more: int) -> int:
        if path == "b":
            raise PermissionError(13, "Permission denied")
        return open_file(path, *arguments, **more)

    monkeypatch.setattr(os, "open", denied)
    before = len(os.listdir("/proc/self/fd"))
    found = kvsync.doctor(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    (sentence,) = found.wrong
    assert "the value of 'b' cannot be read" in sentence
    assert "denied" in sentence


def test_names_that_are_no_keys_are_escaped_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r"""The name `bad\xff` was shown as `bad\\xff`."""
    folder, peer = tmp_path / "folder", tmp_path / "peer"
    folder.mkdir()
    peer.mkdir()
    (folder / "good").write_bytes(b"1")
    with open(os.fsencode(folder) + b"/bad\xff", "wb"):
        pass
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE kv (key, value BLOB)")
        connection.execute("CREATE UNIQUE INDEX one ON kv (key)")
        connection.execute("INSERT INTO kv VALUES (x'626164FF', x'00')")
        connection.commit()
    for storage in (str(folder), f"sqlite:///{tmp_path}/app.db"):
        for words in (["doctor", storage], ["sync", storage, str(peer)], ["commit", storage, "--scan"]):
            main(words)
            told = capsys.readouterr()
            assert r"'bad\xff'" in told.out + told.err, words
