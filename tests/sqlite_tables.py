"""Tables of other programs in SQLite databases, as tests make and read them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ask", "execute"]


def execute(path: Path | str, *statements: str) -> None:
    """Run statements, and commit them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def ask(path: Path | str, query: str, *parameters: object) -> list[Any]:
    """Run a query; return its rows, or its only column."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(query, parameters).fetchall()
    return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows
