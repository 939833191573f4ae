"""What protects values that the log does not know: where a version token proves nothing, their contents do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Put
from kvsync.storages.contract import OpaqueTokens
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import ExpiringStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.types import Expectation, Unreadable, Version

NOW = 1_700_000_000.0
OLD, YOUNG = 100.0, 0.019


class Sized(MappingStorage):
    """A mapping whose tokens are sizes: a value of the same size has the same token, as a file may.

    Attributes:
        age: for how many seconds no value has been modified.
        was_read: the keys whose values were read.
        before_push: called once after the scan, before values are written.
    """

    capabilities = replace(MappingStorage.capabilities, tokens=OpaqueTokens(racy_ms=20), distance="disk")

    def __init__(self, mapping: dict[str, bytes]) -> None:
        super().__init__(mapping)
        self.age = OLD
        self.was_read: list[str] = []
        self.before_push: Callable[[], object] = lambda: None

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        self.was_read += [key for key in keys if not key.startswith(".kvsync/")]
        return super().read(keys)

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        keys = sorted(key for key in self.mapping if not key.startswith(".kvsync/"))
        yield keys, [b"%d" % len(self.mapping[key]) for key in keys]

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        if name.startswith("segment/"):
            before_push, self.before_push = self.before_push, lambda: None
            before_push()
        return super().store(name, data, expect)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return [int((NOW - self.age) * 1000)] * len(keys)

    def _tokens(self, keys: Sequence[str], *, unreadable: bytes = b"") -> list[bytes | None]:
        return [b"%d" % len(self.mapping[key]) if key in self.mapping else None for key in keys]

    def sync(self, peer: dict[str, bytes]) -> kvsync.SyncResult:
        """Make a peer equal with this storage, by a clock that stands still."""
        self.was_read.clear()
        return kvsync.sync(peer, self, scan=True, clock=lambda: NOW)


def made_equal() -> tuple[dict[str, bytes], dict[str, bytes], Sized]:
    """Return two mappings that are equal, and a storage over the first, whose tokens are believed."""
    values, peer = {"a": b"1", "b": b"1", "c": b"1"}, dict[str, bytes]()
    storage = Sized(values)
    storage.sync(peer)
    storage.sync(peer)
    storage.sync(peer)
    assert storage.was_read == []
    return values, peer, storage


def change(peer: dict[str, bytes], *, deletes: bool) -> None:
    """Have the peer change two keys."""
    peer["b"] = b"3"
    if deletes:
        del peer["a"]
    else:
        peer["a"] = b"3"


def is_kept(values: dict[str, bytes], peer: dict[str, bytes], storage: Sized, result: kvsync.SyncResult) -> None:
    """Check that `a` was left alone and reported, and that the next run decides it as a conflict and loses nothing."""
    assert [entry.key for entry in result.missing] == ["a"]
    assert "changed outside kvsync and is not logged yet" in result.missing[0].reason
    assert (values["a"], values["b"]) == (b"2", b"3")
    assert [conflict.key for conflict in storage.sync(peer).conflicts] == ["a"]
    assert plain(values) == plain(peer)
    lost = [entry.value for some in (values, peer) for entry in kvsync.lost(some)]
    assert b"2" in [*values.values(), *peer.values(), *lost]


def plain(mapping: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in mapping.items() if not key.startswith(".kvsync/")}


@pytest.mark.parametrize("deletes", [False, True])
def test_what_changes_under_a_token_that_is_too_young_is_not_overwritten(deletes: bool) -> None:
    """The scan could not see the change, so the peer's next one replaced it: no conflict, and nothing was kept."""
    values, peer, storage = made_equal()
    storage.age = YOUNG
    values["a"] = b"2"
    change(peer, deletes=deletes)
    is_kept(values, peer, storage, storage.sync(peer))


@pytest.mark.parametrize("deletes", [False, True])
def test_what_changes_after_its_scan_under_the_same_token_is_not_overwritten(deletes: bool) -> None:
    values, peer, storage = made_equal()
    values["a"] = b"11"
    storage.sync(peer)
    values["a"] = b"1"
    storage.age = YOUNG
    storage.sync(peer)  # reads it, and does not believe its token
    change(peer, deletes=deletes)
    storage.before_push = lambda: values.update({"a": b"2"})
    is_kept(values, peer, storage, storage.sync(peer))


def test_a_token_that_proves_its_value_costs_no_look() -> None:
    _, peer, storage = made_equal()
    change(peer, deletes=True)
    assert storage.sync(peer).pushed == 2
    assert storage.was_read == []


class Expiring(ExpiringStorage):
    """A storage that keeps expiry, in which somebody writes between a look and the write that it precedes."""

    between: Any = None

    def write(self, *arguments: Any, **options: Any) -> Any:
        between, self.between = self.between, None
        if between is not None:
            between()
        return super().write(*arguments, **options)


def test_a_look_takes_the_time_of_a_value_for_a_part_of_its_version() -> None:
    storage = Expiring(clock=lambda: NOW)
    due = NOW + 1000
    peer: dict[str, bytes] = {}
    kvsync.sync(peer, storage, [Put("a", b"1", due), Put("b", b"1", due)], clock=lambda: NOW)
    # The same value, which now expires at another time.
    storage.between = lambda: storage.write_expiring(["a"], [b"1"], [int(due * 1000) + 1])
    result = kvsync.sync(peer, storage, [Put("a", b"2"), Put("b", b"2")], guard="check", clock=lambda: NOW)
    assert [entry.key for entry in result.missing] == ["a"]
    assert storage.read(["a", "b"]) == [b"1", b"2"]
