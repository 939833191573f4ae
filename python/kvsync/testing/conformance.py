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

from kvsync.storages.base import (
    ObjectMismatch,
    Storage,
    SupportsCopy,
    SupportsExpiry,
    SupportsStreaming,
    SupportsTransaction,
    has_copy,
    has_expiry,
    has_streaming,
)
from kvsync.types import ABSENT, ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.types import Origin

__all__ = ["HARD_KEYS", "HARD_VALUES", "StorageConformance", "listing"]

HARD_VALUES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "line ends": b"a\r\nb\nc\rd\x1a\r\n",
    "no text": b"\xff\xfe\x00\x00\x80",
    "a mebibyte": bytes(range(256)) * 4096,
}

YEAR_9999_MS = 253_402_300_799_999
HOUR_MS = 3_600_000
SOON_MS = 150
PATIENCE_SECONDS = 20.0
"""What is to go within `SOON_MS` is waited for so long: a server removes it when it likes, and machines are slow."""

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
        assert isinstance(storage, SupportsExpiry) or not storage.capabilities.expiry

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

    def test_a_copy_is_of_the_named_version_alone(self, storage: Storage) -> None:
        copying, origin = self._copying(storage, "from")
        _write(storage, {"from": b"first", "there": b"before"})
        first = listing(storage)["from"]
        _write(storage, {"from": b"later"})
        later = listing(storage)["from"]
        for key in ("there", "new"):
            assert copying.copy(key, origin, first, 5, meanwhile=_idle) is None
        assert storage.read(["there", "new"]) == [b"before", None]
        for key in ("there", "new"):
            written = copying.copy(key, origin, later, 5, meanwhile=_idle)
            assert written is not None
            assert written.refused == ()
            assert written.tokens in {None, (None,), (listing(storage)[key],)}
        assert storage.read(["there", "new", "from"]) == [b"later"] * 3
        assert storage.objects() == []

    def test_copying_on_condition(self, storage: Storage) -> None:
        copying, origin = self._copying(storage, "from")
        _write(storage, {"from": b"1", "there": b"2", "moved": b"3"})
        tokens = listing(storage)
        _write(storage, {"moved": b"4"})
        for key, expect in (("there", None), ("moved", tokens["moved"]), ("new", tokens["there"]), ("there", b"")):
            assert copying.copy(key, origin, tokens["from"], 1, [expect], meanwhile=_idle) is None
        assert storage.read(["there", "moved", "new"]) == [b"2", b"4", None]
        for key, expect in (("there", tokens["there"]), ("new", None)):
            assert copying.copy(key, origin, tokens["from"], 1, [expect], meanwhile=_idle) is not None
        assert storage.read(["there", "moved", "new"]) == [b"1", b"4", b"1"]

    def test_an_expiry_comes_back_as_it_was_given(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        expires = [later, 0, later + 1, YEAR_9999_MS, later - 7]
        keys = ["a", "b", "c/d", "e", "f"]
        written = expiring.write_expiring(keys, [b"1"] * 5, expires)
        assert written.refused == ()
        assert expiring.expiries([*keys, "none"]) == [*expires, 0]
        assert expiring.expiries([]) == []
        assert storage.read([*keys, "none"]) == [b"1"] * 5 + [None]
        assert written.tokens is not None
        assert listing(storage) == dict(zip(keys, written.tokens, strict=True))

    def test_another_handle_sees_an_expiry(self, storage: Storage, another: Storage) -> None:
        later = _now_ms() + HOUR_MS
        self._expiring(storage).write_expiring(["a", "b"], [b"1", b"1"], [later, 0])
        assert self._expiring(another).expiries(["b", "a"]) == [0, later]
        assert listing(another) == listing(storage)

    def test_the_same_value_with_another_expiry_is_another_version(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        tokens = set()
        for due in (0, later, later + 1, YEAR_9999_MS):
            written = expiring.write_expiring(["a"], [b"1"], [due])
            assert written.tokens == (listing(storage)["a"],)
            tokens.add(listing(storage)["a"])
        assert len(tokens) == 4
        expiring.write_expiring(["a", "b"], [b"1", b"1"], [later, later])
        after = listing(storage)
        assert after["a"] in tokens
        expiring.write_expiring(["a", "b"], [b"1", b"2"], [later, later])
        assert listing(storage)["a"] == after["a"]
        assert listing(storage)["b"] != after["b"]

    def test_a_plain_write_leaves_a_value_that_stays(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        _write(storage, {"a": b"1", "b": b"1"})
        staying = listing(storage)
        expiring.write_expiring(["a", "b"], [b"1", b"1"], [_now_ms() + HOUR_MS] * 2)
        _write(storage, {"a": b"1"})
        expect = listing(storage)["b"]
        assert storage.write(["b"], [b"1"], [expect]).refused == ()
        assert expiring.expiries(["a", "b"]) == [0, 0]
        assert listing(storage) == staying
        expiring.write_expiring(["a"], [b"1"], [_now_ms() + HOUR_MS])
        written = expiring.write_expiring(["a"], [b"1"], [0])
        assert written.tokens == (staying["a"],)
        assert listing(storage) == staying

    def test_what_has_expired_is_absent(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        keys = ["read", "listed", "create", "create expiring", "write", "delete", "delete absent"]
        _write(storage, {"stays": b"1"})
        written = expiring.write_expiring(keys, [b"1"] * 7, [_now_ms() + SOON_MS] * 7)
        assert written.refused == ()
        assert written.tokens is not None
        old = written.tokens[0]
        self._wait_until_gone(storage, keys)
        assert list(listing(storage)) == ["stays"]
        assert expiring.expiries(keys) == [0] * 7
        assert storage.modified_ms(keys) == [None] * 7
        (refusal,) = storage.write(["write"], [b"2"], [old]).refused
        assert (refusal.key, refusal.changed) == ("write", True)
        assert storage.delete(["delete", "delete absent"], [old, None]).refused == ()
        later = _now_ms() + HOUR_MS
        assert storage.write(["create"], [b"3"], [None]).refused == ()
        assert expiring.write_expiring(["create expiring"], [b"3"], [later], [None]).refused == ()
        assert storage.read(keys) == [None, None, b"3", b"3", None, None, None]
        assert expiring.expiries(["create", "create expiring"]) == [0, later]
        _write(storage, {"read": b"4"})
        assert set(listing(storage)) == {"stays", "create", "create expiring", "read"}

    def test_what_was_replaced_before_its_time_stays(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        soon = _now_ms() + SOON_MS
        expiring.write_expiring(["a", "b", "soon"], [b"1"] * 3, [soon] * 3)
        _write(storage, {"a": b"2"})
        expiring.write_expiring(["b"], [b"2"], [YEAR_9999_MS])
        self._wait_until_gone(storage, ["soon"])
        assert storage.read(["a", "b"]) == [b"2", b"2"]
        assert set(listing(storage)) == {"a", "b"}

    def test_a_time_that_has_passed_leaves_the_key_absent(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        _write(storage, {"there": b"1", "expected": b"1"})
        tokens = listing(storage)
        past = _now_ms() - HOUR_MS
        assert expiring.write_expiring(["there", "new", "ancient"], [b"2"] * 3, [past, past, 1]).refused == ()
        written = expiring.write_expiring(["expected", "created"], [b"2"] * 2, [past] * 2, [tokens["expected"], None])
        assert written.refused == ()
        keys = ["there", "new", "ancient", "expected", "created"]
        assert storage.read(keys) == [None] * 5
        assert expiring.expiries(keys) == [0] * 5
        assert listing(storage) == {}

    def test_writing_what_expires_on_condition(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        keys = ["a", "b", "c", "d"]
        first = expiring.write_expiring(keys, [b"1"] * 4, [later, later, 0, 0]).tokens
        assert first is not None
        second = expiring.write_expiring(["b", "d"], [b"1", b"1"], [later + 1, later]).tokens
        assert second is not None
        written = expiring.write_expiring([*keys, "e"], [b"2"] * 5, [later] * 4 + [0], [*first, None])
        # The value is the expected one in all of them; in `b` and `d` its time is another.
        assert [(refusal.key, refusal.changed) for refusal in written.refused] == [("b", True), ("d", True)]
        assert storage.read([*keys, "e"]) == [b"2", b"1", b"2", b"1", b"2"]
        assert expiring.expiries([*keys, "e"]) == [later, later + 1, later, later, 0]
        there = listing(storage)
        assert written.tokens == (there["a"], None, there["c"], None, there["e"])
        assert second[0] is not None
        for expect in (first[1], None, first[2], b"no token", second[0] + b"more"):
            assert [r.changed for r in storage.write(["b"], [b"3"], [expect]).refused] == [True]
            assert [r.changed for r in expiring.write_expiring(["b"], [b"3"], [0], [expect]).refused] == [True]
        assert listing(storage) == there
        assert storage.write(["b"], [b"3"], [second[0]]).refused == ()
        assert expiring.write_expiring(["d"], [b"3"], [0], [second[1]]).refused == ()
        assert storage.read(["b", "d"]) == [b"3", b"3"]
        assert expiring.expiries(["b", "d"]) == [0, 0]

    def test_deleting_what_expires_on_condition(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        written = expiring.write_expiring(["a", "b", "c"], [b"1"] * 3, [later, later, 0])
        assert written.tokens is not None
        expiring.write_expiring(["b", "c"], [b"1"] * 2, [later + 1, later])
        refused = storage.delete(["a", "b", "c"], written.tokens).refused
        assert [(refusal.key, refusal.changed) for refusal in refused] == [("b", True), ("c", True)]
        assert storage.read(["a", "b", "c"]) == [None, b"1", b"1"]
        assert storage.delete(["b", "c"]).refused == ()
        assert listing(storage) == {}

    def test_hard_keys_and_values_that_expire(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        written = expiring.write_expiring(HARD_KEYS, [key.encode() for key in HARD_KEYS], [later] * len(HARD_KEYS))
        assert not any(refusal.changed for refusal in written.refused)
        refused = {refusal.key for refusal in written.refused}
        assert written.tokens is not None
        assert [token is None for token in written.tokens] == [key in refused for key in HARD_KEYS]
        assert expiring.expiries(HARD_KEYS) == [0 if key in refused else later for key in HARD_KEYS]
        assert set(listing(storage)) == set(HARD_KEYS) - refused
        values = list(HARD_VALUES.values())
        names = [f"value {number}" for number in range(len(values))]
        again = expiring.write_expiring(names, values, [later + 1] * len(values), [None] * len(values))
        assert again.refused == ()
        assert storage.read(names) == values
        assert again.tokens is not None
        there = listing(storage)
        assert [there[name] for name in names] == list(again.tokens)

    def test_three_thousand_of_which_every_third_expires(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        keys = [f"k/{number:04d}" for number in range(3_000)]
        values = [b"%d" % number for number in range(3_000)]
        expires = [0 if number % 3 else later + number for number in range(3_000)]
        written = expiring.write_expiring(keys, values, expires)
        assert written.refused == ()
        assert written.tokens is not None
        assert storage.read(keys) == values
        assert expiring.expiries(keys) == expires
        assert listing(storage) == dict(zip(keys, written.tokens, strict=True))
        again = expiring.write_expiring(keys, values[::-1], expires[::-1], written.tokens)
        assert again.refused == ()
        assert expiring.expiries(keys) == expires[::-1]
        assert storage.delete(keys, again.tokens).refused == ()
        assert listing(storage) == {}

    def test_nothing_expiring_written_is_nothing_done(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        assert expiring.write_expiring([], [], []) == ((), ())
        assert expiring.write_expiring([], [], [], []) == ((), ())
        assert listing(storage) == {}

    def test_of_eight_who_replace_what_has_expired_one_wins(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        keys = [f"k{number}" for number in range(20)]
        later = _now_ms() + HOUR_MS
        self._expiring(storage).write_expiring(keys, [b"old"] * 20, [_now_ms() + SOON_MS] * 20)
        self._wait_until_gone(storage, keys)
        barrier = Barrier(8)

        def race(number: int) -> set[str]:
            with contextlib.closing(reopen()) as mine:
                barrier.wait(30)
                turned = keys[number:] + keys[:number]
                expires = [later + number, 0] * 10
                written = self._expiring(mine).write_expiring(turned, [b"%d" % number] * 20, expires, [None] * 20)
                assert all(refusal.changed for refusal in written.refused)
                return set(keys) - {refusal.key for refusal in written.refused}

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(8)))
        assert sorted(key for some in won for key in some) == sorted(keys)
        winners = [number for key in keys for number, some in enumerate(won) if key in some]
        assert storage.read(keys) == [b"%d" % number for number in winners]

    def test_an_expiry_is_committed_or_undone_with_its_value(self, storage: Storage) -> None:
        expiring = self._expiring(storage)
        later = _now_ms() + HOUR_MS
        with self._transactional(storage).transaction():
            expiring.write_expiring(["a"], [b"1"], [later])
            assert expiring.expiries(["a"]) == [later]
        with contextlib.suppress(_Interrupted), self._transactional(storage).transaction():
            expiring.write_expiring(["a", "b"], [b"1", b"1"], [later + 1, later])
            raise _Interrupted
        assert expiring.expiries(["a", "b"]) == [later, 0]
        assert storage.read(["a", "b"]) == [b"1", None]

    def test_closing_twice_is_fine(self, storage: Storage) -> None:
        _write(storage, {"a": b"1"})
        storage.close()
        storage.close()

    @staticmethod
    def _refuses(storage: Storage, data: bytes, expect: object) -> None:
        with pytest.raises(ObjectMismatch):
            storage.store("manifest", data, expect)  # type: ignore[arg-type]

    @staticmethod
    def _expiring(storage: Storage) -> SupportsExpiry:
        if not has_expiry(storage):
            pytest.skip("keeps no expiry")
        return storage

    @staticmethod
    def _wait_until_gone(storage: Storage, keys: list[str]) -> None:
        """Wait in real time, which a server's clock follows."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while storage.read(keys) != [None] * len(keys):
            assert time.monotonic() < deadline, f"{keys} do not expire"
            time.sleep(SOON_MS / 10_000)

    @staticmethod
    def _streaming(storage: Storage) -> SupportsStreaming:
        if not has_streaming(storage):
            pytest.skip("moves values only whole")
        return storage

    @staticmethod
    def _copying(storage: Storage, key: str) -> tuple[SupportsCopy, Origin]:
        origin = storage.origin(key) if has_copy(storage) else None
        if not has_copy(storage) or origin is None:
            pytest.skip("its server copies nothing")
        return storage, origin

    @staticmethod
    def _transactional(storage: Storage) -> SupportsTransaction:
        if not isinstance(storage, SupportsTransaction):
            pytest.skip("has no transactions")
        return storage


def _idle() -> None:
    pass


def _now_ms() -> int:
    return int(time.time() * 1000)


class _Interrupted(Exception):  # noqa: N818 - it is no error
    """Ends a transaction of a test."""
