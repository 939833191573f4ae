"""Tables that ignore, change or refuse what is written: that row is refused with the reason, and the others move."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlite_tables import ask, execute

import kvsync
from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.storages.expiry import token_of
from kvsync.storages.sqlite import ExpiringSqliteStorage, SqliteStorage, open_url
from kvsync.testing.conformance import listing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kvsync.types import Written

KEYS = [f"k{number}" for number in range(8)]
TABLE = "CREATE TABLE kv (key TEXT PRIMARY KEY, value, expires INTEGER)"

IGNORED_INSERT = "CREATE TRIGGER t BEFORE INSERT ON kv WHEN NEW.key = 'k3' BEGIN SELECT RAISE(IGNORE); END"
IGNORED_UPDATE = "CREATE TRIGGER t BEFORE UPDATE ON kv WHEN NEW.key = 'k3' BEGIN SELECT RAISE(IGNORE); END"
IGNORED_DELETE = "CREATE TRIGGER t BEFORE DELETE ON kv WHEN OLD.key = 'k3' BEGIN SELECT RAISE(IGNORE); END"
REWRITTEN = (
    "CREATE TRIGGER t AFTER {} ON kv WHEN NEW.key = 'k3' "
    "BEGIN UPDATE kv SET value = upper(CAST(value AS TEXT)) WHERE key = NEW.key; END"
)
RENAMED = "CREATE TRIGGER t AFTER INSERT ON kv WHEN NEW.key = 'k3' BEGIN UPDATE kv SET key = 'K3' WHERE key = 'k3'; END"
RETIMED = "CREATE TRIGGER t AFTER INSERT ON kv BEGIN UPDATE kv SET expires = NULL WHERE key = 'k3'; END"
REMADE = "CREATE TRIGGER t AFTER DELETE ON kv WHEN OLD.key = 'k3' BEGIN INSERT INTO kv VALUES ('k3', 'v', 0); END"


def refused(written: Written) -> list[tuple[str, bool]]:
    return [(refusal.key, refusal.changed) for refusal in written.refused]


def digest(value: bytes) -> bytes:
    return digest_values([value])[0]


@pytest.mark.parametrize("expect", [None, [None] * 8])
@pytest.mark.parametrize("trigger", [IGNORED_INSERT, REWRITTEN.format("INSERT"), RENAMED])
def test_an_insert_that_is_ignored_or_changed(tmp_path: Path, trigger: str, expect: Sequence[None] | None) -> None:
    path = tmp_path / "a.db"
    execute(path, TABLE, trigger)
    with closing(SqliteStorage(path)) as storage:
        written = storage.write(KEYS, [b"v"] * 8, expect)
        assert refused(written) == [("k3", False)]
        assert "trigger" in written.refused[0].reason
        assert list(listing(storage)) == [key for key in KEYS if key != "k3"]
        assert not refused(storage.write(["k1"], [b"2"]))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("trigger", [IGNORED_UPDATE, REWRITTEN.format("UPDATE OF value")])
def test_an_update_that_is_ignored_or_changed(tmp_path: Path, trigger: str, *, conditional: bool) -> None:
    path = tmp_path / "a.db"
    execute(path, TABLE)
    with closing(SqliteStorage(path)) as storage:
        storage.write(KEYS, [b"old"] * 8)
        execute(path, trigger)  # while the database is open: the schema is looked at again
        written = storage.write(KEYS, [b"new"] * 8, [digest(b"old")] * 8 if conditional else None)
        assert refused(written) == [("k3", False)]
        assert storage.read(KEYS) == [b"old" if key == "k3" else b"new" for key in KEYS]


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("trigger", [IGNORED_DELETE, REMADE])
def test_a_delete_that_does_not_happen(tmp_path: Path, trigger: str, *, conditional: bool) -> None:
    path = tmp_path / "a.db"
    execute(path, TABLE, trigger)
    with closing(SqliteStorage(path)) as storage:
        storage.write(KEYS, [b"v"] * 8)
        deleted = storage.delete([*KEYS, "none"], [*[digest(b"v")] * 8, None] if conditional else None)
        assert refused(deleted) == [("k3", False)]
        assert listing(storage) == {"k3": digest(b"v")}


def test_a_time_that_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, TABLE, RETIMED)
    due = 1_800_000_000_000
    with closing(ExpiringSqliteStorage(path, clock=lambda: 1_700_000_000)) as storage:
        for expect in (None, [None] * 8):
            storage.delete(KEYS)
            written = storage.write_expiring(KEYS, [b"v"] * 8, [due] * 8, expect)
            assert refused(written) == [("k3", False)]
            assert written.tokens == tuple(None if key == "k3" else token_of(digest(b"v"), due) for key in KEYS)
            assert list(listing(storage)) == [key for key in KEYS if key != "k3"]


@pytest.mark.parametrize("declared", ["NUMERIC", "INTEGER", "REAL", "DECIMAL(5)"])
def test_a_value_that_the_type_of_its_column_changes(tmp_path: Path, declared: str) -> None:
    """Such a column makes the number 42 of the text `042`, also in a row that holds a text."""
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value {declared})", "INSERT INTO kv VALUES ('a', 'text')")
    execute(path, "INSERT INTO kv VALUES ('b', x'ff')")
    with closing(SqliteStorage(path)) as storage:
        written = storage.write(["a", "b", "c"], [b"042"] * 3)
        assert {refusal.key: "type of the column" in refusal.reason for refusal in written.refused} == {
            "a": True,
            "c": False,
        }
        assert storage.read(["a", "b", "c"]) == [b"text", b"042", None]
        assert storage.write(["a"], [b"4 2"]).refused == ()
        assert ask(path, "SELECT value FROM kv WHERE key = 'a'") == ["4 2"]


@pytest.mark.parametrize("declared", ["INTEGER", "INT NOT NULL DEFAULT 0", "NUMERIC"])
def test_a_column_of_integers_holds_what_they_are_written_as(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE kv (key TEXT PRIMARY KEY, value {declared})", "INSERT INTO kv VALUES ('a', 7)")
    execute(path, "INSERT INTO kv VALUES ('half', 1.5)")
    with closing(SqliteStorage(path)) as storage:
        assert storage.read(["a"]) == [b"7"]
        assert storage.write(["a"], [b"-8"], [digest(b"7")]).refused == ()
        bad = [b"", b"+1", b"1.5", b"9223372036854775808", b"\xff"]
        written = storage.write([*"bcdefg"], [b"42", *bad])
        assert [refusal.key for refusal in written.refused] == [*"cdefg"]
        assert "42 or -7" in written.refused[0].reason
        assert ask(path, "SELECT key, value, typeof(value) FROM kv WHERE key < 'h'") == [
            ("a", -8, "integer"),
            ("b", 42, "integer"),
        ]
        assert listing(storage) == {"a": digest(b"-8"), "b": digest(b"42"), "half": b""}


def test_what_a_trigger_does_to_another_row_of_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    trigger = "CREATE TRIGGER t AFTER INSERT ON kv WHEN NEW.key = 'k5' BEGIN DELETE FROM kv WHERE key = 'k1'; END"
    execute(path, TABLE, trigger)
    with closing(SqliteStorage(path)) as storage:
        assert refused(storage.write(KEYS, [b"v"] * 8)) == [("k1", False)]
        assert list(listing(storage)) == [key for key in KEYS if key != "k1"]


@pytest.mark.parametrize("operation", ["INSERT", "UPDATE", "DELETE"])
@pytest.mark.parametrize("how", ["ABORT", "FAIL"])
def test_one_row_that_is_refused_stops_no_other(tmp_path: Path, operation: str, how: str) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
    keys = [f"{number:04}" for number in range(5_000)]
    row = "OLD" if operation == "DELETE" else "NEW"
    with closing(SqliteStorage(path)) as storage:
        if operation != "INSERT":
            storage.write(keys, [b"old"] * 5_000)
        execute(
            path,
            f"CREATE TRIGGER t BEFORE {operation} ON kv WHEN {row}.key IN ('0007', '4321') "
            f"BEGIN SELECT RAISE({how}, 'not this one'); END",
        )
        storage.read(keys[:1])
        statements = counted(storage)
        done = storage.delete(keys) if operation == "DELETE" else storage.write(keys, [b"new"] * 5_000)
        assert refused(done) == [("0007", False), ("4321", False)]
        assert "not this one" in done.refused[0].reason
        assert len(statements) < 10 * 5_000 // 2
        left = {"INSERT": 4_998, "UPDATE": 5_000, "DELETE": 2}[operation]
        assert len(listing(storage)) == left
        assert storage.read(["0007"]) == [None if operation == "INSERT" else b"old"]


def counted(storage: SqliteStorage) -> list[str]:
    assert storage._database.connection is not None
    seen: list[str] = []
    storage._database.connection.set_trace_callback(lambda text: seen.append(text[:20]))
    return seen


def test_a_trigger_that_ends_the_transaction_says_what_to_change(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    trigger = "CREATE TRIGGER t BEFORE INSERT ON kv WHEN NEW.key = 'k3' BEGIN SELECT RAISE(ROLLBACK, 'all'); END"
    execute(path, TABLE, trigger)
    with closing(SqliteStorage(path)) as storage:
        with pytest.raises(StorageError, match=r"all.*RAISE\(ABORT\)"):
            storage.write(KEYS, [b"v"] * 8)
        with pytest.raises(StorageError, match=r"RAISE\(ABORT\)"), storage.transaction():
            storage.write(["a"], [b"v"])
            storage.write(KEYS, [b"v"] * 8)
        assert listing(storage) == {}
        assert storage.write(["a"], [b"v"]).refused == ()


def test_a_plain_table_is_not_looked_at_again(tmp_path: Path) -> None:
    with closing(SqliteStorage(tmp_path / "a.db")) as storage:
        for _ in range(2):
            storage.write(["a"], [b"1"])
        statements = counted(storage)
        storage.write(KEYS, [b"v"] * 8)
        assert [text for text in statements if not text.startswith("PRAGMA")] == [
            "BEGIN IMMEDIATE",
            "SELECT EXISTS(SELECT",
            *["INSERT OR ABORT INTO"] * 8,
            "COMMIT",
        ]


def test_what_exists_is_updated_where_nothing_can_be_inserted(tmp_path: Path) -> None:
    """An upsert inserts first: it would be refused, as another column has no default."""
    path = tmp_path / "a.db"
    execute(
        path,
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, owner TEXT NOT NULL CHECK (owner <> ''))",
        "INSERT INTO kv VALUES ('a', x'31', 'Ada'), ('b', x'32', 'Bob')",
    )
    with closing(SqliteStorage(path)) as storage:
        for expect in (None, [digest(b"new"), None]):
            written = storage.write(["a", "c"], [b"new", b"3"], expect)
            assert refused(written) == [("c", False)]
            assert "NOT NULL constraint failed: kv.owner" in written.refused[0].reason
        assert ask(path, "SELECT * FROM kv ORDER BY key") == [("a", b"new", "Ada"), ("b", b"2", "Bob")]


def test_what_exists_is_updated_where_a_default_breaks_a_rule(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(
        path,
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, size INTEGER DEFAULT 0 CHECK (size > 0))",
        "INSERT INTO kv VALUES ('a', x'31', 1)",
    )
    with closing(SqliteStorage(path)) as storage:
        assert refused(storage.write(["a", "c"], [b"new", b"3"])) == [("c", False)]
        assert storage.read(["a", "c"]) == [b"new", None]


@pytest.mark.parametrize("clause", ["REPLACE", "IGNORE", "ROLLBACK"])
def test_a_clause_of_the_table_neither_drops_nor_replaces_rows(tmp_path: Path, clause: str) -> None:
    """Each new row has the same default in a unique column: by its clause, it replaces the one before in silence."""
    path = tmp_path / "a.db"
    execute(
        path,
        "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB, slug DEFAULT 'x' UNIQUE ON CONFLICT " + clause + ")",
    )
    with closing(SqliteStorage(path)) as storage:
        assert refused(storage.write(["a", "b"], [b"1", b"2"])) == [("b", False)]
        assert storage.read(["a", "b"]) == [b"1", None]


def test_a_row_that_was_never_stored_is_no_delete(tmp_path: Path) -> None:
    """The second run took the row that a trigger had ignored for deleted, and deleted the file."""
    path, folder = tmp_path / "a.db", tmp_path / "folder"
    folder.mkdir()
    execute(path, TABLE, IGNORED_INSERT)
    for key in KEYS:
        (folder / key).write_bytes(b"v")
    for _ in range(2):
        result = kvsync.sync(folder, f"sqlite:///{path}", scan=True)
        assert [missing.key for missing in result.missing] == ["k3"]
        assert sorted(entry.name for entry in folder.iterdir() if entry.is_file()) == KEYS
    (folder / "k3").unlink()
    assert kvsync.sync(folder, f"sqlite:///{path}", scan=True).missing == []


def test_an_edit_or_a_delete_that_does_not_happen_is_not_undone_on_the_peer(tmp_path: Path) -> None:
    path, folder = tmp_path / "a.db", tmp_path / "folder"
    folder.mkdir()
    execute(path, TABLE, IGNORED_UPDATE, IGNORED_DELETE.replace("TRIGGER t", "TRIGGER u").replace("k3", "k4"))
    for key in KEYS:
        (folder / key).write_bytes(b"v")
    kvsync.sync(folder, f"sqlite:///{path}", scan=True)
    (folder / "k3").write_bytes(b"edited")
    (folder / "k4").unlink()
    for _ in range(2):
        result = kvsync.sync(folder, f"sqlite:///{path}", scan=True)
        assert [missing.key for missing in result.missing] == ["k3", "k4"]
        assert (folder / "k3").read_bytes() == b"edited"
        assert not (folder / "k4").exists()


def test_a_trigger_that_rewrites_values_does_not_stop_the_runs_that_follow(tmp_path: Path) -> None:
    """The log held a digest that was never stored: each later run found everything overwritten, and stopped."""
    path = tmp_path / "a.db"
    execute(path, TABLE, REWRITTEN.format("INSERT").replace("WHEN NEW.key = 'k3'", ""))
    data = dict.fromkeys(KEYS, b"v")
    data["same"] = b"NO LETTER CHANGES"
    for _ in range(2):
        result = kvsync.sync(data, f"sqlite:///{path}", scan=True)
        assert [missing.key for missing in result.missing] == KEYS
        with closing(open_url(f"sqlite:///{path}")) as storage:
            assert listing(storage) == {"same": digest(b"NO LETTER CHANGES")}
