"""Storages that keep conditions, storages that only say so, and storages that cannot be used at all."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync import Put
from kvsync.cli import main
from kvsync.environment import Environment
from kvsync.errors import StorageError
from kvsync.lease import LeaseState
from kvsync.probe import PROBE_PREFIX, probe
from kvsync.run.holder import read_lease
from kvsync.storages import open_storage
from kvsync.storages.contract import SKIPPED_MAX, ObjectMismatch, OpaqueTokens, Support, Tier
from kvsync.storages.folder import FolderStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.storages.wrapper import WrappedStorage
from kvsync.testing import ExpiringStorage, Fault, FaultyStorage
from kvsync.types import ABSENT, ANY, Skipped, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Literal

    from kvsync.types import Expectation, Version


class Careless(WrappedStorage):
    """Accepts conditions, and ignores the chosen ones."""

    def __init__(
        self, *ignores: str, conditions: Literal["certain", "claimed", "advisory"] = "claimed", removes: bool = True
    ) -> None:
        super().__init__(MappingStorage({}))
        self.ignores = ignores
        self.capabilities = replace(
            self.inner.capabilities, tier=Tier.CONDITIONAL, conditions=conditions, lease_stays=not removes
        )

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        careless = "create" if expect is ABSENT else "replace"
        return super().store(name, data, ANY if careless in self.ignores else expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        super().remove(names, ANY if "remove" in self.ignores else expect)


def test_a_sound_storage_is_found_sound_and_left_clean() -> None:
    storage = MappingStorage({})
    found = probe(storage, Environment())
    assert found.sound
    assert (found.creates_once, found.replaces_current_only, found.removes_current_only) == (True, True, True)
    assert len(found.seconds) == 5
    assert storage.objects() == []


@pytest.mark.parametrize("ignores", ["create", "replace", "remove"])
def test_each_condition_that_is_ignored_is_found(ignores: str) -> None:
    storage = Careless(ignores)
    found = probe(storage, Environment())
    assert not found.sound
    assert len(found.ignored) == 1
    assert storage.objects() == []
    diagnosis = kvsync.doctor(storage)
    assert diagnosis.guarantee == "T4"
    assert not diagnosis.healthy
    assert found.ignored[0] in diagnosis.wrong[0]


def test_who_cannot_remove_on_condition_is_not_asked_to() -> None:
    found = probe(Careless("remove", removes=False), Environment())
    assert found.removes_current_only is None
    assert found.sound


@pytest.mark.parametrize("removes", [False, True], ids=["marks its lease", "removes its lease"])
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("ignores", [("create",), ("replace",), ("create", "replace", "remove")])
def test_a_run_refuses_to_begin_in_a_storage_that_ignores_conditions(
    side: str, ignores: tuple[str, ...], removes: bool
) -> None:
    careless, other = Careless(*ignores, removes=removes), MappingStorage({})
    source, target = (careless, other) if side == "source" else (other, careless)
    for _ in range(2):
        with pytest.raises(StorageError, match="ignores conditional writes") as raised:
            kvsync.sync(source, target, changes=[Put("k", b"v")])
        assert ("creates an object" in raised.value.message) is ("create" in ignores)
        assert ("replaces an object" in raised.value.message) is ("replace" in ignores)
        assert careless.read(["k"]) == other.read(["k"]) == [None]
        assert set(careless.objects()) <= {"lease"}
        assert set(other.objects()) <= {"lease"}
        record = read_lease(careless)
        assert record is None or record.state is not LeaseState.HELD
    with pytest.raises(StorageError, match="ignores conditional writes"):
        kvsync.commit(careless, [Put("k", b"v")])


def test_a_run_refuses_to_begin_where_a_lease_can_be_removed_by_anybody() -> None:
    with pytest.raises(StorageError, match="removes an object"):
        kvsync.commit(Careless("remove"), [Put("k", b"v")])


def test_a_run_refuses_to_begin_where_what_is_current_cannot_be_replaced() -> None:
    class Stubborn(Careless):
        def store(self, name: str, data: bytes, expect: Expectation) -> Version:
            if isinstance(expect, bytes):
                raise ObjectMismatch(name)
            return super().store(name, data, expect)

    storage = Stubborn(removes=False)
    with pytest.raises(StorageError, match="refuses to replace lease although it has the expected version"):
        kvsync.commit(storage, [Put("k", b"v")])
    assert storage.read(["k"]) == [None]


def test_a_lease_that_is_seized_while_conditions_are_tried_is_lost() -> None:
    class Seized(Careless):
        def store(self, name: str, data: bytes, expect: Expectation) -> Version:
            if isinstance(expect, bytes) and not self.ignores:
                self.ignores = ("nothing any more",)
                assert kvsync.unlock(self, force=True)
            return super().store(name, data, expect)

    storage = Seized(removes=False)
    with pytest.raises(kvsync.LockLostError, match="another run took it over"):
        kvsync.commit(storage, [Put("k", b"v")])
    assert storage.read(["k"]) == [None]


def test_who_insists_may() -> None:
    careless, other = Careless("create", "replace", conditions="advisory"), MappingStorage({})
    result = kvsync.sync(careless, other, changes=[Put("k", b"v")])
    assert result.pushed == 1
    assert other.read(["k"]) == [b"v"]


def test_only_a_storage_that_is_new_to_kvsync_is_probed() -> None:
    """On its lease, which is written anyway: created, created once more, renewed, replaced as it was."""

    class Counting(Careless):
        tries = 0

        def store(self, name: str, data: bytes, expect: Expectation) -> Version:
            self.tries += name == "lease"
            return super().store(name, data, expect)

    claimed, other = Counting(removes=False), MappingStorage({})
    kvsync.sync(claimed, other, changes=[Put("k", b"1")])
    assert claimed.tries == 4
    kvsync.sync(claimed, other, changes=[Put("k", b"2")])
    assert claimed.tries == 5
    assert set(claimed.objects()) == {"lease", "manifest", "segment/0000000000000001-0", "segment/0000000000000002-0"}


def test_of_one_host_conditions_are_tried_once() -> None:
    """Elsewhere they are tried anew; one that ignores them is tried, and refused, each time."""

    def lease_writes(host: str, *ignores: str) -> int:
        storage = Careless(*ignores, removes=False)
        storage.inner.host = host  # type: ignore[attr-defined]
        storage.capabilities = replace(storage.capabilities, supports=frozenset({Support.HOST}))
        writes: list[str] = []

        class Watched(WrappedStorage):
            def store(self, name: str, data: bytes, expect: Expectation) -> Version:
                writes.append(name)
                return super().store(name, data, expect)

        kvsync.sync(Watched(storage), MappingStorage({}), changes=[Put("k", b"1")])
        return writes.count("lease")

    here = f"a bucket of {time.time_ns()}"
    assert [lease_writes(here), lease_writes(here), lease_writes(f"{here}, another")] == [4, 1, 4]
    for _ in range(2):
        with pytest.raises(StorageError, match="ignores conditional writes"):
            lease_writes(f"{here}, a careless one", "create")


def test_what_a_probe_left_behind_is_swept() -> None:
    storage = MappingStorage({})
    kvsync.commit(storage, [Put("k", b"v")])
    storage.store(f"{PROBE_PREFIX}0123", b"x", ABSENT)
    kvsync.compact(storage)
    assert not [name for name in storage.objects() if name.startswith(PROBE_PREFIX)]


def test_a_storage_that_cannot_be_written_is_told_in_words() -> None:
    faulty = FaultyStorage(MappingStorage({}), Fault(at=4))
    found = kvsync.doctor(faulty)
    assert found.guarantee is None
    assert not found.healthy
    assert found.wrong


def test_what_a_storage_has_learnt_of_itself_by_then_is_told() -> None:
    class Learning(ExpiringStorage):
        def store(self, name: str, data: bytes, expect: Expectation) -> Version:
            self.capabilities = replace(self.capabilities, supports=frozenset())
            return super().store(name, data, expect)

    assert Support.EXPIRY not in kvsync.doctor(Learning()).capabilities.supports
    assert Support.EXPIRY in kvsync.doctor(ExpiringStorage()).capabilities.supports


def test_a_storage_that_cannot_be_read_is_tried_once() -> None:
    """Each further try may wait for a time-out of its own."""
    faulty = FaultyStorage(MappingStorage({}), Fault(at=1))
    found = kvsync.doctor(faulty)
    assert len(found.wrong) == 1
    assert found.probe is None


def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    """Trying left `.kvsync` with an empty `probe` in it."""
    (tmp_path / "a").write_bytes(b"1")
    found = kvsync.doctor(tmp_path)
    assert (found.healthy, found.unmade) == (True, "")
    assert found.probe is not None
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]
    kvsync.commit(tmp_path, scan=True)
    before = sorted(tmp_path.rglob("*"))
    assert kvsync.doctor(tmp_path).probe is not None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_somebody_begins_to_use_meanwhile_keeps_its_index(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    with storage.dry_probe() as unmade:
        assert unmade == ""
        FolderStorage(tmp_path).store("lease", b"theirs", ABSENT)
    stored = storage.load("lease")
    assert stored is not None
    assert stored.data == b"theirs"


def test_who_waits_for_a_lock_that_is_removed_locks_the_next_one(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.store("other", b"", ABSENT)
    lock = tmp_path / ".kvsync" / "lock"
    with lock.open("rb") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        waiting = threading.Thread(target=storage.store, args=("lease", b"1", ABSENT))
        waiting.start()
        time.sleep(0.1)
        lock.unlink()
        with lock.open("xb") as new:
            fcntl.flock(new, fcntl.LOCK_EX)
            fcntl.flock(old, fcntl.LOCK_UN)
            waiting.join(0.2)
            assert storage.load("lease") is None
    waiting.join(10)
    assert storage.load("lease") is not None


def test_a_database_gets_no_table_by_being_tried(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
    before = file.read_bytes()
    found = kvsync.doctor(f"sqlite:///{file}")
    assert (found.healthy, found.unmade) == (True, "")
    assert found.probe is not None
    assert found.probe.sound
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    assert file.read_bytes() == before


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "lmdb:///{}"])
def test_what_is_not_there_is_told_and_not_made(tmp_path: Path, form: str) -> None:
    found = kvsync.doctor(form.format(tmp_path / "new"))
    assert (found.healthy, found.probe) == (True, None)
    assert str(tmp_path / "new") in found.unmade
    assert not list(tmp_path.iterdir())


def test_what_is_passed_over_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a").write_bytes(b"1")
    assert kvsync.doctor(tmp_path).skipped == ()
    (tmp_path / "notes" / "link").symlink_to("a")
    (tmp_path / "hanging").symlink_to("nowhere")
    assert [entry.name for entry in kvsync.doctor(tmp_path).skipped] == ["hanging", "notes/link"]
    assert main(["doctor", str(tmp_path)]) == 0
    assert "2, such as 'hanging'" in capsys.readouterr().out
    for number in range(SKIPPED_MAX):
        (tmp_path / f"{number}").symlink_to("nowhere")
    assert len(kvsync.doctor(tmp_path).skipped) == SKIPPED_MAX
    assert main(["doctor", str(tmp_path)]) == 0
    assert "100 or more" in capsys.readouterr().out


def test_a_link_in_the_place_of_a_known_value_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    kvsync.sync(folder, {}, scan=True)
    (folder / "a").unlink()
    (folder / "a").symlink_to("elsewhere")
    (folder / "new").symlink_to("elsewhere")
    (problem,) = kvsync.doctor(folder).wrong
    assert problem.startswith("there was a value at 'a', and now it is a")


def test_a_server_that_cannot_be_reached_is_told_as_a_problem() -> None:
    """The question whether it exists was asked before, and ended the diagnosis with an error."""
    for url in ("postgresql://127.0.0.1:1/db", "nats://127.0.0.1:1/b?timeout=2", "redis://127.0.0.1:1/0"):
        assert len(kvsync.doctor(url).wrong) == 1


class Worn(WrappedStorage):
    """Holds a value that cannot be read, and skips a name that cannot be a key."""

    def __init__(self) -> None:
        super().__init__(MappingStorage({"a": b"1", "worn": b"2"}))
        supports = self.inner.capabilities.supports | {Support.SKIPPED}
        self.capabilities = replace(self.inner.capabilities, tokens=OpaqueTokens(), supports=supports)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return (Skipped("bad\udc80name", "it is not UTF-8", harmless=False), Skipped("link", "it is a link"))

    def scan(self, splits: Sequence[str] = ()) -> Iterator[tuple[list[str], list[bytes]]]:
        yield ["a"], [b"token"]
        yield ["worn"], [b""]

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        values = super().read(keys)
        return [Unreadable("bad sector") if k == "worn" else value for k, value in zip(keys, values, strict=True)]


def test_what_a_run_would_leave_behind_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run ends with 1 for it, and doctor found nothing wrong."""
    found = kvsync.doctor(Worn())
    assert found.wrong == [
        "the value of 'worn' cannot be read: bad sector",
        "'bad\\udc80name' is left behind: it is not UTF-8",
    ]
    assert not found.healthy
    monkeypatch.setattr("kvsync.opening.open_storage", lambda *_, **__: (Worn(), False))
    assert main(["doctor", "memory:x"]) == 1
    told = capsys.readouterr().out
    assert "problem                       the value of 'worn' cannot be read" in told
    assert "skipped, not values           1, such as 'link': it is a link" in told


def test_the_command_tells_what_is_not_there_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"lmdb:///{tmp_path}"]) == 0
    told = capsys.readouterr().out
    assert "the first run creates it" in told
    assert "no problems found" not in told
    assert not list(tmp_path.iterdir())


def test_the_command_tells_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert main(["doctor", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "no problems found" in told
    assert "T3" in told
    assert "keeps expiry                  no" in told
    url = f"sqlite:///{tmp_path}/kv.db?expires=gone"
    open_storage(url)[0].write(["a"], [b"1"])
    assert main(["doctor", url]) == 0
    assert "keeps expiry                  yes" in capsys.readouterr().out
    (tmp_path / ".kvsync").mkdir()
    (tmp_path / ".kvsync" / "manifest").write_bytes(b"no manifest")
    assert main(["doctor", str(tmp_path), "--json"]) == 1
    assert '"healthy": false' in capsys.readouterr().out
