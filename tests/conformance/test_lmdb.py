"""LMDB against the suite for storages: a database of our own, a named one, and the unnamed one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import lmdb
import pytest
from shortened import shortened

from kvsync.storages.contract import Capabilities, Support, Tier
from kvsync.storages.lmdb import LmdbStorage, open_url
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.TRANSACTIONAL,
    distance="mapped",
    lease_stays=True,
    supports=frozenset(
        {Support.TRANSACTION, Support.IDENTITY, Support.FILES, Support.SIZES, Support.SKIPPED, Support.DRY_PROBE}
    ),
)


class TestLmdb(StorageConformance):
    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        return partial(LmdbStorage, in_memory / "kv")


class TestUnnamedDatabase(StorageConformance):
    """An environment in one file, the values in its unnamed database, beside the index's name."""

    expects = EXPECTED
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        path = in_memory / "app.mdb"
        lmdb.open(str(path), subdir=False).close()
        return partial(open_url, f"lmdb:///{path}?db=&map_size=1G")


@shortened
class TestHandedOver(StorageConformance):
    """An environment that its owner has opened."""

    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def environment(self, in_memory: Path) -> Iterator[lmdb.Environment]:
        with lmdb.open(str(in_memory), max_dbs=8, map_size=1 << 30) as environment:
            yield environment

    @pytest.fixture
    def reopen(self, environment: lmdb.Environment) -> Callable[[], Storage]:
        return lambda: LmdbStorage(environment, database="notes")

    @pytest.fixture
    def misname(self, environment: lmdb.Environment) -> Callable[[], None]:
        def put() -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(b"\xff", b"1", db=environment.open_db(b"notes", txn=transaction))

        return put


@shortened
class TestWrappedLmdb(StorageConformance):
    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path) -> Callable[[], Storage]:
        return lambda: CountingStorage(LmdbStorage(in_memory / "kv"))


class TestWithoutFileLocks(StorageConformance):
    """A system that has no `flock`: the lease lies with the other objects."""

    expects = EXPECTED
    processes = False
    unique_versions = True

    @pytest.fixture
    def reopen(self, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Storage]:
        for module in ("environment", "lease"):
            monkeypatch.setattr(f"kvsync.storages.lmdb.{module}.fcntl", None)
        return partial(LmdbStorage, in_memory / "kv")
