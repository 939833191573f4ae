"""Any PostgreSQL table keeps what a call says it wrote, and holds what it held where the call refused.

Tables are drawn at random: their other columns, constraints, triggers, rules and types. So are the calls. After each,
every key holds the given value if it was written, and its old row if it was refused.
"""

from __future__ import annotations

import random
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from kvsync.storages.postgres import PostgresStorage, open_url
from kvsync.testing.conformance import listing

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

    from kvsync.types import Unreadable

KINDS = ["good", "none", "other", "bad", "late", "kept"]
"""What tables do with a key that begins so: store, ignore or rewrite it, raise, refuse the commit, or keep the row."""

HOOKS = {
    "before": (
        (
            "CREATE FUNCTION SCHEMA.before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.key LIKE 'none%' THEN RETURN NULL; END IF; "
            "IF NEW.key LIKE 'other%' THEN NEW.value := OTHER; END IF; "
            "IF NEW.key LIKE 'bad%' THEN RAISE EXCEPTION 'bad'; END IF; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER before BEFORE INSERT OR UPDATE ON SCHEMA.kv FOR EACH ROW EXECUTE FUNCTION SCHEMA.before()",
    ),
    "after": (
        (
            "CREATE FUNCTION SCHEMA.after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.key LIKE 'none%' THEN DELETE FROM SCHEMA.kv WHERE key = NEW.key; "
            "ELSIF NEW.key LIKE 'other%' AND NEW.value <> OTHER "
            "THEN UPDATE SCHEMA.kv SET value = OTHER WHERE key = NEW.key; "
            "END IF; RETURN NULL; END $$"
        ),
        "CREATE TRIGGER after AFTER INSERT OR UPDATE ON SCHEMA.kv FOR EACH ROW EXECUTE FUNCTION SCHEMA.after()",
    ),
    "late": (
        (
            "CREATE FUNCTION SCHEMA.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.key LIKE 'late%' THEN RAISE EXCEPTION 'late' USING ERRCODE = 'KV001'; END IF; RETURN NULL; END $$"
        ),
        (
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON SCHEMA.kv DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION SCHEMA.late()"
        ),
    ),
    "kept": (
        "CREATE FUNCTION SCHEMA.kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        (
            "CREATE TRIGGER kept BEFORE DELETE ON SCHEMA.kv FOR EACH ROW WHEN (OLD.key LIKE 'kept%') "
            "EXECUTE FUNCTION SCHEMA.kept()"
        ),
    ),
    "insert rule": ("CREATE RULE ins AS ON INSERT TO SCHEMA.kv WHERE NEW.key LIKE 'none%' DO INSTEAD NOTHING",),
    "update rule": ("CREATE RULE upd AS ON UPDATE TO SCHEMA.kv WHERE OLD.key LIKE 'other%' DO INSTEAD NOTHING",),
    "delete rule": ("CREATE RULE del AS ON DELETE TO SCHEMA.kv WHERE OLD.key LIKE 'kept%' DO INSTEAD NOTHING",),
    "check": ("ALTER TABLE SCHEMA.kv ADD CHECK (key NOT LIKE 'bad%')",),
    "unique": ("CREATE UNIQUE INDEX ON SCHEMA.kv (left(key, 1)) WHERE key LIKE 'l%'",),
}
COLUMNS = ["", ", note text", ", id serial", ", owner text NOT NULL", ", stamp timestamptz NOT NULL DEFAULT now()"]
VALUES = {
    "bytea": [b"", b"\x00\xff", b"v" * 5000, b"1"],
    "text": [b"", "é\n".encode(), b"v" * 5000, b"\xff", b"a\0b"],
    "jsonb": [b'{"a": 1}', b'{"a":1}', b"1", b"1.0", b"{"],
    "integer": [b"1", b"01", b"-7", b"2147483648", b"x"],
    "numeric(8,2)": [b"1.00", b"1", b"0.10", b"1e2"],
    "char(4)": [b"ab", b"ab ", b"abcde", b""],
}
OTHER = {
    "bytea": "'other'::bytea",
    "text": "'other'",
    "jsonb": "'9'",
    "integer": "9",
    "numeric(8,2)": "9",
    "char(4)": "'o'",
}


def drawn(chance: random.Random, server: PostgresServer, schema: str) -> str:
    """Make a table, and return the type of its values."""
    kind = chance.choice(list(VALUES))
    server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value {kind}{chance.choice(COLUMNS)})")
    hooks = chance.sample(list(HOOKS), chance.randrange(4))
    for hook in hooks:
        for statement in HOOKS[hook]:
            server.run(statement.replace("SCHEMA", schema).replace("OTHER", OTHER[kind]))
    return kind


def held(storage: PostgresStorage, keys: list[str]) -> dict[str, bytes | Unreadable]:
    return {key: value for key, value in zip(keys, storage.read(keys), strict=True) if value is not None}


def call(chance: random.Random, storage: PostgresStorage, keys: list[str], kind: str) -> None:
    """Make one random call, and see that each key is as the answer says."""
    before, tokens = held(storage, keys), listing(storage)
    some = chance.sample(keys, chance.choice([1, 5, 80]))
    expect: list[bytes | None] | None = None
    if chance.random() < 0.5:
        expect = [tokens.get(key) if chance.random() < 0.9 else chance.choice([None, bytes(32)]) for key in some]
    values: list[Any] = [chance.choice(VALUES[kind]) for _ in some]
    deletes = chance.random() < 0.3
    with storage.transaction() if chance.random() < 0.5 else nullcontext():
        written = storage.delete(some, expect) if deletes else storage.write(some, values, expect)
    refused = {refusal.key for refusal in written.refused}
    after = held(storage, keys)
    assert set(after) == set(listing(storage))
    for key, value in zip(some, values, strict=True):
        if key in refused:
            assert after.get(key) == before.get(key), key
        else:
            assert after.get(key) == (None if deletes else value), key
    for key in set(keys) - set(some):
        assert after.get(key) == before.get(key), key


@pytest.mark.parametrize("seed", range(40))
def test_a_call_that_says_written_has_written_and_one_that_refuses_has_not(
    postgres_server: PostgresServer, seed: int
) -> None:
    chance = random.Random(seed)
    schema = postgres_server.schema()
    kind = drawn(chance, postgres_server, schema)
    keys = [f"{name} {number}" for name in KINDS for number in range(15)]
    with closing(open_url(f"{postgres_server.url}?schema={schema}")) as storage:
        for _ in range(8):
            call(chance, storage, keys, kind)
    postgres_server.run(f"DROP SCHEMA {schema} CASCADE")
