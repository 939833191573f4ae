"""The options of a folder that are lists of words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["checked_meta"]

META = frozenset({"mode", "mtime"})


def checked_meta(words: Collection[str], storage: str) -> frozenset[str]:
    """Return what a folder is to carry of files.

    >>> sorted(checked_meta("mode,mtime".split(","), "folder"))
    ['mode', 'mtime']

    Raises:
        UsageError: it is not that.
    """
    if isinstance(words, str) or not META.issuperset(words):
        message = "meta is mode, mtime, or mode,mtime"
        raise UsageError(message, storage=storage)
    return frozenset(words)
