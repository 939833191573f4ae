"""A source that is only read: its values come from one storage, and its index lies in another one, the target.

Nothing is ever asked of the source but to list and to read. Its log and inventory are kept below `.kvsync/of/ID/` of
the target, where ID is made of the source's address. So the target's lease guards them, too, and the one of the source
is kept in memory alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from kvsync.errors import StorageError
from kvsync.native import digest_values
from kvsync.process import host
from kvsync.storages.capabilities import Support
from kvsync.storages.contract import ObjectMismatch, has_identity, has_ranges
from kvsync.storages.wrapper import WrappedStorage
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.contract import Capabilities, Storage
    from kvsync.types import Expectation, Version

__all__ = ["OF_PREFIX", "READS", "ReadOnlyStorage"]

OF_PREFIX: Final = "of/"
LEASE: Final = "lease"

READING: Final = frozenset(
    {
        Support.EXPIRY,
        Support.TOKENS,
        Support.SIZES,
        Support.STREAMING,
        Support.COPY,
        Support.METADATA,
        Support.SKIPPED,
        Support.SPLITS,
    }
)
"""What a storage may support that also reads. Hints are not among them: some servers are told to send them."""


READS: Final = frozenset({"read", "scan", "modified_ms", "expiries", "tokens", "sizes", "read_stream", "metadata"})
"""The methods that reach the source; there is no other way to it."""

P = ParamSpec("P")
T = TypeVar("T")


class ReadOnlyStorage(WrappedStorage):
    """A storage that is only read, with its index in another one.

    Args:
        inner: where the values are.
        index: where the index objects are.
    """

    def __init__(self, inner: Storage, index: Storage) -> None:
        super().__init__(inner)
        self._index = index
        self._prefix = f"{OF_PREFIX}{_id_of(inner)}/"
        self._lease: Stored | None = None
        self._leases = 0

    @property
    def capabilities(self) -> Capabilities:
        """What can be read in the one storage, and how the index is kept in the other one."""
        if self._capabilities is not None:
            return self._capabilities
        source, index = self.inner.capabilities, self._index.capabilities
        return replace(
            index,
            # Two servers are scanned in two threads, and the other storage is not to be used by both of them.
            distance="disk" if source.distance == "network" else source.distance,
            tokens=source.tokens,
            conditions="advisory" if index.conditions == "advisory" else "certain",
            lease_stays=False,
            supports=source.supports & READING | index.supports & {Support.RANGES},
        )

    @capabilities.setter
    def capabilities(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities

    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call that reads.

        Raises:
            StorageError: it is none.
        """
        if method not in READS:
            message = "a run tried to write to a source that is only read; nothing was written"
            raise StorageError(message, storage=self.name)
        return call(*args, **kwargs)

    # Index objects

    def load(self, name: str) -> Stored | None:
        """Load an object from the index."""
        return self._lease if name == LEASE else self._index.load(self._prefix + name)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Load parts of an object from the index."""
        assert has_ranges(self._index)  # noqa: S101 - the capabilities say so
        return self._index.load_ranges(self._prefix + name, ranges)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Store an object in the index; a lease in memory.

        Raises:
            ObjectMismatch: it does not have the expected version.
        """
        if name != LEASE:
            return self._index.store(self._prefix + name, data, expect)
        self._check_lease(expect)
        self._leases += 1
        self._lease = Stored(data, b"%d" % self._leases)
        return self._lease.version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove objects from the index.

        Raises:
            ObjectMismatch: one does not have the expected version.
        """
        if list(names) == [LEASE]:
            self._check_lease(expect)
            self._lease = None
        else:
            self._index.remove([self._prefix + name for name in names], expect)

    def objects(self) -> list[str]:
        """Return the names of the objects in the index."""
        names = [name for name in self._index.objects() if name.startswith(self._prefix)]
        return sorted([name.removeprefix(self._prefix) for name in names] + [LEASE] * (self._lease is not None))

    def close(self) -> None:
        """Close what values come from; whoever opened the other one closes that."""
        self.inner.close()

    def _check_lease(self, expect: Expectation) -> None:
        version = ABSENT if self._lease is None else self._lease.version
        if expect not in (ANY, version):
            raise ObjectMismatch(LEASE)


def _id_of(storage: Storage) -> str:
    """Return what a storage is recognised by: its address, and of one that is on no server, that of the machine."""
    place = storage.identity if has_identity(storage) else storage.name
    if storage.capabilities.distance != "network":
        place = f"{host()} {place}"
    return digest_values([place.encode()])[0][:8].hex()
