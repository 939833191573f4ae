"""PostgreSQL against the suite for storages: a table of our own, and tables that were there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from shortened import shortened

from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.postgres import open_url
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.postgres import PostgresServer

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.TRANSACTIONAL,
    distance="network",
    supports=frozenset(
        {
            Support.TRANSACTION,
            Support.DRY_PROBE,
            Support.IDENTITY,
            Support.SKIPPED,
            Support.LIMITS,
            Support.RANGES,
            Support.JOURNAL,
            Support.HINTS,
        }
    ),
)
EXPIRING = replace(EXPECTED, supports=EXPECTED.supports | {Support.EXPIRY})


class TestPostgres(StorageConformance):
    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer) -> Callable[[], Storage]:
        url = f"{postgres_server.url}?schema={postgres_server.schema()}"
        return partial(open_url, url)


class TestMappedTable(StorageConformance):
    """A table with other columns, and keys that are sorted by the rules of a language, if the server knows one."""

    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def schema(self, postgres_server: PostgresServer) -> str:
        return postgres_server.schema()

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer, schema: str) -> Callable[[], Storage]:
        collation = [*postgres_server.collations(), "default"][0]
        postgres_server.run(
            f'CREATE TABLE {schema}.notes (id serial PRIMARY KEY, title varchar COLLATE "{collation}" UNIQUE, '
            "body bytea, stars int DEFAULT 0)"
        )
        url = f"{postgres_server.url}?schema={schema}&table=notes&key=title&value=body"
        return partial(open_url, url)

    @pytest.fixture(params=["RETURN NULL", "RAISE EXCEPTION 'no'"])
    def hinder(
        self, postgres_server: PostgresServer, schema: str, request: pytest.FixtureRequest
    ) -> Callable[[str], None]:
        def add_trigger(key: str) -> None:
            postgres_server.run(
                f"CREATE FUNCTION {schema}.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF coalesce(OLD.title, NEW.title) = '{key}' THEN {request.param}; END IF; "
                "IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
            )
            postgres_server.run(
                f"CREATE TRIGGER no BEFORE INSERT OR UPDATE OR DELETE ON {schema}.notes "
                f"FOR EACH ROW EXECUTE FUNCTION {schema}.no()"
            )

        return add_trigger

    @pytest.fixture
    def spoil(self, postgres_server: PostgresServer, schema: str) -> Callable[[str], object]:
        return lambda key: postgres_server.run(f"UPDATE {schema}.notes SET body = NULL WHERE title = '{key}'")

    @pytest.fixture
    def dress(self, postgres_server: PostgresServer, schema: str) -> Callable[[str], Callable[[], object]]:
        def add_stars(key: str) -> Callable[[], object]:
            postgres_server.run(f"UPDATE {schema}.notes SET stars = 5 WHERE title = '{key}'")
            return lambda: postgres_server.run(f"SELECT id, stars FROM {schema}.notes WHERE title = '{key}'")

        return add_stars


@shortened
class TestBinaryKeys(StorageConformance):
    """A table whose key column is bytea, too: it holds every key."""

    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer) -> Callable[[], Storage]:
        schema = postgres_server.schema()
        postgres_server.run(f"CREATE TABLE {schema}.kv (key bytea UNIQUE, value bytea) PARTITION BY HASH (key)")
        for part in range(2):
            partition = f"FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
            postgres_server.run(f"CREATE TABLE {schema}.kv{part} PARTITION OF {schema}.kv {partition}")
        url = f"{postgres_server.url}?schema={schema}"
        return partial(open_url, url)


class TestExpiring(StorageConformance):
    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer) -> Callable[[], Storage]:
        url = f"{postgres_server.url}?schema={postgres_server.schema()}&expires=expires"
        return partial(open_url, url)


@shortened
class TestMappedExpiring(StorageConformance):
    """A partitioned table that was there, whose rows expire in a day unless told otherwise, by milliseconds."""

    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer) -> Callable[[], Storage]:
        schema = postgres_server.schema()
        postgres_server.run(
            f"CREATE TABLE {schema}.sessions (name bytea UNIQUE, body bytea, "
            "gone bigint DEFAULT extract(epoch FROM now()) * 1000 + 86400000) PARTITION BY HASH (name)"
        )
        for part in range(2):
            partition = f"FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
            postgres_server.run(f"CREATE TABLE {schema}.part{part} PARTITION OF {schema}.sessions {partition}")
        url = f"{postgres_server.url}?schema={schema}&table=sessions&key=name&value=body&expires=gone"
        return partial(open_url, url)


@shortened
class TestBusyExpiring(StorageConformance):
    """A table of an application: a trigger sees each row, another column has no default, and no time may be NULL."""

    expects = EXPIRING
    unique_versions = True

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer) -> Callable[[], Storage]:
        schema = postgres_server.schema()
        postgres_server.run(
            f"CREATE TABLE {schema}.session (key text PRIMARY KEY, value bytea NOT NULL, due timestamp NOT NULL, "
            "owner text NOT NULL)",
            f"CREATE FUNCTION {schema}.own() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.owner := coalesce(NEW.owner, 'nobody'); RETURN NEW; END $$",
            f"CREATE TRIGGER own BEFORE INSERT OR UPDATE ON {schema}.session "
            f"FOR EACH ROW EXECUTE FUNCTION {schema}.own()",
        )
        url = f"{postgres_server.url}?schema={schema}&table=session&expires=due&unit=utc"
        return partial(open_url, url)


@shortened
class TestWrappedPostgres(StorageConformance):
    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def reopen(self, postgres_server: PostgresServer) -> Callable[[], Storage]:
        url = f"{postgres_server.url}?schema={postgres_server.schema()}"
        return lambda: CountingStorage(open_url(url))
