"""Filters: what they leave out is not looked at, not moved, and never taken for deleted; they may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.errors import ConflictError, UsageError
from kvsync.run import delta

if TYPE_CHECKING:
    from pathlib import Path

Data = dict[str, bytes]


def values(data: Data) -> Data:
    return {key: value for key, value in data.items() if not key.startswith(".kvsync/")}


def run(source: Any, target: Any, *exclude: str, **options: Any) -> Any:
    return kvsync.sync(source, target, **{"scan": True, "exclude": exclude, **options})


def test_what_is_left_out_stays_where_it_is() -> None:
    source: Data = {"a": b"1", "b.tmp": b"1", "x/y/c.tmp": b"1"}
    target: Data = {"d": b"1", "e.tmp": b"1"}
    result = run(source, target, "*.tmp")
    assert (result.pushed, result.pulled, result.left_out) == (1, 1, [])
    assert values(source) == {"a": b"1", "d": b"1", "b.tmp": b"1", "x/y/c.tmp": b"1"}
    assert values(target) == {"a": b"1", "d": b"1", "e.tmp": b"1"}


def test_only_what_is_included_moves() -> None:
    source: Data = {"docs/a.md": b"1", "docs/b.txt": b"1", "src/a.md": b"1"}
    target: Data = {}
    run(source, target, "b.*", include=["docs/"])
    assert values(target) == {"docs/a.md": b"1"}


def test_a_second_run_writes_nothing_where_something_is_left_out() -> None:
    source: Data = {"a": b"1", "b.tmp": b"1"}
    target: Data = {}
    run(source, target, "*.tmp")
    before = {key: value for key, value in source.items() if key != ".kvsync/lease"}
    assert run(source, target, "*.tmp").pushed == 0
    assert {key: value for key, value in source.items() if key != ".kvsync/lease"} == before


def test_a_wider_filter_picks_up_what_was_left_out() -> None:
    source: Data = {"a": b"1", "b.tmp": b"1"}
    target: Data = {}
    run(source, target, "*.tmp")
    source["b.tmp"] = b"2"
    assert run(source, target).pushed == 1
    assert values(source) == values(target) == {"a": b"1", "b.tmp": b"2"}


def test_a_narrower_filter_leaves_data_alone_on_a_third_storage_too() -> None:
    source: Data = {"a": b"1", "b.tmp": b"1"}
    target: Data = {}
    third: Data = {}
    run(source, target)
    run(target, third)
    del source["b.tmp"]
    for one, other in ((source, target), (target, third), (source, third)):
        assert run(one, other, "*.tmp").pushed == 0
    assert "b.tmp" in target
    assert "b.tmp" in third
    run(source, target)
    run(target, third)
    assert values(source) == values(target) == values(third) == {"a": b"1"}


def logged_elsewhere() -> tuple[Data, Data, Data]:
    """Return three storages: the first two have met without a filter, and the third has met the first before."""
    source: Data = {"a": b"1", "b.tmp": b"1", "c.tmp": b"1"}
    target: Data = {}
    other: Data = {}
    run(source, target)
    run(source, other)
    other |= {"a": b"2", "b.tmp": b"2", "new.tmp": b"2"}
    del other["c.tmp"]
    run(other, source)
    return source, target, other


def test_a_logged_change_that_is_left_out_is_not_moved_and_not_claimed_as_held() -> None:
    source, target, _ = logged_elsewhere()
    result = run(source, target, "*.tmp")
    assert values(target) == {"a": b"2", "b.tmp": b"1", "c.tmp": b"1"}
    assert (result.pushed, result.missing, result.left_out) == (1, [], ["b.tmp", "c.tmp", "new.tmp"])
    result = run(source, target, "*.tmp")
    assert (result.pushed, result.left_out) == (0, ["b.tmp", "c.tmp", "new.tmp"])
    run(source, target)
    assert values(source) == values(target) == {"a": b"2", "b.tmp": b"2", "new.tmp": b"2"}


def test_whoever_does_not_hold_what_was_left_out_says_so_to_a_third_storage() -> None:
    source, target, _ = logged_elsewhere()
    third: Data = {}
    run(source, target, "*.tmp")
    result = run(target, third)
    assert sorted({entry.key for entry in result.missing}) == ["b.tmp", "new.tmp"]
    run(source, third)
    run(target, third)
    assert values(source) == values(target) == values(third)


def test_an_edit_of_what_was_left_out_is_a_conflict_with_what_it_did_not_know() -> None:
    source, target, _ = logged_elsewhere()
    run(source, target, "*.tmp")
    target["b.tmp"] = b"mine"
    result = run(source, target, conflict="source")
    assert [conflict.key for conflict in result.conflicts] == ["b.tmp"]
    assert values(source) == values(target)
    assert b"mine" in {value.value for value in kvsync.lost(target)}


def test_a_delete_that_was_left_out_does_not_pass_for_known_by_a_value_that_nobody_had_seen() -> None:
    source: Data = {"k.tmp": b"1"}
    target: Data = {"k.tmp": b"unseen"}
    kvsync.commit(source, scan=True)
    kvsync.commit(source, [Delete("k.tmp")])
    assert run(source, target, "*.tmp").left_out == ["k.tmp"]
    assert [conflict.key for conflict in run(source, target).conflicts] == ["k.tmp"]
    assert values(source) == values(target)


@pytest.mark.parametrize("policy", ["latest", "keep-both", lambda *_: b"merged"])
def test_a_conflict_that_is_left_out_is_told_and_writes_no_value(policy: Any) -> None:
    source: Data = {"k.tmp": b"1"}
    target: Data = {}
    run(source, target)
    kvsync.commit(source, [Put("k.tmp", b"source")])
    kvsync.commit(target, [Put("k.tmp", b"target")])
    result = run(source, target, "*.tmp", conflict=policy)
    assert [(conflict.key, conflict.winner) for conflict in result.conflicts] == [("k.tmp", "target")]
    assert (values(source), values(target)) == ({"k.tmp": b"source"}, {"k.tmp": b"target"})
    run(source, target)
    assert values(source) == values(target) == {"k.tmp": b"target"}
    assert [value.value for value in kvsync.lost(source)] == [b"source"]


def test_a_conflict_that_is_left_out_fails_no_run() -> None:
    source: Data = {"k.tmp": b"1", "k": b"1"}
    target: Data = {"k.tmp": b"2"}
    run(source, target, "*.tmp", conflict="fail")
    with pytest.raises(ConflictError):
        run(source, target, conflict="fail")


def test_a_mirror_deletes_nothing_that_is_left_out() -> None:
    source: Data = {"a": b"1"}
    target: Data = {"own.tmp": b"1", "extra": b"1", "logged.tmp": b"1"}
    kvsync.commit(target, [Put("logged.tmp")])
    result = run(source, target, "*.tmp", direction="mirror")
    assert values(target) == {"a": b"1", "own.tmp": b"1", "logged.tmp": b"1"}
    assert result.withheld == []


def test_changes_cannot_be_given_for_what_is_left_out() -> None:
    with pytest.raises(UsageError, match=r"keys that a filter leaves out: 'a\.tmp'"):
        run({}, {}, "*.tmp", changes=[Put("a.tmp", b"1"), Delete("b")])


def test_too_many_changes_that_are_left_out_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "LEFT_OUT_MAX", 2)
    source, target, _ = logged_elsewhere()
    before = values(target)
    with pytest.raises(UsageError, match="leaves out 3 changes that the other side has logged, more than the 2"):
        run(source, target, "*.tmp")
    assert values(target) == before


def test_a_pattern_by_itself_is_no_list_of_patterns() -> None:
    with pytest.raises(UsageError, match="exclude must be a sequence of patterns"):
        kvsync.sync({}, {}, exclude="*.tmp")


def test_a_plan_leaves_out_what_a_run_does() -> None:
    source, target, _ = logged_elsewhere()
    plan = kvsync.plan(source, target, scan=True, exclude=["*.tmp"])
    assert [change.key for change in plan.to_target] == ["a"]
    assert plan.left_out == ["b.tmp", "c.tmp", "new.tmp"]


# A file in a folder


def test_a_file_in_a_folder_names_what_to_leave_out_and_is_synced(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    for name in ("a", "a.swp", "build/b", ".kvsyncignore"):
        (tmp_path / name).write_bytes(b"*.swp\n# built\n/build/\n" if name == ".kvsyncignore" else b"1")
    target: Data = {"own.swp": b"1"}
    run(tmp_path, target)
    assert set(values(target)) == {"a", ".kvsyncignore", "own.swp"}
    (tmp_path / ".kvsyncignore").write_bytes(b"/build/\n")
    run(tmp_path, target)
    assert set(values(target)) == {"a", "a.swp", ".kvsyncignore", "own.swp"}
    assert (tmp_path / "own.swp").read_bytes() == b"1"


def test_files_of_both_folders_and_options_add_up(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, pattern in ((source, b"*.one\n"), (target, b"*.two\n")):
        folder.mkdir()
        (folder / ".kvsyncignore").write_bytes(pattern)
    for name in ("a", "a.one", "a.two", "a.three"):
        (source / name).write_bytes(b"1")
    run(source, target, "*.three", ".kvsyncignore")
    assert sorted(path.name for path in target.iterdir() if path.name != ".kvsync") == [".kvsyncignore", "a"]


def test_a_file_of_patterns_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / ".kvsyncignore").write_bytes(b"\xff\n")
    (tmp_path / "a").write_bytes(b"1")
    target: Data = {}
    with pytest.raises(UsageError, match="it is not UTF-8") as caught:
        run(tmp_path, target)
    assert caught.value.storage == str(tmp_path)
    assert target == {}


def test_verify_leaves_out_what_the_runs_leave_out() -> None:
    one, other = {"a": b"1", "b.swp": b"1"}, {"c.swp": b"2"}
    kvsync.sync(one, other, scan=True, exclude=["*.swp"])
    found = kvsync.verify(one, other, exclude=["*.swp"])
    assert (found.equal, found.same, found.left_out) == (True, 1, 2)
    assert not any(found.unlogged.values())
    assert kvsync.verify(one, other).only_source == ["b.swp"]


def test_verify_goes_by_the_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / ".kvsyncignore").write_text("*.swp\n")
    (tmp_path / "a.swp").write_text("1")
    other: dict[str, bytes] = {}
    kvsync.sync(tmp_path, other, scan=True)
    assert kvsync.verify(tmp_path, other).equal


def test_what_is_left_out_is_not_accepted_with_all_the_rest() -> None:
    one, other = {"x/1": b"1", "y": b"1"}, dict[str, bytes]()
    kvsync.sync(one, other, scan=True)
    one["x/1"] = b"2"
    kvsync.commit(one, scan=True)
    run(one, other, "x/")
    assert kvsync.accept(other, None) == []
    kvsync.sync(one, other, scan=True)
    assert values(one) == values(other) == {"x/1": b"2", "y": b"1"}


def test_storages_that_differ_in_what_was_left_out_are_not_called_equal() -> None:
    one, other, third = {"x/1": b"1"}, dict[str, bytes](), dict[str, bytes]()
    kvsync.sync_all([one, other, third], scan=True)
    one["x/1"] = b"2"
    kvsync.commit(one, scan=True)
    assert not kvsync.sync_all([one, other, third], scan=True, exclude=["x/"]).equal
    assert kvsync.sync_all([one, other, third], scan=True).equal


def test_keys_that_are_left_out_do_not_widen_a_budget() -> None:
    one = {f"x/{number}": b"1" for number in range(200)} | {f"y{number}": b"1" for number in range(10)}
    third, other = dict[str, bytes](), dict[str, bytes]()
    kvsync.sync(one, third, scan=True)
    run(one, other, "x/")
    other |= {f"y{number}": b"2" for number in range(8)}
    kvsync.commit(other, scan=True, max_delete="100%")
    with pytest.raises(kvsync.BudgetError):
        kvsync.sync(one, other, scan=True, direction="mirror", exclude=["x/"])


def test_a_file_of_patterns_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / ".kvsyncignore").write_bytes(b"\xef\xbb\xbf*.swp\n")
    (tmp_path / "a.swp").write_text("1")
    other: Data = {}
    kvsync.sync(tmp_path, other, scan=True)
    assert sorted(values(other)) == [".kvsyncignore"]
