"""Histories of tracked tables: `python tests/simulation/journals.py sqlite|postgres COUNT [FIRST_SEED]`.

Applications write by SQL at any moment, and nothing that they wrote is lost. Two tables are synced. Between runs and
before any operation of a run, an application of either side may commit or roll back a transaction, leave one open,
change the schema, drop or disable triggers of the journal, or put them back. Runs fail, or are killed, at any
operation. In the end runs that scan make both tables equal: without a scan of everything, where the journal can be
believed. Of each key the outcome is the last that one of the two applications has written, and not one that the other
one had seen and replaced.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import kvsync
from kvsync.environment import Environment
from kvsync.errors import KvsyncError
from kvsync.process import UNKNOWN, Presence
from kvsync.testing.faults import FAULT_MODES, Fault, FaultyStorage, Killed
from kvsync.testing.simulation.pieces import small_blocks, small_pieces
from tracked_tables import FILLERS, KEYS, PostgresTable, SqliteTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from servers.postgres import PostgresServer

    from tracked_tables import TrackedTable

EVENTS = 14
RUNS_MAX = 8
"""Two tables are equal after so many runs, while no application writes."""


@dataclass
class Side:
    """One table, with the applications that write to it.

    Attributes:
        database: where it is, and how an application writes to it.
        last: {key: what an application has written there last, None for a delete}.
        seen: {key: what applications have found there when they wrote}.
    """

    database: TrackedTable
    last: dict[str, bytes | None] = field(default_factory=dict)
    seen: dict[str, set[bytes | None]] = field(default_factory=dict)

    def note(self, before: dict[str, bytes], after: dict[str, bytes]) -> None:
        """Take note of what a transaction has changed."""
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self.seen.setdefault(key, set()).add(before.get(key))
                self.last[key] = after.get(key)


class Clock:
    """A clock that runs on while a run waits."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += seconds


class History:
    """One history.

    Args:
        seed: of all choices.
        tables: makes the two tables.
    """

    def __init__(self, seed: int, tables: Sequence[TrackedTable]) -> None:
        self.rng = random.Random(seed)
        self.sides = [Side(table) for table in tables]
        self._clock = Clock()
        self._turn = threading.Lock()
        self._number = 0
        self.tracked_runs = self.scans = self.notes = self.kills = 0
        for side in self.sides:
            side.database.unnoted = partial(self.write, side)
            side.database.slowly = partial(self.begin, side)
            side.database.emptied = partial(self.empty, side)

    def play(self) -> None:
        """Play it, and see that nothing was lost.

        Raises:
            AssertionError: something was.
        """
        for side in self.sides:
            self.write(side)
            if self.rng.random() < 0.9:
                self.track(side)
        for _ in range(EVENTS):
            self.event()
        self.end()

    def event(self) -> None:
        side, chance = self.rng.choice(self.sides), self.rng.random()
        if chance < 0.4:
            self.run()
        elif chance < 0.85:
            self.write(side)
        elif chance < 0.9:
            with suppress(*side.database.busy):
                side.database.harm()
        else:
            self.track(side)

    def value(self) -> bytes:
        self._number += 1
        return b"%d" % self._number

    def write(self, side: Side) -> None:
        """Have an application commit a transaction, or roll it back; if the database is locked it gives up."""
        database = side.database
        try:
            database.begin()
        except database.busy:
            return
        try:
            before = database.rows()
            for statement, values in database.statements(self.value):
                database.connection.execute(statement, values)
            after = database.rows()
            if self.rng.random() < 0.2:
                database.connection.execute("ROLLBACK")
            else:
                database.connection.execute("COMMIT")
                side.note(before, after)
        except database.busy:
            with suppress(*database.busy):
                database.connection.execute("ROLLBACK")

    def begin(self, side: Side) -> Callable[[], None] | None:
        """Have the second application write, and return what commits that later; None if it could not write."""
        database = side.database
        database.swap()
        try:
            database.begin()
            before = database.rows()
            for statement, values in database.statements(self.value):
                database.connection.execute(statement, values)
            after = database.rows()
        except database.busy:
            database.connection.execute("ROLLBACK")
            return None
        finally:
            database.swap()

        def end() -> None:
            database.swap()
            database.connection.execute("COMMIT")
            database.swap()
            side.note(before, after)

        return end

    def empty(self, side: Side) -> None:
        """Have an application empty the table, but for the keys that nobody touches."""
        connection = side.database.connection
        try:
            connection.execute("BEGIN")
            before = side.database.rows()
            connection.execute("TRUNCATE kv")
            connection.execute("INSERT INTO kv (key, value) SELECT unnest(%s::text[]), 's'", (FILLERS,))
            connection.execute("COMMIT")
            side.note(before, dict.fromkeys(FILLERS, b"s"))
        except side.database.busy:
            connection.execute("ROLLBACK")

    def track(self, side: Side) -> None:
        storage = side.database.open()
        with suppress(KvsyncError):
            if self.rng.random() < 0.8:
                kvsync.track(storage)
            else:
                kvsync.untrack(storage)
        storage.close()

    def run(self, *, calm: bool = False) -> kvsync.SyncResult | None:
        """Make a run, in which anything may happen unless it is `calm`; return its result, if it has one."""
        storages = [side.database.open() for side in self.sides]
        fault = Fault()
        if not calm:
            fault.before = self.meanwhile
            if self.rng.random() < 0.35:
                fault.at, fault.mode = self.rng.randint(1, 30), self.rng.choice(FAULT_MODES)
        source, target = (FaultyStorage(storage, fault) for storage in storages)
        environment = Environment(
            clock=self._clock.now,
            monotonic=self._clock.monotonic,
            sleep=self._clock.sleep,
            random=random.Random(self.rng.random()),
            process=lambda: UNKNOWN,
            presence=lambda _: Presence.ELSEWHERE,
        )
        result = None
        try:
            result = kvsync.sync(
                source,
                target,
                scan=True,
                full=not calm and self.rng.random() < 0.1,
                max_delete="100%",
                lease_seconds=1.0,
                wait_seconds=1000.0,
                environment=environment,
            )
        except KvsyncError:
            pass
        except Killed:
            self.kills += 1
        finally:
            for storage in storages:
                storage.close()
        if result is not None:
            operations = result.operations["source"], result.operations["target"]
            self.tracked_runs += sum("listed" in made for made in operations)
            self.scans += sum("scan" in made for made in operations)
            self.notes += len(result.notes)
        return result

    def meanwhile(self, _number: int) -> None:
        """Let an application write before an operation of a run, of which there may be one in each of two threads."""
        with self._turn:
            self._meanwhile()

    def _meanwhile(self) -> None:
        if self.rng.random() < 0.08:
            self.write(self.rng.choice(self.sides))
        elif self.rng.random() < 0.01:
            side = self.rng.choice(self.sides)
            with suppress(*side.database.busy):
                side.database.harm()

    def end(self) -> None:
        """Run until nothing is left to do, and compare."""
        for side in self.sides:
            side.database.end()
        for _ in range(RUNS_MAX):
            result = self.run(calm=True)
            if result is not None and not (result.pushed or result.pulled or any(result.committed) or result.missing):
                break
        else:
            message = f"not at rest after {RUNS_MAX} runs: {result!r}"
            raise AssertionError(message)
        one, other = (side.database.rows() for side in self.sides)
        assert one == other, f"{one} and {other} differ"
        for key in KEYS:
            allowed = self.allowed(key)
            assert one.get(key) in allowed, f"{key} is {one.get(key)!r}, and not one of {allowed}"

    def allowed(self, key: str) -> set[bytes | None]:
        """Return what may be at a key in the end: what was written last, unless the other side has replaced it."""
        ends = [side.last.get(key) for side in self.sides if key in side.last]
        seen = set().union(*(side.seen.get(key, set()) for side in self.sides))
        return {value for value in ends if value is None or value not in seen} or {None}

    def close(self) -> None:
        for side in self.sides:
            side.database.close()


def play_sqlite(seed: int, folder: str) -> History:
    """Play a history of two SQLite databases."""
    rng = random.Random(f"tables of {seed}")
    paths = [Path(folder) / f"{name}-{seed}.db" for name in ("one", "other")]
    history = History(seed, [SqliteTable(str(path), rng) for path in paths])
    try:
        history.play()
    finally:
        history.close()
        for path in paths:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
    return history


def play_postgres(seed: int, server: PostgresServer) -> History:
    """Play a history of two tables of a PostgreSQL database."""
    rng = random.Random(f"tables of {seed}")
    schemas = [server.schema() for _ in range(2)]
    history = History(seed, [PostgresTable(server.url, schema, rng) for schema in schemas])
    try:
        history.play()
    finally:
        history.close()
        for schema in schemas:
            server.run(f"DROP SCHEMA {schema} CASCADE")
    return history


def played(play: Callable[[int], History], count: int, first: int) -> int:
    """Play many histories, and report; return how many broke."""
    started = time.monotonic()
    broken, tracked, scans, kills = 0, 0, 0, 0
    for seed in range(first, first + count):
        try:
            history = play(seed)
        except Exception as error:
            broken += 1
            sys.stdout.write(f"seed {seed}: {error!r:.500}\n")
            continue
        tracked, scans, kills = tracked + history.tracked_runs, scans + history.scans, kills + history.kills
        if (seed + 1 - first) % 500 == 0:
            sys.stdout.write(f"{seed + 1 - first} histories, {broken} broken, {time.monotonic() - started:.0f} s\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{count} histories from seed {first}: {broken} broken; {tracked} looks by a journal, {scans} at everything, "
        f"{kills} runs killed; {time.monotonic() - started:.0f} s\n"
    )
    return broken


def main(database: str, count: str, first: str = "0") -> int:
    with small_pieces(), small_blocks():
        return _main(database, int(count), int(first))


def _main(database: str, count: int, first: int) -> int:
    if database == "postgres":
        from servers.running import running, stop_all

        try:
            return min(1, played(partial(play_postgres, server=running("postgres")), count, first))
        finally:
            stop_all()
    from memory import folder_in_memory

    with folder_in_memory() as folder:
        return min(1, played(partial(play_sqlite, folder=str(folder)), count, first))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main(*sys.argv[1:]))
