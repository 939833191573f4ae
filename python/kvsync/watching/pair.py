"""The two storages of a watch: opened again and again, and from the second time on known."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Literal

from kvsync.errors import StorageError
from kvsync.opening import opened_pair
from kvsync.watching.established import EstablishedStorage
from kvsync.watching.hints import PairHints

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.errors import KvsyncError
    from kvsync.opening import Create, Opened
    from kvsync.storages import Target

__all__ = ["OpenPair", "WatchedPair"]


class OpenPair:
    """Two storages, open, and what notices their changes.

    Args:
        pair: as they were opened.
        storages: the same, with what a watch knows of them.
        hints: of both.
        closing: closes all of it.

    Attributes:
        may_create: a run may create one of them. After it they are to be opened anew: from then on, one that is gone is
            an error.
    """

    def __init__(
        self,
        pair: Opened,
        storages: tuple[EstablishedStorage, EstablishedStorage],
        hints: PairHints,
        closing: ExitStack,
        *,
        may_create: bool,
    ) -> None:
        self.pair = pair
        self.storages = storages
        self.hints = hints
        self.may_create = may_create
        self._closing = closing

    def close(self) -> None:
        """Close both storages, as far as they were opened here."""
        with suppress(StorageError):  # it has broken before, which is told by whoever uses it
            self._closing.close()


class WatchedPair:
    """Two storages that a watch opens, and opens anew after an outage.

    Args:
        source: one storage, as the caller names it.
        target: the other one.
        create: which of them need not exist yet.
        read_only: whether nothing may be written to the source.

    Attributes:
        open: both, while they are open.
    """

    def __init__(self, source: Target, target: Target, create: Create, *, read_only: bool = False) -> None:
        self._source = source
        self._target = target
        self._create: Create = create
        self._read_only = read_only
        self._names = (str(source), str(target))
        self._met = (False, False)
        self.open: OpenPair | None = None

    def opened(self, ring: Callable[[], None]) -> OpenPair:
        """Return both storages, open; `ring` is called for each hint, from any thread.

        Raises:
            UsageError: one is named wrongly, or they are the same.
            StorageError: one cannot be opened.
        """
        if self.open is None:
            try:
                self.open = self._opened("none", ring)
            except StorageError:
                if self._create == "none" or all(self._met):
                    raise
                self.open = self._opened(self._create, ring)
        return self.open

    def met(self) -> None:
        """Note that a run has succeeded: a storage that has an index now is not to lose it."""
        if self.open is not None:
            source, target = self.open.storages
            self._met = (source.manifest is not None, target.manifest is not None)
            source.is_met, target.is_met = self._met

    def close(self) -> None:
        """Close both storages, if they are open."""
        opened, self.open = self.open, None
        if opened is not None:
            opened.close()

    def side_of(self, error: KvsyncError) -> Literal["source", "target"] | None:
        """Return which side an error is about, or None."""
        source, target = self._names
        return "source" if error.storage == source else "target" if error.storage == target else None

    def _opened(self, create: Create, ring: Callable[[], None]) -> OpenPair:
        with ExitStack() as closing:
            pair = closing.enter_context(
                opened_pair(self._source, self._target, create, given=False, read_only=self._read_only)
            )
            source = EstablishedStorage(pair.source, is_met=self._met[0])
            target = EstablishedStorage(pair.target, is_met=self._met[1])
            self._names = (source.name, target.name)
            hints = PairHints((source, target), lambda _key: ring())
            closing.callback(hints.close)
            return OpenPair(pair, (source, target), hints, closing.pop_all(), may_create=create != "none")
