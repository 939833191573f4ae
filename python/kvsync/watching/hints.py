"""The hints of both sides: those that storages give, and where they give none, a look at the manifest."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kvsync.errors import KvsyncError
from kvsync.index.objects import MANIFEST
from kvsync.storages.hints import NoHintsError, has_hints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.hints import Hints, Wake
    from kvsync.watching.established import EstablishedStorage

__all__ = ["ManifestHints", "PairHints", "hints_of"]

POLL_SECONDS = 5.0


class ManifestHints:
    """Notices the runs of others over a storage that notices nothing itself: they write its manifest."""

    poll_seconds = POLL_SECONDS
    complete = False

    def __init__(self, storage: EstablishedStorage, reason: str) -> None:
        self.reason = reason
        self._storage = storage

    def poll(self) -> bool:
        """Return whether the manifest is not the one that our last run, or the last call, has seen.

        Raises:
            KvsyncError: the storage failed.
        """
        before = self._storage.manifest
        stored = self._storage.load(MANIFEST)
        return (None if stored is None else stored.version) != before

    def close(self) -> None:
        """Do nothing."""


def hints_of(storage: EstablishedStorage, wake: Wake) -> Hints:
    """Begin to notice changes of a storage, in the best way that it has.

    Raises:
        KvsyncError: the storage failed.
    """
    if not has_hints(storage):
        return ManifestHints(storage, "it does not tell of changes")
    try:
        return storage.hints(wake)
    except NoHintsError as why:
        return ManifestHints(storage, str(why))


class PairHints:
    """The hints of two storages; only one thread uses it.

    Args:
        storages: source and target.
        wake: called for each hint, from any thread.

    Raises:
        KvsyncError: a storage failed.
    """

    def __init__(self, storages: Sequence[EstablishedStorage], wake: Wake) -> None:
        self._storages = storages
        self._hints: list[Hints] = []
        self._next: list[float] = []
        try:
            for storage in storages:
                self._hints.append(hints_of(storage, wake))
                self._next.append(float("-inf"))
        except BaseException:
            self.close()
            raise

    @property
    def next_poll(self) -> float:
        """When `poll` is to be called next, in monotonic seconds."""
        return min(self._next)

    @property
    def complete(self) -> bool:
        """Whether all changes are noticed."""
        return all(hints.complete for hints in self._hints)

    def reasons(self) -> list[str]:
        """Return for each storage that does not notice all changes why not, as a sentence's beginning."""
        pairs = zip(self._storages, self._hints, strict=True)
        return [
            f"{storage.name} is scanned at the interval, since {each.reason}" for storage, each in pairs if each.reason
        ]

    def poll(self, now: float, *, all_of_them: bool = False) -> bool:
        """Ask those whose time has come, or all; return whether anything may have changed.

        Raises:
            KvsyncError: a storage failed.
        """
        if not all_of_them and now < self.next_poll:
            return False
        changed = False
        for number, hints in enumerate(self._hints):
            # Whose time has almost come is asked, too, so that we wake up once for both.
            if all_of_them or self._next[number] - hints.poll_seconds / 2 <= now:
                changed = hints.poll() or changed
                self._next[number] = now + hints.poll_seconds
        return changed

    def close(self) -> None:
        """Stop noticing."""
        while self._hints:
            with suppress(KvsyncError):
                self._hints.pop().close()
