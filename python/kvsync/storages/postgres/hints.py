"""Notice changes of a tracked PostgreSQL table: by what its journal has noted since the last look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["JournalHints"]

POLL_SECONDS = 0.08
BUSY_POLL_SECONDS = 0.015
BUSY_SECONDS = 2.0
"""For so long after a change, more of them are likely, and are looked for more often."""


class JournalHints:
    """Asks the journal whether it noted something that the last look could not see; what we write it does not note.

    Args:
        has_news: takes a snapshot, returns whether something was noted that it could not see, and the present snapshot.
    """

    complete = True
    reason = ""

    def __init__(self, has_news: Callable[[str], tuple[bool, str]]) -> None:
        self._has_news = has_news
        self._changed = float("-inf")
        _, self._snapshot = has_news("")

    @property
    def poll_seconds(self) -> float:
        """How often to ask: the more often the shorter the last change is ago."""
        return BUSY_POLL_SECONDS if time.monotonic() - self._changed < BUSY_SECONDS else POLL_SECONDS

    def poll(self) -> bool:
        """Return whether anybody has changed something since the last call.

        Raises:
            StorageError: the journal cannot be read.
        """
        is_news, self._snapshot = self._has_news(self._snapshot)
        if is_news:
            self._changed = time.monotonic()
        return is_news

    def close(self) -> None:
        """Do nothing: the connections belong to the storage."""
