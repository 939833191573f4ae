"""Writes and deletes in a PostgreSQL table that hold only where a row is as expected; within one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.postgres.rows import NOT_EXPECTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.postgres.rows import Rows

__all__ = ["delete_if", "write_if"]


def write_if(rows: Rows, values: dict[str, bytes], expected: dict[str, bytes | None]) -> None:
    """Write the values whose rows have the expected tokens, None for absence; refuse the others."""
    unexpected = _unexpected(rows, {key: token for key, token in expected.items() if token is not None})
    rows.write({key: values[key] for key, token in expected.items() if token is not None and key not in unexpected})
    rows.create({key: values[key] for key, token in expected.items() if token is None})


def delete_if(rows: Rows, keys: Sequence[str], expected: dict[str, bytes | None]) -> None:
    """Delete the rows that have the expected tokens, or are absent; refuse the others."""
    unexpected = _unexpected(rows, expected, absent_is_fine=True)
    # What is expected to be absent, and is: nothing locks a row that is not there, so one may appear just now.
    absent = {key for key, token in expected.items() if token is None}
    rows.delete([key for key in dict.fromkeys(keys) if key not in unexpected and key not in absent])


def _unexpected(rows: Rows, expected: dict[str, bytes | None], *, absent_is_fine: bool = False) -> set[str]:
    """Lock rows; refuse those that do not hold what is expected, and return their keys."""
    tokens = rows.tokens(list(expected)) if expected else {}
    changed = {
        key
        for key, wanted in expected.items()
        if tokens.get(key) != wanted and not (absent_is_fine and key not in tokens)
    }
    for key in changed:
        rows.refuse(key, NOT_EXPECTED, changed=True)
    return changed
