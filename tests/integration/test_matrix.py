"""What can happen to a key between two runs, over unlike storages, in both orders, under every policy.

What is expected comes from `expected`, which knows nothing of logs, stamps and vectors.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import blake3
import pytest
from places import PAIRS, Clock, Place, make
from variants import covering

import kvsync
from kvsync import Delete, Put
from kvsync.digesting import BATCH_COUNT

if TYPE_CHECKING:
    from pathlib import Path

COPY = re.compile(r"~[0-9a-f]{16}-([0-9a-f]{8})(\.md)?\Z")
POLICIES = ["latest", "source", "target", "keep-both", "fail", "callable"]


def merge(_conflict: kvsync.Conflict, source: bytes | None, target: bytes | None) -> bytes | str:
    """Join what both sides have; a delete leaves a mark on the value that it met."""
    return b"+".join(value for value in (source, target, b"merged") if value is not None)


@dataclass
class Case:
    """One key: what it held at first, and what each side did, as (0: early, 1: middle, 2: late; value or None)."""

    base: bytes | None = None
    one: list[tuple[int, bytes | None]] = field(default_factory=list)
    two: list[tuple[int, bytes | None]] = field(default_factory=list)


# The first place writes early or late, the second in between.
CASES = {
    "untouched": Case(b"base"),
    "new on one": Case(None, one=[(0, b"n1")]),
    "new on two": Case(None, two=[(1, b"n2")]),
    "newer on one": Case(b"base", one=[(0, b"n1")]),
    "newer on two": Case(b"base", two=[(1, b"n2")]),
    "deleted on one": Case(b"base", one=[(0, None)]),
    "deleted on two": Case(b"base", two=[(1, None)]),
    "changed on both, one first": Case(b"base", one=[(0, b"c1")], two=[(1, b"c2")]),
    "changed on both, two first": Case(b"base", one=[(2, b"c1")], two=[(1, b"c2")]),
    "changed on both alike": Case(b"base", one=[(0, b"same")], two=[(1, b"same")]),
    "changed on one, then deleted on two": Case(b"base", one=[(0, b"c1")], two=[(1, None)]),
    "deleted on two, then changed on one": Case(b"base", one=[(2, b"c1")], two=[(1, None)]),
    "deleted on one, then changed on two": Case(b"base", one=[(0, None)], two=[(1, b"c2")]),
    "changed on two, then deleted on one": Case(b"base", one=[(2, None)], two=[(1, b"c2")]),
    "deleted on both": Case(b"base", one=[(0, None)], two=[(1, None)]),
    "deleted and made again on one": Case(b"base", one=[(0, None), (2, b"again")]),
    "deleted and made again on one, alike": Case(b"base", one=[(0, None), (2, b"base")]),
    "made and deleted on one": Case(None, one=[(0, b"short"), (2, None)]),
    "created on both alike": Case(None, one=[(0, b"twin")], two=[(1, b"twin")]),
    "created on both, one first": Case(None, one=[(0, b"t1")], two=[(1, b"t2")]),
    "created on both, two first": Case(None, one=[(2, b"t1")], two=[(1, b"t2")]),
    "emptied on one": Case(b"base", one=[(0, b"")]),
    "folder/deep/new on two": Case(None, two=[(1, b"deep")]),
    "folder/changed on both.md": Case(b"base", one=[(0, b"# one")], two=[(1, b"# two")]),
}
# Enough that stay as they are, so that the changed ones are the smaller part.
CASES |= {f"quiet/{i}": Case(b"quiet") for i in range(3)}


@dataclass
class Expected:
    """What both places hold after the run, and what became of the conflicts."""

    values: dict[str, bytes] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    copies: dict[str, bytes] = field(default_factory=dict)
    lost: dict[str, dict[str, list[bytes]]] = field(default_factory=lambda: {"source": {}, "target": {}})


def seen(case: Case, edits: list[tuple[int, bytes | None]], *, scan: bool) -> bool:
    """Whether an edit counts: a scan sees only what is different from the last time, a log sees what it is told."""
    return bool(edits) and not (scan and edits[-1][1] == case.base)


def time_of(edits: list[tuple[int, bytes | None]], place: Place, *, scan: bool) -> tuple[int, int, bytes]:
    """Return when a change counts as made, and what decides between two of one time.

    A scan takes it as made just now, unless the storage knows better; a delete never wins by that.
    """
    at, value = edits[-1]
    if not scan or (place.kind == "folder" and value is not None):
        return 0, at, b""
    return (-1, 0, b"") if value is None else (1, 0, blake3.blake3(value).digest())


def expected(policy: str, sides: dict[str, Place], *, scan: bool) -> Expected:
    """Work out the outcome from the cases alone; the first place is the source."""
    result = Expected()
    for key, case in CASES.items():
        edits = {"source": case.one, "target": case.two}
        changed = [side for side in edits if seen(case, edits[side], scan=scan)]
        ends = {side: edits[side][-1][1] for side in changed}
        outcome = case.base
        if len(changed) == 1 or len(set(ends.values())) == 1:
            outcome = ends[changed[0]]
        elif changed:
            outcome = settle(result, key, policy, ends, newest(edits, sides, scan=scan))
        if outcome is not None:
            result.values[key] = outcome
    return result


def newest(edits: dict[str, list[tuple[int, bytes | None]]], sides: dict[str, Place], *, scan: bool) -> str:
    return max(edits, key=lambda side: time_of(edits[side], sides[side], scan=scan))


def settle(result: Expected, key: str, policy: str, ends: dict[str, bytes | None], latest: str) -> bytes | None:
    if policy == "callable":
        merged = merge(None, ends["source"], ends["target"])  # type: ignore[arg-type]
        assert isinstance(merged, bytes)
        result.conflicts[key] = "value"
        for side, value in ends.items():
            if value is not None:
                result.lost[side][key] = [value]
        return merged
    winner = policy if policy in ends else latest
    loser = "target" if winner == "source" else "source"
    result.conflicts[key] = winner
    beaten = ends[loser]
    if beaten is not None and policy == "keep-both":
        result.copies[key] = beaten
    elif beaten is not None:
        result.lost[loser][key] = [beaten]
    return ends[winner]


def edit(place: Place, clock: Clock, edits: dict[str, bytes | None], *, scan: bool) -> None:
    """Make edits as an application does: plainly, or through a log."""
    clock.sleep(60)
    if scan:
        for key, value in edits.items():
            place.put(key, value) if value is not None else place.delete(key)
    elif edits:
        changes = [Delete(key) if value is None else Put(key, value) for key, value in edits.items()]
        kvsync.commit(place.target, changes, environment=clock.environment)


def play(one: Place, two: Place, clock: Clock, *, scan: bool) -> None:
    """Bring both places to the same base, then let each side do what the cases say."""
    for key, case in CASES.items():
        if case.base is not None:
            one.put(key, case.base)
    kvsync.sync(one.target, two.target, scan=True, environment=clock.environment)
    for part, place in enumerate((one, two, one)):
        side = "two" if place is two else "one"
        edits = {key: value for key, case in CASES.items() for at, value in getattr(case, side) if at == part}
        edit(place, clock, edits, scan=scan)
    clock.sleep(60)


def check_same(one: Place, two: Place, wanted: Expected) -> None:
    """Compare both places with what is expected; conflict copies have names that only their form is known of."""
    for place in (one, two):
        held = place.values()
        copies = {key: held.pop(key) for key in list(held) if COPY.search(key)}
        assert held == wanted.values
        assert {COPY.sub(r"\2", key): value for key, value in copies.items()} == wanted.copies
        assert all(blake3.blake3(value).hexdigest()[:8] in COPY.findall(key)[0] for key, value in copies.items())
    assert one.values() == two.values()


@pytest.mark.parametrize(("first", "second", "policy", "scan"), covering(PAIRS, POLICIES, [False, True]))
def test_every_case_at_once(folder: Path, first: str, second: str, policy: str, scan: bool) -> None:
    """Every case is a key of one run. A second run finds nothing to do and writes nothing."""
    clock = Clock()
    one, two = make(first, folder, "one", clock), make(second, folder, "two", clock)
    play(one, two, clock, scan=scan)
    options: dict[str, Any] = {"scan": scan, "max_delete": "100%", "environment": clock.environment}
    options["conflict"] = merge if policy == "callable" else policy
    wanted = expected(policy, {"source": one, "target": two}, scan=scan)

    if policy == "fail":
        before = one.values(), two.values()
        with pytest.raises(kvsync.ConflictError) as refused:
            kvsync.sync(one.target, two.target, **options)
        assert {conflict.key for conflict in refused.value.conflicts} == wanted.conflicts.keys()
        assert (one.values(), two.values()) == before
        options["conflict"] = "latest"

    result = kvsync.sync(one.target, two.target, **options)

    check_same(one, two, wanted)
    assert {conflict.key: conflict.winner for conflict in result.conflicts} == wanted.conflicts
    if policy != "callable":
        assert (one.lost(), two.lost()) == (wanted.lost["source"], wanted.lost["target"])
    assert not result.missing
    kept = {conflict.key for conflict in result.conflicts if conflict.kept_as is not None}
    assert kept == wanted.copies.keys()
    again(one, two, options)


def again(one: Place, two: Place, options: dict[str, Any]) -> None:
    """Run once more in each direction: nothing to do."""
    for source, target in ((one, two), (two, one)):
        before = held(one, two, raw=not options["scan"])
        result = kvsync.sync(source.target, target.target, **options)
        assert (result.pushed, result.pulled, result.committed) == (0, 0, (0, 0))
        assert not result.conflicts
        assert held(one, two, raw=not options["scan"]) == before
        writes = {side: counts["write"] + counts["delete"] for side, counts in result.operations.items()}
        assert writes == {"source": 0, "target": 0}


def held(*places: Place, raw: bool) -> list[Any]:
    """Return every byte, or where leases came and went since, every value and index object."""
    return [place.photograph() if raw else (place.values(), without_inventory(place)) for place in places]


def without_inventory(place: Place) -> dict[str, bytes]:
    """Return the index objects that say what a storage holds: an object store's lease is never removed."""
    return {name: data for name, data in place.objects().items() if name not in {"inventory", "lease"}}


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
def test_a_scan_after_a_decision_writes_nothing(folder: Path, kind: str) -> None:
    """A decided key is proven by its digest only, so the next scan reads it again, finds it unchanged, and wrote for
    that."""
    clock = Clock()
    one, two = make(kind, folder, "one", clock), make(kind, folder, "two", clock)
    for place in (one, two):
        for i in range(5):
            place.put(f"quiet/{i}", b"quiet")
    one.put("k", b"1")
    two.put("k", b"2")
    for policy in ("source", "target"):
        clock.sleep(60)
        kvsync.sync(one.target, two.target, scan=True, conflict=policy, environment=clock.environment)
        before = one.objects(), two.objects()
        kvsync.sync(one.target, two.target, scan=True, conflict=policy, environment=clock.environment)
        assert (one.objects(), two.objects()) == before
        clock.sleep(60)
        one.put("k", b"one")
        two.put("k", b"two")


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
def test_a_callables_value_keeps_both_it_replaced(folder: Path, kind: str) -> None:
    """A merge function's result replaced the source's value, which was then no longer there to be kept as lost."""
    one, two = make(kind, folder, "one"), make(kind, folder, "two")
    kvsync.commit(one.target, [Put("k", b"ours")])
    kvsync.commit(two.target, [Put("k", b"theirs")])
    kvsync.sync(one.target, two.target, conflict=lambda *_: b"neither")
    assert (one.values(), two.values()) == ({"k": b"neither"}, {"k": b"neither"})
    assert two.lost() == {"k": [b"theirs"]}
    assert one.lost() == {"k": [b"ours"]}


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("scan", [False, True], ids=["given", "scan"])
def test_counts_are_those_of_the_cases(folder: Path, first: str, second: str, scan: bool) -> None:
    """A key that both sides changed alike is copied nowhere; every other change is counted once, where it went."""
    clock = Clock()
    one, two = make(first, folder, "one", clock), make(second, folder, "two", clock)
    play(one, two, clock, scan=scan)
    pushed = pulled = 0
    for case in CASES.values():
        mine, theirs = (seen(case, edits, scan=scan) for edits in (case.one, case.two))
        if mine and theirs:
            pushed += case.one[-1][1] != case.two[-1][1]
        else:
            pushed += mine
            pulled += theirs
    result = kvsync.sync(
        one.target, two.target, conflict="source", scan=scan, max_delete="100%", environment=clock.environment
    )
    assert (result.pushed, result.pulled) == (pushed, pulled)


def test_given_changes_of_one_key_count_once() -> None:
    """The same key twice in one list of changes: the last one is meant."""
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    result = kvsync.sync(a, b, [Put("k", b"1"), Delete("k"), Put("j", b"1"), Put("k", b"2"), Delete("j")])
    assert (a["k"], b["k"]) == (b"2", b"2")
    assert "j" not in a
    assert "j" not in b
    assert result.pushed == 2


@pytest.mark.parametrize("kind", ["dict", "sqlite", "lmdb", "postgres"])
def test_more_than_a_batch_of_changes_in_any_order(folder: Path, kind: str) -> None:
    """Where they are committed as one, their digests are taken while they are written: the log is the same."""
    chance = random.Random(kind)
    one, two = make(kind, folder, "one", Clock()), make("dict", folder, "two", Clock())
    keys = [f"k{i}" for i in range(3 * BATCH_COUNT)]
    kvsync.sync(one.target, two.target, [Put(key, b"old") for key in keys])
    changes = [Put(key, key.encode()) if chance.random() < 0.7 else Delete(key) for key in keys for _ in range(2)]
    chance.shuffle(changes)
    last = {change.key: change.value for change in changes}
    expected = {key: value for key, value in last.items() if value is not None}
    result = kvsync.sync(one.target, two.target, changes)
    assert (result.committed, result.pushed, result.missing) == ((len(keys), 0), len(keys), [])
    assert one.values() == two.values() == expected
    assert kvsync.verify(one.target, two.target).equal
