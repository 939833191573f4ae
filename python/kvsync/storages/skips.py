"""What a scan skips, up to a limit of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.contract import SKIPPED_MAX
from kvsync.storages.wording import escaped
from kvsync.types import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NO_TEXT", "Skips"]

NO_TEXT = "its name is not UTF-8, as a key is"


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

    def decoded(self, names: Iterable[bytes], *, harmless: bool = False) -> list[str]:
        """Return names as keys, and note those that are not UTF-8."""
        keys = []
        for name in names:
            try:
                keys.append(name.decode())
            except UnicodeDecodeError:
                self.add(escaped(name), NO_TEXT, harmless=harmless)
        return keys
