"""Which change counts as the later one: the rule alone, over any two changes of a key."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from kvsync.native import DECISION, INEXACT, TOMBSTONE
from kvsync.policy import POLICIES, judge, later, newer
from kvsync.types import Change, Conflict

OTHER = {"source": "target", "target": "source"}


ANY_FLAGS = (0, INEXACT, TOMBSTONE, TOMBSTONE | INEXACT)


@st.composite
def changes(draw: st.DrawFn, allowed: tuple[int, ...] = ANY_FLAGS) -> Change:
    """Draw a change of a small world, in which stamps, contents and origins meet again and again."""
    flags = draw(st.sampled_from(allowed))
    deletes = flags & TOMBSTONE != 0
    digest = bytes(32) if deletes else draw(st.sampled_from([b"\1", b"\2", b"\3"])) * 32
    stamp = draw(st.integers(1, 4))
    return Change("k", draw(st.integers(1, 3)), stamp, flags, 0 if deletes else 1, digest)


@given(changes(), changes())
def test_swapping_the_sides_changes_nothing(source: Change, target: Change) -> None:
    assume(source.order != target.order)
    assert later(target, source) == OTHER[later(source, target)]


@given(changes(), changes(), st.integers(1, 9), st.integers(1, 9))
def test_which_replica_made_a_change_decides_nothing(source: Change, target: Change, one: int, other: int) -> None:
    assume(source.outcome != target.outcome)
    elsewhere = source._replace(origin=one), target._replace(origin=other)
    assert later(*elsewhere) == later(source, target)


@given(changes((0, INEXACT)), changes((TOMBSTONE | INEXACT,)), st.sampled_from(["latest", "keep-both", "fail"]))
def test_a_value_never_loses_to_a_delete_whose_time_is_not_exact(value: Change, delete: Change, policy: str) -> None:
    for side, pair in (("source", (value, delete)), ("target", (delete, value))):
        verdict = judge(policy, Conflict("k", *pair), lambda: (None, None))  # type: ignore[arg-type]
        assert (verdict.side, verdict.copy) == (side, None)


@given(changes((0, TOMBSTONE)), changes((0, TOMBSTONE)))
def test_of_two_exact_times_the_later_wins(source: Change, target: Change) -> None:
    assume(source.stamp != target.stamp)
    assert later(source, target) == ("source" if source.stamp > target.stamp else "target")
    assert not Conflict("k", source, target).certain, "both were made in one millisecond"
    apart = [change._replace(stamp=change.stamp << 16) for change in (source, target)]
    assert Conflict("k", apart[0], apart[1]).certain


@given(changes(), changes())
def test_otherwise_the_greater_wins_and_is_not_certain(source: Change, target: Change) -> None:
    assume(source.inexact or target.inexact)
    assume(source.deletes == target.deletes or not (source if source.deletes else target).inexact)
    assert later(source, target) == newer(source, target)
    assert not Conflict("k", source, target).certain


@given(changes(), changes(), st.sampled_from(sorted(POLICIES)), st.sampled_from([(1, 0), (0, 1), (1, 1)]))
def test_a_decision_competes_by_its_stamp_alone(
    source: Change, target: Change, policy: str, decided: tuple[int, int]
) -> None:
    source = source._replace(flags=source.flags | DECISION * decided[0])
    target = target._replace(flags=target.flags | DECISION * decided[1])
    verdict = judge(policy, Conflict("k", source, target), lambda: (None, None))  # type: ignore[arg-type]
    assert (verdict.side, verdict.copy) == (newer(source, target), None)
