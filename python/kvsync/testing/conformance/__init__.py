"""The suite that every storage has to pass; needs pytest.

```python
import pytest
from kvsync.testing.conformance import StorageConformance

class TestMyStorage(StorageConformance):
    @pytest.fixture
    def reopen(self, tmp_path):
        # Each call gives another handle of the same storage, which is empty at first.
        return lambda: MyStorage(tmp_path / "data")
```

Or give a fixture `storage` alone; then the tests that need a second handle are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvsync.testing.conformance.expiry import ExpiryTests
from kvsync.testing.conformance.hard import HARD_KEYS, HARD_VALUES
from kvsync.testing.conformance.objects import ObjectTests
from kvsync.testing.conformance.parts import PartTests
from kvsync.testing.conformance.tools import listing
from kvsync.testing.conformance.transactions import TransactionTests
from kvsync.testing.conformance.values import ValueTests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages.contract import Storage

__all__ = ["HARD_KEYS", "HARD_VALUES", "StorageConformance", "listing"]


class StorageConformance(ValueTests, ObjectTests, TransactionTests, PartTests, ExpiryTests):
    """What kvsync takes for granted of a storage; subclass it, with the fixture `reopen` or `storage`."""

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        """Return a callable that opens another handle of the same storage."""
        pytest.skip("needs a second handle of the same storage")

    @pytest.fixture
    def storage(self, reopen: Callable[[], Storage]) -> Iterator[Storage]:
        """Give an empty storage."""
        opened = reopen()
        yield opened
        opened.close()

    @pytest.fixture
    def another(self, reopen: Callable[[], Storage], storage: Storage) -> Iterator[Storage]:  # noqa: ARG002
        """Give a second handle of `storage`."""
        opened = reopen()
        yield opened
        opened.close()
