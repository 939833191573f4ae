"""Row-level security of PostgreSQL: a row that a policy hides is not deleted, and one that it guards is not written."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from servers.postgres import PASSWORD, SECURED

import kvsync
from kvsync.native import digest_values
from kvsync.storages.postgres import open_url
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.postgres import PostgresServer

    from kvsync.storages.postgres import PostgresStorage

PLAIN = "key text PRIMARY KEY, value bytea NOT NULL"
OWNED = "key text PRIMARY KEY, value bytea, owner text"
HIDDEN = "hides its row"
UNKNOWN = "may hide its row"


class Guarded:
    """A table with row-level security, and the URL of a role that it applies to."""

    def __init__(self, server: PostgresServer, columns: str, *statements: str, options: str = "") -> None:
        self.schema = server.schema()
        self._server = server
        self.run(
            f"CREATE TABLE SPACE.kv ({columns})",
            "ALTER TABLE SPACE.kv ENABLE ROW LEVEL SECURITY",
            f"GRANT ALL ON SPACE.kv TO {SECURED}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA SPACE TO {SECURED}",
            *statements,
        )
        place = f"127.0.0.1:{server.port}/postgres?schema={self.schema}{options}"
        self.url = f"postgresql://{SECURED}:{quote(PASSWORD, safe='')}@{place}"

    def run(self, *statements: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self._server.run(*(text.replace("SPACE", self.schema) for text in statements))]

    def rows(self) -> dict[str, bytes]:
        return {str(key): bytes(value) for key, value in self.run("SELECT key, value FROM SPACE.kv")}  # type: ignore[call-overload]


def values_of(data: dict[str, bytes]) -> dict[str, bytes]:
    """Return what a mapping holds, without its index."""
    return {key: value for key, value in data.items() if not key.startswith(".kvsync/")}


@pytest.fixture
def guarded(postgres_server: PostgresServer) -> Callable[..., Guarded]:
    return lambda *arguments, **options: Guarded(postgres_server, *arguments, **options)


@pytest.fixture
def opening() -> Iterator[Callable[[str], PostgresStorage]]:
    opened: list[PostgresStorage] = []

    def open_one(url: str) -> PostgresStorage:
        opened.append(open_url(url))
        return opened[-1]

    yield open_one
    for storage in opened:
        storage.close()


BY_KEY = "CREATE POLICY p ON SPACE.kv USING (key NOT LIKE 'h%')"
ALL = "CREATE POLICY p ON SPACE.kv USING (true)"
BY_OWNER = "CREATE POLICY p ON SPACE.kv USING (owner = current_user)"
HIDE = "UPDATE SPACE.kv SET owner = 'else' WHERE key LIKE 'h%'"

TABLES = {
    "by key": (PLAIN, BY_KEY, UNKNOWN),
    "by key, any row may be written": (PLAIN, f"{BY_KEY} WITH CHECK (true)", HIDDEN),
    "restrictive": (PLAIN, "CREATE POLICY p ON SPACE.kv AS RESTRICTIVE FOR SELECT USING (key NOT LIKE 'h%')", HIDDEN),
    "by owner": (f"{OWNED} DEFAULT current_user", BY_OWNER, HIDDEN),
    "by an owner that has to be named": (f"{OWNED} NOT NULL", BY_OWNER, HIDDEN),
    "numbered": (
        "id serial PRIMARY KEY, key text UNIQUE, value bytea, owner text DEFAULT current_user", BY_OWNER, HIDDEN
    ),
    "always numbered": (
        (
            "id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, size int GENERATED ALWAYS AS (length(value)) STORED,"
            " key text UNIQUE, value bytea NOT NULL, owner text DEFAULT current_user"
        ),
        BY_OWNER,
        HIDDEN,
    ),
    "with other unique columns": (
        f"{OWNED} DEFAULT current_user, mail text UNIQUE, part text UNIQUE DEFAULT gen_random_uuid()", BY_OWNER, HIDDEN
    ),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "policy", "reason"), TABLES.values(), ids=list(TABLES))
def test_a_row_that_a_policy_begins_to_hide_is_no_delete(
    guarded: Callable[..., Guarded], columns: str, policy: str, reason: str
) -> None:
    """Hiding rows that were synced deleted them from the peer."""
    table = guarded(columns, "CREATE POLICY all_rows ON SPACE.kv USING (true)")
    owner = "owner" in columns
    names, row = ("key, value, owner", f"'1', '{SECURED}'") if owner else ("key, value", "'1'")
    for key in ["h1", "h2", "gone", "k1", "k2", "k3"]:
        table.run(f"INSERT INTO SPACE.kv ({names}) VALUES ('{key}', {row})")
    data: dict[str, bytes] = {}
    assert kvsync.sync(data, table.url, scan=True).pulled == 6
    drop = () if "RESTRICTIVE" in policy else ("DROP POLICY all_rows ON SPACE.kv",)
    table.run("DELETE FROM SPACE.kv WHERE key = 'gone'", *drop, policy, *([HIDE] if owner else []))
    numbers = table.run("SELECT last_value FROM SPACE.kv_id_seq") if "id " in columns else None
    for edited in (b"1", b"2"):
        result = kvsync.sync(data, table.url, scan=True)
        assert set(values_of(data)) == {"h1", "h2", "k1", "k2", "k3"}
        assert {(key, side) for key, side, why in result.unreadable if reason in why} == {
            ("h1", "target"),
            ("h2", "target"),
        }
        assert data["h1"] == edited
        data["h1"] = b"2"
    assert table.rows() == dict.fromkeys(["h1", "h2", "k1", "k2", "k3"], b"1")
    if numbers is not None:
        assert table.run("SELECT last_value FROM SPACE.kv_id_seq") == numbers
    del data["h2"]
    result = kvsync.sync(data, table.url, scan=True)
    assert {missing.key for missing in result.missing} >= {"h2"}
    assert table.rows()["h2"] == b"1"
    table.run("ALTER TABLE SPACE.kv DISABLE ROW LEVEL SECURITY")
    kvsync.sync(data, table.url, scan=True)
    assert table.rows() == values_of(data)


@pytest.mark.parametrize("count", [1, 300])
def test_a_policy_that_hides_everything_deletes_nothing(guarded: Callable[..., Guarded], count: int) -> None:
    table = guarded(f"{OWNED} DEFAULT current_user", BY_OWNER)
    data = {f"k{number}": b"1" for number in range(count)}
    kvsync.sync(data, table.url, scan=True)
    table.run("UPDATE SPACE.kv SET owner = 'else'")
    result = kvsync.sync(data, table.url, scan=True, max_delete="100%")
    assert {key for key, _, why in result.unreadable if HIDDEN in why} == set(values_of(data)) == set(table.rows())
    assert len(values_of(data)) == count


KINDS = {
    "text": ("text", ["h1", "k1", "no"], "bytea NOT NULL"),
    "bytea": ("bytea", ["h1", "k1", "no"], "text NOT NULL"),
    "integer": ("integer", ["1", "-2", "3"], "jsonb NOT NULL"),
    "uuid": ("uuid", [f"{digit * 8}-0000-0000-0000-000000000000" for digit in "123"], "char(3) NOT NULL"),
    "varchar": ("varchar(9)", ["h1", "k1", "no"], "SPACE.mood NOT NULL"),
    "domain": ("SPACE.word", ["h1", "k1", "no"], "SPACE.amount NOT NULL"),
    "partitioned": ("text", ["h1", "k1", "no"], "numeric"),
}


@pytest.mark.parametrize(("type_", "keys", "value"), KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_what_is_hidden_is_unreadable_and_not_deleted(
    guarded: Callable[..., Guarded],
    opening: Callable[[str], PostgresStorage],
    postgres_server: PostgresServer,
    type_: str,
    keys: list[str],
    value: str,
    inside: bool,
) -> None:
    schema = postgres_server.schema()
    postgres_server.run(
        f"CREATE TYPE {schema}.mood AS ENUM ('sad', 'ok')",
        f"CREATE DOMAIN {schema}.amount AS bigint",
        f"CREATE DOMAIN {schema}.word AS text",
        f"GRANT USAGE ON SCHEMA {schema} TO {SECURED}",
    )
    columns = f"key {type_}, value {value}, owner text DEFAULT current_user, PRIMARY KEY (key)"
    table = guarded(
        columns.replace("SPACE", schema) + (") PARTITION BY HASH (key" if value == "numeric" else ""),
        *(
            ["CREATE TABLE SPACE.part PARTITION OF SPACE.kv FOR VALUES WITH (MODULUS 1, REMAINDER 0)"]
            if value == "numeric"
            else []
        ),
        BY_OWNER,
    )
    storage = opening(table.url)
    sample = {"jsonb": b"1", "SPACE.mood": b"sad", "SPACE.amount": b"1", "numeric": b"1"}.get(
        value.removesuffix(" NOT NULL"), b"one"
    )
    assert storage.write(keys[:2], [sample] * 2).refused == ()
    table.run(f"UPDATE SPACE.kv SET owner = 'else' WHERE key = '{keys[0]}'")
    with storage.transaction() if inside else nullcontext():
        hidden, seen, absent = storage.read(keys)
        assert isinstance(hidden, Unreadable)
        assert HIDDEN in hidden.reason
        assert (seen, absent) == (sample, None)
        for expect in (None, [digest_values([sample])[0], None, None], [None] * 3):
            written = storage.delete([keys[0], keys[2]], expect and [expect[0], expect[2]])
            assert [(refusal.key, HIDDEN in refusal.reason) for refusal in written.refused] == [(keys[0], True)]
        assert {key for key, *_ in storage.write(keys[:1], [sample]).refused} == {keys[0]}
        assert storage.delete(keys[1:]).refused == ()
        assert storage.read(keys[1:]) == [None, None]
    assert table.run("SELECT count(*) FROM SPACE.kv") == [(1,)]


def test_an_expired_row_is_not_hidden(
    guarded: Callable[..., Guarded], opening: Callable[[str], PostgresStorage]
) -> None:
    columns = f"{OWNED} DEFAULT current_user, due timestamptz NOT NULL, at bigint NOT NULL"
    table = guarded(columns, BY_OWNER, options="&expires=due&modified=at")
    storage = opening(table.url)
    assert storage.write_expiring(["late", "h1", "k1"], [b"1"] * 3, [1, 0, 0]).refused == ()
    table.run(HIDE)
    late, hidden, seen, absent = storage.read(["late", "h1", "k1", "no"])
    assert (late, seen, absent) == (None, b"1", None)
    assert isinstance(hidden, Unreadable)


AUDIT = (
    "CREATE TABLE SPACE.audit (key text)",
    f"GRANT ALL ON SPACE.audit TO {SECURED}",
    (
        "CREATE FUNCTION SPACE.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO SPACE.audit VALUES (NEW.key); RETURN NEW; END $$"
    ),
    "CREATE TRIGGER note BEFORE INSERT ON SPACE.kv FOR EACH ROW EXECUTE FUNCTION SPACE.note()",
)


def test_a_trigger_runs_and_is_undone(
    guarded: Callable[..., Guarded], opening: Callable[[str], PostgresStorage]
) -> None:
    table = guarded(
        f"{OWNED} DEFAULT current_user", BY_OWNER, "INSERT INTO SPACE.kv VALUES ('h1', '1', 'else')", *AUDIT
    )
    hidden, absent = opening(table.url).read(["h1", "no"])
    assert isinstance(hidden, Unreadable)
    assert absent is None
    assert table.run("SELECT * FROM SPACE.audit") == []


OTHER_KEY = (
    "CREATE FUNCTION SPACE.other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "NEW.key := NEW.key || '!'; RETURN NEW; END $$"
)

UNKNOWABLE = {
    "a trigger that changes keys": (
        PLAIN,
        f"{BY_KEY} WITH CHECK (true)",
        "INSERT INTO SPACE.kv VALUES ('h1', '1')",
        OTHER_KEY,
        "CREATE TRIGGER other BEFORE INSERT ON SPACE.kv FOR EACH ROW EXECUTE FUNCTION SPACE.other()",
    ),
    "no right to insert": (PLAIN, ALL, f"REVOKE INSERT ON SPACE.kv FROM {SECURED}"),
    "a database that is read": (PLAIN, ALL, f"ALTER ROLE {SECURED} SET default_transaction_read_only = on"),
    "no policy to insert": (PLAIN, "CREATE POLICY p ON SPACE.kv FOR SELECT USING (true)"),
    "a trigger that ignores": (
        PLAIN,
        ALL,
        "CREATE FUNCTION SPACE.none() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER none BEFORE INSERT ON SPACE.kv FOR EACH ROW EXECUTE FUNCTION SPACE.none()",
    ),
    "a rule that ignores": (PLAIN, ALL, "CREATE RULE none AS ON INSERT TO SPACE.kv DO INSTEAD NOTHING"),
    "a check": (PLAIN, ALL, "ALTER TABLE SPACE.kv ADD CONSTRAINT long CHECK (length(value) > 3) NOT VALID"),
    "another unique column": (
        f"{PLAIN}, slug text NOT NULL UNIQUE",
        ALL,
        "INSERT INTO SPACE.kv VALUES ('k', '1', 's')",
    ),
    "tables that inherit": (PLAIN, ALL, "CREATE TABLE SPACE.child () INHERITS (SPACE.kv)"),
    "a column to fill in an empty table": (f"{PLAIN}, slug text NOT NULL", ALL),
}


@pytest.mark.parametrize("statements", UNKNOWABLE.values(), ids=list(UNKNOWABLE))
def test_where_nobody_can_find_out_nothing_is_a_delete(
    guarded: Callable[..., Guarded],
    opening: Callable[[str], PostgresStorage],
    postgres_server: PostgresServer,
    statements: tuple[str, ...],
) -> None:
    table = guarded(*statements)
    try:
        found = opening(table.url).read(["h1", "y", "z"])
    finally:
        postgres_server.run(f"ALTER ROLE {SECURED} RESET default_transaction_read_only")
    for one in found:
        assert isinstance(one, Unreadable)
        assert UNKNOWN in one.reason


# Rows that a role may see and not change


@pytest.mark.parametrize("more", ["", ", slug text NOT NULL"], ids=["plain", "with a column to fill"])
@pytest.mark.parametrize("command", ["UPDATE", "DELETE"])
def test_a_row_that_may_be_seen_and_not_changed_is_refused(
    guarded: Callable[..., Guarded], opening: Callable[[str], PostgresStorage], command: str, more: str
) -> None:
    others = [name for name in ("SELECT", "INSERT", "UPDATE", "DELETE") if name != command]
    table = guarded(
        PLAIN + more,
        *(f"CREATE POLICY to_{name} ON SPACE.kv FOR {name} {'WITH CHECK' if name == 'INSERT' else 'USING'} (true)"
          for name in others),
        f"CREATE POLICY few ON SPACE.kv FOR {command} USING (key LIKE 'k%')",
        *(f"INSERT INTO SPACE.kv VALUES ('{key}', '1'{', 0' if more else ''})" for key in ("h1", "k1")),
    )  # fmt: skip
    data: dict[str, bytes] = {}
    assert kvsync.sync(data, table.url, scan=True).pulled == 2
    if command == "UPDATE":
        data |= {"h1": b"2", "k1": b"2"}
    else:
        del data["h1"], data["k1"]
    for pushed in (1, 0):
        result = kvsync.sync(data, table.url, scan=True, max_delete="100%")
        assert result.pushed == pushed
        assert [(key, "row-level security" in why or "policy" in why) for key, _, why in result.missing] == [
            ("h1", True)
        ]
    assert table.rows() == ({"h1": b"1", "k1": b"2"} if command == "UPDATE" else {"h1": b"1"})
    storage = opening(table.url)
    token = digest_values([b"1"])[0]
    for expect in (None, [token]):
        written = storage.write(["h1"], [b"2"], expect) if command == "UPDATE" else storage.delete(["h1"], expect)
        assert [(one.key, "security" in one.reason or "policy" in one.reason) for one in written.refused] == [
            ("h1", True)
        ]
