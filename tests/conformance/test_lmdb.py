"""LMDB against the suite for storages: a database of our own, a named one, and the unnamed one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lmdb
import pytest

from kvsync.storages.lmdb import LmdbStorage, open_url
from kvsync.testing import CountingStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kvsync.storages.contract import Storage


class TestLmdb(StorageConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: LmdbStorage(tmp_path / "kv")


class TestUnnamedDatabase(StorageConformance):
    """An environment in one file, the values in its unnamed database, beside the index's name."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        path = tmp_path / "app.mdb"
        lmdb.open(str(path), subdir=False).close()
        return lambda: open_url(f"lmdb:///{path}?db=&map_size=1G")


class TestHandedOver(StorageConformance):
    """An environment that its owner has opened."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[], Storage]]:
        environment = lmdb.open(str(tmp_path), max_dbs=8, map_size=1 << 30)
        yield lambda: LmdbStorage(environment, database="notes")
        environment.close()


class TestWrappedLmdb(StorageConformance):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: CountingStorage(LmdbStorage(tmp_path / "kv"))


class TestWithoutFileLocks(StorageConformance):
    """A system that has no `flock`: the lease lies with the other objects."""

    @pytest.fixture
    def reopen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Storage]:
        for module in ("environment", "lease"):
            monkeypatch.setattr(f"kvsync.storages.lmdb.{module}.fcntl", None)
        return lambda: LmdbStorage(tmp_path / "kv")
