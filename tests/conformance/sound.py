"""A sound storage in memory, with transactions and expiry, from small methods that mutants replace one by one."""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import pytest

from kvsync.storages import Capabilities, ObjectMismatch, Support, Tier, digest_values
from kvsync.types import ABSENT, ANY, Refusal, Skipped, Stored, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.storages.hints import Wake
    from kvsync.types import Expectation, Version

PAGE = 1000


@dataclass
class State:
    """What is stored: values with the time at which they expire, and index objects with their versions."""

    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    objects: dict[str, Stored] = field(default_factory=dict)

    def copy(self) -> State:
        return State(dict(self.values), dict(self.objects))


@dataclass
class Disk:
    """What several handles share, and what somebody planted there.

    Attributes:
        hindered: keys that are not written and deleted as told.
        spoiled: keys where something stands that is no value.
        misnamed: names of entries that cannot be keys.
        beside: what is kept beside the value of a key.
    """

    state: State = field(default_factory=State)
    hindered: set[str] = field(default_factory=set)
    spoiled: set[str] = field(default_factory=set)
    misnamed: set[str] = field(default_factory=set)
    beside: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    numbers: itertools.count[int] = field(default_factory=itertools.count)


class Hooks:
    """The hooks of a test class for a `Sound` storage or a mutant of it."""

    @pytest.fixture
    def disk(self) -> Disk:
        return Disk()

    @pytest.fixture
    def hinder(self, disk: Disk) -> Callable[[str], None]:
        return disk.hindered.add

    @pytest.fixture
    def spoil(self, disk: Disk) -> Callable[[str], None]:
        return disk.spoiled.add

    @pytest.fixture
    def misname(self, disk: Disk) -> Callable[[], None]:
        return lambda: disk.misnamed.add("no key")

    @pytest.fixture
    def dress(self, disk: Disk) -> Callable[[str], Callable[[], object]]:
        def put_beside(key: str) -> Callable[[], object]:
            disk.beside[key] = "a mode"
            return lambda: disk.beside.get(key)

        return put_beside


class SoundHints:
    """Compares what a storage noticed with what it had noticed before."""

    poll_seconds = 0.01
    complete = True
    reason = ""

    def __init__(self, noticed: Callable[[], object]) -> None:
        self._noticed = noticed
        self._before = noticed()

    def poll(self) -> bool:
        before, self._before = self._before, self._noticed()
        return before != self._before

    def close(self) -> None:
        pass


class Sound:
    """Keeps every promise of the contract."""

    name = "sound:"
    capabilities = Capabilities(
        Tier.TRANSACTIONAL,
        distance="memory",
        supports=frozenset(
            {
                Support.TRANSACTION,
                Support.EXPIRY,
                Support.SKIPPED,
                Support.SPLITS,
                Support.HINTS,
                Support.RANGES,
            }
        ),
    )

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.own: State | None = None

    @property
    def state(self) -> State:
        """What this handle sees: inside a transaction, its own copy."""
        return self.own or self.disk.state

    # Values

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(name, "it cannot be a key", harmless=False) for name in sorted(self.disk.misnamed))

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        with self.locked():
            return [self.shown(self.stored_key(key)) for key in keys]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        return Written(self.write_expiring(keys, values, [0] * len(keys), expect).refused)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        with self.locked():
            refused = self.refusals(keys, expect) | self.barred(keys)
            for key, value, due in zip(keys, values, expires, strict=True):
                if key not in refused:
                    self.put(self.stored_key(key), self.stored_value(value), due)
            tokens = [
                None if key in refused else self.token(value, due)
                for key, value, due in zip(keys, values, expires, strict=True)
            ]
        return Written(tuple(refused.values()), tuple(tokens))

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        with self.locked():
            present = [position for position, key in enumerate(keys) if self.found(self.stored_key(key))]
            wanted = [expect[position] for position in present] if expect is not None else None
            there = [keys[position] for position in present]
            refused = self.refusals(there, wanted) | self.barred(there)
            for key in keys:
                if key not in refused:
                    self.state.values.pop(self.stored_key(key), None)
        return Written(tuple(refused.values()))

    def expiries(self, keys: Sequence[str]) -> list[int]:
        found = [self.found(self.stored_key(key)) for key in keys]
        return [entry[1] if entry else 0 for entry in found]

    def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
        with self.locked():
            there = [(key, self.found(key)) for key in self.split(self.listed(), splits)]
        whole = [(key, entry) for key, entry in there if entry is not None and key not in self.disk.spoiled]
        pairs = [(key, self.token(*entry)) for key, entry in whole]
        for page in self.pages(pairs):
            yield [key for key, _ in page], [token for _, token in page]

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        return [None] * len(keys)

    # Index objects

    def load(self, name: str) -> Stored | None:
        return self.state.objects.get(name)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        found = self.state.objects.get(name)
        return None if found is None else [found.data[offset : offset + length] for offset, length in ranges]

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        with self.locked():
            self.check(name, expect)
            self.state.objects[name] = Stored(self.stored_object(data), self.new_version(name))
            return self.state.objects[name].version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        with self.locked():
            for name in names:
                self.check(name, expect)
            for name in names:
                self.state.objects.pop(name, None)

    def objects(self) -> list[str]:
        return sorted(self.state.objects)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.disk.lock:
            self.own = self.disk.state.copy()
            try:
                yield
                self.disk.state = self.own
            finally:
                self.own = None

    def hints(self, _wake: Wake) -> SoundHints:
        return SoundHints(self.noticed)

    def close(self) -> None:
        pass

    # What mutants replace

    def noticed(self) -> object:
        return dict(self.state.values)

    def locked(self) -> AbstractContextManager[object]:
        return self.disk.lock

    def stored_key(self, key: str) -> str:
        return key

    def stored_value(self, value: bytes) -> bytes:
        return value

    def stored_object(self, data: bytes) -> bytes:
        return data

    def put(self, key: str, value: bytes, due: int) -> None:
        self.state.values[key] = (value, due)

    def found(self, key: str) -> tuple[bytes, int] | None:
        entry = self.state.values.get(key)
        return None if entry and 0 < entry[1] <= time.time() * 1000 else entry

    def shown(self, key: str) -> bytes | Unreadable | None:
        entry = self.found(key)
        if key in self.disk.spoiled:
            return Unreadable("it is no value")
        return None if entry is None else entry[0]

    def barred(self, keys: Sequence[str]) -> dict[str, Refusal]:
        barred = self.disk.hindered | self.disk.spoiled
        return {key: Refusal(key, "the store does not do that", changed=False) for key in keys if key in barred}

    def token(self, value: bytes, due: int) -> bytes:
        digest = digest_values([value])[0]
        return digest + due.to_bytes(8, "little", signed=True) if due else digest

    def refusals(self, keys: Sequence[str], expect: Sequence[bytes | None] | None) -> dict[str, Refusal]:
        wanted = dict(zip(keys, expect, strict=True)) if expect is not None else {}
        return {key: Refusal(key, "changed", changed=True) for key in wanted if not self.matches(key, wanted[key])}

    def matches(self, key: str, wanted: bytes | None) -> bool:
        entry = self.found(self.stored_key(key))
        return wanted == (None if entry is None else self.token(*entry))

    def listed(self) -> list[str]:
        return sorted(self.state.values)

    def split(self, keys: list[str], splits: Sequence[str]) -> list[str]:
        ends = [0, *(bisect_right(keys, split) for split in splits), len(keys)]
        return [key for start, end in pairwise(ends) for key in keys[start:end]]

    def pages(self, pairs: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
        return [pairs[start : start + PAGE] for start in range(0, len(pairs), PAGE)]

    def new_version(self, name: str) -> Version:
        return b"%d" % next(self.disk.numbers)

    def check(self, name: str, expect: Expectation) -> None:
        stored = self.state.objects.get(name)
        if expect is not ANY and (stored and stored.version) != (None if expect is ABSENT else expect):
            raise ObjectMismatch(name)


class Mutant(Sound):
    """A storage that breaks one promise; `caught_by` names the tests of the suite that must fail."""

    caught_by: ClassVar[tuple[str, ...]]
