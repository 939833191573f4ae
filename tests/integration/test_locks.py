"""Leases: held, dead, broken, taken over, lost, given back; and two runs at once."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from places import KINDS, PAIRS, UNLIKE, Clock, DictPlace, Hooked, Place, SqlitePlace, make, plain
from variants import spread

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.lease import LeaseRecord, LeaseState
from kvsync.native import KIND_LEASE, seal
from kvsync.run.holder import read_lease
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kvsync.testing import FaultMode

LIFE = 60
SKEW = 5


class Killed(BaseException):
    """The process is gone."""


def lease_of(place: Place) -> LeaseRecord | None:
    with place.storage() as storage:
        return read_lease(storage)


def record(
    clock: Clock, state: LeaseState = LeaseState.HELD, *, acquired: float = 0, life: float = LIFE
) -> LeaseRecord:
    """Return a stranger's lease, acquired so many seconds ago."""
    start = int((clock.now - acquired) * 1000)
    return LeaseRecord(state, b"stranger's token", "host9 pid 9 worker", 3, start, start + int(life * 1000))


@pytest.fixture
def clock() -> Clock:
    return Clock()


# One lease that is there already


@pytest.mark.parametrize(("first", "second", "held"), spread(UNLIKE, ["one", "two", "both"]))
def test_a_live_lease_is_waited_for_then_named(folder: Path, clock: Clock, first: str, second: str, held: str) -> None:
    places = {"one": make(first, folder, "one"), "two": make(second, folder, "two")}
    for name, place in places.items():
        if held in (name, "both"):
            place.replace("lease", record(clock).encode())
    started = clock.now
    with pytest.raises(kvsync.LockHeldError) as refused:
        kvsync.sync(
            places["one"].target,
            places["two"].target,
            [Put("k", b"1")],
            environment=clock.environment,
            wait_seconds=10,
        )
    assert 9 < clock.now - started < 30
    assert refused.value.owner == "host9 pid 9 worker"
    assert refused.value.expires == pytest.approx(started + LIFE, abs=0.01)
    assert "host9" in str(refused.value)
    assert "unlock" in str(refused.value)
    for name, place in places.items():
        assert place.values() == {}
        assert (lease_of(place) is not None) == (held in (name, "both"))


def test_a_run_that_may_wait_long_enough_gets_it(clock: Clock) -> None:
    a, b = DictPlace(), DictPlace()
    b.replace("lease", record(clock).encode())
    kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment, wait_seconds=100)
    assert b.values() == {"k": b"1"}


@pytest.mark.parametrize(("first", "second", "held"), spread(UNLIKE, ["one", "two", "both"]))
def test_an_expired_lease_is_taken_over(folder: Path, clock: Clock, first: str, second: str, held: str) -> None:
    places = {"one": make(first, folder, "one"), "two": make(second, folder, "two")}
    for name, place in places.items():
        if held in (name, "both"):
            place.replace("lease", record(clock, acquired=LIFE + SKEW + 1).encode())
    one, two = places.values()
    kvsync.sync(one.target, two.target, [Put("k", b"1")], environment=clock.environment, wait_seconds=0)
    assert one.values() == two.values() == {"k": b"1"}
    assert lease_of(one) is None
    assert lease_of(two) is None


@pytest.mark.parametrize("state", [LeaseState.RELEASED, LeaseState.INTERRUPTED])
def test_a_lease_that_was_given_back_is_free_at_once(clock: Clock, state: LeaseState) -> None:
    a, b = DictPlace(), DictPlace()
    a.replace("lease", record(clock, state).encode())
    kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment, wait_seconds=0)
    assert b.values() == {"k": b"1"}


def test_skew_is_allowed_for(clock: Clock) -> None:
    """An expiry is not believed to the second: the holder's clock may be behind ours."""
    a, b = DictPlace(), DictPlace()
    a.replace("lease", record(clock, acquired=LIFE + SKEW - 2).encode())
    with pytest.raises(kvsync.LockHeldError):
        kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment, wait_seconds=0)


@pytest.mark.parametrize("acquired", [-1e6, 0])
def test_nobody_holds_it_for_ever(clock: Clock, acquired: float) -> None:
    """A lease that claims a year, or was made by a clock far ahead, ends an hour after it was last seen to change."""
    a, b = DictPlace(), DictPlace()
    a.replace("lease", record(clock, acquired=acquired, life=365 * 86_400).encode())
    with pytest.raises(kvsync.LockHeldError):
        kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment, wait_seconds=3000)
    kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment, wait_seconds=4000)
    assert b.values() == {"k": b"1"}


def broken_leases() -> dict[str, bytes]:
    whole = record(Clock()).encode()
    body = msgpack.unpackb(whole[24:])
    lacking = {key: value for key, value in body.items() if key != "expires"}
    return {
        "empty": b"",
        "garbage": os.urandom(200),
        "truncated": whole[:-5],
        "flipped": bytes([*whole[:60], whole[60] ^ 1, *whole[61:]]),
        "lacking a field": seal(KIND_LEASE, msgpack.packb(lacking)),
        "another state": seal(KIND_LEASE, msgpack.packb(body | {"state": "sold"})),
        "a number as owner": seal(KIND_LEASE, msgpack.packb(body | {"owner": 7})),
        "negative expiry": seal(KIND_LEASE, msgpack.packb(body | {"expires": -1})),
        "no map": seal(KIND_LEASE, msgpack.packb([1, 2])),
    }


@pytest.mark.parametrize(("first", "second", "name"), spread(UNLIKE, [*broken_leases()]))
def test_an_unreadable_lease_is_an_error_until_unlocked(
    folder: Path, clock: Clock, first: str, second: str, name: str
) -> None:
    one, two = make(first, folder, "one"), make(second, folder, "two")
    kvsync.sync(one.target, two.target, [Put("k", b"1")], environment=clock.environment)
    two.replace("lease", broken_leases()[name])
    with pytest.raises(kvsync.IndexDamagedError) as refused:
        kvsync.sync(one.target, two.target, [Put("j", b"2")], environment=clock.environment, wait_seconds=0)
    with two.storage() as storage:
        assert refused.value.storage == storage.name
    assert refused.value.name == "lease"
    assert one.values() == two.values() == {"k": b"1"}
    assert lease_of(one) is None
    assert kvsync.unlock(two.target, environment=clock.environment)
    kvsync.sync(one.target, two.target, [Put("j", b"2")], environment=clock.environment, wait_seconds=0)
    assert two.values() == {"k": b"1", "j": b"2"}


@pytest.mark.parametrize("name", ["garbage", "lacking a field"])
def test_an_unreadable_lease_says_what_to_do(clock: Clock, name: str) -> None:
    a, b = DictPlace(), DictPlace()
    a.replace("lease", broken_leases()[name])
    with pytest.raises(kvsync.IndexDamagedError, match="unlock"):
        kvsync.sync(a.target, b.target, [Put("j", b"2")], environment=clock.environment, wait_seconds=0)


def test_a_lease_whose_state_is_a_list_is_damaged(clock: Clock) -> None:
    """Its state was looked up among the known ones before it was known to be a text, and the look-up failed."""
    a, b = DictPlace(), DictPlace()
    body = msgpack.unpackb(record(clock).encode()[24:]) | {"state": []}
    a.replace("lease", seal(KIND_LEASE, msgpack.packb(body)))
    with pytest.raises(kvsync.IndexDamagedError):
        kvsync.sync(a.target, b.target, [Put("j", b"2")], environment=clock.environment, wait_seconds=0)


# A holder that dies, or is only slow


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_process_is_outlived(folder: Path, clock: Clock, kind: str) -> None:
    """The process dies in the middle of its writes. Nobody can run until its lease has ended, then it is finished."""
    one, two = make(kind, folder, "one"), make(kind, folder, "two")
    changes = [Put(f"k{i}", b"%d" % i) for i in range(20)]
    dead: list[str] = []

    def die(method: str, *_: object) -> None:
        if dead or method == "write":
            dead.append(method)
            raise Killed

    victim = Hooked(two.target, after=die, before=lambda method, *_: die("") if dead else None)
    source = Hooked(one.target, before=lambda *_: die("") if dead else None)
    with pytest.raises(Killed):
        kvsync.sync(source, victim, changes, environment=clock.environment)
    victim.close()
    source.close()
    with pytest.raises(kvsync.LockHeldError):
        kvsync.sync(one.target, two.target, environment=clock.environment, wait_seconds=5)
    clock.sleep(LIFE + SKEW + 1)
    kvsync.sync(one.target, two.target, environment=clock.environment, wait_seconds=0)
    assert one.values() == two.values() == {change.key: change.value for change in changes}


def operations_of(one: Place, two: Place, changes: list[Put]) -> int:
    """Count the operations of a run."""
    seen: list[str] = []
    with_one, with_two = (Hooked(place.target, before=lambda name, *_: seen.append(name)) for place in (one, two))
    kvsync.sync(with_one, with_two, changes, environment=Clock().environment)
    return len(seen)


CHANGES = [Put("k", b"slow"), Put("slow", b"slow")]


@pytest.mark.parametrize("at", range(1, 17))
def test_a_holder_that_wakes_up_after_a_takeover_stops(at: int) -> None:
    """A run sleeps before one of its operations until another has taken over and finished, writing the same key. Then
    it goes on: it stops with an error, or had nothing left to write, and the two replicas and a third agree in the
    end."""
    one, two, third = DictPlace(), DictPlace(), DictPlace()
    kvsync.sync(one.target, two.target, [Put("k", b"0"), Put("j", b"0")], environment=Clock().environment)
    kvsync.sync(one.target, third.target, environment=Clock().environment)
    if at > operations_of(one.copy(None), two.copy(None), CHANGES):  # type: ignore[arg-type]
        pytest.skip("there are not so many operations")
    clock = Clock()
    count = 0

    def pause(*_: object) -> None:
        nonlocal count
        count += 1
        if count == at:
            clock.sleep(LIFE + SKEW + 1)
            kvsync.sync(two.target, one.target, [Put("k", b"quick"), Put("quick", b"1")], environment=clock.environment)

    slow = [Hooked(place.target, before=pause) for place in (one, two)]
    try:
        kvsync.sync(slow[0], slow[1], CHANGES, environment=clock.environment)
    except kvsync.LockLostError:
        pass
    else:
        # It had not begun, or had finished: then its changes are there.
        assert one.values()["slow"] == b"slow"
    for place in (one, two):
        left = lease_of(place)
        assert left is None or left.state is not LeaseState.HELD
    clock.sleep(600)
    for _ in range(2):
        for source, target in ((one, two), (one, third), (two, third)):
            kvsync.sync(source.target, target.target, scan=True, max_delete="100%", environment=clock.environment)
    assert one.values() == two.values() == third.values()
    assert one.values()["j"] == b"0"
    assert one.values()["quick"] == b"1"
    assert one.values()["k"] in {b"quick", b"slow"}
    for place in (one, two):
        assert not kvsync.verify(place.target, {}).unlogged[f"dict at {id(place.target):#x}"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_lease_that_ran_late_between_lock_and_commit(folder: Path, clock: Clock, kind: str) -> None:
    """The lease was nearly over when the run came to its first value. Nobody had taken it, as a conditional write
    proves, so the run goes on."""
    one, two = make(kind, folder, "one"), make(kind, folder, "two")
    kvsync.sync(one.target, two.target, [Put("k", b"1")], environment=clock.environment)

    def sleep(method: str, *arguments: Any) -> None:
        if method == "load" and arguments[0] == "manifest":
            clock.sleep(LIFE * 0.8 + 1)

    slow = Hooked(one.target, after=sleep)
    kvsync.sync(slow, two.target, [Put("j", b"2")], environment=clock.environment)
    slow.close()
    assert one.values() == two.values() == {"k": b"1", "j": b"2"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stolen_lease_stops_the_commit(folder: Path, clock: Clock, kind: str) -> None:
    """Somebody took the lease by force while the run read the manifest: values may be there, the log is not moved."""
    one, two = make(kind, folder, "one"), make(kind, folder, "two")
    kvsync.sync(one.target, two.target, [Put("k", b"1")], environment=clock.environment)
    stolen: list[bool] = []

    def steal(method: str, *arguments: Any) -> None:
        if method == "load" and arguments[0] == "manifest" and not stolen and lease_of(one) is not None:
            stolen.append(kvsync.unlock(one.target, force=True, environment=clock.environment))

    slow = Hooked(one.target, after=steal)
    with pytest.raises(kvsync.LockLostError):
        kvsync.sync(slow, two.target, [Put("j", b"2")], environment=clock.environment)
    slow.close()
    assert stolen == [True]
    assert two.values() == {"k": b"1"}
    assert [change.key for change in kvsync.log(one.target)] == ["k"]
    assert lease_of(one) is None
    kvsync.sync(one.target, two.target, [Put("j", b"3")], environment=clock.environment)
    assert one.values() == two.values() == {"k": b"1", "j": b"3"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, kvsync.StorageError])
@pytest.mark.parametrize("method", ["read", "write", "scan", "load"])
def test_leases_are_given_back_after_an_error(
    clock: Clock,
    method: str,
    error: type[BaseException],
    after: bool,
) -> None:
    """Whatever goes wrong within a storage, also Ctrl-C: the next run need not wait, and finishes the work."""
    a, b = DictPlace(), DictPlace()
    kvsync.sync(a.target, b.target, [Put(f"k{i}", b"1") for i in range(4)], environment=clock.environment)
    b.put("theirs", b"2")
    seen: list[str] = []

    def fail(name: str, *_: object) -> None:
        seen.append(name)
        if name == method and "store" in seen:
            raise error("on purpose")

    hooks = {"after" if after else "before": fail}
    changes = [Put("new", b"1"), Put("k0")]  # the value of the latter is read
    with pytest.raises(error):
        kvsync.sync(Hooked(a.target, **hooks), b.target, changes, scan=True, environment=clock.environment)
    for place in (a, b):
        left = lease_of(place)
        assert left is None or left.state is not LeaseState.HELD
    kvsync.sync(a.target, b.target, [Put("new", b"1")], scan=True, environment=clock.environment, wait_seconds=0)
    assert a.values() == b.values()
    assert b.values()["new"] == b"1"
    assert a.values()["theirs"] == b"2"


class CtrlC(Fault):
    """Ctrl-C before or after one operation, which the process survives."""

    def call(self, method: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count != self.at:
            return operation(*args, **kwargs)
        if self.mode == "lost":
            operation(*args, **kwargs)
        self.happened = True
        raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["raises", "lost"])
@pytest.mark.parametrize("stays", [False, True])
def test_ctrl_c_at_any_operation_leaves_no_lease_held(clock: Clock, stays: bool, mode: FaultMode) -> None:
    """Within a write of the lease it left that held, by a process that knew nothing of it."""

    def opened(data: dict[str, bytes]) -> MappingStorage:
        storage = MappingStorage(data)
        storage.capabilities = replace(storage.capabilities, lease_stays=stays)
        return storage

    for at in count(1):
        a: dict[str, bytes] = {}
        b: dict[str, bytes] = {}
        kvsync.sync(opened(a), opened(b), [Put("k", b"1")], environment=clock.environment)
        b["theirs"] = b"2"
        fault = CtrlC(at, mode)
        one, two = (FaultyStorage(opened(data), fault) for data in (a, b))
        with suppress(KeyboardInterrupt):
            kvsync.sync(one, two, [Put("new", b"1")], scan=True, environment=clock.environment)
        for data in (a, b):
            record = read_lease(opened(data))
            assert record is None or record.state is not LeaseState.HELD, f"operation {at}"
        options: dict[str, Any] = {"environment": clock.environment, "scan": True, "wait_seconds": 0}
        kvsync.sync(opened(a), opened(b), [Put("new", b"1")], **options)
        assert plain(a) == plain(b) == {"k": b"1", "new": b"1", "theirs": b"2"}
        if not fault.happened:
            break
    assert at > 20


@pytest.mark.parametrize(("first", "second"), UNLIKE)
def test_a_run_that_was_refused_leaves_both_leases_free(folder: Path, clock: Clock, first: str, second: str) -> None:
    """Nothing was about to be written, so nothing is to be looked for: they were marked as interrupted."""
    one, two = make(first, folder, "one"), make(second, folder, "two")
    environment = clock.environment
    kvsync.sync(one.target, two.target, [Put("k", b"1"), Put("j", b"1")], environment=environment)
    one.put("k", b"2")
    plan = kvsync.plan(one.target, two.target, scan=True, environment=environment)
    one.put("k", b"3")
    with pytest.raises(kvsync.StalePlanError):
        plan.apply()
    assert lease_of(one) is lease_of(two) is None
    with pytest.raises(kvsync.BudgetError):
        kvsync.sync(one.target, two.target, scan=True, max_delete=0, environment=environment)
    assert lease_of(one) is lease_of(two) is None
    with pytest.raises(kvsync.UsageError):
        kvsync.sync(one.target, two.target, [Put("nowhere")], environment=environment)
    assert lease_of(one) is lease_of(two) is None


NO_VALUE: Any = 3


@pytest.mark.parametrize("wrong", [Put("nowhere"), Put(".kvsync/x", b"1"), Put("k", NO_VALUE)], ids=str)
def test_a_call_that_is_wrong_leaves_nothing_behind(folder: Path, wrong: Put) -> None:
    """A folder and a lease stayed, though nothing was done."""
    (folder / "there").mkdir()
    for source, refused in ((folder / "there", kvsync.UsageError), (folder / "new" / "source", kvsync.KvsyncError)):
        with pytest.raises(refused):
            kvsync.sync(source, folder / "new" / "target", [wrong])
        with pytest.raises(refused):
            kvsync.commit(source, [wrong])
        assert [str(path.relative_to(folder)) for path in folder.rglob("*")] == ["there"]


def test_what_stood_there_before_stays(folder: Path) -> None:
    """Directories that somebody else has made, and what is in them, are left alone."""
    (folder / "made" / "empty").mkdir(parents=True)
    (folder / "made" / "note").write_bytes(b"1")
    with pytest.raises(kvsync.UsageError):
        kvsync.sync(folder / "made", folder / "made-too" / "new", [Put("nowhere")])
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert found == ["made", "made/empty", "made/note"]


def test_a_failing_progress_report_gives_leases_back(clock: Clock) -> None:
    a, b = DictPlace(), DictPlace()

    def interrupt(_progress: kvsync.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment, on_progress=interrupt)
    kvsync.sync(a.target, b.target, environment=clock.environment, wait_seconds=0)
    assert b.values() == {"k": b"1"}


def test_a_long_run_renews_its_lease(clock: Clock) -> None:
    """Progress renews: a run far longer than a lease's life ends well, as long as each batch takes less."""
    a, b = DictPlace(), DictPlace()
    kvsync.commit(a.target, [Put(f"k{i}", b"") for i in range(100_000)], environment=clock.environment)
    started = clock.now
    clock.tick = 1
    kvsync.sync(a.target, b.target, environment=clock.environment)
    assert clock.now - started > 1.5 * LIFE
    assert len(b.values()) == 100_000


def test_a_long_commit_renews_both_leases(clock: Clock) -> None:
    """Writing the caller's values took longer than a lease's life. The source's lease was renewed with each batch, and
    the target's ran out meanwhile, so that this run, and every repetition of it, stopped with its work not done."""
    a, b = DictPlace(), DictPlace()

    def take_time(method: str, *_: object) -> None:
        clock.sleep(5 if method == "write" else 0)

    changes = [Put(f"k{i}", b"") for i in range(60_000)]
    kvsync.sync(Hooked(a.target, after=take_time), b.target, changes, environment=clock.environment)
    assert len(b.values()) == 60_000


def test_a_long_scan_renews_its_lease(clock: Clock) -> None:
    """Listing a large storage took longer than a lease lives. Nobody else wanted it, yet each run stopped there."""
    a, b = DictPlace({f"k{i}": b"" for i in range(30)}), DictPlace()

    def take_time(method: str, *_: object) -> None:
        clock.sleep(LIFE if method == "scan" else 0)

    kvsync.sync(Hooked(a.target, after=take_time), b.target, scan=True, environment=clock.environment)
    assert len(b.values()) == 30


# Force


def test_unlock_fences_the_old_holder(clock: Clock) -> None:
    """After `unlock`, the manifest is another: whoever held the lease cannot write it any more."""
    a, b = DictPlace(), DictPlace()
    kvsync.sync(a.target, b.target, [Put("k", b"1")], environment=clock.environment)
    before = kvsync.status(a.target).generation
    assert not kvsync.unlock(a.target)
    assert kvsync.status(a.target).generation == before
    a.replace("lease", record(clock).encode())
    assert kvsync.unlock(a.target)
    assert kvsync.status(a.target).generation == before + 1
    assert lease_of(a) is None


def test_a_failing_unlock_leaves_no_lease_of_its_own(clock: Clock) -> None:
    """A storage had a dead lease and a damaged manifest: `unlock` failed on the second, and held the lease for an
    hour."""
    a = DictPlace()
    kvsync.commit(a.target, [Put("k", b"1")])
    good = a.objects()["manifest"]
    a.replace("manifest", good[:-1])
    a.replace("lease", record(clock).encode())
    with pytest.raises(kvsync.IndexDamagedError):
        kvsync.unlock(a.target)
    a.replace("manifest", good)
    assert kvsync.unlock(a.target) in {True, False}
    a.replace("manifest", good[:-1])
    a.replace("lease", record(clock).encode())
    with pytest.raises(kvsync.IndexDamagedError):
        kvsync.unlock(a.target)
    left = lease_of(a)
    assert left is None or left.owner == "host9 pid 9 worker" or left.expires < clock.now * 1000


@pytest.mark.parametrize("act", [kvsync.unlock, kvsync.compact], ids=["unlock", "compact"])
def test_a_log_whose_manifest_is_gone_is_neither_begun_anew_nor_swept(act: Callable[[Any], object]) -> None:
    """To run is refused then, until the manifest is restored; a fresh one would hide that, and list none of the log."""
    a: dict[str, bytes] = {}
    for i in range(2):
        kvsync.commit(a, [Put(f"{i}/{j}", b"1") for j in range(1000)])
    manifest = a.pop(".kvsync/manifest")
    a[".kvsync/lease"] = LeaseRecord(LeaseState.HELD, b"t" * 16, "host9 pid 9 worker", 0, 0, 1).encode()
    log = {key for key in a if key.startswith(".kvsync/segment/")}
    with pytest.raises(kvsync.IndexDamagedError, match="the log that it listed is there"):
        act(a)
    assert {key for key in a if key.startswith(".kvsync/") and not key.endswith("lease")} == log
    a[".kvsync/manifest"] = manifest
    act(a)
    assert kvsync.status(a).changes == 2000


# Many runs at once


@pytest.mark.parametrize(("first", "second"), UNLIKE)
def test_the_same_pair_in_both_directions_at_once(folder: Path, first: str, second: str) -> None:
    one, two = make(first, folder, "one"), make(second, folder, "two")
    rounds = 6

    def run(source: Place, target: Place, name: str) -> None:
        for i in range(rounds):
            kvsync.sync(source.target, target.target, [Put(f"{name}/{i}", b"%d" % i)], wait_seconds=60)

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(run, one, two, "there"), threads.submit(run, two, one, "back")]:
            future.result()
    kvsync.sync(one.target, two.target)
    assert one.values() == two.values()
    assert one.values() == {f"{name}/{i}": b"%d" % i for name in ("there", "back") for i in range(rounds)}
    assert lease_of(one) is None
    assert lease_of(two) is None


def test_ten_pairs_in_one_process_at_once(folder: Path) -> None:
    kinds = [PAIRS[i % len(PAIRS)] for i in range(10)]
    pairs = [(make(p, folder, f"{i}-one"), make(q, folder, f"{i}-two")) for i, (p, q) in enumerate(kinds)]

    def run(number: int) -> None:
        one, two = pairs[number]
        for i in range(3):
            kvsync.sync(one.target, two.target, [Put(f"{number}/{i}", b"x")], wait_seconds=60)

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(run, range(10)))
    for number, (one, two) in enumerate(pairs):
        assert one.values() == two.values() == {f"{number}/{i}": b"x" for i in range(3)}


def test_a_star_of_runs_at_once_starves_nobody() -> None:
    """Eight spokes around one hub, each in its own thread: everybody gets through."""
    hub: dict[str, bytes] = {}
    spokes: list[dict[str, bytes]] = [{} for _ in range(8)]
    barrier = threading.Barrier(8)

    def run(number: int) -> None:
        barrier.wait()
        kvsync.sync(spokes[number], hub, [Put(f"{number}", b"x")], wait_seconds=60)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, range(8)))
    for spoke in spokes:
        kvsync.sync(spoke, hub)
    for spoke in spokes:
        kvsync.sync(spoke, hub)
    assert all(plain(spoke) == plain(hub) for spoke in spokes)
    assert len(plain(hub)) == 8


# One storage as both sides


def same_targets(folder: Path) -> dict[str, tuple[Any, Any]]:
    mapping: dict[str, bytes] = {}
    (folder / "plain").mkdir()
    (folder / "link").symlink_to(folder / "plain")
    (folder / "sub").mkdir()
    file = folder / "x.db"
    return {
        "dict": (mapping, mapping),
        "memory": ("memory:kvsync-test-same", "memory:kvsync-test-same"),
        "folder": (str(folder / "plain"), str(folder / "plain")),
        "folder by link": (str(folder / "plain"), str(folder / "link")),
        "folder by dots": (str(folder / "plain"), str(folder / "sub" / ".." / "plain")),
        "folder by url": (folder / "plain", f"file://{folder}/plain"),
        "sqlite": (f"sqlite:///{file}", f"sqlite:///{file}"),
        "sqlite by dots": (f"sqlite:///{file}", f"sqlite:///{folder}/sub/../x.db?busy_timeout=3"),
    }


SAME = ["dict", "memory", "folder", "folder by link", "folder by dots", "folder by url", "sqlite", "sqlite by dots"]


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("scan", [False, True])
def test_one_storage_as_both_sides(folder: Path, name: str, scan: bool) -> None:
    one, other = same_targets(folder)[name]
    with pytest.raises(kvsync.SameStorageError):
        kvsync.sync(one, other, [Put("k", b"1")], scan=scan)
    kvsync.commit(one, [Put("k", b"1")])
    with pytest.raises(kvsync.SameStorageError):
        kvsync.sync(other, one, scan=scan)
    assert kvsync.status(one).lease is None
    assert [change.key for change in kvsync.log(one)] == ["k"]


def test_one_new_storage_as_both_sides() -> None:
    """Both sides named the same new storage, by mistake: the answer was "nothing to do", as it was for a dry run."""
    mapping: dict[str, bytes] = {"k": b"1"}
    with pytest.raises(kvsync.SameStorageError):
        kvsync.sync(mapping, mapping)


@pytest.mark.parametrize("name", ["dict", "folder", "sqlite"])
def test_one_storage_as_both_sides_of_a_plan(folder: Path, name: str) -> None:
    one, other = same_targets(folder)[name]
    kvsync.commit(one, [Put("k", b"1")])
    with pytest.raises(kvsync.SameStorageError):
        kvsync.plan(one, other, scan=True)


@pytest.mark.parametrize("busy", [0, 3])
def test_two_tables_of_one_file_are_two_storages(folder: Path, busy: int) -> None:
    one, two = (f"sqlite:///{folder}/x.db?table={table}&busy_timeout={busy}" for table in ("one", "two"))
    clock = Clock()
    kvsync.sync(one, two, [Put("k", b"1")], environment=clock.environment)
    kvsync.sync(two, one, [Put("j", b"1")], environment=clock.environment, scan=True)
    assert kvsync.verify(one, two).same == 2


def test_a_long_run_over_two_tables_of_one_file(folder: Path) -> None:
    """A run over two tables of one database lasted longer than a third of a lease's life. Inside the target's
    transaction it renewed the source's lease, through another connection to the same file, and waited for itself."""
    one, two = (f"sqlite:///{folder}/x.db?table={table}&busy_timeout=0" for table in ("one", "two"))
    clock = Clock()
    kvsync.commit(one, [Put(f"k{i}", b"1") for i in range(9000)], environment=clock.environment)
    clock.tick = 2
    kvsync.sync(one, two, environment=clock.environment)
    assert kvsync.verify(one, two).same == 9000


def test_ids_and_jitter_come_from_the_environment() -> None:
    """The same seed gives the same index, byte by byte."""

    def play() -> list[Any]:
        clock = Clock()
        environment = Environment(clock=clock, monotonic=clock, sleep=clock.sleep, random=random.Random(7))
        a: dict[str, bytes] = {}
        b: dict[str, bytes] = {}
        kvsync.sync(a, b, [Put("k", b"1")], environment=environment)
        kvsync.commit(b, [Put("k", b"2")], environment=environment)
        kvsync.sync(a, b, [Put("k", b"3")], environment=environment, conflict="keep-both")
        return [sorted(a.items()), sorted(b.items())]

    assert play() == play()


def test_a_record_reads_back(clock: Clock) -> None:
    for state in LeaseState:
        lease = record(clock)._replace(state=state)
        assert LeaseRecord.decode(lease.encode(), "x") == lease
    assert SqlitePlace.kind == "sqlite"
