"""`kvsync demo`: sync a real folder with a new database, and check every value without kvsync."""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from kvsync import api
from kvsync.cli.demo_data import copy_tree, standard_library
from kvsync.cli.demo_edits import CREATED, DELETED, EDITED, change_files, change_rows, digest, files_in, rows_in
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.options import Option, flag
from kvsync.cli.output import Output, counted
from kvsync.cli.progress import shown_progress
from kvsync.cli.sync import PLAIN
from kvsync.errors import UsageError
from kvsync.result import SyncResult

__all__ = ["demo"]

TOUCHED = 2 * (EDITED + DELETED) + 1
CONFLICTING_VALUES = (b"changed in the folder\n", b"changed in SQLite\n")


def demo(
    *,
    folder: Annotated[str | None, Option(help="Folder to copy and sync. Default: Python's standard library.")] = None,
    sqlite: Annotated[
        str | None, Option(help="New database file, which is kept. Default: one in the temporary folder.")
    ] = None,
    keep: Annotated[bool, flag(help="Keep the temporary folder.")] = False,
    output: Output = PLAIN,
) -> int:
    """Sync a copy of a real folder with a new SQLite file, edit both, sync again, and check every value.

    Only reads the folder, and works on a copy in a temporary folder, which it
    removes at the end. Exits with 1 if a check fails.
    """
    if sqlite is not None and os.path.lexists(sqlite):
        message = "the demo needs a new database file, and this one exists; name another"
        raise UsageError(message, storage=sqlite)
    with ExitStack() as cleanup:
        place = tempfile.mkdtemp(prefix="kvsync-demo-")
        if not keep:
            cleanup.callback(shutil.rmtree, place, ignore_errors=True)
        copy = Path(place, "folder")
        copy.mkdir()
        run = _Demo(str(copy), str(Path(sqlite or Path(place, "copy.db")).absolute()), output)
        good = run.all_steps(folder or standard_library())
        if keep:
            run.say(f"Kept: {place}")
    output.result({"ok": good, "steps": run.steps, "checks": run.checks, "kept": place if keep else None})
    return DONE if good else FAILED


class _Demo:
    """One run of the demo: the steps it did, and the checks it made."""

    def __init__(self, folder: str, database: str, output: Output) -> None:
        self.folder = folder
        self.database = database
        self.url = "sqlite:///" + quote(database)
        self.output = output
        self.steps: list[dict[str, object]] = []
        self.checks: list[dict[str, object]] = []

    def all_steps(self, origin: str) -> bool:
        """Do all steps; return whether every check passed."""
        self.make_equal(origin)
        expected = self.change_both()
        self.sync_again(expected)
        self.run_idle()
        failed = sum(not check["ok"] for check in self.checks)
        self.say("")
        if failed:
            self.say(f"{failed} of {len(self.checks)} checks FAILED.", "bad")
        else:
            self.say(f"All {len(self.checks)} checks passed.", "good")
        return not failed

    def make_equal(self, origin: str) -> None:
        """Do steps 1 and 2: copy a real folder, sync the copy into a new database, compare."""
        started = time.perf_counter()
        copied = copy_tree(origin, self.folder)
        if copied.files < TOUCHED:
            message = f"the demo needs a folder of {TOUCHED} files or more; this one has {copied.files}"
            raise UsageError(message, storage=origin)
        self.title(f"1. A real folder, {origin}, and a new SQLite file")
        skipped = f", {copied.skipped:,} skipped" if copied.skipped else ""
        size = f"{copied.bytes / 1e6:,.1f} MB"
        self.say(f"   copied {counted(copied.files, 'file')}, {size}{skipped}, {_since(started)}")
        result = self.sync("first sync")
        self.check("every file was pushed", (result.pushed, result.pulled) == (copied.files, 0))
        self.title("2. Compare all values: walk the folder, SELECT the rows")
        self.compare()

    def change_both(self) -> dict[str, str]:
        """Do step 3: edit both sides without kvsync; return what both should hold then, {key: digest}."""
        self.title("3. Change both sides, with ordinary file operations and SQL")
        expected = files_in(self.folder)
        keys = sorted(expected)
        step = len(keys) // TOUCHED
        picked = [keys[number * step] for number in range(TOUCHED)]
        self.conflicting_key = picked.pop()
        half = len(picked) // 2
        for changed in (
            change_files(self.folder, picked[:half]),
            change_rows(self.database, picked[half:]),
        ):
            expected.update({key: value for key, value in changed.items() if value is not None})
            for key in [key for key, value in changed.items() if value is None]:
                del expected[key]
        self._make_conflict()
        del expected[self.conflicting_key]
        for where in ("folder", "SQLite"):
            self.say(f"   in {where:7} {EDITED} edited, {DELETED} deleted, {CREATED} created")
        self.say(f"   in both    {self.conflicting_key!r}, differently: a conflict")
        return expected

    def _make_conflict(self) -> None:
        Path(self.folder, self.conflicting_key).write_bytes(CONFLICTING_VALUES[0])
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("UPDATE kv SET value = ? WHERE key = ?", (CONFLICTING_VALUES[1], self.conflicting_key))

    def sync_again(self, expected: dict[str, str]) -> None:
        """Do steps 4 and 5: sync what changed, and compare with the expected result."""
        self.title("4. Sync again, keeping both values of the conflict")
        result = self.sync("second sync")
        moved = EDITED + DELETED + CREATED
        self.check("each side's changes were found", result.committed == (moved + 1, moved + 1))
        # The conflict moves two more values: the one that wins, and the copy of the other.
        total = result.pushed + result.pulled
        self.check("only what changed was moved", total == 2 * moved + 2)
        self.check("the conflict was reported", [c.key for c in result.conflicts] == [self.conflicting_key])
        copies = [c.kept_as for c in result.conflicts]
        for conflict in result.conflicts:
            kept = f"the other value is kept as {conflict.kept_as!r}"
            self.say(f"   conflict: the {conflict.winner} wins, {kept}")
        self.title("5. Compare all values again")
        files = self.compare()
        both = {files.pop(self.conflicting_key, ""), *(files.pop(str(copy), "") for copy in copies)}
        self.check("both values of the conflict were kept", both == {digest(value) for value in CONFLICTING_VALUES})
        self.check("every edit, delete and new key arrived, and nothing else changed", files == expected)

    def run_idle(self) -> None:
        """Do step 6: sync when there is nothing left to do."""
        self.title("6. A third sync has nothing to do")
        result = self.sync("third sync")
        idle = (result.pushed, result.pulled, result.committed, result.conflicts) == (0, 0, (0, 0), [])
        self.check("nothing was found, nothing moved", idle)

    def sync(self, name: str) -> SyncResult:
        """Sync the folder with the database, and report what moved."""
        started = time.perf_counter()
        with shown_progress(self.output) as on_progress:
            result = api.sync(self.folder, self.url, scan=True, conflict="keep-both", on_progress=on_progress)
        found = " and ".join(f"{count:,}" for count in result.committed)
        moved = f"moved {result.pushed:,} to SQLite, {result.pulled:,} to the folder"
        self.say(f"   found {found} changes, {moved}, {_since(started)}", "strong")
        self.steps.append(
            {
                "name": name,
                "pushed": result.pushed,
                "pulled": result.pulled,
                "conflicts": len(result.conflicts),
                "seconds": round(time.perf_counter() - started, 6),
            }
        )
        return result

    def compare(self) -> dict[str, str]:
        """Check that folder and table hold the same values; return them."""
        files, rows = files_in(self.folder), rows_in(self.database)
        both = f"{counted(len(files), 'file')} and {counted(len(rows), 'row')}"
        self.check(f"{both}, byte for byte equal", files == rows)
        return files

    def check(self, what: str, good: bool) -> None:  # noqa: FBT001 - reads well where it is called
        """Record and report a check."""
        self.checks.append({"check": what, "ok": good})
        self.say(f"   {'ok    ' if good else 'FAILED'} {what}", "good" if good else "bad")
        if not good and self.output.quiet:
            self.output.warn(f"this check of the demo failed: {what}")

    def title(self, text: str) -> None:
        """Start a new section."""
        self.say("")
        self.say(text)

    @property
    def say(self) -> Callable[..., None]:
        """Print a line."""
        return self.output.say


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.2f} s"
