"""Looking at logs without a lease: another run may remove objects that a manifest listed when it was read.

It may also delete values after that, which then look as if somebody else had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from kvsync.errors import BudgetError, IndexDamagedError
from kvsync.index.objects import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.contract import Storage
    from kvsync.types import Version

__all__ = ["look"]

T = TypeVar("T")

LOOKS_MAX: Final = 4
"""How often logs are looked at that other runs change meanwhile."""


def look(storages: Sequence[Storage], read: Callable[[], T]) -> T:
    """Return what `read` returns, which reads the manifests first; call it again if a log was changed meanwhile.

    Raises:
        IndexDamagedError: `read` met damage twice while the manifests stayed as they were, or again and again.
        BudgetError: likewise.
    """
    before: list[Version | None] | None = None
    for _ in range(LOOKS_MAX - 1):
        try:
            return read()
        except (BudgetError, IndexDamagedError):
            now = [_version(storage) for storage in storages]
            if now == before:
                raise
            before = now
    return read()


def _version(storage: Storage) -> Version | None:
    there = storage.load(MANIFEST)
    return None if there is None else there.version
