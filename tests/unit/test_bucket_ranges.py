"""A listing in ranges shows what a single one does, whatever comes and goes meanwhile, and in whatever order."""

from __future__ import annotations

import random
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import pytest
from obstore.store import MemoryStore

from kvsync.storages.bucket import BucketStorage
from kvsync.storages.bucket.name import are_keys, decode
from kvsync.storages.bucket.ranges import DisorderError, Page, Ranges
from kvsync.storages.contract import has_splits
from kvsync.testing.conformance import HARD_KEYS, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PAGE = 4
SEEDS = 200


def by_bytes(name: str) -> Any:
    return name.encode()


def by_directory(name: str) -> Any:
    """Sort a directory before what only begins with its name, as servers do that walk through a file system."""
    return name.split("/")


class Server:
    """Names in some order, listed in pages from any name on; some come and go between the pages."""

    def __init__(self, names: set[str], order: Callable[[str], Any], comings: Sequence[str] = ()) -> None:
        self.names = names
        self.order = order
        self.comings = iter(comings)
        self.requests = 0

    def pages(self, after: str | None) -> Iterator[Page]:
        names = ["x"]
        while names:
            self.requests += 1
            there = sorted(self.names, key=self.order)
            start = bisect_right(there, self.order(after), key=self.order) if after is not None else 0
            names = there[start : start + PAGE]
            self.names ^= {next(self.comings, "never/there")} - {"never/there"}
            if names:
                after = names[-1]
                yield Page(names, [None] * len(names), [1] * len(names))

    def listed(self, splits: Sequence[str]) -> list[str]:
        found = Page.of(Ranges(self.pages, sorted(set(splits))).listed())
        assert found.ascends()
        return found.names


def names_of(chance: random.Random, count: int) -> set[str]:
    parts = ["".join(chance.choices("ab-", k=chance.randint(1, 2))) for _ in range(count * 3)]
    return {"/".join(chance.sample(parts, chance.randint(1, 3))) for _ in range(count)}


def test_what_stays_is_listed_once_and_nothing_else() -> None:
    for seed in range(SEEDS):
        chance = random.Random(seed)
        first = names_of(chance, chance.choice([0, 3, 40]))
        comings = sorted(names_of(chance, chance.choice([0, 10])))
        splits = sorted(names_of(chance, 3)) + chance.sample(sorted(first), min(len(first), 3))
        found = Server(set(first), by_bytes, comings).listed(splits)
        assert len(found) == len(set(found)), seed
        assert first - set(comings) <= set(found) <= first | set(comings), seed


def test_another_order_is_complete_or_found_out() -> None:
    complete = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        names = names_of(chance, chance.choice([3, 10, 30]))
        splits = names_of(chance, 5)
        try:
            found = Server(names, by_directory).listed(sorted(splits))
        except DisorderError:
            assert sorted(names | splits, key=by_directory) != sorted(names | splits), seed
        else:
            assert set(found) == names, seed
            complete += 1
    assert 0 < complete < SEEDS


def test_a_server_that_lists_from_the_beginning_is_found_out() -> None:
    server = Server({f"{number:02}" for number in range(20)}, by_bytes)
    with pytest.raises(DisorderError):
        Ranges(lambda _: server.pages(None), ["05", "10"]).listed()


def test_each_range_makes_its_share_of_the_requests() -> None:
    names = [f"{number:03}" for number in range(100)]
    server = Server(set(names), by_bytes)
    assert server.listed(names[24::25]) == names
    # Each range goes on to the first name of the next one; the last one to an empty page.
    assert server.requests <= 4 * 8
    gone = Server(set(names) - {"024", "025"}, by_bytes)
    assert len(gone.listed(names[24::25])) == 98
    assert gone.requests <= 4 * 8


def test_a_failed_request_ends_all_ranges() -> None:
    server = Server({f"{number:03}" for number in range(100)}, by_bytes)

    def fails(after: str | None) -> Iterator[Page]:
        yield from server.pages(after)
        if after == "050":
            message = "no answer"
            raise OSError(message)

    with pytest.raises(OSError, match="no answer"):
        Ranges(fails, ["025", "050"]).listed()


def test_names_that_are_clearly_keys_are_so() -> None:
    for name in [*HARD_KEYS, "a/.kvsync/b", ".kvsync/manifest", ".kvsync2", "a/b"]:
        for dots in (True, False):
            if are_keys([name], dots=dots):
                assert decode(name, dots=dots) == name
                assert ".kvsync" not in name
    assert are_keys(["a", "a/b", "a b", "é", "a.b", ".hidden", "..."])


class Failing:
    """A store that answers listings from a name on as some servers do: with an error, or from the beginning."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, how: Callable[..., Any]) -> None:
        self.offsets: list[str | None] = []
        true = MemoryStore.list

        def answer(store: MemoryStore, prefix: str | None, *, offset: str | None, chunk_size: int) -> Any:
            self.offsets.append(offset)
            return true(store, prefix, chunk_size=chunk_size) if offset is None else how(store, prefix, offset)

        monkeypatch.setattr(MemoryStore, "list", answer)


def refused(*_: object) -> Any:
    message = "Generic S3 error: SignatureDoesNotMatch"
    raise OSError(message)


def answered_from_the_beginning(store: MemoryStore, prefix: str | None, _: str) -> Any:
    return MemoryStore.list(store, prefix, offset=None, chunk_size=9)


@pytest.mark.parametrize("how", [refused, answered_from_the_beginning])
def test_a_bucket_that_has_no_ranges_is_listed_by_one_request_after_another(
    monkeypatch: pytest.MonkeyPatch, how: Callable[..., Any]
) -> None:
    storage = BucketStorage(MemoryStore(), "some/prefix")
    keys = [f"{number:02}" for number in range(20)]
    storage.write(keys, [b"1"] * len(keys))
    failing = Failing(monkeypatch, how)
    assert list(listing(storage, ["05", "10"])) == keys
    assert "some/prefix/05" in failing.offsets
    failing.offsets.clear()
    assert list(listing(storage, ["05", "10"])) == keys
    assert set(failing.offsets) == {None}


def test_one_request_at_a_time_means_a_single_listing() -> None:
    assert not has_splits(BucketStorage(MemoryStore(), concurrency=1))
    assert has_splits(BucketStorage(MemoryStore(), concurrency=2))
