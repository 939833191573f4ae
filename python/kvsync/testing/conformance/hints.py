"""Hints: a storage notices what other handles write."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsync.storages.hints import NoHintsError, has_hints
from kvsync.testing.conformance.tools import write
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.contract import Storage
    from kvsync.storages.hints import Hints

__all__ = ["HintsTests"]

HINT_SECONDS = 20.0
QUIET_SECONDS = 0.1
"""No hint comes for so long where none is to come."""

SETTLE_SECONDS = 0.02
"""What comes twice comes within that, mostly."""


class _Listener:
    """Listens to the hints of a storage."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.hints: Hints

    def wake(self, _key: str | None) -> None:
        self._event.set()

    def heard(self, seconds: float) -> bool:
        """Whether a hint comes within so many seconds."""
        end = time.monotonic() + seconds
        while not (self.hints.poll() or self._event.wait(min(self.hints.poll_seconds, 0.02))):
            if time.monotonic() > end:
                return False
        self.silence()
        return True

    def silence(self) -> None:
        """Take in what comes late."""
        while self._event.wait(SETTLE_SECONDS) or self.hints.poll():
            self._event.clear()


@contextmanager
def _listening(storage: Storage) -> Iterator[_Listener | None]:
    """Listen to a storage; None where it says why it cannot notice changes."""
    assert has_hints(storage)
    listener = _Listener()
    try:
        listener.hints = storage.hints(listener.wake)
    except NoHintsError as error:
        why = str(error)
    else:
        why = ""
    if not hasattr(listener, "hints"):
        assert why
        yield None
        return
    try:
        assert listener.hints.complete == (not listener.hints.reason)
        assert listener.hints.poll_seconds > 0
        listener.silence()
        yield listener
    finally:
        listener.hints.close()
        listener.hints.close()


class HintsTests:
    """`SupportsHints`: what somebody else writes is noticed, and what a run does to the index is not."""

    def test_a_hint_comes_for_whatever_another_handle_writes(self, storage: Storage, another: Storage) -> None:
        write(storage, {"a": b"1"})
        with _listening(storage) as listener:
            if listener is None or not listener.hints.complete:
                return
            for value in (b"2", b"", b"3" * 10_000):
                write(another, {"a": value})
                assert listener.heard(HINT_SECONDS)
            write(another, {"b/c": b"1"})
            assert listener.heard(HINT_SECONDS)
            another.delete(["a"])
            assert listener.heard(HINT_SECONDS)

    def test_no_hint_comes_for_index_objects_of_our_own(self, storage: Storage) -> None:
        write(storage, {"a": b"1"})
        with _listening(storage) as listener:
            if listener is None:
                return
            for name in ("lease", "manifest", "segment/1"):
                storage.store(name, b"1", ANY)
            assert not listener.heard(QUIET_SECONDS)
            storage.remove(["lease", "manifest", "segment/1"], ANY)
            assert not listener.heard(QUIET_SECONDS) or not listener.hints.complete

    def test_a_storage_that_notices_only_other_runs_notices_their_manifest(
        self, storage: Storage, another: Storage
    ) -> None:
        storage.store("manifest", b"1", ANY)
        with _listening(storage) as listener:
            if listener is None or listener.hints.complete:
                return
            another.store("manifest", b"2", ANY)
            assert listener.heard(HINT_SECONDS)
