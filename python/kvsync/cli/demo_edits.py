"""Read and edit a folder and a SQLite table without kvsync, as their other users do."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["change_files", "change_rows", "digest", "files_in", "rows_in"]

EDITED, DELETED, CREATED = 25, 15, 10
LINE = b"\n# edited\n"

Digests = dict[str, str]


def digest(value: bytes) -> str:
    """Return the SHA-256 of a value."""
    return hashlib.sha256(value).hexdigest()


def files_in(folder: str) -> Digests:
    """Walk a folder; return {path within it: digest} of every file."""
    found = {}
    for place, below, names in os.walk(folder):
        if place == folder:
            below[:] = [name for name in below if name != ".kvsync"]
        for name in names:
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = digest(path.read_bytes())
    return found


def rows_in(database: str) -> Digests:
    """Select all rows; return {key: digest}."""
    with closing(sqlite3.connect(database)) as connection:
        return {key: digest(value) for key, value in connection.execute("SELECT key, value FROM kv")}


def change_files(folder: str, keys: list[str]) -> dict[str, str | None]:
    """Edit and delete files among `keys`, and create new ones; return {key: digest, or None if deleted}."""
    changed: dict[str, str | None] = {}
    for key in keys[:EDITED]:
        with Path(folder, key).open("ab") as file:
            file.write(LINE)
        changed[key] = digest(Path(folder, key).read_bytes())
    for key in keys[EDITED : EDITED + DELETED]:
        Path(folder, key).unlink()
        changed[key] = None
    Path(folder, "from-folder").mkdir()
    for number in range(CREATED):
        key, value = f"from-folder/new {number}.txt", b"written to a file\n" * number
        Path(folder, key).write_bytes(value)
        changed[key] = digest(value)
    return changed


def change_rows(database: str, keys: list[str]) -> dict[str, str | None]:
    """Update and delete rows among `keys`, and insert new ones; return {key: digest, or None if deleted}."""
    changed: dict[str, str | None] = {}
    with closing(sqlite3.connect(database)) as connection, connection:
        for key in keys[:EDITED]:
            connection.execute("UPDATE kv SET value = CAST(value || ? AS BLOB) WHERE key = ?", (LINE, key))
            value = connection.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()[0]
            changed[key] = digest(value)
        for key in keys[EDITED : EDITED + DELETED]:
            connection.execute("DELETE FROM kv WHERE key = ?", (key,))
            changed[key] = None
        for number in range(CREATED):
            key, value = f"from-sqlite/new {number}.bin", bytes(range(number * 16))
            connection.execute("INSERT INTO kv (key, value) VALUES (?, ?)", (key, value))
            changed[key] = digest(value)
    return changed
