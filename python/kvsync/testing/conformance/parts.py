"""Large values: written and read in parts, and copied by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import has_sizes
from kvsync.testing.conformance.hard import value_of
from kvsync.testing.conformance.tools import Interrupted, copying_of, idle, listing, streaming_of, write
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.contract import Storage

__all__ = ["CopyTests", "SizeTests", "StreamTests"]


class SizeTests:
    """`SupportsSizes`: sizes are reported without reading values."""

    def test_sizes_are_those_of_the_values(self, storage: Storage) -> None:
        assert has_sizes(storage)
        write(storage, {"a": b"123", "empty": b"", "large": value_of(100_000)})
        assert storage.sizes(["large", "none", "empty", "a"]) == [100_000, None, 0, 3]
        write(storage, {"a": b""})
        assert storage.sizes(["a"]) == [0]
        assert storage.sizes([]) == []


class StreamTests:
    """`SupportsStreaming`: a value that moves in parts is the same value."""

    @pytest.mark.parametrize("count", [0, 1, 5, 23])
    def test_a_value_in_parts_is_the_same_value(self, storage: Storage, count: int) -> None:
        streaming = streaming_of(storage)
        parts = [bytes([number]) * (1 << 20) for number in range(count)]
        written = streaming.write_stream("large/value", iter(parts))
        assert written.refused == ()
        assert streaming.sizes(["large/value", "none"]) == [count << 20, None]
        stream = streaming.read_stream("large/value")
        assert stream is not None
        assert not isinstance(stream, Unreadable)
        assert b"".join(stream) == b"".join(parts)
        assert storage.read(["large/value"]) == [b"".join(parts)]
        tokens = listing(storage)
        assert list(tokens) == ["large/value"]
        if written.tokens is not None:
            assert written.tokens == (tokens["large/value"],)

    def test_no_value_has_no_parts(self, storage: Storage) -> None:
        streaming = streaming_of(storage)
        assert streaming.read_stream("none") is None

    @pytest.mark.parametrize("count", [1, 12])
    def test_parts_that_end_in_an_error_leave_what_was_there(self, storage: Storage, count: int) -> None:
        streaming = streaming_of(storage)
        write(storage, {"there": b"before"})

        def broken() -> Iterator[bytes]:
            for _ in range(count):
                yield bytes(1 << 20)
            raise Interrupted

        for key in ("there", "new"):
            with pytest.raises(Interrupted):
                streaming.write_stream(key, broken())
        assert storage.read(["there", "new"]) == [b"before", None]
        assert list(listing(storage)) == ["there"]

    @pytest.mark.parametrize("count", [1, 12])
    def test_writing_parts_on_condition(self, storage: Storage, count: int) -> None:
        streaming = streaming_of(storage)
        parts = [b"x" * (1 << 20)] * count
        write(storage, {"there": b"1"})
        token = listing(storage)["there"]
        assert streaming.write_stream("there", iter(parts), [token]).refused == ()
        assert streaming.write_stream("new", iter(parts), [None]).refused == ()
        for key, expect in (("there", token), ("there", None), ("absent", token)):
            (refusal,) = streaming.write_stream(key, iter([b"other"]), [expect]).refused
            assert (refusal.key, refusal.changed) == (key, True)
        assert storage.read(["there", "new", "absent"]) == [b"".join(parts), b"".join(parts), None]


class CopyTests:
    """`SupportsCopy`: the server copies exactly the version that is asked for."""

    def test_a_copy_is_of_the_named_version_alone(self, storage: Storage) -> None:
        copying, origin = copying_of(storage, "from")
        write(storage, {"from": b"first", "there": b"before"})
        first = listing(storage)["from"]
        write(storage, {"from": b"later"})
        later = listing(storage)["from"]
        for key in ("there", "new"):
            assert copying.copy(key, origin, first, 5, meanwhile=idle) is None
        assert storage.read(["there", "new"]) == [b"before", None]
        for key in ("there", "new"):
            written = copying.copy(key, origin, later, 5, meanwhile=idle)
            assert written is not None
            assert written.refused == ()
            assert written.tokens in {None, (None,), (listing(storage)[key],)}
        assert storage.read(["there", "new", "from"]) == [b"later"] * 3
        assert storage.objects() == []

    def test_copying_on_condition(self, storage: Storage) -> None:
        copying, origin = copying_of(storage, "from")
        write(storage, {"from": b"1", "there": b"2", "moved": b"3"})
        tokens = listing(storage)
        write(storage, {"moved": b"4"})
        for key, expect in (("there", None), ("moved", tokens["moved"]), ("new", tokens["there"]), ("there", b"")):
            assert copying.copy(key, origin, tokens["from"], 1, [expect], meanwhile=idle) is None
        assert storage.read(["there", "moved", "new"]) == [b"2", b"4", None]
        for key, expect in (("there", tokens["there"]), ("new", None)):
            assert copying.copy(key, origin, tokens["from"], 1, [expect], meanwhile=idle) is not None
        assert storage.read(["there", "moved", "new"]) == [b"1", b"4", b"1"]
