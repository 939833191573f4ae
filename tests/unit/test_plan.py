"""What a plan shows."""

from __future__ import annotations

import kvsync
from kvsync import Delete, Put


def test_an_empty_plan() -> None:
    plan = kvsync.plan({}, {})
    assert plan.empty
    assert str(plan).endswith("nothing to do")
    assert (plan.to_source_count, plan.to_target_count, plan.conflicts) == (0, 0, [])
    assert list(plan.to_source) == list(plan.to_target) == []


def test_a_plan_lists_both_directions() -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.sync(a, b, [Put("old", b"1"), Put("k", b"1")])
    kvsync.commit(b, [Delete("old"), Put("theirs", b"12345")])
    plan = kvsync.plan(a, b, [Put("ours", b"123")])
    assert not plan.empty
    assert [(change.key, change.size) for change in plan.to_target] == [("ours", 3)]
    assert [(change.key, change.deletes) for change in plan.to_source] == [("old", True), ("theirs", False)]
    text = str(plan)
    assert "to target: 1 change\n" in text
    assert "put 'ours' (3 bytes)" in text
    assert "delete 'old'" in text
    assert "put 'theirs' (5 bytes)" in text
    assert plan.guarantee == "T1"


def test_a_plan_with_conflicts_is_not_empty() -> None:
    a: dict[str, bytes] = {}
    b: dict[str, bytes] = {}
    kvsync.commit(a, [Put("k", b"a")])
    kvsync.commit(b, [Put("k", b"b")])
    plan = kvsync.plan(a, b, conflict="source")
    assert not plan.empty
    assert [(conflict.key, conflict.winner) for conflict in plan.conflicts] == [("k", "source")]
    assert "conflict 'k': source wins" in str(plan)


def test_a_long_plan_is_cut_short_in_print_only() -> None:
    plan = kvsync.plan({}, {}, [Put(f"k{i:03}", b"") for i in range(100)])
    assert plan.to_target_count == len(list(plan.to_target)) == 100
    assert "and 80 more" in str(plan)
    assert len(str(plan).splitlines()) < 30


def test_strange_keys_are_escaped_in_print() -> None:
    plan = kvsync.plan({}, {}, [Put("new\nline\x1b[31m", b"")])
    assert "\x1b" not in str(plan)
    assert "new\\nline" in str(plan)


def test_a_plan_shows_no_secret() -> None:
    plan = kvsync.plan({}, {})
    assert "_apply" not in repr(plan)
