"""What a storage supports is what it declares: the names of its attributes say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Put
from kvsync.errors import StorageError, UsageError
from kvsync.storages import Support, open_storage
from kvsync.storages.contract import (
    Capabilities,
    Tier,
    has_copy,
    has_dry_probe,
    has_expiry,
    has_files,
    has_host,
    has_identity,
    has_nesting,
    has_ranges,
    has_sizes,
    has_skipped,
    has_splits,
    has_streaming,
    has_tokens,
    has_transaction,
)
from kvsync.storages.hints import has_hints
from kvsync.storages.journal import has_journal
from kvsync.storages.limits import has_limits
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.metadata import has_metadata
from kvsync.storages.wrapper import WrappedStorage, innermost
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages import Storage
    from kvsync.storages.contract import Pages
    from kvsync.types import Expectation, Stored, Unreadable, Version, Written

CHECKS: dict[Support, Callable[[Storage], bool]] = {
    Support.TRANSACTION: has_transaction,
    Support.EXPIRY: has_expiry,
    Support.TOKENS: has_tokens,
    Support.SIZES: has_sizes,
    Support.STREAMING: has_streaming,
    Support.COPY: has_copy,
    Support.METADATA: has_metadata,
    Support.IDENTITY: has_identity,
    Support.NESTING: has_nesting,
    Support.FILES: has_files,
    Support.HOST: has_host,
    Support.SKIPPED: has_skipped,
    Support.DRY_PROBE: has_dry_probe,
    Support.LIMITS: has_limits,
    Support.SPLITS: has_splits,
    Support.HINTS: has_hints,
    Support.RANGES: has_ranges,
    Support.JOURNAL: has_journal,
}


class RemoteStorage:
    """An adapter as somebody may write it: its own attributes have names that the optional protocols have, too."""

    capabilities = Capabilities(Tier.CONDITIONAL, distance="network", conditions="claimed", lease_stays=True)

    def __init__(self, port: int, *, ignores_conditions: bool = False) -> None:
        self.name = f"remote://localhost:{port}"
        self.host = "localhost"
        self.port = port
        self.identity = "the service account that logs in"
        self.path = "/v1/kv"
        self.origin = "https://localhost"
        self.skipped = True
        self.transaction = None
        self.sizes = {"connections": 4}
        self.copy = False
        self.expiries = 0
        self.dry_probe = False
        self.unmade = True
        self.contains = ["a volume"]
        self.files = 3
        self.limits = {"requests": 10}
        self.inner = MappingStorage({})
        self.ignores_conditions = ignores_conditions
        self.stored: list[str] = []

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        return self.inner.read(keys)

    def write(self, keys: Sequence[str], values: Sequence[bytes], expect: Any = None) -> Written:
        return self.inner.write(keys, values, expect)

    def delete(self, keys: Sequence[str], expect: Any = None) -> Written:
        return self.inner.delete(keys, expect)

    def scan(self) -> Pages:
        return self.inner.scan()

    def load(self, name: str) -> Stored | None:
        return self.inner.load(name)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        self.stored.append(name)
        return self.inner.store(name, data, ANY if self.ignores_conditions else expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        self.inner.remove(names, expect)

    def objects(self) -> list[str]:
        return self.inner.objects()

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return self.inner.modified_ms(keys)

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("wrap", [lambda storage: storage, WrappedStorage], ids=["itself", "wrapped"])
def test_ordinary_attributes_declare_nothing(wrap: Callable[[Storage], Storage]) -> None:
    storage = wrap(RemoteStorage(7000))
    assert [support for support, check in CHECKS.items() if check(storage)] == []


@pytest.mark.parametrize("wrap", [lambda storage: storage, WrappedStorage], ids=["itself", "wrapped"])
@pytest.mark.parametrize("support", Support)
def test_what_is_declared_counts(support: Support, wrap: Callable[[Storage], Storage]) -> None:
    storage = RemoteStorage(7000)
    storage.capabilities = replace(storage.capabilities, supports=frozenset({support}))
    assert [name for name, check in CHECKS.items() if check(wrap(storage))] == [support]


def test_every_optional_protocol_has_a_check() -> None:
    assert set(CHECKS) == set(Support)


def test_a_run_uses_nothing_that_is_not_declared() -> None:
    """It would fail at a transaction that is None, sizes that are a dict, and two sides of one identity."""
    source, target = RemoteStorage(7000), RemoteStorage(7001)
    changes = [Put("small", b"1"), Put("large", b"2" * (9 << 20))]
    assert kvsync.sync(source, target, changes=changes).pushed == 2
    assert target.read(["small", "large"]) == [b"1", b"2" * (9 << 20)]
    assert kvsync.doctor(target).healthy


def test_a_second_server_that_ignores_conditions_is_refused() -> None:
    """A `host` attribute counted as declared: the second server on localhost was accepted without a probe."""
    for _ in range(2):
        sound = RemoteStorage(7000)
        kvsync.commit(sound, [Put("k", b"v")])
        assert sound.stored.count("lease") == 4
        careless = RemoteStorage(7001, ignores_conditions=True)
        with pytest.raises(StorageError, match="ignores conditional writes"):
            kvsync.commit(careless, [Put("k", b"v")])
        assert careless.read(["k"]) == [None]


def test_only_wrappers_are_looked_into() -> None:
    """An `inner` of another class is its own business."""
    storage = RemoteStorage(7000)
    assert innermost(storage) is storage
    assert innermost(WrappedStorage(WrappedStorage(storage))) is storage


def test_a_storage_is_known_by_its_capabilities() -> None:
    storage = RemoteStorage(7000)
    assert open_storage(storage) == (storage, False)

    class Undeclared(RemoteStorage):
        capabilities = None  # type: ignore[assignment]

    for target in (Undeclared(7000), RemoteStorage):
        with pytest.raises(UsageError, match="a storage is a URL"):
            open_storage(target)  # type: ignore[arg-type]
