"""A PostgreSQL table with a column that says when its rows expire: what others write there, and what fits."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from kvsync.errors import UsageError
from kvsync.native import digest_values
from kvsync.storages.contract import has_expiry
from kvsync.storages.expiry import token_of
from kvsync.storages.postgres import PostgresStorage, open_url
from kvsync.storages.postgres.expires import TIMESTAMP_MAX
from kvsync.storages.postgres.names import Names
from kvsync.storages.postgres.writing import COPY_COUNT, Part, Writer
from kvsync.testing.conformance import listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.postgres import PostgresServer

MS = 1_700_000_000_000
HOUR_MS = 3_600_000


@pytest.fixture
def schema(postgres_server: PostgresServer) -> str:
    return postgres_server.schema()


@pytest.fixture
def url(postgres_server: PostgresServer, schema: str) -> str:
    return f"{postgres_server.url}?schema={schema}&expires=expires"


@pytest.fixture
def storage(url: str) -> Iterator[PostgresStorage]:
    with closing(open_url(url)) as opened:
        yield opened


@pytest.fixture(params=["timestamptz", "bigint"])
def mapped(
    postgres_server: PostgresServer, schema: str, storage: PostgresStorage, request: pytest.FixtureRequest
) -> str:
    """Make the table before kvsync does; return the type of its column."""
    kind: str = request.param
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, expires {kind})")
    return kind


def now_ms() -> int:
    return int(time.time() * 1000)


def token(value: bytes, expires: int = 0) -> bytes:
    return token_of(digest_values([value])[0], expires)


def test_the_table_that_is_made_has_the_column(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str
) -> None:
    later = now_ms() + HOUR_MS
    storage.write_expiring(["a", "b"], [b"1", b"2"], [later, 0])
    storage.write(["c"], [b"3"])
    milliseconds = "(extract(epoch FROM expires) * 1000)::bigint"
    rows = postgres_server.run(f"SELECT key, {milliseconds}, pg_typeof(expires)::text FROM {schema}.kv ORDER BY key")
    kind = "timestamp with time zone"
    assert rows == [("a", later, kind), ("b", None, kind), ("c", None, kind)]
    with closing(open_url(f"{postgres_server.url}?schema={schema}")) as without:
        assert not has_expiry(without)
        assert listing(without) == {"a": token(b"1"), "b": token(b"2"), "c": token(b"3")}
        refused = without.write_expiring(["a", "b"], [b"4", b"4"], [later, 0]).refused
        assert [(refusal.key, refusal.changed) for refusal in refused] == [("a", False)]


@pytest.mark.usefixtures("mapped")
def test_every_millisecond_comes_back_whatever_the_time_zone(url: str) -> None:
    chance = random.Random(1)
    expires = [chance.randrange(now_ms() + HOUR_MS, 10 ** chance.choice([13, 14]) * 5) for _ in range(2_000)]
    expires += [TIMESTAMP_MAX, 253_402_300_799_999, 253_402_300_799_001]
    keys = [f"{number:04d}" for number in range(len(expires))]
    with closing(open_url(f"{url}&options=-c%20timezone%3DAmerica/New_York")) as storage:
        written = storage.write_expiring(keys, [b"1"] * len(keys), expires)
        assert written.refused == ()
        assert storage.expiries(keys) == expires
    with closing(open_url(f"{url}&options=-c%20timezone%3DAsia/Kathmandu")) as storage:
        assert storage.expiries(keys) == expires
        assert list(listing(storage).values()) == list(written.tokens or ())


def test_times_that_others_wrote(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str, mapped: str
) -> None:
    storage.write(list("abcde"), [b"1"] * 5)
    later = now_ms() + HOUR_MS
    given = {
        "timestamptz": ["NULL", "'infinity'", "'-infinity'", "now()", f"to_timestamp({later} / 1000) + '999999 us'"],
        "bigint": ["NULL", "0", "-5", f"{now_ms()}", f"{later}"],
    }[mapped]
    for key, due in zip("abcde", given, strict=True):
        postgres_server.run(f"UPDATE {schema}.kv SET expires = {due} WHERE key = '{key}'")
    last = later // 1000 * 1000 + 999 if mapped == "timestamptz" else later
    assert storage.expiries(list("abcde")) == [0, 0, 0, 0, last]
    before = {"a": token(b"1"), "b": token(b"1"), "e": token(b"1", last)}
    assert listing(storage) == before
    more = "interval '1 second'" if mapped == "timestamptz" else "1000"
    postgres_server.run(f"UPDATE {schema}.kv SET expires = expires + {more} WHERE key = 'e'")
    for expect in (before["e"], token(b"1")):
        assert [refusal.key for refusal in storage.write(["e"], [b"2"], [expect]).refused] == ["e"]
        assert [refusal.key for refusal in storage.delete(["e"], [expect]).refused] == ["e"]
    assert storage.write(["c", "d", "e"], [b"2"] * 3, [None, None, token(b"1", last + 1000)]).refused == ()
    assert storage.expiries(list("cde")) == [0, 0, 0]


def test_what_has_expired_stays_in_the_table_until_its_key_is_written_or_deleted(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str
) -> None:
    storage.write_expiring(["a", "b"], [b"1"] * 2, [MS] * 2)
    assert listing(storage) == {}
    assert postgres_server.run(f"SELECT key FROM {schema}.kv ORDER BY key") == [("a",), ("b",)]
    assert storage.delete(["a"]).refused == ()
    assert storage.write(["b"], [b"2"], [None]).refused == ()
    assert postgres_server.run(f"SELECT key, expires FROM {schema}.kv") == [("b", None)]


@pytest.mark.usefixtures("mapped")
def test_a_row_expires_within_a_transaction_too(storage: PostgresStorage) -> None:
    with storage.transaction():
        storage.write_expiring(["a", "b"], [b"1", b"1"], [now_ms() + 100, 0])
        deadline = time.monotonic() + 20
        while storage.read(["a"]) != [None]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert list(listing(storage)) == ["b"]
        assert storage.write(["a"], [b"2"], [None]).refused == ()
    assert storage.read(["a"]) == [b"2"]


def test_times_that_the_column_cannot_tell_are_refused_alone(storage: PostgresStorage, mapped: str) -> None:
    last = TIMESTAMP_MAX if mapped == "timestamptz" else (1 << 63) - 1
    keys = list("abcde")
    for expect in (None, [None] * 5):
        written = storage.write_expiring(keys, [b"1"] * 5, [last, last + 1, 1 << 70, -(1 << 60), 0], expect)
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", False), ("c", False)]
        assert "expires later" in written.refused[0].reason
        assert storage.expiries(keys) == [last, 0, 0, 0, 0]
        assert listing(storage) == {"a": token(b"1", last), "e": token(b"1")}
        storage.delete(keys)


@pytest.mark.parametrize("default", [None, "now()"])
def test_a_first_load_takes_the_fast_way_if_the_column_stays_empty(
    postgres_server: PostgresServer,
    schema: str,
    storage: PostgresStorage,
    monkeypatch: pytest.MonkeyPatch,
    default: str | None,
) -> None:
    column = "expires timestamptz" + (f" DEFAULT {default}" if default else "")
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, {column})")
    copied: list[int] = []
    copy = Writer._copy

    def counted(self: Writer, part: Part) -> dict[str, str]:
        copied.append(len(part))
        return copy(self, part)

    monkeypatch.setattr(Writer, "_copy", counted)
    keys = [f"{number:04d}" for number in range(COPY_COUNT)]
    storage.write(keys, [b"1"] * COPY_COUNT)
    assert copied == ([] if default else [COPY_COUNT])
    assert storage.read(keys) == [b"1"] * COPY_COUNT
    assert set(storage.expiries(keys)) == {0}
    storage.delete(keys)
    later = now_ms() + HOUR_MS
    storage.write_expiring(keys, [b"1"] * COPY_COUNT, [later] * COPY_COUNT)
    assert set(storage.expiries(keys)) == {later}


def test_large_values_that_expire_are_listed(storage: PostgresStorage) -> None:
    later = now_ms() + HOUR_MS
    values = [bytes([number]) * 3_000_000 for number in range(6)]
    written = storage.write_expiring(list("abcdef"), values, [later, 0] * 3)
    assert listing(storage) == dict(zip("abcdef", written.tokens or (), strict=True))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("", "no column 'expires'"),
        (", expires timestamp", "is timestamp without time zone"),
        (", expires integer", "is integer: "),
        (", expires text", "is text: "),
    ],
)
def test_a_column_that_does_not_fit_is_refused(
    storage: PostgresStorage, postgres_server: PostgresServer, schema: str, columns: str, reason: str
) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea{columns})")
    for call in (lambda: storage.write(["a"], [b"1"]), lambda: storage.read(["a"]), lambda: listing(storage)):
        with pytest.raises(UsageError, match=reason):
            call()


@pytest.mark.parametrize("name", ["", "a b", 'a"', "key", "value", "x" * 64])
def test_names_that_do_not_do(name: str) -> None:
    with pytest.raises(UsageError, match="expires"):
        Names(expires=name)
