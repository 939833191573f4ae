"""A tracked table of PostgreSQL: whatever applications do by SQL is found, by the journal or by a scan that says so."""

from __future__ import annotations

import time
from collections.abc import Callable  # noqa: TC003 - of an annotation that is evaluated
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import kvsync
from kvsync.errors import UsageError
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from servers.postgres import PostgresServer

    from kvsync import SyncResult
    from kvsync.storages import Storage

PLAIN = "key text PRIMARY KEY, value bytea"
TABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "plain": (PLAIN, str),
    "bytea": ("key bytea PRIMARY KEY, value bytea", str.encode),
    "varchar": ("id serial PRIMARY KEY, key varchar(40) UNIQUE, value bytea, more int DEFAULT 1", str),
    "bigint": ("key bigint PRIMARY KEY, value bytea", int),
    "uuid": ("key uuid PRIMARY KEY, value bytea", lambda key: f"00000000-0000-0000-0000-{int(key):012}"),
}
ROWS = {str(number): b"%d" % number for number in range(1, 21)}


class Application:
    """A program with a table of its own, which knows nothing of kvsync, and a mirror that is synced with it."""

    def __init__(
        self, server: PostgresServer, columns: str = PLAIN, form: Callable[[str], object] = str, options: str = ""
    ) -> None:
        self.server, self.schema, self.form = server, server.schema(), form
        self.url = f"{server.url}?schema={self.schema}{options}"
        self.connection = self.connect()
        self.execute(f"CREATE TABLE kv ({columns})")
        for key, value in ROWS.items():
            self.execute("INSERT INTO kv (key, value) VALUES (%s, %s)", form(key), value)
        self.mirror: dict[str, bytes] = {}
        self.storage: Storage = open_storage(self.url)[0]

    def connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.server.url, autocommit=True)
        connection.execute(f"SET search_path = {self.schema}")
        return connection

    def execute(self, statement: str, *values: object) -> None:
        self.connection.execute(statement, values or None)

    def rows(self) -> dict[str, bytes]:
        found = self.connection.execute("SELECT key, value FROM kv").fetchall()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in found}

    def run(self, **options: object) -> SyncResult:
        return kvsync.sync(self.storage, self.mirror, scan=True, **options)  # type: ignore[arg-type]

    def settled(self) -> SyncResult:
        """Run, and see that both sides are equal then."""
        result = self.run()
        values = {key: value for key, value in self.mirror.items() if not key.startswith(".kvsync/")}
        assert values == self.rows()
        return result


@contextmanager
def tracked(
    server: PostgresServer, columns: str = PLAIN, form: Callable[[str], object] = str, options: str = ""
) -> Iterator[Application]:
    """Give an application whose table is tracked, and in step."""
    application = Application(server, columns, form, options)
    with closing(application.connection), closing(application.storage):
        application.run()
        kvsync.track(application.storage)
        application.run()
        yield application


@pytest.fixture
def application(postgres_server: PostgresServer) -> Iterator[Application]:
    with tracked(postgres_server) as one:
        yield one


def is_tracked(result: SyncResult) -> bool:
    operations: Mapping[str, int] = result.operations["source"]
    return "listed" in operations and "scan" not in operations


@pytest.mark.parametrize("name", TABLES)
def test_each_statement_is_found_without_a_scan(postgres_server: PostgresServer, name: str) -> None:
    with tracked(postgres_server, *TABLES[name]) as application:
        old, other, new, newer = map(application.form, ("3", "4", "33", "34"))
        for statement, values in (
            ("INSERT INTO kv (key, value) VALUES (%s, 'n'), (%s, 'm')", (new, newer)),
            ("INSERT INTO kv (key, value) VALUES (%s, 'u') ON CONFLICT (key) DO UPDATE SET value = 'u'", (old,)),
            ("INSERT INTO kv (key, value) VALUES (%s, 'u') ON CONFLICT DO NOTHING", (other,)),
            ("UPDATE kv SET value = 'v' WHERE key = %s", (other,)),
            ("DELETE FROM kv WHERE key = %s", (old,)),
            ("UPDATE kv SET key = %s, value = 'w' WHERE key = %s", (old, newer)),
        ):
            application.execute(statement, *values)
            assert is_tracked(application.settled())
        with application.connection.cursor().copy("COPY kv (key, value) FROM STDIN") as copy:
            copy.write_row((application.form("55"), b"copied"))
        result = application.settled()
        assert is_tracked(result)
        assert result.pushed == 1


def test_changes_have_exact_times(application: Application) -> None:
    before = time.time()
    application.execute("UPDATE kv SET value = 'n' WHERE key = '3'")
    application.execute("DELETE FROM kv WHERE key = '4'")
    after = time.time()
    time.sleep(0.05)
    application.settled()
    logged = {change.key: change for change in kvsync.log(application.url)}
    for key in ("3", "4"):
        assert not logged[key].inexact
        assert before - 0.005 <= (logged[key].stamp >> 16) / 1000 <= after + 0.005


def test_a_transaction_that_is_open_while_a_run_reads_is_found_by_the_next_one(application: Application) -> None:
    """Its rows of the journal may be older than others that are read, and forgotten, before it commits."""
    with closing(application.connect()) as slow:
        slow.execute("BEGIN")
        slow.execute("UPDATE kv SET value = 'slow' WHERE key = '3'")
        slow.execute("SAVEPOINT part")
        slow.execute("DELETE FROM kv WHERE key = '5'")
        application.execute("UPDATE kv SET value = 'quick' WHERE key = '4'")
        assert application.run().pushed == 1
        slow.execute("RELEASE part")
        slow.execute("COMMIT")
    result = application.settled()
    assert is_tracked(result)
    assert result.pushed == 2


def test_what_is_rolled_back_is_no_change(application: Application) -> None:
    for end in ("ROLLBACK", "ROLLBACK TO part; COMMIT"):
        application.execute("BEGIN")
        application.execute("SAVEPOINT part")
        application.execute("DELETE FROM kv")
        for statement in end.split("; "):
            application.execute(statement)
        result = application.settled()
        assert is_tracked(result)
        assert result.pushed == 0


def test_a_table_that_was_emptied_is_scanned(application: Application) -> None:
    application.execute("TRUNCATE kv")
    application.execute("INSERT INTO kv VALUES ('1', 'n')")
    result = kvsync.sync(application.storage, application.mirror, scan=True, max_delete="100%")
    assert not is_tracked(result)
    application.settled()
    application.execute("DELETE FROM kv WHERE key = '1'; INSERT INTO kv VALUES ('2', 'n'), ('3', 'n'), ('4', 'n')")
    application.run(max_delete="100%")
    application.settled()


def test_our_own_writes_are_not_taken_for_those_of_the_application(application: Application) -> None:
    application.mirror |= {"new": b"1", "1": b"2"}
    del application.mirror["2"]
    assert application.settled().pulled == 3
    status = kvsync.status(application.url)
    assert status.journal is not None
    assert status.journal.changed == {}


def test_what_triggers_of_the_application_write_is_found(application: Application) -> None:
    application.execute(
        "CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"INSERT INTO {application.schema}.kv VALUES (NEW.key || '+', 'n'); RETURN NULL; END $$"
    )
    application.execute(
        "CREATE TRIGGER also AFTER INSERT ON kv FOR EACH ROW WHEN (NEW.key NOT LIKE '%+') EXECUTE FUNCTION also()"
    )
    application.settled()
    application.mirror["new"] = b"1"
    application.run()
    assert is_tracked(application.settled())
    assert application.mirror["new+"] == b"n"


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER kvsync_journal_kv_row ON kv",
        "ALTER TABLE kv DISABLE TRIGGER kvsync_journal_kv_truncate",
        "ALTER TABLE kv DISABLE TRIGGER ALL",
        "DROP FUNCTION kvsync_journal_kv CASCADE",
    ],
)
def test_a_trigger_that_is_gone_is_noticed(application: Application, statement: str) -> None:
    application.execute(statement)
    application.execute("UPDATE kv SET value = 'n' WHERE key = '3'")
    for _ in range(2):
        result = application.settled()
        assert not is_tracked(result)
        assert "run `kvsync track`" in result.notes[0]
    assert kvsync.track(application.storage)
    application.settled()
    application.execute("DELETE FROM kv WHERE key = '5'")
    result = application.settled()
    assert is_tracked(result)
    assert not result.notes


def test_triggers_that_were_off_for_a_while_are_noticed(application: Application) -> None:
    application.execute("BEGIN")
    application.execute("ALTER TABLE kv DISABLE TRIGGER kvsync_journal_kv_row")
    application.execute("UPDATE kv SET value = 'n' WHERE key = '3'")
    application.execute("ALTER TABLE kv ENABLE ALWAYS TRIGGER kvsync_journal_kv_row")
    application.execute("COMMIT")
    result = application.settled()
    assert not is_tracked(result)
    assert not result.notes  # all is well again
    assert is_tracked(application.settled())


def test_a_session_that_replicates_fires_the_triggers(application: Application) -> None:
    application.execute("SET session_replication_role = replica")
    application.execute("UPDATE kv SET value = 'n' WHERE key = '3'")
    assert is_tracked(application.settled())


def test_a_table_that_was_made_anew_is_noticed(application: Application) -> None:
    application.execute("ALTER TABLE kv RENAME TO former")
    application.execute("CREATE TABLE kv (LIKE former INCLUDING ALL)")
    application.execute("INSERT INTO kv SELECT key, value || '!' FROM former")
    result = kvsync.sync(application.url, application.mirror, scan=True, max_delete="100%")
    assert not is_tracked(result)
    assert result.notes
    application.settled()


def test_a_database_is_scanned_in_full_if_only_the_index_was_restored(application: Application) -> None:
    application.execute("CREATE TABLE backup AS SELECT * FROM kvsync_index")
    application.execute("UPDATE kv SET value = 'n' WHERE key = '3'")
    application.settled()
    application.execute("DELETE FROM kvsync_index")
    application.execute("INSERT INTO kvsync_index SELECT * FROM backup")
    assert not is_tracked(application.settled())
    assert is_tracked(application.settled())


def test_rows_of_a_journal_from_another_server_are_forgotten(application: Application) -> None:
    """A dump has the ids of transactions that are yet to come here."""
    application.execute("INSERT INTO kvsync_journal_kv (key, xid) VALUES ('3', '123456789')")
    application.execute("UPDATE kvsync_journal SET proof = 'another'")
    assert not is_tracked(application.settled())
    left = application.connection.execute("SELECT count(*) FROM kvsync_journal_kv").fetchone()
    assert left == (0,)


def test_an_application_needs_no_rights_but_those_for_the_table(application: Application) -> None:
    """Whatever search path it has: operators of its own do not run with the rights of another."""
    role = f"app_{application.schema}"
    application.execute(f"CREATE ROLE {role}")
    application.execute(f"GRANT USAGE, CREATE ON SCHEMA {application.schema} TO {role}")
    application.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON kv TO {role}")
    application.settled()
    application.execute(f"SET ROLE {role}")
    application.execute(
        "CREATE FUNCTION evil(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran as %', current_user; "
        "END $$"
    )
    application.execute("CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = evil)")
    application.execute(f"SET search_path = {application.schema}, pg_catalog")
    application.execute("UPDATE kv SET value = 'n', key = '33' WHERE key OPERATOR(pg_catalog.=) '3'")
    application.execute("DELETE FROM kv WHERE key OPERATOR(pg_catalog.=) '4'")
    application.execute("INSERT INTO kv VALUES ('34', 'n')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute("DELETE FROM kvsync_journal_kv")
    application.execute("RESET ROLE")
    result = application.settled()
    assert is_tracked(result)
    assert result.pushed == 4


def test_a_table_that_others_inherit_from_is_refused(application: Application) -> None:
    application.execute("CREATE TABLE heir () INHERITS (kv)")
    result = application.settled()
    assert "run `kvsync track`" in result.notes[0]
    with pytest.raises(UsageError, match="other tables inherit from it"):
        kvsync.track(application.storage)


def test_partitions_are_tracked_each(application: Application) -> None:
    application.connection.execute("DROP TABLE kv")
    application.execute("CREATE TABLE kv (key text PRIMARY KEY, value bytea) PARTITION BY LIST (key)")
    application.execute("CREATE TABLE rest PARTITION OF kv DEFAULT")
    application.execute("CREATE TABLE one PARTITION OF kv FOR VALUES IN ('1', '31')")
    application.execute("INSERT INTO kv SELECT number::text, 'p' FROM generate_series(1, 20) AS number")
    with closing(open_storage(application.url)[0]) as application.storage:
        assert kvsync.track(application.storage)
        application.run(max_delete="100%")
        for statement in (
            "UPDATE one SET value = 'n' WHERE key = '1'",
            "UPDATE kv SET key = '31' WHERE key = '3'",
            "DELETE FROM rest WHERE key = '4'",
        ):
            application.execute(statement)
            assert is_tracked(application.settled())
        application.execute("TRUNCATE one")
        assert not is_tracked(application.settled())
        application.execute("CREATE TABLE two PARTITION OF kv FOR VALUES IN ('21', '22')")
        application.execute("INSERT INTO kv VALUES ('21', 'n')")
        assert not is_tracked(application.settled())
        application.execute("INSERT INTO two VALUES ('22', 'n')")
        assert is_tracked(application.settled())
        application.execute("ALTER TABLE kv DETACH PARTITION two")
        assert not is_tracked(application.settled())


def test_values_that_expire_are_found(postgres_server: PostgresServer) -> None:
    columns = f"{PLAIN}, due timestamptz"
    with tracked(postgres_server, columns, options="&expires=due") as application:
        application.execute("UPDATE kv SET due = now() + interval '1 hour' WHERE key = '3'")
        result = application.run()
        assert is_tracked(result)
        assert result.committed == (1, 0)
        assert application.run().committed == (0, 0)


def test_what_is_written_between_look_and_push_is_not_overwritten(application: Application) -> None:
    """The mirror's edit loses its place to a write that commits while the run is under way."""
    application.mirror["3"] = b"mirror"
    with closing(application.connect()) as other:

        def write(*_: object) -> None:
            other.execute("UPDATE kv SET value = 'application' WHERE key = '3'")

        storage = open_storage(application.url)[0]
        read = storage.read

        def slow_read(keys: list[str]) -> list[object]:
            found = read(keys)
            if "3" in keys:
                write()
            return found  # type: ignore[return-value]

        storage.read = slow_read  # type: ignore[method-assign, assignment]
        with closing(storage):
            result = kvsync.sync(storage, application.mirror, scan=True)
        assert [missing.key for missing in result.missing] == ["3"]
    assert application.rows()["3"] == b"application"
    application.run()
    application.settled()


def test_nothing_is_left_of_a_journal(application: Application) -> None:
    assert kvsync.untrack(application.storage)
    assert not kvsync.untrack(application.storage)
    query = "SELECT relname FROM pg_class WHERE relname LIKE 'kvsync_journal%%' AND relnamespace = %s::regnamespace"
    assert application.connection.execute(query, (application.schema,)).fetchall() == []
    application.execute("UPDATE kv SET value = 'n' WHERE key = '3'")
    assert application.settled().pushed == 1
