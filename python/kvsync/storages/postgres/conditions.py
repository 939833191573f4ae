"""Conditional writes and deletes in a PostgreSQL table, within one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvsync.storages.postgres.rows import Rows

__all__ = ["delete_if", "write_if"]


def write_if(rows: Rows) -> None:
    """Write the values of `rows.batch` whose rows have the expected tokens; refuse the others."""
    batch = rows.batch
    # A key that is expected to be absent is not looked up: creating its row fails if it exists.
    _refuse_changed(rows, [key for key, token in _expected(rows).items() if token is not None])
    values, expected = dict(zip(batch.keys, batch.values, strict=True)), _expected(rows)
    rows.write({key: values[key] for key, token in expected.items() if token is not None})
    rows.create({key: values[key] for key, token in expected.items() if token is None})


def delete_if(rows: Rows) -> None:
    """Delete the rows of `rows.batch` that have the expected tokens; refuse those that have others."""
    _refuse_changed(rows, list(_expected(rows)), deletes=True)
    # Nothing locks a row that is absent. If one that is expected to be absent appears now, it stays.
    rows.delete([key for key, token in _expected(rows).items() if token is not None])


def _refuse_changed(rows: Rows, looked_up: list[str], *, deletes: bool = False) -> None:
    """Lock rows and refuse those whose tokens are not the expected ones."""
    tokens = rows.tokens(looked_up) if looked_up else {}
    rows.batch.compare([tokens.get(key) for key in rows.batch.keys], deletes=deletes)
    rows.batch.drop_refused()


def _expected(rows: Rows) -> dict[str, bytes | None]:
    assert rows.batch.expect is not None  # noqa: S101 - only conditional calls come here
    return dict(zip(rows.batch.keys, rows.batch.expect, strict=True))
