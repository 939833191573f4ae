"""The suite that every storage has to pass; needs pytest.

```python
from functools import partial

import pytest
from kvsync.storages import Capabilities, Tier
from kvsync.testing.conformance import StorageConformance

from my_package import MyStorage

class TestMyStorage(StorageConformance):
    expects = Capabilities(Tier.CONDITIONAL)

    @pytest.fixture
    def reopen(self, tmp_path):
        # Each call gives another handle of the same storage, which is empty at first.
        return partial(MyStorage, tmp_path / "data")
```

`expects` is what the storage is to declare about itself. The suite fails if it declares anything else, and leaves out
the tests of what is not expected: they are not collected. Fixtures named `hinder`, `spoil`, `misname` and `dress` are
hooks: they plant what a store does by itself (see `hooks`), and their tests run where a class has them.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kvsync.storages.contract import Support, Tier
from kvsync.testing.conformance import assertions  # noqa: F401 - before all others
from kvsync.testing.conformance.conditions import ConditionTests
from kvsync.testing.conformance.declared import (
    DeclarationTests,
    DryProbeTests,
    FilesTests,
    HostTests,
    IdentityTests,
    LimitsTests,
    NestingTests,
    SkippedTests,
    SplitsTests,
)
from kvsync.testing.conformance.expiry import ExpiringTransactionTests, ExpiryTests
from kvsync.testing.conformance.hard import HARD_KEYS, HARD_VALUES
from kvsync.testing.conformance.hints import HintsTests
from kvsync.testing.conformance.hooks import HOOKS, DressTests, HinderTests, MisnameTests, SpoilTests
from kvsync.testing.conformance.journals import JournalTests
from kvsync.testing.conformance.metadata import MetadataTests
from kvsync.testing.conformance.objects import ObjectTests, RangeTests, UniqueVersionTests
from kvsync.testing.conformance.parts import CopyTests, SizeTests, StreamTests
from kvsync.testing.conformance.races import (
    DeleteRaceTests,
    ExpiryRaceTests,
    ObjectRaceTests,
    ProcessRaceTests,
    ProcessValueRaceTests,
    ValueRaceTests,
)
from kvsync.testing.conformance.racing import THREADS
from kvsync.testing.conformance.runs import RunRaceTests, RunTests
from kvsync.testing.conformance.tokens import DigestTokenTests, KeyTokenTests, TokenTests
from kvsync.testing.conformance.tools import listing
from kvsync.testing.conformance.transactions import TransactionTests
from kvsync.testing.conformance.values import ValueTests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.storages.contract import Capabilities, Storage

__all__ = ["CHOICES", "HARD_KEYS", "HARD_VALUES", "StorageConformance", "listing"]


class StorageConformance(
    DeclarationTests,
    ValueTests,
    TokenTests,
    DigestTokenTests,
    KeyTokenTests,
    ObjectTests,
    UniqueVersionTests,
    ConditionTests,
    TransactionTests,
    ExpiryTests,
    ExpiringTransactionTests,
    SizeTests,
    RangeTests,
    StreamTests,
    CopyTests,
    MetadataTests,
    IdentityTests,
    NestingTests,
    FilesTests,
    HostTests,
    SkippedTests,
    DryProbeTests,
    LimitsTests,
    SplitsTests,
    HintsTests,
    JournalTests,
    ObjectRaceTests,
    DeleteRaceTests,
    ValueRaceTests,
    ExpiryRaceTests,
    ProcessRaceTests,
    ProcessValueRaceTests,
    RunTests,
    RunRaceTests,
    HinderTests,
    SpoilTests,
    MisnameTests,
    DressTests,
):
    """What kvsync requires of a storage; a subclass defines `expects` and the fixture `reopen`."""

    expects: ClassVar[Capabilities]
    """What the storage is to declare."""

    processes: ClassVar[bool] = True
    """Whether other processes can open the storage, too; `reopen` is sent to them. Ignored for storages in memory."""

    unique_versions: ClassVar[bool] = False
    """Whether an object never has the same version twice, even if it has the same bytes. kvsync does not require it."""

    hinder: ClassVar[Any] = None
    spoil: ClassVar[Any] = None
    misname: ClassVar[Any] = None
    dress: ClassVar[Any] = None
    """The hooks; a subclass that has one defines a fixture of its name."""

    def __init_subclass__(cls) -> None:
        """Leave out the tests of what is not expected.

        Raises:
            TypeError: the class does not say what it expects.
        """
        super().__init_subclass__()
        if not hasattr(cls, "expects"):
            message = f"{cls.__name__} does not say what its storage is to declare: set `expects = Capabilities(...)`"
            raise TypeError(message)
        for tests, applies in CHOICES.items():
            _select(cls, tests, wanted=applies(cls))

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        """Return a callable that opens another handle of the same storage, which is empty at first."""
        pytest.fail(f"{type(self).__name__} has no fixture `reopen`")

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

    @pytest.fixture
    def handles(self, reopen: Callable[[], Storage], storage: Storage) -> Iterator[list[Storage]]:  # noqa: ARG002
        """Give as many handles of `storage` as threads race."""
        with ExitStack() as stack:
            yield [stack.enter_context(closing(reopen())) for _ in range(THREADS)]


def _select(suite: type[StorageConformance], tests: type, *, wanted: bool) -> None:
    """Keep or leave out the tests of one part, but for those that the class defines itself."""
    for name, test in vars(tests).items():
        if name.startswith("test") and getattr(suite, name) in {test, LEFT_OUT}:
            setattr(suite, name, test if wanted else LEFT_OUT)


LEFT_OUT = "not expected"
"""Stands for a test that is left out: pytest collects only what can be called."""


def _supports(*needed: Support) -> Callable[[type[StorageConformance]], bool]:
    return lambda suite: suite.expects.supports.issuperset(needed)


def _conditional(suite: type[StorageConformance]) -> bool:
    return suite.expects.conditions != "advisory"


def _guards_values(suite: type[StorageConformance]) -> bool:
    """Whether conditional writes of values exclude each other; in a folder, programs write as they like."""
    return _conditional(suite) and suite.expects.tier is not Tier.FOLDER


def _has(hook: str) -> Callable[[type[StorageConformance]], bool]:
    return lambda suite: getattr(suite, hook) is not None


def _shared(suite: type[StorageConformance]) -> bool:
    return suite.processes and suite.expects.distance != "memory"


CHOICES: dict[type, Callable[[type[StorageConformance]], bool]] = {
    DigestTokenTests: lambda suite: suite.expects.tokens == "blake3",
    KeyTokenTests: _supports(Support.TOKENS),
    UniqueVersionTests: lambda suite: suite.unique_versions,
    ConditionTests: _conditional,
    TransactionTests: _supports(Support.TRANSACTION),
    ExpiryTests: _supports(Support.EXPIRY),
    ExpiringTransactionTests: _supports(Support.EXPIRY, Support.TRANSACTION),
    SizeTests: _supports(Support.SIZES),
    RangeTests: _supports(Support.RANGES),
    StreamTests: _supports(Support.STREAMING),
    CopyTests: _supports(Support.COPY),
    MetadataTests: _supports(Support.METADATA),
    IdentityTests: _supports(Support.IDENTITY),
    NestingTests: _supports(Support.NESTING),
    FilesTests: _supports(Support.FILES),
    HostTests: _supports(Support.HOST),
    SkippedTests: _supports(Support.SKIPPED),
    DryProbeTests: _supports(Support.DRY_PROBE),
    LimitsTests: _supports(Support.LIMITS),
    SplitsTests: _supports(Support.SPLITS),
    HintsTests: _supports(Support.HINTS),
    JournalTests: _supports(Support.JOURNAL),
    ObjectRaceTests: _conditional,
    DeleteRaceTests: lambda suite: _conditional(suite) and not suite.expects.lease_stays,
    ValueRaceTests: _guards_values,
    ExpiryRaceTests: lambda suite: _guards_values(suite) and Support.EXPIRY in suite.expects.supports,
    ProcessRaceTests: lambda suite: _conditional(suite) and _shared(suite),
    ProcessValueRaceTests: lambda suite: _guards_values(suite) and _shared(suite),
    RunTests: _conditional,
    RunRaceTests: lambda suite: _conditional(suite) and _shared(suite),
    **{tests: _has(hook) for hook, tests in HOOKS.items()},
}
"""Which tests run only for some storages, and for which."""
