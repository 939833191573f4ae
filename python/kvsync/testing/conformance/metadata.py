"""What is kept beside values and travels with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.metadata import has_metadata
from kvsync.testing.conformance.tools import listing, write
from kvsync.types import Metadata

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage

__all__ = ["MetadataTests"]

GIVEN = Metadata(executable=0o100, modified_ns=981_173_106_000_000_000)


class MetadataTests:
    """`SupportsMetadata`: a new value gets what is given with it, as far as the storage was asked to keep that."""

    def test_a_new_value_gets_its_metadata(self, storage: Storage, another: Storage) -> None:
        assert has_metadata(storage)
        assert has_metadata(another)
        assert storage.metadata(["a", "none"]) == [None, None]
        assert storage.write_with_metadata(["a", "b/c"], [b"1", b""], [GIVEN, None], [None, None]).refused == ()
        assert storage.write_stream_with_metadata("d", iter([b"2", b"3"]), GIVEN, [None]).refused == ()
        assert storage.read(["a", "b/c", "d"]) == [b"1", b"", b"23"]
        kept = another.metadata(["a", "d"])
        assert kept[0] == kept[1]
        assert kept[0] not in {None, Metadata()}
        assert kept[0] is not None
        assert kept[0].executable in {None, GIVEN.executable}
        assert kept[0].modified_ns in {None, GIVEN.modified_ns}

    def test_a_value_that_is_overwritten_keeps_its_own(self, storage: Storage) -> None:
        assert has_metadata(storage)
        write(storage, {"a": b"1", "b": b"1"})
        assert storage.write_with_metadata(["a"], [b"2"], [GIVEN], [listing(storage)["a"]]).refused == ()
        assert storage.write_stream_with_metadata("b", iter([b"2"]), GIVEN).refused == ()
        assert storage.read(["a", "b"]) == [b"2", b"2"]
        for kept in storage.metadata(["a", "b"]):
            assert kept is not None
            assert not kept.executable
            assert kept.modified_ns != GIVEN.modified_ns

    def test_writing_with_metadata_is_writing(self, storage: Storage, another: Storage) -> None:
        assert has_metadata(storage)
        write(storage, {"there": b"1"})
        token = listing(storage)["there"]
        keys, expect = ["there", "new", "absent", "taken"], [token, None, token, None]
        write(another, {"taken": b"1"})
        written = storage.write_with_metadata(keys, [b"2"] * 4, [GIVEN] * 4, expect)
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("absent", True), ("taken", True)]
        listed = listing(another)
        assert written.tokens in {None, (listed["there"], listed["new"], None, None)}
        assert storage.read(keys) == [b"2", b"2", None, b"1"]
        assert storage.write_with_metadata([], [], []).refused == ()
