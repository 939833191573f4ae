"""A value that changes between the moment a scan lists it and the moment it is read, and then changes back."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from places import KINDS, SERVER_KINDS, Hooked, make

import kvsync

if TYPE_CHECKING:
    from pathlib import Path


class Listed(Hooked):
    """Calls `then` once, between a scan's listing and its first read."""

    def __init__(self, target: Any, then: Any) -> None:
        super().__init__(target)
        self.then = then

    def scan(self, splits: Any = ()) -> Any:
        yield from super().scan(splits)
        then, self.then = self.then, lambda: None
        then()


@pytest.mark.parametrize("kind", [*KINDS, *SERVER_KINDS])
def test_a_value_that_went_back_after_it_was_listed_is_seen(kind: str, folder: Path) -> None:
    """The listed token was kept with the digest of what was read: once the value had the listed token again, no scan
    looked at it any more, and the two storages differed for good."""
    place = make(kind, folder, "place")
    for key in ("flag", "x", "y", "z"):
        place.put(key, b"before")
    peer: dict[str, bytes] = {}
    for _ in range(2):
        kvsync.sync(place.target, peer, scan=True)
    place.put("flag", b"off")
    if kind in {"s3", "nats", "folder"}:
        time.sleep(1.1)
    with closing(Listed(place.target, lambda: place.put("flag", b"on"))) as listed:
        kvsync.sync(listed, peer, scan=True)
    place.put("flag", b"off")
    if kind in {"s3", "nats", "folder"}:
        time.sleep(1.1)
    kvsync.sync(place.target, peer, scan=True)
    assert place.values()["flag"] == peer["flag"] == b"off"
    assert kvsync.verify(place.target, peer).equal
