"""Refuse what LMDB cannot hold, and keys whose value is not the expected one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.batch import Batch
    from kvsync.storages.lmdb.values import Values

__all__ = ["IS_DATABASE", "refuse_changed", "refuse_impossible"]

IS_DATABASE = "it is the name of a database of this environment"

LOOK_COUNT = 100
VALUE_BYTES_MAX = (1 << 32) - (1 << 16)


def refuse_impossible(batch: Batch, raw_keys: Sequence[bytes | None], database_names: frozenset[bytes]) -> None:
    """Refuse what LMDB cannot hold, and keys that are names of databases."""
    for key, raw, value in zip(batch.keys, raw_keys, batch.values, strict=True):
        if raw is None:
            batch.refuse(key, "it has a lone surrogate")
        elif raw in database_names:
            batch.refuse(key, IS_DATABASE)
        elif len(value) > VALUE_BYTES_MAX:
            batch.refuse(key, "its value is larger than LMDB's limit of 4 GiB")
    batch.drop_refused()


def refuse_changed(batch: Batch, values: Values, *, deletes: bool = False) -> None:
    """Refuse the keys whose value is not the expected one."""
    tokens: list[bytes | None] = []
    for start in range(0, len(batch.keys), LOOK_COUNT):  # the current values may be larger than the new ones
        found = values.get([key.encode() for key in batch.keys[start : start + LOOK_COUNT]])
        digests = iter(digest_values([value for value in found if isinstance(value, bytes)]))
        # What cannot be read is never what was expected, and not absent either.
        tokens += [None if value is None else next(digests) if isinstance(value, bytes) else b"" for value in found]
    batch.compare(tokens, deletes=deletes)
    batch.drop_refused()
