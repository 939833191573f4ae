"""Locks that were lost, left behind, broken by hand, or held by two: nothing is lost, and nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from places import Clock, DictPlace, Hooked, Place
from telling import HOUR, Story, command, conflicts, kept, told

import kvsync
from kvsync import Put
from kvsync.environment import Environment
from kvsync.process import Presence, Process
from kvsync.testing import Fault, FaultyStorage, Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.nanio import NanioServer

LIFE, SKEW = 60, 5
HERE, THERE = Process("here", 1, 1), Process("there", 2, 2)


def seen_as(presence: Presence, clock: Clock, process: Process = HERE) -> Environment:
    """Return an environment in which every other process is seen so."""
    return Environment(
        clock=clock, monotonic=clock, sleep=clock.sleep, process=lambda: process, presence=lambda _: presence
    )


def killed_at_the_first_write(source: Place, target: Place, environment: Environment) -> None:
    """Run, and be killed before the first value is written: the lease stays behind."""
    dead: list[str] = []

    def die(method: str, *_: object) -> None:
        if method == "write" or dead:
            dead.append(method)
            raise Killed

    one, other = (Hooked(place.target, before=die) for place in (source, target))
    with pytest.raises(Killed):
        kvsync.sync(one, other, scan=True, environment=environment)
    assert kvsync.status(target.target).lease is not None


def paused(place: Place, meanwhile: Callable[[], object]) -> Hooked:
    """Return a place whose first write waits until something else has happened."""
    waited: list[str] = []

    def wait(method: str, *_: object) -> None:
        if method == "write" and not waited:
            waited.append(method)
            meanwhile()

    return Hooked(place.target, before=wait)


def test_a_holder_that_slept_through_its_lease_writes_nothing_over_the_next_one(story: Story) -> None:
    """etcd-io/etcd#10811: a client held a lock, lost its network, and wrote on after the lock had expired and gone to
    another: both wrote to the storage. Here the sleeper's write is on condition of what it saw, and its log is
    fenced."""
    one, two = story.place("one", {"k": b"0"}), story.place("two", kind="redis")
    story.sync(one, two)
    one.put("k", b"slow")

    def take_over() -> None:
        story.clock.sleep(LIFE + SKEW + 1)
        taken.append(kvsync.sync(two.target, one.target, [Put("k", b"quick")], environment=story.clock.environment))

    taken: list[kvsync.SyncResult] = []
    with pytest.raises(kvsync.LockLostError):
        kvsync.sync(one.target, paused(two, take_over), scan=True, environment=story.clock.environment)
    assert conflicts(*taken) == [("k", "source")]
    assert told(story.sync(one, two)) == (0, 0, 0, 0, 0)
    assert one.values() == two.values() == {"k": b"quick"}
    assert kept(one, two) == [("k", b"slow")]


def test_a_lock_that_was_waited_for_too_long_is_not_held(story: Story) -> None:
    """etcd-io/etcd#11456, found by Jepsen: who waited for a lock was told that it held it, though its own lease had
    expired meanwhile; updates were lost. Here the lease is read and checked after it was acquired, before any
    write."""
    one, two = story.place("one", {"counter": b"1"}), story.place("two")
    story.sync(one, two)
    kvsync.commit(one.target, [Put("counter", b"2")], environment=story.clock.environment)

    def oversleep(method: str, *arguments: Any) -> None:
        if method == "store" and arguments[0] == "lease" and not slept:
            slept.append(1)
            story.clock.sleep(LIFE + SKEW + 1)
            kvsync.sync(two.target, one.target, [Put("counter", b"3")], environment=story.clock.environment)

    slept: list[int] = []
    with pytest.raises(kvsync.LockError):
        kvsync.sync(
            one.target, Hooked(two.target, after=oversleep), [Put("x", b"1")], environment=story.clock.environment
        )
    assert told(story.sync(one, two)) == (0, 0, 0, 0, 0)
    assert one.values() == two.values() == {"counter": b"3"}


def test_a_laptop_that_was_closed_during_a_run_is_fenced(story: Story) -> None:
    """restic/restic#3569: a backup was suspended with its laptop. Its lock looked stale, was removed, and a prune
    ran; then the laptop woke up and wrote on. Here `unlock` rewrites the manifest, so whoever wakes up can log
    nothing."""
    laptop, server = story.place("laptop", {"k": b"0"}), story.place("server", kind="redis")
    story.sync(laptop, server)
    laptop.put("k", b"suspended")

    def close_the_lid() -> None:
        story.clock.sleep(2 * HOUR)
        for place in (laptop, server):
            kvsync.unlock(place.target, environment=story.clock.environment)
        kvsync.sync(server.target, laptop.target, [Put("while asleep", b"1")], environment=story.clock.environment)

    with pytest.raises(kvsync.LockError):
        kvsync.sync(laptop.target, paused(server, close_the_lid), scan=True, environment=story.clock.environment)
    results = [story.sync(laptop, server), story.sync(laptop, server)]
    assert laptop.values() == server.values() == {"k": b"suspended", "while asleep": b"1"}
    assert conflicts(*results) == []


def test_ctrl_c_leaves_no_lock(story: Story) -> None:
    """hashicorp/terraform#31371: after Ctrl-C, twice, the lock of the state stayed, and had to be broken by hand.
    Here a run gives its leases back, also when it is interrupted while it writes, and the next one starts at once."""
    one, two = story.place("one", {"k": b"1"}, "folder"), story.place("two", kind="sqlite")

    def interrupt(method: str, *_: object) -> None:
        if method == "write":
            raise KeyboardInterrupt

    failing = Hooked(two.target, before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        kvsync.sync(one.target, failing, scan=True, environment=story.clock.environment)
    failing.close()
    assert kvsync.status(one.target).lease is None
    result = kvsync.sync(one.target, two.target, scan=True, environment=story.clock.environment, wait_seconds=0)
    assert told(result) == (1, 0, 0, 0, 0)
    assert two.values() == {"k": b"1"}


def test_a_preview_that_is_interrupted_leaves_no_lock(story: Story) -> None:
    """cjnaz/rclonesync-V2#4: a dry run was stopped with Ctrl-C. Its lock file stayed, and no run could start. Here a
    preview takes no lease at all, and needs none: it works beside a run that holds both."""
    one, two = story.place("one", {"k": b"1"}), story.place("two")
    before = one.photograph(), two.photograph()

    def interrupt(method: str, *_: object) -> None:
        if method == "scan":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kvsync.plan(one.target, Hooked(two.target, before=interrupt), scan=True)
    assert (one.photograph(), two.photograph()) == before
    seen: list[int] = []
    busy = paused(two, lambda: seen.append(kvsync.plan(one.target, two.target, scan=True).to_target_count))
    assert told(kvsync.sync(one.target, busy, scan=True)) == (1, 0, 0, 0, 0)
    assert seen == [1]


def test_a_machine_that_crashed_locks_nobody_out_on_itself(story: Story) -> None:
    """borgbackup/borg#2306: a machine that often lost power left its lock each time, so most of its backups failed
    until somebody broke it. Here the process that holds the lease is gone, which the next run on that machine
    sees."""
    one, two = story.place("one", {"k": b"1"}), story.place("two")
    killed_at_the_first_write(one, two, seen_as(Presence.RUNNING, story.clock, THERE))
    gone = seen_as(Presence.GONE, story.clock)
    result = kvsync.sync(one.target, two.target, scan=True, environment=gone, wait_seconds=0)
    assert told(result) == (1, 0, 0, 0, 0)
    assert kvsync.status(two.target).lease is None


def test_a_lock_of_a_host_that_is_gone_ends_by_itself(story: Story) -> None:
    """restic/restic#3219: the lock of a process that had died stayed for 33 days, in which no backup was made. Here a
    lease from elsewhere ends about a minute after it was last renewed; until then, the error names its holder."""
    one, two = story.place("one", {"k": b"1"}), story.place("two")
    killed_at_the_first_write(one, two, seen_as(Presence.ELSEWHERE, story.clock, THERE))
    here = seen_as(Presence.ELSEWHERE, story.clock)
    with pytest.raises(kvsync.LockHeldError, match="unlock") as held:
        kvsync.sync(one.target, two.target, scan=True, environment=here, wait_seconds=0)
    assert held.value.expires < story.clock.now + LIFE
    story.clock.sleep(LIFE + SKEW + 1)
    result = kvsync.sync(one.target, two.target, scan=True, environment=here, wait_seconds=0)
    assert told(result) == (1, 0, 0, 0, 0)


def test_two_who_find_a_stale_lock_do_not_both_take_it(story: Story) -> None:
    """borgbackup/borg#4923: a stale lock was looked at, then removed, in two steps. Between them another process had
    removed it and made its own, which was removed in its place. Here a lease is replaced on condition of what was
    seen."""
    one, two = story.place("one", {"k": b"0"}), story.place("two")
    story.sync(one, two)
    killed = seen_as(Presence.ELSEWHERE, story.clock, THERE)
    one.put("k", b"1")
    killed_at_the_first_write(one, two, killed)
    story.clock.sleep(LIFE + SKEW + 1)
    entered: list[kvsync.SyncResult] = []

    def overtake(method: str, *arguments: Any) -> None:
        if method == "store" and arguments[0] == "lease" and not entered:
            entered.append(
                kvsync.sync(one.target, two.target, scan=True, environment=story.clock.environment, wait_seconds=0)
            )

    slow = Hooked(one.target, before=overtake)
    late = kvsync.sync(slow, two.target, scan=True, environment=story.clock.environment)
    assert told(entered[0]) == (1, 0, 0, 0, 0)
    assert told(late) == (0, 0, 0, 0, 0)
    assert one.values() == two.values() == {"k": b"1"}


def test_a_live_lock_is_named_and_ends_the_command_with_4(story: Story) -> None:
    """hashicorp/terraform#16652: a lock whose command had been cut off from the network stayed for days; all that
    others saw was that a lock was being acquired. Here the command ends with 4, and `unlock` is what to type next."""
    one, two = story.place("one", {"k": b"1"}, "folder"), story.place("two", kind="folder")
    held: list[int] = []
    busy = paused(two, lambda: held.append(command("sync", one.target, two.target, "--wait-seconds", "0", "--quiet")))
    kvsync.sync(one.target, busy, scan=True)
    busy.close()
    assert held == [4]
    assert command("sync", one.target, two.target, "--wait-seconds", "0") == 0


def test_a_lock_on_a_server_that_ignores_conditions_is_refused(story: Story, nanio_server: NanioServer) -> None:
    """pithings/mountx#19: an S3 server answered 200 to writes whose condition did not hold, so two nodes owned what
    one may own, every time. Here the server is tried before the first run, and refused before anything is written."""
    one = story.place("one", {"k": b"1"})
    url = nanio_server.url_of("stories-conditions")
    with pytest.raises(kvsync.StorageError, match="ignores conditional writes"):
        kvsync.sync(one.target, url, scan=True)
    assert one.values() == {"k": b"1"}
    result = kvsync.sync(one.target, nanio_server.url_of("stories-conditions", lease="advisory"), scan=True)
    assert (told(result), result.guarantee) == ((1, 0, 0, 0, 0), "T4")


def test_an_answer_that_was_lost_is_no_lost_lock() -> None:
    """netlify/primitives#741: a conditional write that had failed with an error was reported as done: it was lost,
    and nobody knew. Here an error or a lost answer says nothing about what is there: that is read back."""
    for at in range(1, 40):
        one, two, clock = DictPlace({"k": b"1"}), DictPlace(), Clock()
        fault = Fault(at, "lost")
        with one.storage() as source, two.storage() as target:
            faulty = FaultyStorage(source, fault), FaultyStorage(target, fault)
            try:
                kvsync.sync(*faulty, scan=True, environment=clock.environment, wait_seconds=0)
            except kvsync.StorageError:
                clock.sleep(LIFE + SKEW + 1)
            result = kvsync.sync(one.target, two.target, scan=True, environment=clock.environment, wait_seconds=0)
        assert one.values() == two.values() == {"k": b"1"}, at
        assert told(result)[1:] == (0, 0, 0, 0), at
        if not fault.happened:
            break
    assert at > 10
