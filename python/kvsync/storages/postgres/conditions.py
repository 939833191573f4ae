"""Conditional writes and deletes in a PostgreSQL table, within one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.postgres.rows import NULL_VALUE

if TYPE_CHECKING:
    from kvsync.storages.postgres.writing import Writer

__all__ = ["delete_if", "write_if"]


def write_if(writer: Writer) -> None:
    """Write the values of `writer.batch` whose rows have the expected tokens; refuse the others."""
    batch = writer.batch
    # A key that is expected to be absent is not looked up: creating its row fails if it exists.
    _refuse_changed(writer, [key for key, token in _expected(writer).items() if token is not None])
    values, expected = dict(zip(batch.keys, batch.values, strict=True)), _expected(writer)
    writer.write({key: values[key] for key, token in expected.items() if token is not None})
    writer.create({key: values[key] for key, token in expected.items() if token is None})


def delete_if(writer: Writer) -> None:
    """Delete the rows of `writer.batch` that have the expected tokens; refuse those that have others."""
    _refuse_changed(writer, list(_expected(writer)), deletes=True)
    expected = _expected(writer)
    # Nothing locks a row that is absent. If one that is expected to be absent appears now, it stays.
    writer.refuse_hidden([key for key, token in expected.items() if token is None])
    writer.delete([key for key, token in expected.items() if token is not None])


def _refuse_changed(writer: Writer, looked_up: list[str], *, deletes: bool = False) -> None:
    """Lock rows and refuse those whose tokens are not the expected ones."""
    batch = writer.batch
    tokens = writer.rows.tokens(looked_up) if looked_up else {}
    for key, token in tokens.items():
        if not token:
            batch.refuse(key, NULL_VALUE)
    writer.refuse_barred([key for key in looked_up if key not in tokens and _expected(writer)[key] is not None])
    batch.compare([tokens.get(key) for key in batch.keys], deletes=deletes)
    batch.drop_refused()


def _expected(writer: Writer) -> dict[str, bytes | None]:
    assert writer.batch.expect is not None  # noqa: S101 - only conditional calls come here
    return dict(zip(writer.batch.keys, writer.batch.expect, strict=True))
