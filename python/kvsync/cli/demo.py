"""`kvsync demo`: the main job on a real folder and a new database, every value checked by plain means."""

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

from cyclopts import Parameter

from kvsync import api
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.options import flag
from kvsync.cli.output import Output, counted
from kvsync.cli.plainly import CREATED, DELETED, EDITED, change_files, change_rows, digest, files_in, rows_in
from kvsync.cli.progress import shown_progress
from kvsync.cli.specimen import copy_tree, standard_library
from kvsync.cli.sync import PLAIN
from kvsync.errors import UsageError
from kvsync.result import SyncResult

__all__ = ["demo"]

TOUCHED = 2 * (EDITED + DELETED) + 1
ON_BOTH = (b"changed in the folder\n", b"changed in SQLite\n")


def demo(
    *,
    folder: Annotated[
        str | None, Parameter(help="Folder to copy and sync. Default: Python's standard library.")
    ] = None,
    sqlite: Annotated[
        str | None, Parameter(help="New database file, which stays. Default: one in the temporary folder.")
    ] = None,
    keep: Annotated[bool, flag(help="Keep the temporary folder.")] = False,
    output: Output = PLAIN,
) -> int:
    """Sync a copy of a real folder with a new SQLite file, change both by plain means, and check every value.

    The folder is only read: everything happens in a copy, in a temporary folder that is removed afterwards.
    Exit 1 if any check fails.
    """
    if sqlite is not None and os.path.lexists(sqlite):
        message = "the demo wants a new database, and this file exists; name another"
        raise UsageError(message, storage=sqlite)
    with ExitStack() as cleaning:
        place = tempfile.mkdtemp(prefix="kvsync-demo-")
        if not keep:
            cleaning.callback(shutil.rmtree, place, ignore_errors=True)
        copy = Path(place, "folder")
        copy.mkdir()
        story = _Story(str(copy), str(Path(sqlite or Path(place, "copy.db")).absolute()), output)
        good = story.play(folder or standard_library())
        if keep:
            story.tell(f"Kept: {place}")
    output.result({"ok": good, "steps": story.steps, "checks": story.checks, "kept": place if keep else None})
    return DONE if good else FAILED


class _Story:
    """The demo as it goes: what was done, and whether it was right."""

    def __init__(self, folder: str, database: str, output: Output) -> None:
        self.folder = folder
        self.database = database
        self.url = "sqlite:///" + quote(database)
        self.output = output
        self.steps: list[dict[str, object]] = []
        self.checks: list[dict[str, object]] = []

    def play(self, origin: str) -> bool:
        """Tell it from beginning to end; return whether all checks were good."""
        self.make_equal(origin)
        expected = self.change_both()
        self.sync_again(expected)
        self.run_idle()
        failed = sum(not check["ok"] for check in self.checks)
        self.tell("")
        if failed:
            self.tell(f"{failed} of {len(self.checks)} checks FAILED.", "bad")
        else:
            self.tell(f"All {len(self.checks)} checks passed.", "good")
        return not failed

    def make_equal(self, origin: str) -> None:
        """Do steps 1 and 2: copy a real folder, sync it into an empty database, compare."""
        started = time.perf_counter()
        specimen = copy_tree(origin, self.folder)
        if specimen.files < TOUCHED:
            message = f"the demo needs a folder of {TOUCHED} files or more; this one has {specimen.files}"
            raise UsageError(message, storage=origin)
        self.title(f"1. A real folder, {origin}, and a new SQLite file")
        over = f", {specimen.passed_over:,} passed over" if specimen.passed_over else ""
        size = f"{specimen.bytes / 1e6:,.1f} MB"
        self.tell(f"   copied {counted(specimen.files, 'file')}, {size}{over}, {_since(started)}")
        result = self.sync("first sync")
        self.check("every file was pushed", (result.pushed, result.pulled) == (specimen.files, 0))
        self.title("2. Compare all values: walk the folder, SELECT the rows")
        self.compare()

    def change_both(self) -> dict[str, str]:
        """Do step 3: change both sides by plain means; return what both should hold then, {key: digest}."""
        self.title("3. Change both sides, with nothing but file operations and SQL")
        expected = files_in(self.folder)
        keys = sorted(expected)
        step = len(keys) // TOUCHED
        picked = [keys[number * step] for number in range(TOUCHED)]
        self.on_both = picked.pop()
        half = len(picked) // 2
        for changed in (
            change_files(self.folder, picked[:half]),
            change_rows(self.database, picked[half:]),
        ):
            expected.update({key: value for key, value in changed.items() if value is not None})
            for key in [key for key, value in changed.items() if value is None]:
                del expected[key]
        self._change_on_both()
        del expected[self.on_both]
        for where in ("folder", "SQLite"):
            self.tell(f"   in {where:7} {EDITED} edited, {DELETED} deleted, {CREATED} created")
        self.tell(f"   in both    {self.on_both!r}, differently: a conflict")
        return expected

    def _change_on_both(self) -> None:
        Path(self.folder, self.on_both).write_bytes(ON_BOTH[0])
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("UPDATE kv SET value = ? WHERE key = ?", (ON_BOTH[1], self.on_both))

    def sync_again(self, expected: dict[str, str]) -> None:
        """Do steps 4 and 5: sync what changed, and compare with what should have come of it."""
        self.title("4. Sync again, keeping both values of the conflict")
        result = self.sync("second sync")
        moved = EDITED + DELETED + CREATED
        self.check("each side's changes were found", result.committed == (moved + 1, moved + 1))
        # The conflict moves two values beside: the one that wins, and the copy of the other.
        total = result.pushed + result.pulled
        self.check("only what changed was moved", total == 2 * moved + 2)
        self.check("the conflict was reported", [c.key for c in result.conflicts] == [self.on_both])
        copies = [c.kept_as for c in result.conflicts]
        for conflict in result.conflicts:
            kept = f"the other value is kept as {conflict.kept_as!r}"
            self.tell(f"   conflict: the {conflict.winner} wins, {kept}")
        self.title("5. Compare all values again")
        files = self.compare()
        both = {files.pop(self.on_both, ""), *(files.pop(str(copy), "") for copy in copies)}
        self.check("both values of the conflict are there", both == {digest(value) for value in ON_BOTH})
        self.check("every edit, delete and new key arrived, and nothing else changed", files == expected)

    def run_idle(self) -> None:
        """Do step 6: nothing is left to do."""
        self.title("6. A third sync has nothing to do")
        result = self.sync("third sync")
        idle = (result.pushed, result.pulled, result.committed, result.conflicts) == (0, 0, (0, 0), [])
        self.check("nothing was found, nothing moved", idle)

    def sync(self, name: str) -> SyncResult:
        """Sync the folder with the database, and tell what moved."""
        started = time.perf_counter()
        with shown_progress(self.output) as on_progress:
            result = api.sync(self.folder, self.url, scan=True, conflict="keep-both", on_progress=on_progress)
        found = " and ".join(f"{count:,}" for count in result.committed)
        moved = f"moved {result.pushed:,} to SQLite, {result.pulled:,} to the folder"
        self.tell(f"   found {found} changes, {moved}, {_since(started)}", "strong")
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
        """Note and tell whether something is as it should be."""
        self.checks.append({"check": what, "ok": good})
        self.tell(f"   {'ok    ' if good else 'FAILED'} {what}", "good" if good else "bad")

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self.tell("")
        self.tell(text)

    @property
    def tell(self) -> Callable[..., None]:
        """Say a line."""
        return self.output.say


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.2f} s"
