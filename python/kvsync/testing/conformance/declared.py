"""What a storage declares, and the small protocols that it may declare."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.storages.contract import (
    Support,
    SupportsCopy,
    SupportsDryProbe,
    SupportsExpiry,
    SupportsFiles,
    SupportsHost,
    SupportsIdentity,
    SupportsNesting,
    SupportsRanges,
    SupportsSizes,
    SupportsSkipped,
    SupportsSplits,
    SupportsStreaming,
    SupportsTokens,
    SupportsTransaction,
    has_dry_probe,
    has_files,
    has_host,
    has_identity,
    has_nesting,
    has_skipped,
    has_splits,
)
from kvsync.storages.hints import SupportsHints
from kvsync.storages.journal import SupportsJournal
from kvsync.storages.limits import SupportsLimits, has_limits
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.metadata import SupportsMetadata
from kvsync.testing.conformance.tools import listing, write
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from typing import ClassVar

    from kvsync.storages.contract import Capabilities, Storage

__all__ = [
    "DeclarationTests",
    "DryProbeTests",
    "FilesTests",
    "HostTests",
    "IdentityTests",
    "LimitsTests",
    "NestingTests",
    "SkippedTests",
    "SplitsTests",
]

SPLIT_KEYS = [
    *("", " ", "!", "%", "%25", ".a", "a", "a ", "a!", "a%20b", "a-b", "a.", "a..", "a/", "a//b", "a/b", "a/b/c"),
    *("a/b-c", "a/c", "a0", "b\n", "b/.", "b/..", "b/c", "caf\u00e9", "cafe\u0301", "d\\e", "\ufb01", "\U0001f600"),
    *(f"e/{number:02}" for number in range(12)),
]
"""Keys that come in another order where a directory comes before its siblings, or have names of another order."""

PROTOCOLS = {
    Support.TRANSACTION: SupportsTransaction,
    Support.EXPIRY: SupportsExpiry,
    Support.TOKENS: SupportsTokens,
    Support.SIZES: SupportsSizes,
    Support.RANGES: SupportsRanges,
    Support.STREAMING: SupportsStreaming,
    Support.COPY: SupportsCopy,
    Support.METADATA: SupportsMetadata,
    Support.IDENTITY: SupportsIdentity,
    Support.NESTING: SupportsNesting,
    Support.FILES: SupportsFiles,
    Support.HOST: SupportsHost,
    Support.SKIPPED: SupportsSkipped,
    Support.DRY_PROBE: SupportsDryProbe,
    Support.LIMITS: SupportsLimits,
    Support.SPLITS: SupportsSplits,
    Support.HINTS: SupportsHints,
    Support.JOURNAL: SupportsJournal,
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


class NestingTests:
    """`SupportsNesting`: a storage knows what is within it."""

    def test_no_storage_of_another_kind_is_within(self, storage: Storage) -> None:
        assert has_nesting(storage)
        assert not storage.contains(MappingStorage({}))


class FilesTests:
    """`SupportsFiles`: a storage knows its files."""

    def test_all_files_that_appear_are_its_own(self, storage: Storage) -> None:
        assert has_files(storage)
        before = storage.files()
        assert before
        assert all(os.path.isabs(path) for path in before)
        folders = {os.path.dirname(path) for path in before}
        there = {entry.path for folder in folders if os.path.isdir(folder) for entry in os.scandir(folder)}
        write(storage, {"a": b"1"})
        storage.store("manifest", b"1", ABSENT)
        storage.store("lease", b"1", ABSENT)
        made = {entry.path for folder in folders for entry in os.scandir(folder)} - there
        assert {path for path in made if os.path.isfile(path)} <= set(storage.files())


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


class SplitsTests:
    """`SupportsSplits`: a scan lists the same, wherever it is split."""

    def test_what_is_listed_does_not_depend_on_splits(self, storage: Storage) -> None:
        assert has_splits(storage)
        values = {key: b"" if number % 5 == 1 else b"1" for number, key in enumerate(SPLIT_KEYS)}
        values = {key: values[key] for key in values.keys() - write(storage, values)}
        whole = listing(storage)
        assert whole.keys() == values.keys()
        keys = sorted(values)
        gone = keys[1::4]
        storage.delete(gone)
        for key in gone:
            del whole[key]
        for splits in ((), keys[::3], gone, keys[1:2], keys[-1:], [keys[0] + "!"], ["", "\U0010ffff"], keys):
            assert listing(storage, splits) == whole


class DryProbeTests:
    """`SupportsDryProbe`: what does not exist is told; index objects can be tried without leaving anything behind."""

    def test_what_does_not_exist_yet_is_told_until_it_does(self, storage: Storage, another: Storage) -> None:
        assert has_dry_probe(storage)
        assert has_dry_probe(another)
        unmade = storage.unmade()
        assert another.unmade() == unmade
        assert listing(another) == {}
        assert another.objects() == []
        write(storage, {"a": b"1"})
        assert storage.unmade() == another.unmade() == ""

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


class LimitsTests:
    """`SupportsLimits`: what a storage does not keep as given is told, in sentences, without writing anything."""

    def test_limits_are_sentences_and_nothing_is_written(self, storage: Storage, another: Storage) -> None:
        assert has_limits(storage)
        assert has_limits(another)
        assert all(isinstance(sentence, str) and sentence for sentence in storage.limits())
        assert listing(another) == {}
        assert another.objects() == []
        write(storage, {"a": b"1"})
        assert storage.limits() == another.limits()
        assert set(listing(another)) == {"a"}
