"""The lease's record, and the rules of when a lease is free, renewed, given up."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

import kvsync
from kvsync.environment import Environment
from kvsync.lease import (
    LIFE_SECONDS_MAX,
    SKEW_SECONDS,
    Acquirer,
    Lease,
    LeaseRecord,
    LeaseState,
    Previous,
    PreviousHolder,
)
from kvsync.native import KIND_LEASE, Segment, seal
from kvsync.options import Options
from kvsync.process import UNKNOWN, Presence, Process
from kvsync.replica.history import History
from kvsync.replica.knowledge import Knowledge
from kvsync.replica.log import Log, read_manifest
from kvsync.run import lock
from kvsync.run.holder import read_lease, unlock
from kvsync.storages.counted import CountedStorage
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import Fault, FaultyStorage
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages import Storage
    from kvsync.testing import FaultMode

START_MS = 1_700_000_000_000
RECORD = LeaseRecord(LeaseState.HELD, b"0123456789abcdef", "host pid 1 main", 2, START_MS, START_MS + 60_000)
US = Process("this machine", 7, 100)
OTHER = Process("this machine", 8, 200)


class Time:
    """A wall clock and a monotonic clock that move only when told, and processes that end only when told."""

    def __init__(self) -> None:
        self.wall, self.mono = START_MS / 1000, 50.0
        self.slept: list[float] = []
        self.leased: list[lock.Leased] = []
        self.seen_as = {US: Presence.RUNNING}

    @property
    def environment(self) -> Environment:
        return Environment(
            clock=lambda: self.wall,
            monotonic=lambda: self.mono,
            sleep=self.sleep,
            process=lambda: US,
            presence=lambda process: self.seen_as.get(process, Presence.ELSEWHERE),
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wall += seconds
        self.mono += seconds

    @contextmanager
    def take(self, *storages: Storage, life: float = 60.0, wait: float = 0.0) -> Iterator[tuple[Lease, ...]]:
        """Hold the leases of some storages, without reading or recovering what lies there."""
        options = Options(lease_seconds=life, wait_seconds=wait)
        leased_all = lock._acquire(storages, options, self.environment, may_be_equal=False)
        assert isinstance(leased_all, list)
        self.leased = leased_all
        leases = tuple(leased.lease for leased in self.leased)
        try:
            yield leases
        except BaseException:
            lock._give_back(leases, interrupted=leases)
            raise
        for lease in leases:
            lease.release(interrupted=False)

    def is_certain(self) -> bool:
        """Whether the manifest is known since the lease was acquired."""
        return self.leased[-1].is_certain


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def storage() -> MappingStorage:
    return MappingStorage({}, name="the storage")


# The record


@pytest.mark.parametrize("state", LeaseState)
@pytest.mark.parametrize("owner", ["host pid 1 main", "", "хост 🖥"])
def test_a_record_reads_back(state: LeaseState, owner: str) -> None:
    record = RECORD._replace(state=state, owner=owner, process=OTHER)
    assert LeaseRecord.decode(record.encode(), "x") == record


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "lent"},
        {"state": 1},
        {"state": None},
        {"token": "text"},
        {"token": None},
        {"owner": b"bytes"},
        {"owner": 1},
        {"renewals": -1},
        {"renewals": "1"},
        {"renewals": True},
        {"renewals": 1.0},
        {"acquired": None},
        {"acquired": -5},
        {"expires": []},
        {"machine": b"bytes"},
        {"machine": None},
        {"pid": -1},
        {"pid": "8"},
        {"started": 0.5},
        {"name": "manifest"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_record_of_wrong_types_is_refused(fields: dict[str, Any]) -> None:
    body = msgpack.unpackb(RECORD.encode()[24:])
    with pytest.raises(kvsync.IndexDamagedError) as raised:
        LeaseRecord.decode(seal(KIND_LEASE, msgpack.packb(body | fields)), "the storage")
    assert raised.value.storage == "the storage"
    assert raised.value.name == "lease"


def test_every_byte_of_a_record_counts() -> None:
    good = RECORD.encode()
    for i in range(len(good)):
        with pytest.raises(kvsync.IndexDamagedError):
            LeaseRecord.decode(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :], "x")
        with pytest.raises(kvsync.IndexDamagedError):
            LeaseRecord.decode(good[:i], "x")


@pytest.mark.parametrize(
    ("after_seconds", "expired"), [(0, False), (60, False), (60 + SKEW_SECONDS, False), (60.002 + SKEW_SECONDS, True)]
)
def test_expiry_allows_for_skew(after_seconds: float, expired: bool) -> None:
    assert RECORD.expired(START_MS + int(after_seconds * 1000)) is expired


def test_no_record_lives_longer_than_an_hour() -> None:
    record = RECORD._replace(expires=2**63)
    assert record.life_seconds == LIFE_SECONDS_MAX
    assert not record.expired(START_MS + 3_600_000)
    assert record.expired(START_MS + 3_600_000 + int(SKEW_SECONDS * 1000) + 1)
    assert RECORD._replace(expires=0).life_seconds == 0


# Holding


def test_a_lease_is_there_while_held_and_gone_after(storage: MappingStorage, time: Time) -> None:
    with time.take(storage) as (lease,):
        record = read_lease(storage)
        assert record is not None
        assert record.state is LeaseState.HELD
        assert (record.acquired, record.expires) == (START_MS, START_MS + 60_000)
        assert lease.previous.how is Previous.RELEASED
    assert read_lease(storage) is None


def test_an_error_marks_it_interrupted(storage: MappingStorage, time: Time) -> None:
    with pytest.raises(KeyError), time.take(storage):
        raise KeyError
    record = read_lease(storage)
    assert record is not None
    assert record.state is LeaseState.INTERRUPTED
    with time.take(storage) as (lease,):
        assert lease.previous.how is Previous.INTERRUPTED


@pytest.mark.parametrize(("seconds", "renewed"), [(0, False), (19, False), (21, True), (47, True)])
def test_progress_renews(storage: MappingStorage, time: Time, seconds: float, renewed: bool) -> None:
    with time.take(storage) as (lease,):
        time.sleep(seconds)
        lease.keep()
        record = read_lease(storage)
        assert record is not None
        assert record.renewals == int(renewed)
        assert record.expires == START_MS + 60_000 + (int(seconds * 1000) if renewed else 0)


def test_a_lease_past_its_end_that_nobody_took_is_renewed(storage: MappingStorage, time: Time) -> None:
    with time.take(storage) as (lease,):
        time.sleep(500)
        lease.keep()
        found = read_lease(storage)
        assert found is not None
        assert not found.expired(int(time.wall * 1000))


def test_a_renewal_that_takes_too_long_is_no_renewal(storage: MappingStorage, time: Time) -> None:
    store = storage.store

    def slow(name: str, data: bytes, expect: Any) -> bytes:
        time.sleep(48)
        return store(name, data, expect)

    with pytest.raises(kvsync.LockLostError, match="the storage"), time.take(storage) as (lease,):
        time.sleep(30)
        storage.store = slow  # type: ignore[method-assign]
        lease.keep()


@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_the_clock_that_went_further_is_believed(storage: MappingStorage, time: Time, clock: str) -> None:
    """A machine that slept has a monotonic clock that stood still; a wall clock may be set back."""
    with time.take(storage) as (lease,):
        before = read_lease(storage)
        setattr(time, clock, getattr(time, clock) + 50)
        lease.keep()
        after = read_lease(storage)
    assert before is not None
    assert after is not None
    assert after.renewals == before.renewals + 1


def test_a_wall_clock_set_back_harms_nobody(storage: MappingStorage, time: Time) -> None:
    with time.take(storage) as (lease,):
        time.wall -= 10_000
        lease.keep()


def test_a_lost_lease_is_not_released(storage: MappingStorage, time: Time) -> None:
    """Release looks whose lease it is."""
    with time.take(storage):
        storage.store("lease", RECORD.encode(), ANY)
    assert read_lease(storage) == RECORD


@pytest.mark.parametrize("mode", ["raises", "lost"])
def test_a_release_whose_answer_was_lost_is_looked_up(storage: MappingStorage, time: Time, mode: FaultMode) -> None:
    """The run is done by then; whether the lease is gone is all there is to find out."""
    faulty = FaultyStorage(storage, Fault(2, mode))
    with time.take(faulty):
        assert read_lease(storage) is not None
    assert read_lease(storage) is None


def test_a_release_that_lands_after_a_look_for_it_is_a_release(time: Time) -> None:
    """The answer is late, and so is the write: the second attempt finds the lease given back, which is no error."""
    storage = MappingStorage({})
    storage.capabilities = replace(storage.capabilities, lease_stays=True)
    store, late = storage.store, []

    def slow(name: str, data: bytes, expect: Any) -> bytes:
        late.append((name, data, expect))
        if len(late) == 1:
            time.sleep(1)
            raise kvsync.StorageError("no answer")
        store(*late[0])
        return store(name, data, expect)

    with time.take(storage):
        storage.store = slow  # type: ignore[method-assign]
    assert len(late) == 2
    assert read_lease(storage) is None


def test_where_nothing_is_removed_on_condition_a_lease_is_marked_as_released(
    storage: MappingStorage, time: Time
) -> None:
    storage.capabilities = replace(storage.capabilities, lease_stays=True)
    with time.take(storage) as (first,):
        assert first.previous.how is Previous.RELEASED
    there = storage.load("lease")
    assert there is not None
    assert LeaseRecord.decode(there.data, "x").state is LeaseState.RELEASED
    assert read_lease(storage) is None
    assert not unlock(storage, time.environment)
    with time.take(storage) as (second,):
        assert second.previous.how is Previous.RELEASED
        with pytest.raises(kvsync.LockHeldError), time.take(storage):
            pass


def test_how_the_previous_holder_left_it_is_looked_up(storage: MappingStorage, time: Time) -> None:
    storage.capabilities = replace(storage.capabilities, lease_stays=True)
    with time.take(storage), pytest.raises(kvsync.LockHeldError), time.take(storage):
        pass
    with time.take(storage) as (lease,):
        assert lease.previous.how is Previous.RELEASED
        assert not time.is_certain()
    interrupted = LeaseRecord(LeaseState.INTERRUPTED, b"t" * 16, "another", 0, 0, 0)
    storage.store("lease", interrupted.encode(), ANY)
    with time.take(storage) as (lease,):
        assert lease.previous.how is Previous.INTERRUPTED
        lease.mark_settled()
    with pytest.raises(ValueError, match="stopped"), time.take(storage):
        raise ValueError("stopped")
    with time.take(storage) as (lease,):
        assert lease.previous.how is Previous.INTERRUPTED


# Released by a manifest


@pytest.fixture
def staying() -> MappingStorage:
    """Return a storage whose lease object stays when the lease is released."""
    storage = MappingStorage({}, name="the storage")
    storage.capabilities = replace(storage.capabilities, lease_stays=True)
    return storage


def end(lease: Lease, time: Time, stamp: int = 1) -> None:
    """Write a manifest as the last thing that is done with a lease."""
    log = Log.read(lease.storage, time.environment)
    replica, token = log.manifest.replica, lease.release_token
    history = log.manifest.history.committed(replica, stamp, mark=stamp)
    log.write(Segment.from_rows([]), log.manifest.knowledge._replace(history=history), lease=token)
    assert token
    lease.mark_released()


def operations(storage: CountedStorage) -> dict[str, int]:
    return {name: count for name, count in storage.operations.items() if name in {"load", "store"}}


def test_a_manifest_that_names_a_lease_releases_it(staying: MappingStorage, time: Time) -> None:
    """Nothing is written to release it; whoever comes next needs the manifest alone to acquire it."""
    counted = CountedStorage(staying)
    with time.take(counted) as (first,):
        end(first, time)
        first.refresh()
        with pytest.raises(AssertionError):
            first.keep()
    # The manifest before the lease, and again by `end`; the lease, and the manifest.
    assert operations(counted) == {"load": 2, "store": 2}
    assert read_lease(staying) is None
    assert not unlock(staying, time.environment)
    for number in range(2, 5):
        counted = CountedStorage(staying)
        with time.take(counted) as (second,):
            assert second.previous.how is Previous.RELEASED
            assert time.is_certain()
            assert time.leased[0].found == read_manifest(staying)
            assert operations(counted) == {"load": 1, "store": 1}
            record = read_lease(staying)
            assert record is not None
            assert record.state is LeaseState.HELD
            with pytest.raises(kvsync.LockHeldError), Time().take(staying):
                pass
            end(second, time, number)


def test_a_manifest_releases_no_other_lease(staying: MappingStorage, time: Time) -> None:
    """Not even a renewal of the same one."""
    with time.take(staying) as (lease,):
        token = lease.release_token
        lease.renew()
        log = Log.read(staying, time.environment)
        log.write(Segment.from_rows([]), Knowledge(History().committed(7, 1, mark=1)), lease=token)
        with pytest.raises(kvsync.LockHeldError), time.take(staying):
            pass
        assert read_lease(staying) is not None
    with time.take(staying) as (lease,):
        assert lease.previous.how is Previous.RELEASED


def test_a_waiting_run_sees_a_manifest_release_the_lease(staying: MappingStorage, time: Time) -> None:
    with time.take(staying) as (first,):
        sleep = time.sleep

        def finish(seconds: float) -> None:
            sleep(seconds)
            if not first.released:
                end(first, time)

        time.sleep = finish  # type: ignore[method-assign]
        with time.take(CountedStorage(staying), wait=5) as (second,):
            assert second.previous.how is Previous.RELEASED
            assert time.is_certain()
            assert time.leased[0].found == read_manifest(staying)
    # Released by the first one, whose lease it is not any more: nothing is to be seen of that.
    assert read_lease(staying) is None


def test_a_lease_that_a_manifest_released_is_not_that_of_a_dead_holder(staying: MappingStorage, time: Time) -> None:
    with time.take(staying) as (lease,):
        end(lease, time)
    time.sleep(10_000)
    with time.take(staying) as (lease,):
        assert lease.previous.how is Previous.RELEASED


def test_a_manifest_that_releases_it_between_two_looks_is_seen(staying: MappingStorage, time: Time) -> None:
    """The manifest is read before the lease object; its holder writes it in between, a day later."""
    with time.take(staying) as (lease,):
        end(lease, time)
    with time.take(staying) as (lease,):
        load = staying.load
        once: list[str] = []

        def slow(name: str) -> Any:
            there = load(name)
            if name == "manifest" and not once:
                once.append(name)
                end(lease, time, 2)
                time.sleep(86_400)
            return there

        staying.load = slow  # type: ignore[method-assign]
        with time.take(CountedStorage(staying)) as (other,):
            assert other.previous.how is Previous.RELEASED


def test_an_error_after_the_release_leaves_the_lease_alone(staying: MappingStorage, time: Time) -> None:
    """It may be somebody else's by then."""
    with pytest.raises(ValueError, match="elsewhere"), time.take(staying) as (lease,):
        end(lease, time)
        before = staying.load("lease")
        raise ValueError("elsewhere")
    assert staying.load("lease") == before
    assert read_lease(staying) is None


def test_a_lease_in_doubt_is_released_by_itself(staying: MappingStorage, time: Time) -> None:
    """A renewal that failed may have landed, so which version the lease has is not known; nor does a manifest release
    one whose last holder is to be fenced, or where conditions do not hold."""
    faulty = FaultyStorage(staying, Fault(at=3))
    with time.take(faulty) as (lease,):
        assert lease.release_token
        time.sleep(30)
        lease.refresh()
        assert lease.release_token == b""
    staying.store("lease", RECORD._replace(acquired=0, expires=0).encode(), ANY)
    with time.take(staying) as (lease,):
        assert (lease.previous.how, lease.release_token) == (Previous.LOST, b"")
        lease.mark_settled()
        assert lease.release_token
    staying.capabilities = replace(staying.capabilities, conditions="advisory")
    with time.take(staying) as (lease,):
        assert lease.release_token == b""


def test_where_conditions_do_not_hold_a_release_is_seen_and_proves_nothing(staying: MappingStorage, time: Time) -> None:
    with time.take(staying) as (lease,):
        end(lease, time)
    staying.capabilities = replace(staying.capabilities, conditions="advisory")
    assert read_lease(staying) is None
    with time.take(staying) as (lease,):
        assert lease.previous.how is Previous.RELEASED
        assert not time.is_certain()


def test_a_manifest_that_cannot_be_read_releases_nothing(staying: MappingStorage, time: Time) -> None:
    with time.take(staying):
        staying.store("manifest", b"rubbish", ANY)
        assert read_lease(staying) is not None
        with pytest.raises(kvsync.IndexDamagedError):
            unlock(staying, time.environment, force=True)


def test_renewing_a_lost_lease_fails(storage: MappingStorage, time: Time) -> None:
    with pytest.raises(kvsync.LockLostError), time.take(storage) as (lease,):
        storage.store("lease", RECORD.encode(), ANY)
        time.sleep(30)
        lease.keep()
    assert read_lease(storage) == RECORD


# Taking over


def test_a_held_lease_is_taken_only_when_it_has_ended(storage: MappingStorage, time: Time) -> None:
    storage.store("lease", RECORD.encode(), ANY)
    with pytest.raises(kvsync.LockHeldError), time.take(storage):
        pass
    time.sleep(60 + SKEW_SECONDS + 0.01)
    with time.take(storage) as (lease,):
        assert lease.previous.how is Previous.LOST


def test_unchanged_for_its_life_on_our_clock(storage: MappingStorage, time: Time) -> None:
    """The holder's clock is a day ahead. We wait and see that it does not move."""
    far = 86_400_000
    storage.store("lease", RECORD._replace(acquired=START_MS + far, expires=START_MS + far + 60_000).encode(), ANY)
    with pytest.raises(kvsync.LockHeldError), time.take(storage, wait=60):
        pass
    with time.take(storage, wait=70) as (lease,):
        assert lease.previous.how is Previous.LOST


def test_a_living_holder_is_waited_for(storage: MappingStorage, time: Time) -> None:
    """Its clock is a day ahead, and it renews: each renewal starts the wait anew."""
    far = 86_400_000
    renewals = 0
    sleep = time.sleep

    def renew(seconds: float) -> None:
        nonlocal renewals
        sleep(seconds)
        renewals += 1
        if renewals % 10 == 0:
            now = int(time.wall * 1000) + far
            storage.store("lease", RECORD._replace(renewals=renewals, acquired=now, expires=now + 60_000).encode(), ANY)

    time.sleep = renew  # type: ignore[method-assign]
    renew(0)
    storage.store("lease", RECORD._replace(acquired=START_MS + far, expires=START_MS + far + 60_000).encode(), ANY)
    with pytest.raises(kvsync.LockHeldError), time.take(storage, wait=500):
        pass


def test_a_holder_that_has_ended_on_this_machine_is_not_waited_for(storage: MappingStorage, time: Time) -> None:
    """It is fenced as every holder is that lost its lease."""
    storage.store("lease", RECORD._replace(process=OTHER).encode(), ANY)
    with pytest.raises(kvsync.LockHeldError, match="unlock"), time.take(storage):
        pass
    time.seen_as[OTHER] = Presence.RUNNING
    with pytest.raises(kvsync.LockHeldError, match="which is running") as raised, time.take(storage):
        pass
    assert "unlock" not in str(raised.value)
    time.seen_as[OTHER] = Presence.GONE
    with time.take(storage) as (lease,):
        assert lease.previous == PreviousHolder(Previous.LOST, is_known_gone=True)
        lease.mark_settled()
    assert not time.slept
    assert read_lease(storage) is None


def test_a_holder_that_has_ended_after_it_finished_left_nothing(staying: MappingStorage, time: Time) -> None:
    """Its lease object says `held` for ever, and its manifest that it was released."""
    with time.take(staying) as (lease,):
        end(lease, time)
    time.seen_as[US] = Presence.GONE
    with time.take(staying) as (lease,):
        assert lease.previous.how is Previous.RELEASED


def test_a_lease_names_its_process(storage: MappingStorage, time: Time) -> None:
    with time.take(storage) as (lease,):
        record = read_lease(storage)
        assert record is not None
        assert record.process == US
        lease.renew()
        assert read_lease(storage) == record._replace(renewals=1)


def test_whoever_takes_over_from_a_holder_elsewhere_names_itself_once_that_is_fenced(
    storage: MappingStorage, time: Time
) -> None:
    """It ends before it has fenced the first holder. That it has ended says nothing of the first, which may write."""
    storage.store("lease", RECORD._replace(acquired=0, expires=0).encode(), ANY)
    held = time.take(storage)
    (lease,) = held.__enter__()
    record = read_lease(storage)
    assert record is not None
    assert record.process == UNKNOWN
    lease.mark_settled()
    lease.renew()
    record = read_lease(storage)
    assert record is not None
    assert record.process == US


@pytest.mark.parametrize("is_known_gone", [False, True])
def test_what_was_not_settled_is_told_on(storage: MappingStorage, time: Time, *, is_known_gone: bool) -> None:
    """The run that takes over fails before it fences the first holder, and ends: the first may still be alive."""
    time.seen_as[OTHER] = Presence.GONE if is_known_gone else Presence.ELSEWHERE
    storage.store("lease", RECORD._replace(acquired=0, expires=0, process=OTHER).encode(), ANY)
    with pytest.raises(KeyError), time.take(storage):
        raise KeyError
    time.seen_as[US] = Presence.GONE
    with time.take(storage) as (lease,):
        assert lease.previous == PreviousHolder(Previous.LOST, is_known_gone)


def test_what_was_not_settled_stays_to_be_taken_over(storage: MappingStorage, time: Time) -> None:
    """Two runs in a row took over from a dead holder, the first failing before it fenced it: the second must fence,
    too."""
    storage.store("lease", RECORD._replace(acquired=0, expires=0).encode(), ANY)
    with pytest.raises(KeyError), time.take(storage) as (lease,):
        assert lease.previous.how is Previous.LOST
        raise KeyError
    with time.take(storage) as (lease,):
        assert lease.previous.how is Previous.LOST
        lease.mark_settled()
    assert read_lease(storage) is None


def test_waiting_has_jitter_and_an_end(storage: MappingStorage, time: Time) -> None:
    storage.store("lease", RECORD._replace(expires=START_MS + 3_600_000).encode(), ANY)
    with pytest.raises(kvsync.LockHeldError), time.take(storage, wait=30):
        pass
    assert sum(time.slept) == pytest.approx(30)
    assert max(time.slept) <= 2
    assert len(set(time.slept)) > 3


def test_seizing(storage: MappingStorage, time: Time) -> None:
    assert not unlock(storage, time.environment)
    for there in (RECORD.encode(), b"garbage", b""):
        storage.store("lease", there, ANY)
        found = storage.load("lease")
        assert found is not None
        lease = Acquirer(storage, time.environment, 60).seize(found)
        assert isinstance(lease, Lease)
        assert lease.previous == PreviousHolder(Previous.LOST)
        with pytest.raises(kvsync.LockHeldError, match="a moment ago"):
            Acquirer(storage, time.environment, 60).seize(found)
        assert unlock(storage, time.environment)
        assert read_lease(storage) is None


def test_a_process_at_work_keeps_its_lease(storage: MappingStorage, time: Time) -> None:
    storage.store("lease", RECORD._replace(process=OTHER).encode(), ANY)
    time.seen_as[OTHER] = Presence.RUNNING
    before = storage.load("lease")
    with pytest.raises(kvsync.LockHeldError, match="is running on this machine"):
        unlock(storage, time.environment)
    assert storage.load("lease") == before
    assert unlock(storage, time.environment, force=True)
    storage.store("lease", RECORD._replace(process=OTHER).encode(), ANY)
    time.sleep(60 + SKEW_SECONDS + 1)
    assert unlock(storage, time.environment), "it has expired, and anybody may take it over"


@pytest.mark.parametrize("seen_as", Presence)
def test_who_is_unlocked_and_has_ended_is_known_to_be_gone(
    storage: MappingStorage, time: Time, seen_as: Presence
) -> None:
    storage.store("lease", RECORD._replace(process=OTHER).encode(), ANY)
    time.seen_as[OTHER] = seen_as
    there = storage.load("lease")
    assert there is not None
    lease = Acquirer(storage, time.environment, 60).seize(there)
    assert lease.previous == PreviousHolder(Previous.LOST, seen_as is Presence.GONE)


def test_an_interrupted_holder_that_is_unlocked_writes_nothing_more(storage: MappingStorage, time: Time) -> None:
    storage.store("lease", RECORD._replace(state=LeaseState.INTERRUPTED).encode(), ANY)
    there = storage.load("lease")
    assert there is not None
    assert Acquirer(storage, time.environment, 60).seize(there).previous == PreviousHolder(Previous.INTERRUPTED)


def test_of_two_storages_all_or_none(time: Time) -> None:
    one, two = MappingStorage({}, name="one"), MappingStorage({}, name="two")
    two.store("lease", RECORD.encode(), ANY)
    with (
        pytest.raises(kvsync.LockHeldError, match="two"),
        time.take(one, two, wait=3),
    ):
        pass
    assert one.objects() == []
    assert read_lease(two) == RECORD
