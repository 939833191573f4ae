"""Mappings, plain and not, against the suite for storages."""

from __future__ import annotations

from collections import UserDict
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.counted import CountedStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import CountingStorage, ExpiringStorage, Fault, FaultyStorage, LatencyStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage


DICT = Capabilities(Tier.TRANSACTIONAL, distance="memory", supports=frozenset({Support.IDENTITY, Support.SKIPPED}))
EXPIRING = Capabilities(Tier.CONDITIONAL, distance="memory", supports=frozenset({Support.EXPIRY, Support.IDENTITY}))


class TestDict(StorageConformance):
    expects = DICT

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        data: dict[str, bytes] = {}
        return lambda: MappingStorage(data)


class TestOtherMapping(StorageConformance):
    expects = replace(DICT, tier=Tier.CONDITIONAL)

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        data: UserDict[str, bytes] = UserDict()
        return lambda: MappingStorage(data)


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
