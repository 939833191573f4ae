"""One-way runs: what moves, what stays and is reported, and what a later run of any direction still gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.errors import BudgetError, ConflictError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from kvsync.result import SyncResult

Data = dict[str, bytes]


def values(data: Data) -> Data:
    return {key: value for key, value in data.items() if not key.startswith(".kvsync/")}


def run(source: Data, target: Data, direction: Any = "both", **options: Any) -> SyncResult:
    return kvsync.sync(source, target, scan=True, direction=direction, **options)


def met() -> tuple[Data, Data]:
    """Return two storages that have met, each of which was changed since."""
    source: Data = {f"k{number}": b"old" for number in range(6)}
    target: Data = {}
    run(source, target)
    source |= {"k0": b"source", "new-s": b"1"}
    del source["k1"]
    target |= {"k2": b"target", "new-t": b"1"}
    del target["k3"]
    return source, target


def test_a_push_moves_what_the_source_has_and_reports_what_the_target_has() -> None:
    source, target = met()
    before = values(source)
    result = run(source, target, "push")
    assert values(source) == before
    assert (target["k0"], target["new-s"], "k1" in target) == (b"source", b"1", False)
    assert (target["k2"], target["new-t"], "k3" in target) == (b"target", b"1", False)
    assert (result.pushed, result.pulled, result.withheld) == (3, 0, ["k2", "k3", "new-t"])


def test_a_second_push_writes_nothing_and_reports_the_same() -> None:
    source, target = met()
    run(source, target, "push")
    before = {name: data.copy() for name, data in (("source", source), ("target", target))}
    result = run(source, target, "push")
    assert (result.pushed, result.withheld) == (0, ["k2", "k3", "new-t"])
    for name, data in (("source", source), ("target", target)):
        assert {key for key in data if data[key] != before[name].get(key)} <= {".kvsync/lease"}


def test_what_a_push_withheld_moves_both_ways_later() -> None:
    source, target = met()
    run(source, target, "push")
    result = run(source, target)
    assert (result.pushed, result.pulled, result.withheld) == (0, 3, [])
    assert values(source) == values(target)


def test_a_third_replica_gets_what_a_push_withheld() -> None:
    source, target = met()
    third: Data = {}
    run(source, target, "push")
    run(source, third)
    run(target, third)
    run(source, third)
    assert values(source) == values(target) == values(third)
    assert values(third)["k2"] == b"target"


def test_a_pull_is_a_push_the_other_way_round() -> None:
    source, target = met()
    before = values(target)
    result = run(source, target, "pull")
    assert values(target) == before
    assert (source["k2"], source["new-t"], "k3" in source) == (b"target", b"1", False)
    assert (result.pushed, result.pulled, result.withheld) == (0, 3, ["k0", "k1", "new-s"])


def test_given_changes_stay_in_the_source_of_a_pull() -> None:
    source, target = met()
    result = run(source, target, "pull", changes=[Put("given", b"1"), Delete("k5")])
    assert source["given"] == b"1"
    assert "given" not in target
    assert {"given", "k5"} <= set(result.withheld)


@pytest.mark.parametrize(("policy", "winner"), [("latest", "target"), ("source", "source"), ("target", "target")])
def test_a_policy_decides_conflicts_of_a_push(policy: Any, winner: str) -> None:
    source, target = {"k": b"old"}, {"k": b"old"}
    run(source, target)
    kvsync.commit(source, [Put("k", b"source")])
    kvsync.commit(target, [Put("k", b"target")])
    result = run(source, target, "push", conflict=policy)
    assert [conflict.winner for conflict in result.conflicts] == [winner]
    assert source["k"] == b"source"
    assert target["k"] == winner.encode()
    assert result.withheld == (["k"] if winner == "target" else [])
    later = run(source, target)
    assert source["k"] == target["k"] == winner.encode()
    assert not later.conflicts
    lost = [value.value for storage in (source, target) for value in kvsync.lost(storage)]
    assert lost == [b"source" if winner == "target" else b"target"]


def test_a_merged_value_is_written_where_the_run_writes() -> None:
    source, target = {"k": b"old"}, {"k": b"old"}
    run(source, target)
    kvsync.commit(source, [Put("k", b"source")])
    kvsync.commit(target, [Put("k", b"target")])
    result = run(source, target, "push", conflict=lambda _conflict, _source, _target: b"merged")
    assert (source["k"], target["k"], result.withheld) == (b"source", b"merged", ["k"])
    run(source, target)
    assert source["k"] == target["k"] == b"merged"


def test_a_copy_that_is_kept_is_written_where_the_run_writes() -> None:
    source, target = {"k": b"old"}, {"k": b"old"}
    run(source, target)
    kvsync.commit(source, [Put("k", b"source")])
    kvsync.commit(target, [Put("k", b"target")])
    result = run(source, target, "push", conflict="keep-both")
    copy = result.conflicts[0].kept_as
    assert copy is not None
    assert values(source) == {"k": b"source"}
    assert values(target) == {"k": b"target", copy: b"source"}
    run(source, target)
    assert values(source) == values(target)


def test_a_push_that_fails_at_conflicts_moves_nothing() -> None:
    source, target = {"k": b"1", "other": b"1"}, {"k": b"2"}
    with pytest.raises(ConflictError):
        run(source, target, "push", conflict="fail")
    assert values(target) == {"k": b"2"}


# Mirrors


def test_a_mirror_makes_the_target_the_image_of_the_source_and_keeps_what_goes() -> None:
    source, target = met()
    before = values(source)
    result = run(source, target, "mirror")
    assert values(source) == values(target) == before
    assert result.withheld == []
    assert [(conflict.key, conflict.winner) for conflict in result.conflicts] == [
        (key, "source") for key in ("k2", "k3", "new-t")
    ]
    assert {value.key: value.value for value in kvsync.lost(target)} == {"k2": b"target", "new-t": b"1"}


def test_a_mirror_reaches_a_third_replica_that_had_met_the_target() -> None:
    source, target = met()
    third: Data = {}
    run(target, third)
    run(source, target, "mirror")
    run(third, target)
    run(source, third)
    assert values(source) == values(target) == values(third)


def test_a_mirror_undoes_what_a_third_replica_brought() -> None:
    source, target = met()
    third: Data = {"third": b"1", "k5": b"third"}
    run(target, third)
    assert "third" in target
    run(source, target, "mirror")
    assert values(target) == values(source)


def test_a_mirror_leaves_alone_what_cannot_be_read_in_the_source(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/seen").write_bytes(b"1")
    (tmp_path / "source/hidden").symlink_to("seen")
    target: Data = {"hidden": b"2", "extra": b"2", "hidden/below": b"2"}
    result = kvsync.sync(tmp_path / "source", target, scan=True, direction="mirror")
    assert values(target) == {"seen": b"1", "hidden": b"2", "hidden/below": b"2"}
    assert result.withheld == ["hidden", "hidden/below"]


def test_a_plan_of_a_mirror_says_what_it_does_and_writes_nothing() -> None:
    source, target = met()
    before = dict(source), dict(target)
    plan = kvsync.plan(source, target, scan=True, direction="mirror")
    assert (source, target) == before
    assert sorted(change.key for change in plan.to_target) == ["k0", "k1", "k2", "k3", "new-s", "new-t"]
    plan.apply()
    assert values(source) == values(target)


def test_a_plan_of_a_push_lists_what_stays() -> None:
    source, target = met()
    plan = kvsync.plan(source, target, scan=True, direction="push")
    assert (plan.withheld, plan.to_source_count) == (["k2", "k3", "new-t"], 0)
    assert "withheld 'new-t'" in str(plan)


def test_a_mirror_of_the_log_alone_needs_no_scan() -> None:
    source: Data = {}
    target: Data = {}
    kvsync.commit(source, [Put("a", b"1")])
    kvsync.commit(target, [Put("b", b"2")])
    kvsync.sync(source, target, direction="mirror")
    assert values(target) == {"a": b"1"}


def test_a_mirror_that_takes_too_much_is_refused_and_decides_nothing() -> None:
    source, target = {"x": b"1"}, {f"k{number}": b"1" for number in range(10)}
    with pytest.raises(BudgetError, match="mirror would overwrite or delete 10 of 10 keys"):
        run(source, target, "mirror")
    assert len(values(target)) == 10
    run(source, target)
    assert len(values(source)) == 11


def test_a_mirror_of_an_empty_source_is_refused() -> None:
    target: Data = {"k": b"1"}
    with pytest.raises(BudgetError, match="the source holds nothing") as caught:
        run({}, target, "mirror")
    assert caught.value.allow == "100%"
    assert values(target) == {"k": b"1"}
    assert run({}, target, "mirror", max_delete="100%").pushed == 1


def test_a_policy_says_nothing_in_a_mirror() -> None:
    with pytest.raises(UsageError, match="in a mirror the source always wins"):
        run({}, {}, "mirror", conflict="target")


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(UsageError, match="choose one of both, push, pull, mirror"):
        run({}, {}, "sideways")


# Deletes that were collected


def test_a_push_binds_the_target_alone_to_what_was_collected() -> None:
    """The target knows all that the source knows then, so it cannot hold what the source deleted and forgot."""
    now = [1_700_000_000.0]

    def sync(one: Data, other: Data, direction: Any) -> SyncResult:
        now[0] += 1000
        return run(one, other, direction, tombstone_grace=0, clock=lambda: now[0])

    source: Data = {"k": b"1", "stays": b"1"}
    target: Data = {}
    away: Data = {}
    sync(source, target, "both")
    sync(target, away, "both")
    del source["k"]
    for _ in range(3):
        sync(source, target, "push")
    assert "k" not in target
    sync(target, away, "both")
    sync(source, away, "both")
    assert values(source) == values(target) == values(away) == {"stays": b"1"}


# Budgets of a run


def conflicting() -> tuple[Data, Data]:
    source: Data = {f"k{number}": b"old" for number in range(20)}
    target: Data = {}
    run(source, target)
    for number in range(4):
        source[f"k{number}"] = b"new"
    del source["k4"], source["k5"]
    target |= {"k0": b"other", "k1": b"other"}
    return source, target


@pytest.mark.parametrize(
    ("budget", "needed"),
    [
        ({"max_overwrite": 3}, 4),
        ({"max_overwrite": "10%"}, 4),
        ({"max_conflicts": 1}, 2),
        ({"max_conflicts": "5%"}, 2),
        ({"max_bytes": 11}, 12),
    ],
)
def test_a_run_over_a_budget_is_refused_and_names_what_would_allow_it(budget: dict[str, Any], needed: int) -> None:
    source, target = conflicting()
    before = values(source), values(target)
    with pytest.raises(BudgetError) as caught:
        run(source, target, conflict="source", **budget)
    assert (values(source), values(target)) == before
    assert int(caught.value.allow) == needed
    run(source, target, conflict="source", **{caught.value.option: caught.value.allow})
    assert values(source) == values(target)


def test_deletes_that_were_logged_before_count_in_a_budget_that_is_given() -> None:
    source: Data = {f"k{number}": b"1" for number in range(10)}
    target: Data = {}
    run(source, target)
    kvsync.commit(source, [Delete(f"k{number}") for number in range(7)])
    with pytest.raises(BudgetError, match="7 keys would be deleted, more than max_delete allows: 'k0', 'k1'"):
        kvsync.sync(source, target, max_delete=6)
    assert kvsync.sync(source, target).pushed == 7


def test_a_plan_over_a_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="2 bytes would be moved, more than max_bytes allows"):
        kvsync.plan({"k": b"12"}, {}, scan=True, max_bytes=1)
