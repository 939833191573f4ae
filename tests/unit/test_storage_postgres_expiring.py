"""A PostgreSQL table with a column that says when its rows expire: what others write there, and what fits."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Put
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
    from servers.redis import RedisServer

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


NEVER_MS = 253_402_214_400_000  # 9999-12-31


@pytest.mark.parametrize(
    ("kind", "unit", "far"),
    [
        ("timestamptz NOT NULL", "ms", "9999-12-31 00:00:00"),
        ("timestamp NOT NULL", "utc", "9999-12-31 00:00:00"),
        ("bigint NOT NULL", "ms", "253402214400000"),
        ("bigint NOT NULL", "s", "253402214400"),
        ("integer NOT NULL", "s", "2147483647"),
    ],
)
def test_a_column_without_null_says_never_with_a_far_time(
    postgres_server: PostgresServer, schema: str, url: str, kind: str, unit: str, far: str
) -> None:
    """Applications that read the column have to understand it: Python, for one, knows no infinity."""
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, expires {kind})")
    later = (now_ms() + HOUR_MS) // 1000 * 1000
    with closing(open_url(f"{url}&unit={unit}")) as storage:
        for expect in (None, [None] * 3):
            written = storage.write_expiring(["a", "b", "past"], [b"1"] * 3, [later, 0, 1], expect)
            assert written.refused == ()
            assert storage.expiries(["a", "b", "past"]) == [later, 0, 0]
            assert listing(storage) == {"a": token(b"1", later), "b": token(b"1")}
            assert (written.tokens or ())[:2] == (token(b"1", later), token(b"1"))
            assert storage.delete(["a", "b", "past"]).refused == ()
        keys = [f"{number:04d}" for number in range(COPY_COUNT)]
        assert storage.write(keys, [b"1"] * COPY_COUNT).refused == ()
        said = "expires AT TIME ZONE 'UTC'" if unit == "ms" and kind.startswith("timestamp") else "expires"
        assert postgres_server.run(f"SELECT DISTINCT ({said})::text FROM {schema}.kv") == [(far,)]
        tokens = listing(storage)
        assert set(tokens.values()) == {token(b"1")}
        assert storage.write_expiring(["0000"], [b"2"], [later], [tokens["0000"]]).refused == ()
        assert storage.write(["0000"], [b"3"], [token(b"2", later)]).refused == ()
        assert storage.expiries(["0000"]) == [0]
        written = storage.write_expiring(["far"], [b"1"], [NEVER_MS])
        if kind.startswith("integer"):
            assert [refusal.key for refusal in written.refused] == ["far"]
        else:
            assert written.tokens == (token(b"1"),)
            assert listing(storage)["far"] == token(b"1")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_timestamp_in_utc(postgres_server: PostgresServer, schema: str, url: str, zone: str) -> None:
    """A `timestamp` says nothing of its zone; that of the session must not matter."""
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, expires timestamp)")
    now = "now() AT TIME ZONE 'UTC'"
    postgres_server.run(
        f"INSERT INTO {schema}.kv VALUES ('gone', '1', {now} - interval '1 minute'), "
        f"('soon', '1', {now} + interval '1 minute'), ('never', '1', NULL), ('infinite', '1', 'infinity')"
    )
    later = now_ms() + HOUR_MS
    with closing(open_url(f"{url}&unit=utc&options=-c%20TimeZone%3D{zone.replace('/', '%2F')}")) as storage:
        assert set(listing(storage)) == {"soon", "never", "infinite"}
        assert storage.expiries(["never", "infinite"]) == [0, 0]
        assert 0 < storage.expiries(["soon"])[0] - now_ms() < 120_000
        assert storage.write_expiring(["a", "b"], [b"1"] * 2, [later, 1]).refused == ()
        assert storage.expiries(["a", "b"]) == [later, 0]
        assert listing(storage)["a"] == token(b"1", later)
    said = f"SELECT (extract(epoch FROM expires) * 1000)::bigint FROM {schema}.kv WHERE key = 'a'"
    assert postgres_server.run(said) == [(later,)]


@pytest.mark.parametrize("kind", ["bigint", "integer"])
def test_a_column_of_seconds(postgres_server: PostgresServer, schema: str, url: str, kind: str) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, expires {kind})")
    now = now_ms() // 1000
    postgres_server.run(
        f"INSERT INTO {schema}.kv VALUES ('gone', '1', {now - 60}), ('soon', '1', {now + 3600}), ('none', '1', NULL), "
        "('zero', '1', 0)"
    )
    with closing(open_url(f"{url}&unit=s")) as storage:
        soon = (now + 3600) * 1000
        assert listing(storage) == {"none": token(b"1"), "soon": token(b"1", soon), "zero": token(b"1")}
        assert storage.expiries(["gone", "soon", "none", "zero"]) == [0, soon, 0, 0]
        # Nothing expires too early, and what is said to be stored is stored.
        written = storage.write_expiring(["a", "b"], [b"2"] * 2, [soon - 1, soon + 1])
        assert written.tokens == (token(b"2", soon), token(b"2", soon + 1000))
        assert storage.expiries(["a", "b"]) == [soon, soon + 1000]
        assert listing(storage)["b"] == token(b"2", soon + 1000)
        assert storage.write_expiring(["b"], [b"3"], [0], [token(b"2", soon + 1000)]).refused == ()
        limit = ((1 << 31) - 1 if kind == "integer" else ((1 << 63) - 1) // 1000) * 1000
        written = storage.write_expiring(["last", "beyond"], [b"1"] * 2, [limit, limit + 1000])
        assert [refusal.key for refusal in written.refused] == ["beyond"]
        assert storage.expiries(["last"]) == [limit]


@pytest.mark.parametrize("column", ["expires", "modified"])
@pytest.mark.parametrize(("unit", "other", "times"), [("ms", "s", 1_764_332_718), ("s", "ms", 1_764_332_718_000)])
def test_times_in_the_other_unit_are_told(
    postgres_server: PostgresServer, schema: str, column: str, unit: str, other: str, times: int
) -> None:
    """Each live row counted as expired, and the run said that there was nothing to do."""
    postgres_server.run(
        f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, at bigint)",
        f"INSERT INTO {schema}.kv VALUES ('never', '1', NULL), ('past', '1', 1)",
        f"INSERT INTO {schema}.kv SELECT n::text, '1', {times} + n * 1000 FROM generate_series(1, 20) n",
    )
    url = f"{postgres_server.url}?schema={schema}&{column}=at"
    with pytest.raises(UsageError, match=f"say unit={other} in the URL"):
        kvsync.sync({}, f"{url}&unit={unit}", scan=True)
    with pytest.raises(UsageError, match=f"say unit={other} in the URL"):
        kvsync.doctor(f"{url}&unit={unit}")
    assert postgres_server.run(f"SELECT to_regclass('{schema}.kvsync_index')") == [(None,)]
    with closing(open_url(f"{url}&unit={other}")) as storage:
        assert storage.read(["never"]) == [b"1"]


def test_a_run_with_a_column_that_counts_seconds_settles(
    postgres_server: PostgresServer, schema: str, url: str, redis_server: RedisServer
) -> None:
    postgres_server.run(f"CREATE TABLE {schema}.kv (key text PRIMARY KEY, value bytea, expires bigint)")
    cache = f"{redis_server.url}?prefix={schema}:"
    later = now_ms() + HOUR_MS
    changes = [Put(f"k{number}", b"1", expires=(later + number) / 1000) for number in range(20)]
    assert kvsync.sync(cache, f"{url}&unit=s", changes).pushed == 20
    kvsync.sync(cache, f"{url}&unit=s", scan=True)  # a first scan finds the times rounded, and gives them to the peer
    for _ in range(2):
        result = kvsync.sync(cache, f"{url}&unit=s", scan=True)
        assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
    changes = [Put(f"k{number}", b"2", expires=(later + 7 + number) / 1000) for number in range(20)]
    assert kvsync.sync(cache, f"{url}&unit=s", changes, scan=True).pushed == 20
    result = kvsync.sync(cache, f"{url}&unit=s", scan=True)
    assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
