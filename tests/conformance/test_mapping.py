"""Mappings, plain and not, against the suite for storages."""

from __future__ import annotations

from collections import UserDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from shortened import shortened

from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.counted import CountedStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage, ExpiringStorage, Fault, FaultyStorage, LatencyStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage


DICT = Capabilities(
    Tier.TRANSACTIONAL, distance="memory", supports=frozenset({Support.IDENTITY, Support.SKIPPED, Support.RANGES})
)
EXPIRING = Capabilities(Tier.CONDITIONAL, distance="memory", supports=frozenset({Support.EXPIRY, Support.IDENTITY}))


class TestDict(StorageConformance):
    expects = DICT

    @pytest.fixture
    def data(self) -> dict[Any, Any]:
        return {}

    @pytest.fixture
    def reopen(self, data: dict[Any, Any]) -> Callable[[], Storage]:
        return lambda: MappingStorage(data)

    @pytest.fixture
    def spoil(self, data: dict[Any, Any]) -> Callable[[str], None]:
        return lambda key: data.update({key: "text"})

    @pytest.fixture
    def misname(self, data: dict[Any, Any]) -> Callable[[], None]:
        return lambda: data.update({1: b"1"})


class Hindered(UserDict[str, bytes]):
    """A mapping that does not do with some keys as told."""

    hindered = ""
    how = "ignores"

    def __setitem__(self, key: str, value: bytes) -> None:
        if key == self.hindered and self.how == "refuses":
            raise ValueError(key)
        if key != self.hindered:
            super().__setitem__(key, value)
        elif self.how == "rewrites":
            super().__setitem__(key, value + b" or so")

    def __delitem__(self, key: str) -> None:
        if key != self.hindered:
            super().__delitem__(key)
        elif self.how == "refuses":
            raise ValueError(key)


class TestOtherMapping(StorageConformance):
    expects = replace(DICT, tier=Tier.CONDITIONAL, supports=frozenset({Support.IDENTITY, Support.SKIPPED}))

    @pytest.fixture
    def data(self) -> Hindered:
        return Hindered()

    @pytest.fixture
    def reopen(self, data: Hindered) -> Callable[[], Storage]:
        return lambda: MappingStorage(data)

    @pytest.fixture(params=["ignores", "refuses", "rewrites"])
    def hinder(self, data: Hindered, request: pytest.FixtureRequest) -> Callable[[str], None]:
        def hinder(key: str) -> None:
            data.hindered, data.how = key, request.param

        return hinder

    @pytest.fixture
    def spoil(self, data: Hindered) -> Callable[[str], None]:
        return lambda key: data.data.update({key: "text"})  # type: ignore[dict-item]


@shortened
class TestWrapped(StorageConformance):
    expects = DICT

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        data: dict[str, bytes] = {}

        def wrapped() -> Storage:
            slow = LatencyStorage(MappingStorage(data), seconds=0)
            return CountingStorage(FaultyStorage(slow, Fault()))

        return wrapped


class TestExpiring(StorageConformance):
    expects = EXPIRING

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        values: dict[str, tuple[bytes, int]] = {}
        objects: dict[str, bytes] = {}
        return lambda: ExpiringStorage(values, objects)


@shortened
class TestExpiringWrapped(StorageConformance):
    expects = EXPIRING

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        values: dict[str, tuple[bytes, int]] = {}
        objects: dict[str, bytes] = {}

        def wrapped() -> Storage:
            slow = LatencyStorage(ExpiringStorage(values, objects), seconds=0)
            return CountedStorage(CountingStorage(FaultyStorage(slow, Fault())))

        return wrapped
