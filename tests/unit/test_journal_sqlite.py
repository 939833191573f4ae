"""A tracked table of SQLite: whatever an application does by SQL is found, by the journal or by a scan that says so."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.errors import BudgetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kvsync import SyncResult

PLAIN = "CREATE TABLE kv (key TEXT PRIMARY KEY, value)"
TABLES = {
    "plain": PLAIN,
    "without rowid": "CREATE TABLE kv (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "blob keys": "CREATE TABLE kv (key BLOB PRIMARY KEY, value)",
    "no case": "CREATE TABLE kv (key TEXT COLLATE NOCASE, value); CREATE UNIQUE INDEX i ON kv (key COLLATE BINARY)",
    "replacing": "CREATE TABLE kv (key TEXT PRIMARY KEY ON CONFLICT REPLACE, value)",
    "numbered": "CREATE TABLE kv (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value, twice AS (value || value))",
}
ROWS = {f"k{number:02}": b"%d" % number for number in range(20)}


class Application:
    """A program with a table of its own, which knows nothing of kvsync, and a mirror that is synced with it."""

    def __init__(self, path: Path, create: str = PLAIN) -> None:
        self.url = f"sqlite:///{path}"
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript(create)
        is_blob = "key BLOB" in create
        self.raw = str.encode if is_blob else str
        for key, value in ROWS.items():
            self.execute("INSERT INTO kv (key, value) VALUES (?, ?)", self.raw(key), value)
        self.mirror: dict[str, bytes] = {}

    def execute(self, statement: str, *parameters: object) -> None:
        self.connection.execute(statement, parameters)

    def rows(self) -> dict[str, bytes]:
        found = self.connection.execute("SELECT CAST(key AS TEXT), CAST(value AS BLOB) FROM kv")
        return dict(found.fetchall())

    def run(self, **options: object) -> SyncResult:
        return kvsync.sync(self.url, self.mirror, scan=True, **options)  # type: ignore[arg-type]

    def settled(self) -> SyncResult:
        """Run, and see that both sides are equal then."""
        result = self.run()
        values = {key: value for key, value in self.mirror.items() if not key.startswith(".kvsync/")}
        assert values == self.rows()
        return result


@contextmanager
def tracked(folder: Path, create: str = PLAIN) -> Iterator[Application]:
    """Give an application whose table is tracked, and in step."""
    application = Application(folder / "app.db", create)
    with closing(application.connection):
        application.run()
        kvsync.track(application.url)
        application.run()
        yield application


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    with tracked(tmp_path) as one:
        yield one


def is_tracked(result: SyncResult) -> bool:
    operations: Mapping[str, int] = result.operations["source"]
    return "listed" in operations and "scan" not in operations


@pytest.mark.parametrize("create", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO kv (key, value) VALUES (:new, 'n')",
        "INSERT OR REPLACE INTO kv (key, value) VALUES (:old, 'n')",
        "REPLACE INTO kv (key, value) VALUES (:new, 'n'), (:old, 'm')",
        "UPDATE kv SET value = 'n' WHERE key = :old",
        "UPDATE kv SET key = :new WHERE key = :old",
        "UPDATE OR REPLACE kv SET key = :other WHERE key = :old",
        "UPDATE kv SET value = value || 'x' WHERE key IN (:old, :other)",
        "DELETE FROM kv WHERE key = :old",
    ],
)
def test_each_statement_is_found_without_a_scan(tmp_path: Path, create: str, statement: str) -> None:
    with tracked(tmp_path, create) as application:
        keys = {"old": "k03", "other": "k04", "new": "new"}
        application.connection.execute(statement, {name: application.raw(key) for name, key in keys.items()})
        assert is_tracked(application.settled())


def test_what_another_rule_of_the_table_replaces_is_found(tmp_path: Path) -> None:
    with tracked(tmp_path, "CREATE TABLE kv (id INTEGER PRIMARY KEY, key TEXT UNIQUE, value UNIQUE)") as application:
        application.execute("INSERT OR REPLACE INTO kv (id, key, value) VALUES (3, 'new', 'n')")
        application.execute("REPLACE INTO kv (key, value) VALUES ('newer', ?)", ROWS["k07"])
        application.execute("UPDATE OR REPLACE kv SET value = ? WHERE key = 'k08'", ROWS["k09"])
        assert not {"k02", "k07", "k09"} & application.rows().keys()
        assert is_tracked(application.settled())


def test_a_table_whose_rules_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    with closing(Application(tmp_path / "app.db").connection) as connection:
        connection.execute("CREATE UNIQUE INDEX one ON kv (lower(value))")
        application_url = f"sqlite:///{tmp_path}/app.db"
        with pytest.raises(UsageError, match="cannot be tracked"):
            kvsync.track(application_url)
        assert kvsync.status(application_url).journal is None


def test_changes_have_exact_times(application: Application) -> None:
    before = time.time()
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    application.execute("DELETE FROM kv WHERE key = 'k04'")
    time.sleep(0.05)
    application.settled()
    logged = {change.key: change for change in kvsync.log(application.url)}
    for key in ("k03", "k04"):
        assert not logged[key].inexact
        assert before - 0.005 <= (logged[key].stamp >> 16) / 1000 <= before + 0.045


def test_an_exact_delete_beats_an_earlier_edit(application: Application) -> None:
    application.mirror["k05"] = b"edited"
    application.run()
    application.execute("DELETE FROM kv WHERE key = 'k05'")
    application.settled()
    assert "k05" not in application.mirror


def test_what_is_rolled_back_is_no_change(application: Application) -> None:
    application.execute("BEGIN")
    application.execute("DELETE FROM kv")
    application.execute("ROLLBACK")
    result = application.settled()
    assert is_tracked(result)
    assert result.pushed == 0


def test_what_comes_and_goes_between_two_runs_is_no_change(application: Application) -> None:
    application.execute("INSERT INTO kv VALUES ('brief', 'n')")
    application.execute("DELETE FROM kv WHERE key = 'brief'")
    application.execute("UPDATE kv SET value = value")
    result = application.settled()
    assert result.committed == (0, 0)


def test_our_own_writes_are_not_taken_for_those_of_the_application(application: Application) -> None:
    application.mirror |= {"new": b"1", "k01": b"2"}
    del application.mirror["k02"]
    assert application.settled().pulled == 3
    status = kvsync.status(application.url)
    assert status.journal is not None
    assert status.journal.changed == {}


def test_what_triggers_of_the_application_write_is_found(application: Application) -> None:
    application.execute(
        "CREATE TRIGGER also AFTER INSERT ON kv WHEN NEW.key NOT LIKE '%+' "
        "BEGIN INSERT INTO kv VALUES (NEW.key || '+', 'n'); END"
    )
    application.settled()
    application.mirror["new"] = b"1"
    application.run()
    assert is_tracked(application.settled())
    assert application.mirror["new+"] == b"n"


@pytest.mark.parametrize("what", ["insert", "update", "delete"])
def test_a_trigger_that_is_gone_is_noticed(application: Application, what: str) -> None:
    application.execute(f'DROP TRIGGER "kvsync_journal_kv:{what}"')
    application.execute("UPDATE kv SET value = 'n', key = key || 'n' WHERE key = 'k03'")
    application.execute("DELETE FROM kv WHERE key = 'k04'")
    for _ in range(2):
        result = application.settled()
        assert not is_tracked(result)
        assert "run `kvsync track`" in result.notes[0]
    assert kvsync.track(application.url)
    application.settled()
    application.execute("DELETE FROM kv WHERE key = 'k05'")
    result = application.settled()
    assert is_tracked(result)
    assert not result.notes


def test_triggers_that_were_gone_for_a_while_are_noticed(application: Application) -> None:
    create = application.connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'kvsync_journal_kv:update'"
    ).fetchone()[0]
    application.execute('DROP TRIGGER "kvsync_journal_kv:update"')
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    application.execute(create)
    result = application.settled()
    assert not is_tracked(result)
    assert not result.notes  # all is well again
    assert is_tracked(application.settled())


def test_a_table_that_was_made_anew_is_noticed(application: Application) -> None:
    application.connection.executescript(
        "CREATE TABLE next (key TEXT PRIMARY KEY, value, more);"
        "INSERT INTO next SELECT key, value || '!', 1 FROM kv WHERE key < 'k15';"
        "DROP TABLE kv; ALTER TABLE next RENAME TO kv;"
    )
    result = kvsync.sync(application.url, application.mirror, scan=True, max_delete="100%")
    assert not is_tracked(result)
    assert result.pushed == 20
    assert result.notes


def test_a_database_that_was_restored_is_scanned_in_full_if_only_the_index_was(application: Application) -> None:
    old = application.connection.execute("SELECT tbl, name, data, version FROM kvsync_index").fetchall()
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    application.settled()
    application.execute("DELETE FROM kvsync_index")
    application.connection.executemany("INSERT INTO kvsync_index VALUES (?, ?, ?, ?)", old)
    assert not is_tracked(application.settled())
    assert is_tracked(application.settled())


def test_a_database_that_was_restored_as_a_whole_is_believed(application: Application, tmp_path: Path) -> None:
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    with closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        application.connection.backup(backup)
        application.settled()
        application.execute("UPDATE kv SET value = 'm' WHERE key = 'k03'")
        application.settled()
        backup.backup(application.connection)
    application.execute("UPDATE kv SET value = 'l' WHERE key = 'k04'")
    application.run()
    application.settled()
    assert application.mirror["k04"] == b"l"


def test_a_full_scan_proves_the_journal(application: Application) -> None:
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    application.execute("DELETE FROM kvsync_journal_kv")  # as if the triggers had been off
    assert application.run().pushed == 0
    result = application.run(full=True)
    assert result.pushed == 1
    assert "did not name 1 of the keys" in result.notes[0]


def test_a_full_scan_takes_what_changes_meanwhile_for_no_fault(application: Application) -> None:
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    result = application.run(full=True)
    assert not result.notes
    assert result.pushed == 1
    assert is_tracked(application.settled())


def test_the_budget_stops_a_run_that_finds_too_much_deleted(application: Application) -> None:
    application.execute("DELETE FROM kv WHERE key > 'k04'")
    with pytest.raises(BudgetError, match="15 of 20 keys were deleted"):
        application.run()
    application.execute("DELETE FROM kv")
    with pytest.raises(BudgetError, match="all 20 keys are gone"):
        application.run()
    assert len(application.mirror) > len(ROWS)
    application.run(max_delete="100%")
    application.settled()


def test_what_cannot_be_read_is_told_by_each_run(application: Application) -> None:
    application.execute("UPDATE kv SET value = 7 WHERE key = 'k03'")
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k04'")
    for _ in range(2):
        result = application.run()
        assert [unread.key for unread in result.unreadable] == ["k03"]
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    assert is_tracked(application.settled())


def test_a_row_whose_key_cannot_be_one_is_told(application: Application) -> None:
    application.execute("INSERT INTO kv VALUES (x'ff00', 'n')")
    for _ in range(2):
        assert len(application.run().unreadable) == 1


def test_a_plan_forgets_nothing(application: Application) -> None:
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    for _ in range(2):
        plan = kvsync.plan(application.url, application.mirror, scan=True)
        assert plan.to_target_count == 1
    plan.apply()
    assert application.settled().pushed == 0


def test_two_tables_of_a_database_are_tracked_apart(application: Application, tmp_path: Path) -> None:
    other: dict[str, bytes] = {}
    url = f"{application.url}?table=other"
    application.execute("CREATE TABLE other (key TEXT PRIMARY KEY, value)")
    application.execute("INSERT INTO other VALUES ('a', '1')")
    kvsync.track(url)
    kvsync.sync(url, other, scan=True)
    application.settled()
    application.execute("UPDATE other SET value = '2'")
    assert is_tracked(application.settled())
    assert kvsync.sync(url, other, scan=True).pushed == 1
    assert kvsync.untrack(url)
    application.run()
    application.execute("DELETE FROM kv WHERE key = 'k03'")
    assert is_tracked(application.settled())


def test_a_database_that_is_attached_notes_its_own_changes(application: Application, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "main.db", isolation_level=None)) as connection:
        connection.executescript(PLAIN)
        connection.execute("ATTACH ? AS app", (str(tmp_path / "app.db"),))
        connection.execute("INSERT INTO main.kv VALUES ('elsewhere', 'n')")
        connection.execute("INSERT INTO app.kv VALUES ('here', 'n')")
    result = application.settled()
    assert is_tracked(result)
    assert result.pushed == 1


def test_nothing_is_left_of_a_journal(application: Application) -> None:
    assert kvsync.untrack(application.url)
    assert not kvsync.untrack(application.url)
    names = application.connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%journal%'").fetchall()
    assert names == []
    application.execute("UPDATE kv SET value = 'n' WHERE key = 'k03'")
    assert application.settled().pushed == 1


@pytest.mark.parametrize("storage", [{}, "memory:one"])
def test_other_storages_cannot_be_tracked(storage: object) -> None:
    with pytest.raises(UsageError, match="only tables of SQLite and PostgreSQL"):
        kvsync.track(storage)  # type: ignore[arg-type]


def test_what_a_filter_leaves_out_stays_noted(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    kvsync.track(application.url)
    # The first scan looks at everything but what is left out, so it proves nothing of that.
    application.run(exclude=["k0*"])
    application.execute("UPDATE kv SET value = 'left out' WHERE key = 'k01'")
    application.execute("UPDATE kv SET value = 'moved' WHERE key = 'k11'")
    application.run(exclude=["k0*"])
    assert "k01" not in application.mirror
    assert application.mirror["k11"] == b"moved"
    application.settled()
    application.execute("DELETE FROM kv WHERE key = 'k02'")
    application.execute("UPDATE kv SET value = 'left out' WHERE key = 'k03'")
    assert application.run(exclude=["k0*"]).pushed == 0
    assert application.run(exclude=["k03"]).pushed == 1
    assert application.settled().pushed == 1


def test_a_mirror_overturns_what_a_tracked_table_got(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    kvsync.track(application.url)
    application.settled()
    application.execute("UPDATE kv SET value = 'its own' WHERE key = 'k01'")
    application.execute("INSERT INTO kv (key, value) VALUES ('extra', '1')")
    assert kvsync.sync(application.mirror, application.url, scan=True, direction="push").withheld == ["extra", "k01"]
    kvsync.sync(application.mirror, application.url, scan=True, direction="mirror")
    assert application.rows() == ROWS
    assert application.settled().pushed == 0


def test_a_row_that_goes_by_its_number_is_noted(application: Application) -> None:
    (number,) = application.connection.execute("SELECT rowid FROM kv WHERE key = 'k03'").fetchone()
    application.execute("INSERT OR REPLACE INTO kv (rowid, key, value) VALUES (?, 'new', 'n')", number)
    assert is_tracked(application.settled())
    (number,) = application.connection.execute("SELECT rowid FROM kv WHERE key = 'k04'").fetchone()
    application.execute("UPDATE OR REPLACE kv SET rowid = ? WHERE key = 'k05'", number)
    assert is_tracked(application.settled())
    assert "k04" not in application.mirror


def test_a_row_without_a_key_may_get_one(application: Application) -> None:
    application.execute("INSERT INTO kv (key, value) VALUES (NULL, 'n')")
    application.execute("UPDATE kv SET key = 'named' WHERE key IS NULL")
    application.settled()
    assert application.mirror["named"] == b"n"


def test_a_journal_without_its_state_is_told_and_made_anew(application: Application) -> None:
    application.execute("DROP TABLE kvsync_journal")
    assert any("run `kvsync track`" in note for note in application.settled().notes)
    assert kvsync.track(application.url)
    application.settled()
    assert is_tracked(application.settled())


@pytest.mark.parametrize("deletes", [False, True])
def test_what_fires_no_trigger_is_not_overwritten(application: Application, *, deletes: bool) -> None:
    (number,) = application.connection.execute("SELECT rowid FROM kv WHERE key = 'k03'").fetchone()
    with application.connection.blobopen("kv", "value", number) as blob:
        blob.write(b"U")
    if deletes:
        del application.mirror["k03"]
    else:
        application.mirror["k03"] = b"remote"
    assert [entry.key for entry in application.run().missing] == ["k03"]
    assert application.rows()["k03"] == b"U"
    assert [conflict.key for conflict in application.run(full=True).conflicts] == ["k03"]
    application.settled()
