"""Transactions: values and index objects are committed as one, or undone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kvsync.testing.conformance.tools import Interrupted, listing, refuses, transactional, write
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["TransactionTests"]


class TransactionTests:
    """What kvsync takes for granted of transactions, where there are any."""

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

    def test_a_mismatch_within_a_transaction_spoils_nothing(self, storage: Storage) -> None:
        with transactional(storage).transaction():
            write(storage, {"a": b"1"})
            storage.store("manifest", b"1", ABSENT)
            refuses(storage, b"x", ABSENT)
        assert storage.read(["a"]) == [b"1"]
