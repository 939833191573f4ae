"""PostgreSQL tables as people have them: what runs when a row is written, other columns and types, and who may write.

A row that the table does not keep as it was given is refused by name, and everything else moves.
"""

from __future__ import annotations

import itertools
import json
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from servers.postgres import PASSWORD, SECURED

import kvsync
from kvsync import Delete, Put
from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages.postgres import PostgresStorage, open_url
from kvsync.storages.postgres.writing import COPY_COUNT, Part, Writer
from kvsync.testing.conformance import listing
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.postgres import PostgresServer

    from kvsync.types import Written

COUNT = COPY_COUNT + 16
"""Enough values for a first load by COPY."""

PLAIN = "key text PRIMARY KEY, value bytea"


@pytest.fixture
def schema(postgres_server: PostgresServer) -> str:
    return postgres_server.schema()


@pytest.fixture
def table(postgres_server: PostgresServer, schema: str) -> Iterator[Callable[..., PostgresStorage]]:
    """Give a function that makes the table `kv` of some columns, runs statements, and opens it."""
    with ExitStack() as stack:

        def make(columns: str, *statements: str, options: str = "") -> PostgresStorage:
            postgres_server.run(f"CREATE TABLE {schema}.kv ({columns})")
            for statement in statements:
                postgres_server.run(statement.replace("SCHEMA", schema))
            return stack.enter_context(closing(open_url(f"{postgres_server.url}?schema={schema}{options}")))

        yield make


def function(body: str, when: str, name: str = "hook") -> tuple[str, str]:
    """Return the statements that make a trigger."""
    return (
        f"CREATE FUNCTION SCHEMA.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE TRIGGER {name} {when} ON SCHEMA.kv FOR EACH ROW EXECUTE FUNCTION SCHEMA.{name}()",
    )


def values(*odd: str) -> dict[str, bytes]:
    return dict.fromkeys([*odd, *(f"k{number:03d}" for number in range(COUNT))], b"given")


def refused(written: Written) -> dict[str, bool]:
    return {refusal.key: refusal.changed for refusal in written.refused}


BEFORE = function(
    "IF NEW.key LIKE 'none%' THEN RETURN NULL; END IF; "
    "IF NEW.key LIKE 'other%' THEN NEW.value := 'other'; END IF; "
    "IF NEW.key LIKE 'moved%' THEN NEW.key := 'elsewhere ' || NEW.key; END IF; RETURN NEW;",
    "BEFORE INSERT OR UPDATE",
)
AFTER = function(
    "IF NEW.key LIKE 'other%' THEN UPDATE SCHEMA.kv SET value = 'other' WHERE key = NEW.key AND value <> 'other'; "
    "ELSIF NEW.key LIKE 'none%' OR NEW.key LIKE 'moved%' THEN DELETE FROM SCHEMA.kv WHERE key = NEW.key; "
    "END IF; RETURN NULL;",
    "AFTER INSERT OR UPDATE",
)
DEFERRED = (
    AFTER[0],
    AFTER[1]
    .replace("CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER")
    .replace("FOR EACH", "DEFERRABLE INITIALLY DEFERRED FOR EACH"),
)
RULES = (
    "CREATE RULE one AS ON INSERT TO SCHEMA.kv WHERE NEW.key ~ '^(none|moved)' DO INSTEAD NOTHING",
    "CREATE RULE two AS ON INSERT TO SCHEMA.kv DO ALSO UPDATE SCHEMA.kv SET value = 'other' WHERE key LIKE 'other%'",
)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("expect", [False, True], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("statements", [BEFORE, AFTER, DEFERRED, RULES], ids=["before", "after", "deferred", "rules"])
def test_a_row_that_the_table_ignores_or_rewrites_is_refused_and_undone(
    table: Callable[..., PostgresStorage], statements: tuple[str, ...], expect: bool, inside: bool
) -> None:
    storage = table(PLAIN, *statements)
    given = values("none 1", "other 1", "other 2", "moved 1")

    def write() -> Written:
        return storage.write(list(given), list(given.values()), [None] * len(given) if expect else None)

    for _ in range(2):
        if inside:
            with storage.transaction():
                written = write()
        else:
            written = write()
        assert refused(written) == {"none 1": False, "other 1": False, "other 2": False, "moved 1": False}
        assert all("trigger, rule or policy" in refusal.reason for refusal in written.refused)
        assert listing(storage) == dict.fromkeys(sorted(values()), digest_values([b"given"])[0])
        assert storage.delete(list(given)).refused == ()


@pytest.mark.parametrize("expect", [False, True], ids=["unconditional", "conditional"])
@pytest.mark.parametrize(
    "statements",
    [
        function("RETURN NULL;", "BEFORE UPDATE OR DELETE"),
        (
            "CREATE RULE one AS ON UPDATE TO SCHEMA.kv DO INSTEAD NOTHING",
            "CREATE RULE two AS ON DELETE TO SCHEMA.kv DO INSTEAD NOTHING",
        ),
        function(
            "IF TG_OP = 'DELETE' OR NEW.value <> 'given' THEN "
            "INSERT INTO SCHEMA.kv VALUES (OLD.key, OLD.value) ON CONFLICT (key) DO UPDATE SET value = OLD.value; "
            "END IF; RETURN NULL;",
            "AFTER UPDATE OR DELETE",
        ),
    ],
    ids=["before", "rules", "after"],
)
def test_an_update_or_a_delete_that_does_not_happen_is_refused(
    table: Callable[..., PostgresStorage], statements: tuple[str, ...], expect: bool
) -> None:
    storage = table(PLAIN, "INSERT INTO SCHEMA.kv VALUES ('a', 'given'), ('b', 'given')", *statements)
    before = listing(storage)
    tokens = [before["a"], None] if expect else None
    written = storage.write(["a", "new"], [b"changed", b"1"], tokens)
    assert refused(written) == {"a": False}
    assert storage.read(["a", "new"]) == [b"given", b"1"]
    written = storage.delete(["a", "b"], [before["a"], before["b"]] if expect else None)
    assert refused(written) == {"a": False, "b": False}
    assert "keeps the row" in written.refused[0].reason
    assert storage.read(["a", "b"]) == [b"given", b"given"]


def test_what_expires_otherwise_than_it_was_given_is_refused(table: Callable[..., PostgresStorage]) -> None:
    capped = function(
        "IF NEW.key LIKE 'odd%' THEN NEW.due := least(NEW.due, '2030-01-01'); END IF; RETURN NEW;",
        "BEFORE INSERT OR UPDATE",
    )
    storage = table(PLAIN + ", due timestamptz", *capped, options="&expires=due")
    late, early = 4_000_000_000_000, 1_800_000_000_000
    for expect in (None, [None] * 4):
        written = storage.write_expiring(["a", "odd 1", "odd 2", "odd 3"], [b"1"] * 4, [late, late, early, 0], expect)
        assert refused(written) == {"odd 1": False, "odd 3": False}
        assert storage.expiries(["a", "odd 1", "odd 2"]) == [late, 0, early]
        assert storage.delete(["a", "odd 2"]).refused == ()


def test_runs_go_on_beside_rows_that_are_not_kept(postgres_server: PostgresServer, schema: str) -> None:
    """A trigger that rewrote a value gave exit 0 once, and ever after a log that named a value never stored."""
    postgres_server.run(f"CREATE TABLE {schema}.kv ({PLAIN})")
    for statement in BEFORE:
        postgres_server.run(statement.replace("SCHEMA", schema))
    url = f"{postgres_server.url}?schema={schema}"
    data: dict[str, bytes] = dict(values("none", "other"))
    for round_ in range(3):
        result = kvsync.sync(data, url, scan=True)
        assert {missing.key for missing in result.missing} == {"none", "other"}
        assert (result.pushed, result.pulled) == (0 if round_ else COUNT, 0)
        assert (data["none"], data["other"], data["k001"]) == (b"given", b"given", b"given")
    postgres_server.run(f"DROP TRIGGER hook ON {schema}.kv")
    assert (kvsync.sync(data, url, scan=True).missing, kvsync.sync(data, url, scan=True).missing) == ([], [])
    rows = postgres_server.run(f"SELECT key, value FROM {schema}.kv")
    assert {row[0]: row[1] for row in rows} == data_of(data)


def data_of(data: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in data.items() if not key.startswith(".kvsync/")}


def test_a_trigger_that_keeps_rows_does_not_slow_a_first_load(
    table: Callable[..., PostgresStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped = function("NEW.seen := now(); RETURN NEW;", "BEFORE INSERT OR UPDATE")
    storage = table(PLAIN + ", seen timestamptz", *stamped)
    copied: list[int] = []
    copy = Writer._copy

    def counted(self: Writer, part: Part) -> dict[str, str]:
        copied.append(len(part))
        return copy(self, part)

    monkeypatch.setattr(Writer, "_copy", counted)
    assert storage.write(list(values()), list(values().values())).refused == ()
    assert copied == [COUNT]
    assert len(listing(storage)) == COUNT


def test_a_trigger_that_somebody_adds_later_is_noticed(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    storage = table(PLAIN)
    assert storage.write(["other", "a"], [b"1", b"1"]).refused == ()
    for statement in BEFORE:
        postgres_server.run(statement.replace("SCHEMA", schema))
    with storage.transaction():
        assert refused(storage.write(["other", "a"], [b"2", b"2"])) == {"other": False}
    assert storage.read(["other", "a"]) == [b"1", b"2"]


def test_a_trigger_of_one_partition_is_noticed(
    postgres_server: PostgresServer, schema: str, table: Callable[..., PostgresStorage]
) -> None:
    postgres_server.run(
        f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea) PARTITION BY HASH (key)",
        f"CREATE TABLE {schema}.part0 PARTITION OF {schema}.kv FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        f"CREATE TABLE {schema}.part1 PARTITION OF {schema}.kv FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        f"CREATE FUNCTION {schema}.hook() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.value := 'other'; RETURN NEW; END $$",
        f"CREATE TRIGGER hook BEFORE INSERT ON {schema}.part1 FOR EACH ROW EXECUTE FUNCTION {schema}.hook()",
    )
    with closing(open_url(f"{postgres_server.url}?schema={schema}")) as storage:
        given = values()
        odd = refused(storage.write(list(given), list(given.values())))
        assert 0 < len(odd) < COUNT
        assert set(listing(storage)) == set(given) - set(odd)


# One row that the database refuses


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize(
    ("columns", "statements"),
    [
        (PLAIN, function("IF NEW.key LIKE 'bad%' THEN RAISE EXCEPTION 'never'; END IF; RETURN NEW;", "BEFORE INSERT")),
        (
            PLAIN,
            function(
                "IF NEW.key LIKE 'bad%' THEN RAISE EXCEPTION 'never' USING ERRCODE = 'KV007'; END IF; RETURN NULL;",
                "AFTER INSERT",
            ),
        ),
        (
            PLAIN,
            function("IF NEW.key LIKE 'bad%' THEN RAISE insufficient_privilege; END IF; RETURN NEW;", "BEFORE INSERT"),
        ),
        (
            PLAIN,
            function("IF NEW.key LIKE 'bad%' THEN PERFORM 1 FROM nowhere; END IF; RETURN NEW;", "BEFORE INSERT"),
        ),
        ("key text PRIMARY KEY CHECK (key NOT LIKE 'bad%'), value bytea", ()),
        (
            "key text PRIMARY KEY, value bytea, CONSTRAINT known CHECK (key NOT LIKE 'bad%') NOT VALID",
            (),
        ),
        (
            PLAIN + ", twin text GENERATED ALWAYS AS (left(key, 3)) STORED, CHECK (twin <> 'bad')",
            (),
        ),
        (
            "key text PRIMARY KEY REFERENCES SCHEMA.known DEFERRABLE INITIALLY DEFERRED, value bytea",
            (),
        ),
    ],
    ids=["raise", "own code", "privilege", "broken trigger", "check", "table check", "generated", "deferred"],
)
def test_one_row_that_the_database_refuses_is_named(
    postgres_server: PostgresServer, schema: str, columns: str, statements: tuple[str, ...], inside: bool
) -> None:
    good = values()
    postgres_server.run(
        f"CREATE TABLE {schema}.known (key text PRIMARY KEY)",
        f"INSERT INTO {schema}.known SELECT 'k' || lpad(n::text, 3, '0') FROM generate_series(0, {COUNT}) n",
        f"CREATE TABLE {schema}.kv ({columns.replace('SCHEMA', schema)})",
        *(statement.replace("SCHEMA", schema) for statement in statements),
    )
    with closing(open_url(f"{postgres_server.url}?schema={schema}")) as storage:
        given = values("bad 1", "bad 2")
        for expect in (None, [None] * len(given)):
            if inside:
                with storage.transaction():
                    written = storage.write(list(given), list(given.values()), expect)
                    storage.store("manifest", b"1", kvsync.types.ANY)
            else:
                written = storage.write(list(given), list(given.values()), expect)
            assert refused(written) == {"bad 1": False, "bad 2": False}
            assert "the database refused it" in written.refused[0].reason
            assert set(listing(storage)) == set(good)
            storage.delete(list(good))


def test_a_delete_that_the_database_refuses_is_named(
    postgres_server: PostgresServer, schema: str, table: Callable[..., PostgresStorage]
) -> None:
    storage = table(
        PLAIN,
        "INSERT INTO SCHEMA.kv VALUES ('raises', '1'), ('used', '1'), ('used later', '1'), ('free', '1')",
        *function("IF OLD.key = 'raises' THEN RAISE EXCEPTION 'never'; END IF; RETURN OLD;", "BEFORE DELETE"),
        "CREATE TABLE SCHEMA.uses (key text REFERENCES SCHEMA.kv)",
        "CREATE TABLE SCHEMA.later (key text REFERENCES SCHEMA.kv DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO SCHEMA.uses VALUES ('used')",
        "INSERT INTO SCHEMA.later VALUES ('used later')",
    )
    with storage.transaction():
        assert set(refused(storage.delete(["free", "raises", "used", "used later"]))) == {
            "raises",
            "used",
            "used later",
        }
    assert set(listing(storage)) == {"raises", "used", "used later"}
    tokens = listing(storage)
    assert set(refused(storage.delete(list(tokens), list(tokens.values())))) == set(tokens)


def test_a_run_names_what_is_null_or_has_no_key(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    """One row without a value or without a usable key stopped everything."""
    table(
        "key bytea UNIQUE, value text",
        "INSERT INTO SCHEMA.kv SELECT ('k' || n)::bytea, 'v' FROM generate_series(1, 9) n",
        "INSERT INTO SCHEMA.kv VALUES ('empty', NULL), (NULL, 'v'), ('\\xff00', 'v')",
    )
    data: dict[str, bytes] = {}
    url = f"{postgres_server.url}?schema={schema}"
    for round_ in range(2):
        result = kvsync.sync(data, url, scan=True)
        assert result.pulled == (0 if round_ else 9)
        assert {entry.key: entry.reason.split(":")[0] for entry in result.unreadable} == {
            "empty": "its row holds NULL",
            "NULL": "the row has no key",
            r"\xff\x00": "the row's key is not UTF-8",
        }
    data["empty"] = b"mine"
    result = kvsync.sync(data, url, scan=True)
    assert data["empty"] == b"mine"
    assert postgres_server.run(f"SELECT value FROM {schema}.kv WHERE key = 'empty'") == [(None,)]
    postgres_server.run(f"UPDATE {schema}.kv SET value = NULL WHERE key = 'k1'")
    result = kvsync.sync(data, url, scan=True)
    assert data["k1"] == b"v"
    assert "k1" in {entry.key for entry in result.unreadable}


# Other columns


def test_rows_that_exist_are_updated_where_none_can_be_inserted(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    """An upsert inserts first, so that even a change of an existing row was refused."""
    storage = table(
        PLAIN + ", owner text NOT NULL, id serial",
        "INSERT INTO SCHEMA.kv SELECT 'k' || n, 'old', 'me' FROM generate_series(1, 3) n",
    )
    tokens = listing(storage)
    assert storage.write(["k1"], [b"1"]).refused == ()
    assert storage.write(["k2"], [b"2"], [tokens["k2"]]).refused == ()
    for expect in (None, [tokens["k3"], None, None]):
        written = storage.write(["k3", "new", "k1"], [b"3", b"3", b"3"], expect)
        assert refused(written) == ({"new": False} if expect is None else {"new": False, "k1": True, "k3": True})
        assert "give that column a default" in next(r.reason for r in written.refused if r.key == "new")
    assert postgres_server.run(f"SELECT key, value, owner FROM {schema}.kv ORDER BY key") == [
        ("k1", b"3", "me"),
        ("k2", b"2", "me"),
        ("k3", b"3", "me"),
    ]
    assert postgres_server.run(f"SELECT max(id), count(*) FROM {schema}.kv") == [(3, 3)]
    postgres_server.run(f"ALTER TABLE {schema}.kv ALTER owner SET DEFAULT 'nobody'")
    assert storage.write(["new"], [b"4"], [None]).refused == ()
    assert postgres_server.run(f"SELECT value, owner FROM {schema}.kv WHERE key = 'new'") == [(b"4", "nobody")]


def test_an_update_runs_no_trigger_of_an_insert(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    storage = table(
        PLAIN,
        "INSERT INTO SCHEMA.kv VALUES ('a', '1'), ('b', '1')",
        *function("RAISE EXCEPTION 'no more rows';", "BEFORE INSERT"),
    )
    token = listing(storage)["b"]
    assert refused(storage.write(["a", "new"], [b"2", b"2"])) == {"new": False}
    assert storage.write(["b"], [b"2"], [token]).refused == ()
    assert refused(storage.write(["a"], [b"3"], [None])) == {"a": True}
    assert storage.read(["a", "b"]) == [b"2", b"2"]


def test_an_expired_row_is_revived_where_none_can_be_inserted(table: Callable[..., PostgresStorage]) -> None:
    storage = table(
        PLAIN + ", owner text NOT NULL, due bigint",
        "INSERT INTO SCHEMA.kv VALUES ('gone', '1', 'me', 200000000000), ('there', '1', 'me', NULL)",
        options="&expires=due",
    )
    written = storage.write(["gone", "there", "new"], [b"2"] * 3, [None] * 3)
    assert refused(written) == {"there": True, "new": False}
    assert storage.read(["gone", "there", "new"]) == [b"2", b"1", None]


# Row-level security


@pytest.mark.parametrize("count", [COPY_COUNT - 1, COPY_COUNT, 5000])
def test_tables_with_row_level_security(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str, count: int
) -> None:
    """63 keys moved and 64 failed: row-level security takes no COPY."""
    table(
        PLAIN,
        "ALTER TABLE SCHEMA.kv ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON SCHEMA.kv USING (key NOT LIKE 'their%')",
        f"GRANT ALL ON SCHEMA.kv TO {SECURED}",
        "INSERT INTO SCHEMA.kv VALUES ('theirs', '1')",
    )
    url = f"postgresql://{SECURED}:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres_server.port}/postgres?schema={schema}"
    data = {f"k{number}": b"1" for number in range(count)} | {"theirs": b"mine", "their other": b"mine"}
    for round_ in range(2):
        result = kvsync.sync(data, url, scan=True)
        assert {missing.key: "row-level security" in missing.reason for missing in result.missing} == {
            "theirs": True,
            "their other": True,
        }
        assert result.pushed == (0 if round_ else count)
    assert postgres_server.run(f"SELECT count(*) FROM {schema}.kv WHERE key LIKE 'k%'") == [(count,)]
    assert postgres_server.run(f"SELECT key, value FROM {schema}.kv WHERE key LIKE 'their%'") == [("theirs", b"1")]
    data["k1"] = b"2"
    del data["k2"]
    assert kvsync.sync(data, url, scan=True).pushed == 2


def test_a_role_without_a_permission_is_told_so_once(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    table(PLAIN, f"GRANT SELECT ON SCHEMA.kv TO {SECURED}")
    url = f"postgresql://{SECURED}:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres_server.port}/postgres?schema={schema}"
    with pytest.raises(kvsync.StorageError, match="grant it"):
        kvsync.sync({}, url, [Put(f"k{number}", b"1") for number in range(100)])


# Types of columns


@pytest.mark.parametrize(
    ("type_", "kept", "not_kept"),
    [
        ("jsonb", [b'{"a": 1}', b"[]", b'"x"'], [b'{"a":1}', b"1.0e2", b"{", b"\xff"]),
        ("json", [b'{"a":1}', b" [ 1,1 ] "], [b"{", b""]),
        ("integer", [b"0", b"-1", b"2147483647"], [b"01", b"+1", b" 1", b"-0", b"2147483648", b"x", b"", b"1\n"]),
        ("numeric(6,2)", [b"1.25", b"-0.50"], [b"1.5", b"1.255", b"1e2", b"x", b"12345678"]),
        ("boolean", [b"true", b"false"], [b"t", b"TRUE", b"yes", b""]),
        ("char(5)", [b"abc", "é".encode(), b""], [b"abc ", b"abcdef", b"a\0"]),
        ("varchar(3)", [b"abc", b"a  "], [b"abcd", b"a   "]),
        ("SCHEMA.mood", [b"sad"], [b"Sad", b"glad"]),
        ("SCHEMA.even", [b"2"], [b"3", b"02"]),
        ("uuid", [b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"], [b"6BA7B810-9DAD-11D1-80B4-00C04FD430C8", b"x"]),
    ],
)
def test_a_value_that_its_type_would_change_is_refused(
    postgres_server: PostgresServer,
    schema: str,
    table: Callable[..., PostgresStorage],
    type_: str,
    kept: list[bytes],
    not_kept: list[bytes],
) -> None:
    postgres_server.run(
        f"CREATE TYPE {schema}.mood AS ENUM ('sad', 'ok')",
        f"CREATE DOMAIN {schema}.even AS int CHECK (VALUE % 2 = 0)",
    )
    storage = table(f"key text PRIMARY KEY, value {type_.replace('SCHEMA', schema)}")
    given = {f"good {number}": value for number, value in enumerate(kept)}
    given |= {f"bad {number}": value for number, value in enumerate(not_kept)}
    given |= {f"many {number}": kept[0] for number in range(COUNT)}
    good = {key: value for key, value in given.items() if not key.startswith("bad")}
    for expect in (None, [None] * len(given)):
        written = storage.write(list(given), list(given.values()), expect)
        assert set(refused(written)) == set(given) - set(good)
        assert listing(storage) == dict(zip(good, digest_values(list(good.values())), strict=True))
        assert storage.read(list(good)) == list(good.values())
        tokens = listing(storage)
        assert storage.write(["good 0"], [kept[-1]], [tokens["good 0"]]).refused == ()
        assert storage.delete(list(good)).refused == ()


def test_text_stays_text(table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str) -> None:
    table("key varchar(40) PRIMARY KEY, value text", "INSERT INTO SCHEMA.kv VALUES ('theme', 'light')")
    data: dict[str, bytes] = {}
    url = f"{postgres_server.url}?schema={schema}"
    assert kvsync.sync(data, url, scan=True).pulled == 1
    assert data["theme"] == b"light"
    data |= {"theme": "dünkel".encode(), "binary": b"\xff", "nul": b"a\0b"}
    result = kvsync.sync(data, url, scan=True)
    assert {missing.key for missing in result.missing} == {"binary", "nul"}
    assert postgres_server.run(f"SELECT key FROM {schema}.kv WHERE value = 'dünkel'") == [("theme",)]


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        ("smallint", ["0", "-1", "7", "42", "32767"], ["042", "+1", "-0", "32768", "a", "", " 1", "٤٢", "1\n"]),
        ("integer", ["0", "-2147483648", "2147483647"], ["2147483648", "1.0", "1e3", "0x1"]),
        ("bigint", ["9223372036854775807", "-9223372036854775808"], ["9223372036854775808"]),
        ("uuid", [str(uuid.UUID(int=number << 120)) for number in (1, 255)], [str(uuid.UUID(int=0xAB)).upper(), "x"]),
    ],
)
def test_keys_that_are_numbers_or_uuids(
    table: Callable[..., PostgresStorage], type_: str, good: list[str], bad: list[str]
) -> None:
    storage = table(f"key {type_} PRIMARY KEY, value bytea")
    many = [] if type_ == "uuid" else [str(number) for number in range(100, 100 + COUNT)]
    for expect in (False, True):
        keys = [*good, *bad, *many]
        written = storage.write(keys, [key.encode() for key in keys], [None] * len(keys) if expect else None)
        assert refused(written) == dict.fromkeys(bad, False)
        assert storage.read(keys) == [None if key in bad else key.encode() for key in keys]
        assert list(listing(storage)) == sorted([*good, *many])
        tokens = listing(storage)
        assert storage.write([good[0]], [b"new"], [tokens[good[0]]]).refused == ()
        assert refused(storage.write([good[0]], [b"newer"], [tokens[good[0]]])) == {good[0]: True}
        assert storage.delete(keys, [tokens.get(key) for key in keys]).refused[0].key == good[0]
        assert storage.delete(keys).refused == ()
        assert listing(storage) == {}


def test_numbers_as_keys_in_runs(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    table("key int PRIMARY KEY, value text", "INSERT INTO SCHEMA.kv SELECT n, n FROM generate_series(1, 12) n")
    data: dict[str, bytes] = {"042": b"x", "readme": b"y"}
    url = f"{postgres_server.url}?schema={schema}"
    for _ in range(2):
        result = kvsync.sync(data, url, [Put("42", b"z"), Delete("7")], scan=True)
        assert {missing.key for missing in result.missing} == {"042", "readme"}
        assert "7" not in data
        assert data["12"] == b"12"
    assert postgres_server.run(f"SELECT count(*), sum(key) FROM {schema}.kv") == [(12, 78 - 7 + 42)]


def test_keys_of_a_folding_type_are_refused(postgres_server: PostgresServer, schema: str) -> None:
    """To `citext`, `Readme` and `README` are one key; a delete of one was one of the other."""
    available = postgres_server.run("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'")
    if not available:
        return  # this server was built without it
    postgres_server.run(
        f"CREATE EXTENSION IF NOT EXISTS citext SCHEMA {schema}",
        f"CREATE TABLE {schema}.kv (key {schema}.citext PRIMARY KEY, value bytea)",
    )
    storage = open_url(f"{postgres_server.url}?schema={schema}")
    with closing(storage), pytest.raises(UsageError, match="citext"):
        storage.read(["a"])
    postgres_server.run("DROP EXTENSION citext CASCADE")


@pytest.mark.parametrize(
    "columns", ["key text PRIMARY KEY, value bytea, n serial", "key int PRIMARY KEY, value bigint"]
)
def test_writers_on_hot_keys_beside_scanning_runs_lose_nothing(postgres_server: PostgresServer, columns: str) -> None:
    """Each value is overwritten by a writer that saw it, or it is there, or it is kept as one that lost a conflict."""
    count, keys = 300, range(5)
    schemas = [postgres_server.schema(), postgres_server.schema()]
    for schema in schemas:
        postgres_server.run(
            f"CREATE TABLE {schema}.kv ({columns})",
            f"INSERT INTO {schema}.kv (key, value) SELECT n, '0' FROM generate_series(0, 4) n",
        )
    one, two = (f"{postgres_server.url}?schema={schema}" for schema in schemas)
    kvsync.sync(one, two, scan=True)
    numbers = itertools.count(1)

    def write(schema: str) -> tuple[set[int], set[int]]:
        written, seen = set(), set()
        chance = random.Random(schema)
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            for number in itertools.islice(numbers, count):
                row = connection.execute(
                    f"UPDATE {schema}.kv AS new SET value = '{number}' FROM "
                    f"(SELECT * FROM {schema}.kv WHERE key = '{chance.choice(keys)}' FOR UPDATE) AS old "
                    "WHERE new.key = old.key RETURNING old.value"
                ).fetchone()
                assert row is not None
                written.add(number)
                seen.add(int(row[0]))
                time.sleep(0.002)
        return written, seen

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, schema) for schema in schemas]
        while not all(future.done() for future in writing):
            kvsync.sync(one, two, scan=True, max_delete="100%")
    for _ in range(2):
        last = kvsync.sync(one, two, scan=True, max_delete="100%")
    assert (last.missing, last.unreadable) == ([], [])
    held = [{int(row[0]) for row in postgres_server.run(f"SELECT value FROM {schema}.kv")} for schema in schemas]
    assert held[0] == held[1]
    kept = {int(losing.value) for url in (one, two) for losing in kvsync.lost(url) if isinstance(losing.value, bytes)}
    written, seen = (set().union(*found) for found in zip(*(future.result() for future in writing), strict=True))
    assert len(written) == 2 * count
    assert written - seen - held[0] - kept == set()


# When rows were modified


@pytest.mark.parametrize(
    ("type_", "unit", "stored", "expected"),
    [
        ("timestamptz", "ms", "'2026-01-02 03:04:05.678+00'", 1_767_323_045_678),
        ("timestamp", "utc", "'2026-01-02 03:04:05.678901'", 1_767_323_045_678),
        ("bigint", "ms", "1767323045678", 1_767_323_045_678),
        # Of a whole second the end: no edit seems to be older than it is.
        ("bigint", "s", "1767323045", 1_767_323_045_999),
        ("integer", "s", "1767323045", 1_767_323_045_999),
    ],
)
def test_a_column_says_when_a_row_was_modified(
    table: Callable[..., PostgresStorage],
    postgres_server: PostgresServer,
    type_: str,
    unit: str,
    stored: str,
    expected: int,
) -> None:
    storage = table(
        f"{PLAIN}, at {type_}",
        f"INSERT INTO SCHEMA.kv VALUES ('a', '1', {stored}), ('b', '1', NULL)",
        options=f"&modified=at&unit={unit}",
    )
    assert storage.modified_ms(["a", "b", "none"]) == [expected, None, None]
    assert storage.modified_ms([]) == []
    assert storage.write(["b", "new"], [b"2", b"2"]).refused == ()
    assert storage.write(list(values()), [b"2"] * COUNT).refused == ()
    ((now,),) = postgres_server.run("SELECT (extract(epoch FROM now()) * 1000)::bigint")
    for found in storage.modified_ms(["b", "new", "k001"]):
        assert found is not None
        assert -1000 < now - found < 60_000
    assert storage.modified_ms(["a"]) == [expected]


def test_the_table_that_is_made_has_a_column_for_when_rows_were_modified(
    postgres_server: PostgresServer, schema: str
) -> None:
    with closing(open_url(f"{postgres_server.url}?schema={schema}&modified=at")) as storage:
        storage.write(["a"], [b"1"])
        (found,) = storage.modified_ms(["a"])
        assert found is not None
    assert postgres_server.run(f"SELECT pg_typeof(at)::text FROM {schema}.kv") == [("timestamp with time zone",)]


@pytest.mark.parametrize("options", ["&modified=key", "&modified=at&expires=at", "&unit=us", "&unit=", "&modified=a b"])
def test_names_of_columns_that_do_not_do(postgres_server: PostgresServer, options: str) -> None:
    with pytest.raises(UsageError):
        open_url(postgres_server.url + "?" + options[1:])


def test_a_modified_column_of_another_type_is_refused(table: Callable[..., PostgresStorage]) -> None:
    storage = table(PLAIN + ", at timestamp", options="&modified=at")
    with pytest.raises(UsageError, match="last modified has to be timestamptz"):
        storage.read(["a"])


def test_reasons_are_printed_whole(postgres_server: PostgresServer, schema: str) -> None:
    """What the command shows of a refused row names the key, the side and the reason."""
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value jsonb)")
    data: dict[str, Any] = {"a": json.dumps({"x": 1}).encode(), "b": b'{"x":1}'}
    result = kvsync.sync(data, f"{postgres_server.url}?schema={schema}", scan=True)
    (missing,) = result.missing
    assert (missing.key, missing.side) == ("b", "target")
    assert "the column is jsonb: PostgreSQL shows another text for this value" in missing.reason
    assert Unreadable not in map(type, data.values())


def test_two_columns_of_values_are_two_storages(
    table: Callable[..., PostgresStorage], postgres_server: PostgresServer, schema: str
) -> None:
    """The second one was compared with the log of the first: every value counted as overwritten."""
    table("key text PRIMARY KEY, name bytea, mail bytea", "INSERT INTO SCHEMA.kv VALUES ('a', '1', '2')")
    url = f"{postgres_server.url}?schema={schema}&value="
    one: dict[str, bytes] = {}
    other: dict[str, bytes] = {}
    for _ in range(2):
        kvsync.sync(one, f"{url}name", scan=True)
        kvsync.sync(other, f"{url}mail", scan=True)
        assert (one["a"], other["a"]) == (b"1", b"2")
