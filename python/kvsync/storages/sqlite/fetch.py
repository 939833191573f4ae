"""Read rows, among them texts that are not valid UTF-8."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["bytes_of", "fetch", "lenient", "undecodable"]


def fetch(connection: sqlite3.Connection, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Return all rows; where a text is not valid UTF-8, its bytes are surrogates."""
    try:
        with closing(connection.execute(statement, parameters)) as cursor:
            return cursor.fetchall()
    except sqlite3.OperationalError as error:
        if not undecodable(error):
            raise
    with lenient(connection), closing(connection.execute(statement, parameters)) as cursor:
        return cursor.fetchall()


@contextlib.contextmanager
def lenient(connection: sqlite3.Connection) -> Iterator[None]:
    """Read texts that are not valid UTF-8 with surrogates, which takes longer."""
    connection.text_factory = _decoded
    try:
        yield
    finally:
        connection.text_factory = str


def undecodable(error: sqlite3.OperationalError) -> bool:
    """Whether an error means that a text is not valid UTF-8; it comes from the driver, and has no code."""
    return "decode to UTF-8" in str(error)


def bytes_of(text: str) -> bytes:
    """Return the bytes of a text that was read."""
    return text.encode("utf-8", "surrogateescape")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
