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

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.base import ObjectMismatch, Storage, SupportsStreaming, SupportsTransaction, has_streaming
from kvsync.types import ABSENT, ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HARD_KEYS", "HARD_VALUES", "StorageConformance", "listing"]

HARD_VALUES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "line ends": b"a\r\nb\nc\rd\x1a\r\n",
    "no text": b"\xff\xfe\x00\x00\x80",
    "a mebibyte": bytes(range(256)) * 4096,
}

HARD_KEYS = [
    *("", " ", "a b", " a", "a ", ".", "..", "...", ".hidden", "a.", "a.."),
    *("/", "//", "/a", "a/", "a//b", "./a", "a/.", "../a", "a/../b", "/etc/passwd", "../../../../etc/passwd"),
    *(
        "\0",
        "a\0b",
        "\x01",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "\x7f",
        "a\\b",
        "..\\a",
        "C:\\a",
        "C:/a",
        "\\\\host\\a",
    ),
    *("x" * 255, "x" * 256, "x" * 1024, "/".join("x" * 8 for _ in range(113)), "é" * 512, "%" * 300),
    *(
        "😀",
        "👩\u200d👩\u200d👧",
        "caf\u00e9",
        "cafe\u0301",
        "\u1e9b\u0323",
        "Å",
        "\u212b",
        "\U0010ffff",
        "\ufeffa",
    ),
    *("MixedCase.TXT", "mixedcase.txt", "MIXEDCASE.TXT", "straße", "STRASSE", "İ", "i\u0307", "\u0131"),
    *("CON", "con", "aux.c", "NUL", "nul.tar.gz", "COM1", "lpt9.txt", "COM¹", "a/CON/b", "CONIN$", "clock$"),
    *(
        "%",
        "%%",
        "100%",
        "100%.txt",
        "a%20b",
        "%2E",
        "%2e",
        "%252E",
        ".%2E",
        ".%252E",
        "%2F",
        "%00",
        "%value",
    ),
    *(
        "a%value",
        "a%value%value",
        "a%25value",
        "a%value/b",
        "%+",
        "x%+",
        "%+x",
        "x" * 200 + "%+/" + "%+" + "x" * 100,
    ),
    *(
        "a:b",
        'a"b',
        "a*b?",
        "<a>|b",
        "a'b",
        "a;b",
        "--",
        "-rf",
        "~",
        "$HOME",
        "`id`",
        "{a}",
        "[a-z]*",
        "#a",
        "?a=b",
    ),
    *("lock", "tmp", "tmp/a", "kvsync", "kv", "a/b/c/d/e", "a/b.c", "a/b", "a.b", "a-b", "a0b", "a"),
]


def listing(storage: Storage) -> dict[str, bytes]:
    """Return a whole scan as {key: token}, having checked its order."""
    keys: list[str] = []
    tokens: list[bytes] = []
    for some_keys, some_tokens in storage.scan():
        assert len(some_keys) == len(some_tokens)
        keys += some_keys
        tokens += some_tokens
    encoded = [key.encode() for key in keys]
    assert all(first < second for first, second in pairwise(encoded))
    return dict(zip(keys, tokens, strict=True))


def _write(storage: Storage, values: dict[str, bytes]) -> set[str]:
    """Write, and return the keys that the storage refused for good."""
    written = storage.write(list(values), list(values.values()))
    assert not any(refusal.changed for refusal in written.refused)
    assert all(refusal.reason for refusal in written.refused)
    refused = {refusal.key for refusal in written.refused}
    if written.tokens is not None:
        assert [token is None for token in written.tokens] == [key in refused for key in values]
    return refused


class StorageConformance:
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

    def test_it_is_a_storage_with_a_name(self, storage: Storage) -> None:
        assert isinstance(storage, Storage)
        assert storage.name
        assert storage.capabilities.tier in {"T1", "T2", "T3", "T4"}
        assert storage.capabilities.transactional == isinstance(storage, SupportsTransaction)

    def test_an_empty_storage_has_nothing(self, storage: Storage) -> None:
        assert storage.read(["a", "b/c", ""]) == [None, None, None]
        assert storage.read([]) == []
        assert listing(storage) == {}
        assert storage.objects() == []
        assert storage.load("manifest") is None
        assert storage.modified_ms(["a"]) == [None]
        assert storage.delete(["a", "b/c"]).refused == ()
        storage.remove(["segment/0000000000000001-0"], ANY)

    def test_nothing_written_is_nothing_done(self, storage: Storage) -> None:
        assert storage.write([], []).refused == ()
        assert storage.write([], [], []).refused == ()
        assert storage.delete([]).refused == ()
        assert storage.delete([], []).refused == ()
        storage.remove([], ANY)
        assert listing(storage) == {}

    @pytest.mark.parametrize("value", HARD_VALUES.values(), ids=HARD_VALUES.keys())
    def test_bytes_come_back_as_they_went_in(self, storage: Storage, value: bytes) -> None:
        assert not _write(storage, {"key": b"before", "other": b"untouched"})
        assert not _write(storage, {"key": value})
        assert storage.read(["key", "other", "none"]) == [value, b"untouched", None]

    def test_hard_keys_all_at_once(self, storage: Storage) -> None:
        values = {key: f"value of {key!r}".encode() for key in HARD_KEYS}
        refused = _write(storage, values)
        held = {key: value for key, value in values.items() if key not in refused}
        assert len(held) > len(values) // 2
        assert storage.read(list(held)) == list(held.values())
        assert set(listing(storage)) == set(held)
        assert storage.objects() == []

    def test_hard_keys_one_by_one(self, storage: Storage) -> None:
        for key in HARD_KEYS:
            if _write(storage, {key: b"1"}):
                assert storage.read([key]) == [None]
                continue
            assert list(listing(storage)) == [key]
            assert not _write(storage, {key: b"22"})
            assert storage.read([key]) == [b"22"]
            assert storage.delete([key]).refused == ()
            assert storage.read([key]) == [None]
            assert listing(storage) == {}

    @pytest.mark.parametrize("keys", [["a", "a/b", "a/b/c"], ["a/b/c", "a/b", "a"], ["a/b", "a", "a/b/c"]])
    def test_a_key_that_is_a_prefix_of_another(self, storage: Storage, keys: list[str]) -> None:
        held: dict[str, bytes] = {}
        for key in keys:
            if not _write(storage, {key: key.encode()}):
                held[key] = key.encode()
            assert storage.read(keys) == [held.get(other) for other in keys]
            assert set(listing(storage)) == set(held)
        for key in keys:
            assert storage.delete([key]).refused == ()
            held.pop(key, None)
            assert storage.read(keys) == [held.get(other) for other in keys]
            assert set(listing(storage)) == set(held)

    def test_a_scan_is_complete_and_in_order(self, storage: Storage) -> None:
        keys = [
            "a",
            "a.b",
            "a/b",
            "a0",
            "b",
            "B",
            "é",
            "z",
            "\U0001f600",
            "\uff5e",
            *(f"k{i}" for i in range(300)),
        ]
        refused = _write(storage, dict.fromkeys(reversed(keys), b"x"))
        assert set(listing(storage)) == set(keys) - refused
        assert storage.delete(keys[::2]).refused == ()
        assert set(listing(storage)) == set(keys[1::2]) - refused

    def test_tokens_tell_values_apart(self, storage: Storage) -> None:
        _write(storage, {"a": b"1", "b": b"1"})
        before = listing(storage)
        assert listing(storage) == before
        written = storage.write(["a"], [b"2"])
        after = listing(storage)
        assert after["b"] == before["b"]
        assert after["a"] != before["a"]
        assert all(after.values())
        if written.tokens is not None:
            assert written.tokens == (after["a"],)

    def test_writing_on_condition(self, storage: Storage) -> None:
        _write(storage, {"a": b"1", "b": b"2"})
        tokens = listing(storage)
        _write(storage, {"b": b"3"})
        expect = [tokens["a"], tokens["b"], None, None]
        written = storage.write(["a", "b", "c", "b"][:3], [b"A", b"B", b"C"], expect[:3])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True)]
        assert storage.read(["a", "b", "c"]) == [b"A", b"3", b"C"]
        assert [r.key for r in storage.write(["c", "d"], [b"D", b"D"], [None, tokens["a"]]).refused] == [
            "c",
            "d",
        ]
        assert storage.read(["c", "d"]) == [b"C", None]

    def test_deleting_on_condition(self, storage: Storage) -> None:
        _write(storage, {"a": b"1", "b": b"2", "c": b"3"})
        tokens = listing(storage)
        _write(storage, {"b": b"3"})
        written = storage.delete(["a", "b", "c", "gone"], [tokens["a"], tokens["b"], None, tokens["c"]])
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True), ("c", True)]
        assert storage.read(["a", "b", "c"]) == [None, b"3", b"3"]

    def test_objects_are_no_values_and_values_no_objects(self, storage: Storage) -> None:
        storage.store("manifest", b"M", ABSENT)
        storage.store("segment/0000000000000001-0", b"S", ABSENT)
        _write(storage, {"manifest": b"value", "segment/0000000000000001-0": b"value", "lease": b"value"})
        assert storage.objects() == ["manifest", "segment/0000000000000001-0"]
        assert set(listing(storage)) == {"manifest", "segment/0000000000000001-0", "lease"}
        assert storage.load("lease") is None
        storage.remove(["manifest", "segment/0000000000000001-0"], ANY)
        assert storage.read(["manifest", "segment/0000000000000001-0"]) == [b"value", b"value"]
        assert storage.objects() == []

    def test_keys_like_ours_reach_no_object(self, storage: Storage) -> None:
        storage.store("manifest", b"M", ABSENT)
        keys = [".kvsync/manifest", ".KVSYNC/manifest", "./.kvsync/manifest", "/.kvsync/manifest", ".kvsync"]
        _write(storage, dict.fromkeys(keys, b"attack"))
        storage.delete(keys)
        stored = storage.load("manifest")
        assert stored is not None
        assert stored.data == b"M"
        assert storage.objects() == ["manifest"]

    @pytest.mark.parametrize("value", HARD_VALUES.values(), ids=HARD_VALUES.keys())
    def test_objects_come_back_as_they_went_in(self, storage: Storage, value: bytes) -> None:
        version = storage.store("lost/0123456789abcdef-0123456789abcdef-01234567", value, ABSENT)
        assert storage.load("lost/0123456789abcdef-0123456789abcdef-01234567") == (value, version)

    def test_compare_and_swap(self, storage: Storage) -> None:
        first = storage.store("manifest", b"1", ABSENT)
        self._refuses(storage, b"x", ABSENT)
        second = storage.store("manifest", b"2", first)
        assert second != first
        self._refuses(storage, b"x", first)
        self._refuses(storage, b"x", b"no such version")
        assert storage.load("manifest") == (b"2", second)
        third = storage.store("manifest", b"3", ANY)
        self._refuses(storage, b"x", second)
        assert storage.load("manifest") == (b"3", third)
        with pytest.raises(ObjectMismatch):
            storage.store("lease", b"x", third)
        assert storage.load("lease") is None
        storage.store("lease", b"1", ANY)
        assert storage.objects() == ["lease", "manifest"]

    def test_removing_on_condition(self, storage: Storage) -> None:
        if not storage.capabilities.conditional_remove:
            pytest.skip("cannot remove on condition")
        first = storage.store("lease", b"1", ABSENT)
        second = storage.store("lease", b"2", first)
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], first)
        assert storage.load("lease") == (b"2", second)
        storage.remove(["lease"], second)
        assert storage.load("lease") is None
        with pytest.raises(ObjectMismatch):
            storage.remove(["lease"], second)
        storage.store("lease", b"3", ABSENT)
        storage.store("manifest", b"3", ABSENT)
        storage.remove(["lease", "segment/none", "manifest"], ANY)
        assert storage.objects() == []

    def test_reopening_finds_the_same(self, storage: Storage, another: Storage) -> None:
        _write(storage, {"a": b"1", "b/c": b"2"})
        version = storage.store("manifest", b"M", ABSENT)
        assert another.read(["a", "b/c"]) == [b"1", b"2"]
        assert another.load("manifest") == (b"M", version)
        assert listing(another) == listing(storage)
        another.store("manifest", b"N", version)
        self._refuses(storage, b"x", version)

    def test_eight_threads_and_one_winner(self, storage: Storage, reopen: Callable[[], Storage]) -> None:
        storage.store("manifest", b"M", ABSENT)
        for turn in range(5):
            barrier = Barrier(8)

            def race(number: int, barrier: Barrier = barrier, turn: int = turn) -> bool:
                with contextlib.closing(reopen()) as mine:
                    barrier.wait(30)
                    try:
                        mine.store("lease", b"%d of turn %d" % (number, turn), ABSENT)
                    except ObjectMismatch:
                        return False
                    return True

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(race, range(8)))
            assert won.count(True) == 1
            stored = storage.load("lease")
            assert stored is not None
            assert stored.data == b"%d of turn %d" % (won.index(True), turn)
            storage.remove(["lease"], ANY)

    def test_a_thread_reads_while_another_writes(self, storage: Storage) -> None:
        keys = [f"k/{number}" for number in range(50)]
        _write(storage, dict.fromkeys(keys, b"0" * 100))
        allowed = {b"%d" % turn * 100 for turn in range(10)}
        with ThreadPoolExecutor(1) as pool:
            reads = pool.submit(lambda: [storage.read(keys) for _ in range(20)])
            for turn in range(10):
                _write(storage, dict.fromkeys(keys, b"%d" % turn * 100))
            for values in reads.result():
                assert all(isinstance(value, Unreadable) or value in allowed for value in values)

    def test_modified_is_about_now(self, storage: Storage) -> None:
        before = time.time() * 1000
        _write(storage, {"a": b"1"})
        after = time.time() * 1000
        (modified, missing) = storage.modified_ms(["a", "b"])
        assert missing is None
        assert modified is None or before - 5000 <= modified <= after + 5000

    def test_ten_thousand_keys_in_a_batch(self, storage: Storage) -> None:
        keys = [f"group {number % 100}/{number:05d}" for number in range(10_000)]
        values = [b"%d" % number for number in range(10_000)]
        assert storage.write(keys, values).refused == ()
        assert storage.read(keys) == values
        assert set(listing(storage)) == set(keys)
        assert storage.delete(keys[:9_999]).refused == ()
        assert list(listing(storage)) == keys[9_999:]

    def test_a_transaction_commits_as_one(self, storage: Storage, another: Storage) -> None:
        with self._transactional(storage).transaction():
            _write(storage, {"a": b"1", "b": b"2"})
            storage.store("manifest", b"M", ABSENT)
            storage.delete(["b"])
            assert storage.read(["a", "b"]) == [b"1", None]
            assert another.read(["a"]) == [None]
        assert another.read(["a", "b"]) == [b"1", None]
        assert another.objects() == ["manifest"]

    def test_a_transaction_undoes_everything(self, storage: Storage) -> None:
        _write(storage, {"a": b"0"})
        tokens = listing(storage)
        version = storage.store("manifest", b"0", ABSENT)
        with contextlib.suppress(_Interrupted), self._transactional(storage).transaction():
            _write(storage, {"a": b"1", "b": b"1"})
            storage.store("manifest", b"1", version)
            storage.store("lease", b"1", ABSENT)
            raise _Interrupted
        assert listing(storage) == tokens
        assert storage.load("manifest") == (b"0", version)
        assert storage.objects() == ["manifest"]
        _write(storage, {"b": b"2"})
        assert storage.read(["a", "b"]) == [b"0", b"2"]

    def test_a_first_transaction_undone_leaves_a_storage_that_works(self, storage: Storage) -> None:
        with contextlib.suppress(_Interrupted), self._transactional(storage).transaction():
            _write(storage, {"a": b"1"})
            storage.store("manifest", b"1", ABSENT)
            raise _Interrupted
        assert storage.read(["a"]) == [None]
        assert storage.objects() == []
        _write(storage, {"a": b"2"})
        storage.store("manifest", b"2", ABSENT)
        assert storage.read(["a"]) == [b"2"]

    def test_a_mismatch_within_a_transaction_spoils_nothing(self, storage: Storage) -> None:
        with self._transactional(storage).transaction():
            _write(storage, {"a": b"1"})
            storage.store("manifest", b"1", ABSENT)
            self._refuses(storage, b"x", ABSENT)
        assert storage.read(["a"]) == [b"1"]

    @pytest.mark.parametrize("count", [0, 1, 5, 23])
    def test_a_value_in_parts_is_the_same_value(self, storage: Storage, count: int) -> None:
        streaming = self._streaming(storage)
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
        streaming = self._streaming(storage)
        assert streaming.read_stream("none") is None
        assert streaming.sizes([]) == []

    @pytest.mark.parametrize("count", [1, 12])
    def test_parts_that_end_in_an_error_leave_what_was_there(self, storage: Storage, count: int) -> None:
        streaming = self._streaming(storage)
        _write(storage, {"there": b"before"})

        def broken() -> Iterator[bytes]:
            for _ in range(count):
                yield bytes(1 << 20)
            raise _Interrupted

        for key in ("there", "new"):
            with pytest.raises(_Interrupted):
                streaming.write_stream(key, broken())
        assert storage.read(["there", "new"]) == [b"before", None]
        assert list(listing(storage)) == ["there"]

    @pytest.mark.parametrize("count", [1, 12])
    def test_writing_parts_on_condition(self, storage: Storage, count: int) -> None:
        streaming = self._streaming(storage)
        parts = [b"x" * (1 << 20)] * count
        _write(storage, {"there": b"1"})
        token = listing(storage)["there"]
        assert streaming.write_stream("there", iter(parts), [token]).refused == ()
        assert streaming.write_stream("new", iter(parts), [None]).refused == ()
        for key, expect in (("there", token), ("there", None), ("absent", token)):
            (refusal,) = streaming.write_stream(key, iter([b"other"]), [expect]).refused
            assert (refusal.key, refusal.changed) == (key, True)
        assert storage.read(["there", "new", "absent"]) == [b"".join(parts), b"".join(parts), None]

    def test_closing_twice_is_fine(self, storage: Storage) -> None:
        _write(storage, {"a": b"1"})
        storage.close()
        storage.close()

    @staticmethod
    def _refuses(storage: Storage, data: bytes, expect: object) -> None:
        with pytest.raises(ObjectMismatch):
            storage.store("manifest", data, expect)  # type: ignore[arg-type]

    @staticmethod
    def _streaming(storage: Storage) -> SupportsStreaming:
        if not has_streaming(storage):
            pytest.skip("moves values only whole")
        return storage

    @staticmethod
    def _transactional(storage: Storage) -> SupportsTransaction:
        if not isinstance(storage, SupportsTransaction):
            pytest.skip("has no transactions")
        return storage


class _Interrupted(Exception):  # noqa: N818 - it is no error
    """Ends a transaction of a test."""
