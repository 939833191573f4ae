"""Budgets, and what a scan takes for a change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.native import digest_values
from kvsync.replica.log import Log
from kvsync.replica.segments import changes_of
from kvsync.scan import Budget, Scan, scan, stamped
from kvsync.storages import open_storage
from kvsync.storages.contract import Support
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage
from kvsync.types import Skipped, Unreadable

if TYPE_CHECKING:
    from pathlib import Path

    from kvsync.storages.contract import Pages

WIDE = Budget.parse("100%")


@pytest.mark.parametrize(
    ("text", "touched", "known", "allowed"),
    [
        (None, 50, 100, True),
        (None, 51, 100, False),
        ("50%", 50, 100, True),
        ("50%", 51, 100, False),
        (" 60 % ", 6, 10, True),
        ("0%", 0, 10, True),
        ("0%", 1, 10, False),
        ("100%", 10, 10, True),
        ("33.5%", 67, 200, True),
        ("33.5%", 68, 200, False),
        (5, 5, 10_000, True),
        ("5", 6, 10_000, False),
        (0, 0, 0, True),
        (0, 1, 10, False),
        ("1000000", 999_999, 10, True),
    ],
)
def test_what_a_budget_allows(text: Any, touched: int, known: int, allowed: bool) -> None:
    assert Budget.parse(text).allows(touched, known) is allowed


@pytest.mark.parametrize(
    "text", ["", "%", "x", "x%", "-1", -1, "-1%", "101%", "nan%", "inf%", 0.5, True, [], b"5", "5 %%"]
)
def test_what_is_no_budget(text: Any) -> None:
    with pytest.raises(ValueError):
        Budget.parse(text)


@pytest.mark.parametrize(("text", "everything"), [(None, False), ("99%", False), ("100%", True), (10**9, False)])
def test_only_a_whole_part_means_everything(text: Any, everything: bool) -> None:
    assert Budget.parse(text).everything is everything


def looked_through(storage: Any, environment: Environment) -> Scan:
    log = Log.read(storage, environment)
    seen = scan(log, log.manifest.replica, WIDE, lambda: None)
    assert seen.found is not None
    (local,) = stamped([seen.found], environment.now_ms())
    return seen.stamped(local)


def looked(storage: Any) -> dict[str, str]:
    """Return what a scan finds, as {key: "put" or "delete"}."""
    found = looked_through(storage, Environment())
    return {change.key: "delete" if change.deletes else "put" for change in changes_of(found.local)}


@pytest.fixture
def values() -> dict[str, bytes]:
    values = {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}
    kvsync.commit(values, scan=True)
    return values


def test_a_scan_finds_what_changed(values: dict[str, bytes]) -> None:
    assert looked(MappingStorage(values)) == {}
    values["a"] = b"changed"
    values["new"] = b""
    del values["b"]
    values["c"] = b"3"
    assert looked(MappingStorage(values)) == {"a": "put", "new": "put", "b": "delete"}


def test_a_scan_after_runs_without_one_goes_by_the_log(values: dict[str, bytes]) -> None:
    kvsync.sync(values, {}, [Put("a", b"given"), kvsync.Delete("b"), Put("new", b"1")])
    assert looked(MappingStorage(values)) == {}
    values["new"] = b"2"
    assert looked(MappingStorage(values)) == {"new": "put"}


class Torn(MappingStorage):
    """A storage whose listing leaves out one key, and which cannot read another."""

    def scan(self) -> Any:
        for keys, _ in super().scan():
            kept = [i for i, key in enumerate(keys) if key != "a"]
            yield [keys[i] for i in kept], [b"another token" for _ in kept]

    def read(self, keys: Any) -> Any:
        found = super().read(keys)
        return [Unreadable("torn") if key == "b" else value for key, value in zip(keys, found, strict=True)]


def test_a_listing_alone_proves_no_delete(values: dict[str, bytes]) -> None:
    assert looked(Torn(values)) == {}


class Replaced(MappingStorage):
    """A storage in which something that is no value took the place of `a`, and `b` cannot be read."""

    def scan(self) -> Any:
        for keys, tokens in super().scan():
            listed = [
                (key, b"" if key == "b" else token) for key, token in zip(keys, tokens, strict=True) if key != "a"
            ]
            yield [key for key, _ in listed], [token for _, token in listed]

    def read(self, keys: Any) -> Any:
        why = {"a": Unreadable("it is a link"), "b": Unreadable("it may not be read")}
        return [why.get(key, value) for key, value in zip(keys, super().read(keys), strict=True)]


def test_what_is_no_value_or_cannot_be_read_is_reported_and_is_no_change(values: dict[str, bytes]) -> None:
    peer: dict[str, bytes] = {}
    kvsync.sync(values, peer, scan=True)
    values["c"] = b"changed"
    for _ in range(2):
        result = kvsync.sync(Replaced(values), peer, scan=True)
        assert result.unreadable == [
            ("b", "source", "it may not be read"),
            ("a", "source", "it is a link"),
        ]
        assert {key: value for key, value in peer.items() if not key.startswith(".kvsync")} == {
            "a": b"1",
            "b": b"2",
            "c": b"changed",
            "d": b"4",
        }
    assert str(result).endswith("2 unreadable")
    assert kvsync.plan(Replaced(values), peer, scan=True).empty
    assert kvsync.sync(values, peer, scan=True).unreadable == []


def test_what_cannot_be_read_is_not_overwritten(values: dict[str, bytes]) -> None:
    peer: dict[str, bytes] = {}
    kvsync.sync(values, peer, scan=True)
    values["a"], values["b"] = b"not a value", b"cannot be read"
    peer["a"], peer["b"] = b"newer", b"newer"
    result = kvsync.sync(Replaced(values), peer, scan=True)
    assert [entry.key for entry in result.missing] == ["a", "b"]
    assert (values["a"], values["b"]) == (b"not a value", b"cannot be read")
    assert (peer["a"], peer["b"]) == (b"newer", b"newer")


def test_names_that_cannot_be_keys_are_reported_and_links_are_not(values: dict[str, bytes]) -> None:
    class Odd(MappingStorage):
        capabilities = replace(
            MappingStorage.capabilities, supports=MappingStorage.capabilities.supports | {Support.SKIPPED}
        )
        skipped = (Skipped("link", "it is a link"), Skipped("b'\\xff'", "it is not UTF-8", harmless=False))

    result = kvsync.sync(Odd(values), {}, scan=True)
    assert result.unreadable == [("b'\\xff'", "source", "it is not UTF-8")]
    assert result.pushed == 4


def test_a_scan_orders_by_stamp_and_never_uses_one_twice(values: dict[str, bytes]) -> None:
    for i in range(100):
        values[f"new {i}"] = b""
    now = 1_600_000_000.0
    found = looked_through(MappingStorage(values), Environment(clock=lambda: now))
    stamps = sorted(change.stamp for change in changes_of(found.local))
    assert len(set(stamps)) == len(stamps) == 100
    assert stamps[0] > kvsync.log(values)[-1].stamp


def test_the_storages_own_time_is_taken_when_it_has_one() -> None:
    """The later of two writes wins, whichever was scanned first; a time in the future is not believed."""
    now = 1_700_000_000.0

    class Dated(MappingStorage):
        def modified_ms(self, keys: Any) -> Any:
            return [{"late": 1_690_000_000_000, "early": 1_680_000_000_000}.get(key, 2**47) for key in keys]

    storage = Dated({"early": b"1", "late": b"2", "future": b"3"})
    found = looked_through(storage, Environment(clock=lambda: now))
    seconds = {change.key: change.seconds for change in changes_of(found.local)}
    assert seconds == {"early": 1_680_000_000, "late": 1_690_000_000, "future": now}


def test_a_first_contact_reads_each_value_once(tmp_path: Path) -> None:
    """The listing has read them all, and so knows their digests and sizes."""
    values = {f"k{number:04d}": b"%d" % number for number in range(300)}
    storages = {name: open_storage(f"sqlite:///{tmp_path}/{name}.db")[0] for name in ("one", "other")}
    for storage in storages.values():
        storage.write(list(values), list(values.values()))
    storages["one"].write(["new"], [b"here alone"])
    for source, target in (storages.values(), (dict(values), dict(values) | {"new": b"there alone"})):
        one, other = (MappingStorage(side) if isinstance(side, dict) else side for side in (source, target))
        counted = CountingStorage(one), CountingStorage(other)
        result = kvsync.sync(*counted, scan=True)
        assert result.pushed + result.pulled == 1
        # What moves is read by the run, once.
        assert sum(side.keys["read"] for side in counted) == 1
        for side in (one, other):
            logged = {change.key: change.size for change in kvsync.log(side) if change.key != "new"}
            assert logged == {key: len(value) for key, value in values.items()}
    for storage in storages.values():
        storage.close()


class Pairs(MappingStorage):
    """A storage whose listing tells keys and tokens alone."""

    def scan(self) -> Pages:
        for keys, tokens in super().scan():
            yield list(keys), list(tokens)


def test_what_a_listing_has_not_read_is_read_by_the_scan() -> None:
    values = {f"k{number:04d}": b"%d" % number for number in range(300)}
    storage = CountingStorage(Pairs(dict(values)))
    kvsync.commit(storage, scan=True)
    assert storage.keys["read"] == 300
    assert {(change.key, change.size) for change in kvsync.log(storage)} == {(k, len(v)) for k, v in values.items()}


class Restless(MappingStorage):
    """A storage one of whose values changes whenever a page with it was listed."""

    def scan(self) -> Pages:
        for page in super().scan():
            yield page
            if (value := self.mapping.get("k")) is not None:
                self.mapping["k"] = value + b"+"


@pytest.mark.parametrize("kind", [Restless, type("RestlessPairs", (Restless, Pairs), {})])
def test_a_value_that_changes_after_it_was_listed(kind: Any) -> None:
    """Digest, size and token are those of one and the same read, and the next scan finds what came after it."""
    storage = kind({"k": b"1"})
    found = looked_through(storage, Environment())
    ((_, _, _, _, size, digest, _),) = found.local.rows(0, 1)
    (value,) = (value for value in (b"1", b"1+") if len(value) == size)
    assert digest_values([value]) == [digest] == found.current.tokens(["k"]) == found.current.digests(["k"])
    for _ in range(3):
        kvsync.commit(storage, scan=True)
    kvsync.commit(MappingStorage(storage.mapping), scan=True)
    assert [kvsync.log(storage)[-1].digest] == digest_values([storage.mapping["k"]])
