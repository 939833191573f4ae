"""What a scan skips, up to a limit of each kind."""

from __future__ import annotations

from kvsync.storages.contract import SKIPPED_MAX
from kvsync.types import Skipped

__all__ = ["Skips"]


class Skips:
    """The entries that a scan skips: the first `SKIPPED_MAX` harmless ones, and as many others.

    >>> skips = Skips()
    >>> skips.add("link", "it is a link")
    >>> skips.all
    (Skipped(name='link', reason='it is a link', harmless=True),)
    """

    def __init__(self) -> None:
        self._harmless: list[Skipped] = []
        self._others: list[Skipped] = []

    @property
    def all(self) -> tuple[Skipped, ...]:
        """All of them, by name."""
        return tuple(sorted(self._harmless + self._others))

    def add(self, name: str, reason: str, *, harmless: bool = True) -> None:
        """Note an entry, unless there are enough of its kind."""
        entries = self._harmless if harmless else self._others
        if len(entries) < SKIPPED_MAX:
            entries.append(Skipped(name, reason, harmless))
