"""Transactions: values and index objects are committed atomically, or undone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from kvsync.testing.conformance.hard import SIZES, brief, value_of
from kvsync.testing.conformance.tools import Interrupted, listing, refuses, transactional, write
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["TransactionTests"]


class TransactionTests:
    """`SupportsTransaction`: everything inside is committed on leaving, or undone on an exception."""

    def test_a_transaction_commits_as_one(self, storage: Storage, another: Storage) -> None:
        with transactional(storage).transaction():
            write(storage, {"a": b"1", "b": b"2"})
            storage.store("manifest", b"M", ABSENT)
            storage.delete(["b"])
            assert storage.read(["a", "b"]) == [b"1", None]
            assert another.read(["a"]) == [None]
        assert another.read(["a", "b"]) == [b"1", None]
        assert another.objects() == ["manifest"]

    def test_a_transaction_undoes_everything(self, storage: Storage) -> None:
        write(storage, {"a": b"0"})
        tokens = listing(storage)
        version = storage.store("manifest", b"0", ABSENT)
        with contextlib.suppress(Interrupted), transactional(storage).transaction():
            write(storage, {"a": b"1", "b": b"1"})
            storage.store("manifest", b"1", version)
            storage.store("lease", b"1", ABSENT)
            raise Interrupted
        assert listing(storage) == tokens
        assert storage.load("manifest") == (b"0", version)
        assert storage.objects() == ["manifest"]
        write(storage, {"b": b"2"})
        assert storage.read(["a", "b"]) == [b"0", b"2"]

    @pytest.mark.parametrize("size", SIZES)
    def test_a_transaction_undoes_values_of_any_size(self, storage: Storage, another: Storage, size: int) -> None:
        before, inside = value_of(size, 1), value_of(size, 2)
        write(storage, {"replaced": before, "deleted": before, "small": b"0"})
        tokens = listing(storage)
        with contextlib.suppress(Interrupted), transactional(storage).transaction():
            write(storage, {"replaced": inside, "created": inside, "small": inside})
            assert storage.delete(["deleted"]).refused == ()
            assert brief(storage.read(["replaced", "created", "deleted"])) == brief([inside, inside, None])
            raise Interrupted
        for handle in (storage, another):
            assert listing(handle) == tokens
            read = handle.read(["replaced", "created", "deleted", "small"])
            assert brief(read) == brief([before, None, before, b"0"])

    @pytest.mark.parametrize("size", SIZES)
    def test_a_transaction_undoes_objects_of_any_size(self, storage: Storage, another: Storage, size: int) -> None:
        before, inside = value_of(size, 1), value_of(size, 2)
        versions = {name: storage.store(name, before, ABSENT) for name in ("manifest", "segment/1-1")}
        with contextlib.suppress(Interrupted), transactional(storage).transaction():
            storage.store("manifest", inside, versions["manifest"])
            storage.store("lost/1-1", inside, ABSENT)
            storage.remove(["segment/1-1"], ANY)
            assert storage.objects() == ["lost/1-1", "manifest"]
            raise Interrupted
        for handle in (storage, another):
            assert handle.objects() == ["manifest", "segment/1-1"]
            for name, version in versions.items():
                stored = handle.load(name)
                assert stored is not None
                assert brief([stored.data, stored.version]) == brief([before, version])
        storage.store("manifest", inside, versions["manifest"])

    def test_a_first_transaction_undone_leaves_a_storage_that_works(self, storage: Storage) -> None:
        with contextlib.suppress(Interrupted), transactional(storage).transaction():
            write(storage, {"a": b"1"})
            storage.store("manifest", b"1", ABSENT)
            raise Interrupted
        assert storage.read(["a"]) == [None]
        assert storage.objects() == []
        write(storage, {"a": b"2"})
        storage.store("manifest", b"2", ABSENT)
        assert storage.read(["a"]) == [b"2"]

    def test_a_mismatch_within_a_transaction_does_not_end_it(self, storage: Storage) -> None:
        with transactional(storage).transaction():
            write(storage, {"a": b"1"})
            storage.store("manifest", b"1", ABSENT)
            refuses(storage, b"x", ABSENT)
        assert storage.read(["a"]) == [b"1"]
