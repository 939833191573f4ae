"""What a storage declares, and the small protocols that it may declare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.contract import (
    Support,
    SupportsCopy,
    SupportsDryProbe,
    SupportsExpiry,
    SupportsHost,
    SupportsIdentity,
    SupportsSizes,
    SupportsSkipped,
    SupportsStreaming,
    SupportsTransaction,
    has_dry_probe,
    has_host,
    has_identity,
    has_skipped,
)
from kvsync.testing.conformance.tools import listing, write
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from typing import ClassVar

    from kvsync.storages.contract import Capabilities, Storage

__all__ = ["DeclarationTests", "DryProbeTests", "HostTests", "IdentityTests", "SkippedTests"]

PROTOCOLS = {
    Support.TRANSACTION: SupportsTransaction,
    Support.EXPIRY: SupportsExpiry,
    Support.SIZES: SupportsSizes,
    Support.STREAMING: SupportsStreaming,
    Support.COPY: SupportsCopy,
    Support.IDENTITY: SupportsIdentity,
    Support.HOST: SupportsHost,
    Support.SKIPPED: SupportsSkipped,
    Support.DRY_PROBE: SupportsDryProbe,
}


def members(protocol: type) -> set[str]:
    """Return the names of the methods and attributes of a protocol."""
    defined = (vars(base).keys() | vars(base).get("__annotations__", {}).keys() for base in protocol.__mro__[:-1])
    return {name for names in defined for name in names if not name.startswith("_")}


class DeclarationTests:
    """A storage declares what is expected of it."""

    expects: ClassVar[Capabilities]

    def test_it_declares_what_is_expected(self, storage: Storage) -> None:
        assert storage.capabilities == self.expects
        write(storage, {"a": b"1"})
        storage.store("manifest", b"1", ABSENT)
        # Some storages know what they can do only once they have talked to their server.
        assert storage.capabilities == self.expects

    def test_it_has_what_it_declares(self, storage: Storage) -> None:
        assert storage.name
        for support in storage.capabilities.supports:
            missing = {name for name in members(PROTOCOLS[support]) if not hasattr(storage, name)}
            assert not missing, f"{support!r} needs {missing}"


class IdentityTests:
    """`SupportsIdentity`: handles of one storage recognise each other."""

    def test_two_handles_of_a_storage_have_one_identity(self, storage: Storage, another: Storage) -> None:
        assert has_identity(storage)
        assert has_identity(another)
        before = storage.identity
        assert before
        assert another.identity == before
        write(storage, {"a": b"1"})
        assert storage.identity == another.identity == before


class HostTests:
    """`SupportsHost`: storages of one server recognise each other."""

    def test_two_handles_of_a_storage_have_one_host(self, storage: Storage, another: Storage) -> None:
        assert has_host(storage)
        assert has_host(another)
        assert storage.host
        assert storage.host == another.host


class SkippedTests:
    """`SupportsSkipped`: a scan reports the entries that it skips."""

    def test_values_and_index_objects_are_not_skipped(self, storage: Storage) -> None:
        assert has_skipped(storage)
        write(storage, {"a": b"1", "b/c": b"2"})
        storage.store("manifest", b"1", ABSENT)
        assert set(listing(storage)) == {"a", "b/c"}
        assert storage.skipped == ()


class DryProbeTests:
    """`SupportsDryProbe`: index objects can be tried without leaving anything behind."""

    def test_nothing_of_a_dry_probe_stays(self, storage: Storage, another: Storage) -> None:
        assert has_dry_probe(storage)
        with storage.dry_probe() as created:
            if not created:
                version = storage.store("probe", b"1", ABSENT)
                version = storage.store("probe", b"2", version)
                assert storage.load("probe") == (b"2", version)
                storage.remove(["probe"], ANY)
        for handle in (storage, another):
            assert handle.objects() == []
            assert listing(handle) == {}
        storage.store("manifest", b"1", ABSENT)
        assert another.objects() == ["manifest"]
