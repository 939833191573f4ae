"""Names that are directories of others are written one after another: servers on file systems lose them otherwise."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from obstore.store import MemoryStore

from kvsync.storages.bucket import BucketStorage
from kvsync.storages.bucket.prefix_order import prefix_levels

if TYPE_CHECKING:
    from collections.abc import Callable

NESTED = ["a", "a/b", "a/b/c", "a/", "a//b", "/", "//", "tmp", "tmp/x", *(f"key/{number}" for number in range(40))]


MANY = 9


class Watched:
    """Notes which names are being written at once, and each pair of them of which one lies in the other.

    What lies in nothing waits until many are under way; the first that waits in vain ends that.
    """

    def __init__(self, put: Callable[..., Any]) -> None:
        self.put = put
        self.lock = threading.Lock()
        self.under_way: set[str] = set()
        self.most = 0
        self.nested: list[tuple[str, str]] = []
        self.go_on = threading.Event()

    def __call__(self, name: str, *rest: Any) -> Any:
        with self.lock:
            self.nested += [(one, name) for one in self.under_way if lies_in(one, name) or lies_in(name, one)]
            self.under_way.add(name)
            self.most = max(self.most, len(self.under_way))
            if self.most >= MANY:
                self.go_on.set()
        try:
            if name.startswith("key/") and not self.go_on.wait(10):
                self.go_on.set()
            time.sleep(0.002)
            return self.put(name, *rest)
        finally:
            with self.lock:
                self.under_way.discard(name)


def lies_in(one: str, other: str) -> bool:
    return one.startswith(f"{other}/")


@pytest.mark.parametrize("conditional", [False, True])
def test_no_name_is_written_while_one_below_it_is(monkeypatch: pytest.MonkeyPatch, *, conditional: bool) -> None:
    storage = BucketStorage(MemoryStore())
    method = "put_if" if conditional else "put"
    watched = Watched(getattr(storage._bucket, method))
    monkeypatch.setattr(storage._bucket, method, watched)
    values = [key.encode() for key in NESTED]
    written = storage.write(NESTED, values, [None] * len(NESTED) if conditional else None)
    assert not written.refused
    assert storage.read(NESTED) == values
    assert watched.nested == []
    assert watched.most >= MANY  # the others are still written at once
    tokens = dict(zip(NESTED, written.tokens or (), strict=True))
    listed = {key: token for keys, found in storage.scan() for key, token in zip(keys, found, strict=True)}
    assert listed == tokens


def test_tiers_hold_every_position_once() -> None:
    assert prefix_levels([]) == []
    assert prefix_levels(["a", "b", "a"]) == [[0, 1, 2]]
    found = prefix_levels(NESTED)
    assert sorted(position for tier in found for position in tier) == list(range(len(NESTED)))
    for tier in found:
        assert not any(lies_in(NESTED[i], NESTED[j]) for i in tier for j in tier)
