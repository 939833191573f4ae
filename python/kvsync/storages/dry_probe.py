"""Probe a storage that kvsync has never written to, and leave nothing behind."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.contract import SupportsTransaction

__all__ = ["rolled_back"]


class _UndoneError(Exception):
    pass


@contextmanager
def rolled_back(storage: SupportsTransaction) -> Iterator[None]:
    """Run the body in a transaction that is never committed."""
    with suppress(_UndoneError), storage.transaction():
        yield
        raise _UndoneError
