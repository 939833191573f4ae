"""The journal of a PostgreSQL table: triggers note each key that is written or deleted, and when.

They fire in every session, also in one that applies what was replicated, and their function has the rights of whoever
made it, so nobody who writes to the table needs any for the journal. Each row has the id of its transaction: what was
read is what the snapshot of the reader could see, whatever the order in which transactions commit.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync.errors import UsageError
from kvsync.storages.journal import JOURNAL_OBJECT, Journal
from kvsync.storages.postgres.names import JOURNAL_TABLE, quoted
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection

    from kvsync.storages.postgres.index import Index
    from kvsync.storages.postgres.table import Table

__all__ = ["MARK_BYTES", "OWN", "TableJournal"]

MARK_BYTES = 8
"""A mark is so many random bytes, and the scope that it is about."""

OWN = "SELECT set_config('kvsync.own', 'yes', true)"
"""What is written in the rest of this transaction is logged within it, and not noted."""

NAME_MAX = 40
TRIGGERS = ("row", "truncate")
"""The first one fires for each row, and each partition has it; the other one for the whole table."""

# Every row of the catalogue that has to do with it, and its version: `xmin` is another one after each change.
# Partitions of the table have triggers of their own, and can be emptied or detached alone.
_PARTS = """
WITH RECURSIVE tables AS (
    SELECT to_regclass(%(table)s)::oid AS id
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tables ON i.inhparent = tables.id
)
SELECT 'table' AS what, oid, xmin::text AS version FROM pg_class WHERE oid IN (SELECT id FROM tables)
UNION ALL SELECT 'journal', oid, xmin::text FROM pg_class WHERE oid = to_regclass(%(journal)s)
UNION ALL SELECT 'function', oid, xmin::text FROM pg_proc WHERE oid = to_regproc(%(journal)s)
UNION ALL SELECT tgname::text, oid, xmin::text FROM pg_trigger
          WHERE tgrelid IN (SELECT id FROM tables) AND tgname::text = ANY (%(triggers)s) AND tgenabled = 'A'
ORDER BY 1, 2
"""
_IS_INHERITED = """
SELECT relkind <> 'p' AND EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = pg_class.oid)
FROM pg_class WHERE oid = to_regclass(%s)
"""

# ruff: noqa: S608 - every name is checked and quoted


class Position(NamedTuple):
    """How far a journal was read.

    Attributes:
        snapshot: what could be seen.
        proof: the state of triggers, table and function then.
        mark: of the journal, in hexadecimal digits.
    """

    snapshot: str
    proof: str
    mark: str

    def encode(self) -> bytes:
        """Return it as bytes."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, data: bytes) -> Position:
        """Return what `encode` made bytes of."""
        return cls(*json.loads(data))


class TableJournal:
    """The statements for the journal of one table, on one connection.

    A journal is believed as long as two things hold. Its mark is the one that the index has: each time that rows are
    forgotten, both get a new one. And the catalogue's rows for the table, its triggers and their function are those
    that it had when all of them were last seen to be in place.

    Args:
        connection: to the database.
        schema: where all of it is.
        table: the table whose changes are noted, or None if it does not exist.
        index: the index objects of the storage.
        identifier: of the table.
    """

    def __init__(
        self, connection: Connection[Any], schema: str, identifier: str, table: Table | None, index: Index
    ) -> None:
        self._connection = connection
        self._identifier = identifier
        self._table = table
        self._index = index
        owner = index.owner
        short = owner if len(owner.encode()) <= NAME_MAX else sha256(owner.encode()).hexdigest()[:24]
        self._name = f"{JOURNAL_TABLE}_{short}"
        self._rows = f"{quoted(schema)}.{quoted(self._name)}"
        self._states = f"{quoted(schema)}.{JOURNAL_TABLE}"

    # Making it

    def make(self, mark: bytes, version: bytes) -> bool:
        """Make the journal and its triggers, unless all of it exists; return whether anything was made.

        Raises:
            UsageError: not all that changes this table fires its triggers.
        """
        assert self._table is not None  # noqa: S101 - it was made before
        if self._state() is not None and not self._fault():
            return False
        is_inherited = self._connection.execute(_IS_INHERITED, (self._identifier,)).fetchone()
        if is_inherited is None or is_inherited[0]:
            message = "other tables inherit from it, and their rows can change without its triggers: track those"
            raise UsageError(message)
        self.unmake()
        key = self._table.key
        kind = "bytea" if key.binary else 'text COLLATE "C"'
        column = quoted(self._table.names.key)
        self._run(
            f"CREATE TABLE IF NOT EXISTS {self._states} "
            '(tbl text COLLATE "C" PRIMARY KEY, mark bytea NOT NULL, proof text NOT NULL)'
        )
        self._run(
            f"CREATE TABLE {self._rows} (key {kind}, at timestamptz NOT NULL DEFAULT clock_timestamp(), "
            "xid xid8 NOT NULL DEFAULT pg_current_xact_id())"
        )
        self._run(self._function(column, "" if key.binary or not key.type else "::pg_catalog.text"))
        for name, event in (
            ("row", f"INSERT OR UPDATE OR DELETE ON {self._identifier} FOR EACH ROW"),
            ("truncate", f"TRUNCATE ON {self._identifier} FOR EACH STATEMENT"),
        ):
            trigger = quoted(f"{self._name}_{name}")
            self._run(f"CREATE TRIGGER {trigger} AFTER {event} EXECUTE FUNCTION {self._rows}()")
            # Also where a session plays the part of a replica.
            self._run(f"ALTER TABLE {self._identifier} ENABLE ALWAYS TRIGGER {trigger}")
        # Nothing was seen to be in place before: the next scan proves it.
        self._set_mark(mark, version, "")
        return True

    def unmake(self) -> bool:
        """Remove all that `make` made; return whether there was anything."""
        existed = self._state() is not None or any(what != "table" for what, _ in self._parts())
        if self._table is not None:
            for name in TRIGGERS:
                self._run(f"DROP TRIGGER IF EXISTS {quoted(f'{self._name}_{name}')} ON {self._identifier}")
        self._run(f"DROP FUNCTION IF EXISTS {self._rows}()")
        self._run(f"DROP TABLE IF EXISTS {self._rows}")
        if self._has_states():
            self._run(f"DELETE FROM {self._states} WHERE tbl = %s", (self._index.owner,))
            row = self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM {self._states})").fetchone()
            if row is not None and not row[0]:
                self._run(f"DROP TABLE {self._states}")
        self._index.remove(self._connection, [JOURNAL_OBJECT], ANY)
        return existed

    def _function(self, column: str, cast: str) -> str:
        # It runs with the rights of its owner and the search path of the session, so everything is named in full.
        # A WHEN clause of the trigger would be compiled for each statement, which takes longer than all of this.
        insert = f"INSERT INTO {self._rows} (key) VALUES"
        old, new = f"OLD.{column}{cast}", f"NEW.{column}{cast}"
        return (
            f"CREATE FUNCTION {self._rows}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$ BEGIN "
            "IF pg_catalog.current_setting('kvsync.own', true) OPERATOR(pg_catalog.=) 'yes' THEN RETURN NULL; END IF; "
            f"IF TG_OP OPERATOR(pg_catalog.=) 'TRUNCATE' THEN {insert} (NULL); "
            f"ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN {insert} ({old}); "
            f"ELSE {insert} ({new}); "
            f"IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN IF {old} OPERATOR(pg_catalog.<>) {new} "
            f"THEN {insert} ({old}); END IF; END IF; "
            "END IF; RETURN NULL; END $body$"
        )

    # Reading it

    def read(self, count_max: int) -> Journal | None:
        """Return what the journal says, or None if there is none."""
        # The state and the snapshot first: whatever changes from now on is told by them next time.
        state = self._state()
        if state is None:
            return None
        snapshot, mark, seen_proof, indexed_mark = state
        proof = self._proof()
        position = Position(snapshot, proof, mark.hex()).encode()
        if seen_proof != proof or mark != indexed_mark:
            return Journal(None, position, self._fault())
        return Journal(self._changed(count_max), position, scope=mark[MARK_BYTES:])

    def has_news(self, snapshot: str) -> tuple[bool, str]:
        """Return whether something was noted that a snapshot could not see, and what the present one can."""
        news = (
            f"EXISTS (SELECT 1 FROM {self._rows} WHERE NOT pg_visible_in_snapshot(xid, %s::pg_snapshot))"
            if snapshot
            else "false AND %s = ''"
        )
        row = self._connection.execute(f"SELECT {news}, pg_current_snapshot()::text", (snapshot,)).fetchone()
        return (False, "") if row is None else (bool(row[0]), str(row[1]))

    def _changed(self, count_max: int) -> Mapping[str, int | None] | None:
        """Return which keys were changed, and when; None if they are more, or a scan has to tell what they are."""
        query = (
            f"SELECT key, (extract(epoch FROM max(at)) * 1000)::bigint FROM {self._rows} GROUP BY key "
            f"LIMIT {count_max + 1}"
        )
        changed: dict[str, int | None] = {}
        for raw, time in self._connection.execute(query).fetchall():
            if raw is None:
                return None  # the table was emptied, or has a row without a key
            try:
                changed[raw.decode() if isinstance(raw, bytes) else raw] = time
            except UnicodeDecodeError:
                return None  # a scan skips such a row, and says so
        return None if len(changed) > count_max else changed

    def _fault(self) -> str:
        """Return what is wrong with the triggers, and what to do; empty if nothing is."""
        counts = Counter(what for what, _ in self._parts())
        if not counts["journal"]:
            return "its journal is gone: run `kvsync track` on it again"
        of_rows, of_all = self._trigger_names()
        is_whole = counts["function"] == counts[of_all] == 1 and counts[of_rows] == counts["table"]
        return "" if is_whole else "triggers of its journal are gone: run `kvsync track` on it again"

    # Forgetting what was read

    def settle(self, position: bytes, mark: bytes, version: bytes) -> None:
        """Forget all rows that could be seen at a position; from then on the journal is believed, if it is whole."""
        snapshot, proof, seen_mark = Position.decode(position)
        state = self._state(locks=True)
        if state is None or state[1].hex() != seen_mark:
            return  # somebody else has read it, or made another one
        if proof != self._proof() or self._fault():
            self._set_mark(mark, version, "")
            return
        # A row that is there, and whose transaction is yet to come, was restored from another server.
        restored = "xid >= pg_snapshot_xmax(pg_current_snapshot()) AND xid <> pg_current_xact_id()"
        self._run(
            f"DELETE FROM {self._rows} WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot) OR ({restored})", (snapshot,)
        )
        self._set_mark(mark, version, proof)

    # What is there

    def _has_states(self) -> bool:
        row = self._connection.execute("SELECT to_regclass(%s) IS NOT NULL", (self._states,)).fetchone()
        return row is not None and bool(row[0])

    def _state(self, *, locks: bool = False) -> tuple[str, bytes, str, bytes | None] | None:
        """Return the snapshot, the mark, the proof that was seen, and the mark that the index has; None without one.

        `locks` it until the end of the transaction.
        """
        if not self._has_states():
            return None
        query = (
            f"SELECT pg_current_snapshot()::text, mark, proof, "
            f"(SELECT data FROM {self._index.identifier} WHERE tbl = %s AND name = %s) "
            f"FROM {self._states} WHERE tbl = %s{' FOR UPDATE' if locks else ''}"
        )
        row = self._connection.execute(query, (self._index.owner, JOURNAL_OBJECT, self._index.owner)).fetchone()
        return None if row is None else (str(row[0]), bytes(row[1]), str(row[2]), row[3])

    def _parts(self) -> list[tuple[str, str]]:
        """Return all that notes changes, as far as it is in force: what it is, and its id and version."""
        names = {"table": self._identifier, "journal": self._rows, "triggers": self._trigger_names()}
        return [(what, f"{oid}.{version}") for what, oid, version in self._connection.execute(_PARTS, names)]

    def _proof(self) -> str:
        versions = " ".join(version for _, version in self._parts())
        return sha256(versions.encode()).hexdigest()

    def _trigger_names(self) -> list[str]:
        return [f"{self._name}_{name}" for name in TRIGGERS]

    def _set_mark(self, mark: bytes, version: bytes, proof: str) -> None:
        self._run(
            f"INSERT INTO {self._states} (tbl, mark, proof) VALUES (%s, %s, %s) "
            "ON CONFLICT (tbl) DO UPDATE SET mark = excluded.mark, proof = excluded.proof",
            (self._index.owner, mark, proof),
        )
        self._index.store(self._connection, JOURNAL_OBJECT, mark, version, ANY)

    def _run(self, statement: str, values: tuple[object, ...] | None = None) -> None:
        self._connection.execute(statement, values)
