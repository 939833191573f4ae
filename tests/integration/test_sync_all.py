"""More than two storages in one call: all are equal in the end, and one that fails stops none of the others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from places import Hooked

import kvsync
from kvsync import Delete, Put

if TYPE_CHECKING:
    from pathlib import Path


def plain(values: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in values.items() if not key.startswith(".kvsync/")}


def test_all_are_equal_in_the_end() -> None:
    storages: list[dict[str, bytes]] = [{f"from {number}": b"1"} for number in range(5)]
    result = kvsync.sync_all(storages, scan=True)
    assert result.equal
    assert all(plain(each) == {f"from {number}": b"1" for number in range(5)} for each in storages)
    # Of the second pass only what the later ones brought is left: the last one has all of it.
    assert [run.pulled for run in result.runs] == [1, 1, 1, 1, 0, 0, 0]
    assert [run.pushed for run in result.runs] == [1, 2, 3, 4, 3, 2, 1]
    again = kvsync.sync_all(storages, scan=True)
    assert (again.bytes, [run.pushed + run.pulled for run in again.runs]) == (0, [0] * 7)


@pytest.mark.parametrize("conflict", ["latest", "source", "target", "keep-both"])
def test_a_conflict_between_all_of_them_ends_in_one_value(conflict: Any) -> None:
    storages: list[dict[str, bytes]] = [{}, {}, {}]
    kvsync.sync_all(storages, [Put("both", b"old"), Put("gone", b"old")])
    for number, each in enumerate(storages):
        kvsync.commit(each, [Put("both", f"value {number}".encode()), Delete("gone")])
    result = kvsync.sync_all(storages, conflict=conflict)
    assert result.equal
    assert len({tuple(sorted(plain(each).items())) for each in storages}) == 1
    assert "gone" not in storages[0]


def test_a_star_one_way_makes_one_pass() -> None:
    hub, *others = ({f"from {number}": b"1"} for number in range(3))
    pushed = kvsync.sync_all([hub, *others], scan=True, direction="push")
    assert [(run.pushed, run.withheld) for run in pushed.runs] == [(1, ["from 1"]), (1, ["from 2"])]
    assert not pushed.equal
    mirrored = kvsync.sync_all([hub, *others], scan=True, direction="mirror", max_delete="100%")
    assert mirrored.equal
    assert plain(hub) == plain(others[0]) == plain(others[1]) == {"from 0": b"1"}
    assert not kvsync.sync_all([hub, *others], scan=True, direction="pull").equal


def test_changes_go_to_the_hub_and_from_there_to_all() -> None:
    storages: list[dict[str, bytes]] = [{}, {}, {}]
    result = kvsync.sync_all(storages, [Put("a", b"1")])
    assert [plain(each) for each in storages] == [{"a": b"1"}] * 3
    assert [run.pushed for run in result.runs] == [1, 1, 0]


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_one_that_fails_is_told_and_stops_none_of_the_others(broken: int) -> None:
    values: list[dict[str, bytes]] = [{f"from {number}": b"1"} for number in range(4)]
    storages: list[Any] = list(values)

    def fail(*_: Any) -> None:
        message = "down"
        raise kvsync.StorageError(message, storage="the broken one")

    storages[broken] = Hooked(values[broken], before=fail)
    result = kvsync.sync_all(storages, scan=True)
    ((name, error),) = result.failures
    assert (name, error.message, result.equal) == (storages[broken].name, "down", False)
    healthy = [number for number in range(4) if number != broken]
    assert all(plain(values[number]) == {f"from {each}": b"1" for each in healthy} for number in healthy)
    assert plain(values[broken]) == {f"from {broken}": b"1"}
    storages[broken] = values[broken]
    assert kvsync.sync_all(storages, scan=True).equal
    assert len({tuple(sorted(plain(each).items())) for each in values}) == 1


def test_a_storage_that_cannot_be_opened_stops_none_of_the_others(tmp_path: Path) -> None:
    one, other = {"a": b"1"}, dict[str, bytes]()
    result = kvsync.sync_all([one, str(tmp_path / "gone"), other], scan=True, create="none")
    assert [failure.storage for failure in result.failures] == [str(tmp_path / "gone")]
    assert plain(other) == {"a": b"1"}
    with pytest.raises(kvsync.StorageError, match="does not exist"):
        kvsync.sync_all([str(tmp_path / "gone"), one, other], scan=True)


def test_new_storages_are_created_but_not_a_new_hub(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "a").write_bytes(b"1")
    result = kvsync.sync_all([str(hub), str(tmp_path / "b"), f"sqlite:///{tmp_path}/c.db"], scan=True)
    assert result.equal
    assert [bool(run.created) for run in result.runs] == [True, True, False]
    assert (tmp_path / "b" / "a").read_bytes() == b"1"


def test_a_value_that_is_written_between_both_passes_is_not_overwritten() -> None:
    """The second pass scans nothing, so it looks at values before it overwrites them."""
    hub, one, other = ({"k": b"old"} for _ in range(3))
    kvsync.sync_all([hub, one, other], scan=True)
    other["k"] = b"new"

    def meddle(progress: kvsync.Progress) -> None:
        if progress.step == "pull":
            one["k"] = b"the application's"

    result = kvsync.sync_all([hub, one, other], scan=True, on_progress=meddle)
    assert one["k"] == b"the application's"
    assert [(missing.key, missing.side) for missing in result.missing] == [("k", "target")]
    assert kvsync.sync_all([hub, one, other], scan=True).equal
    assert hub["k"] == one["k"] == other["k"]
    assert {hub["k"], *(lost.value for each in (hub, one, other) for lost in kvsync.lost(each))} == {
        b"new",
        b"the application's",
    }


def test_a_file_of_one_within_another_is_left_out(tmp_path: Path) -> None:
    """Each pair shared nothing, and yet the database went into the hub as a value."""
    folder, hub = tmp_path / "folder", {"a": b"1"}
    folder.mkdir()
    storages: list[Any] = [hub, str(folder), f"sqlite:///{folder}/app.db"]
    for _ in range(2):
        assert kvsync.sync_all(storages, scan=True).equal
    assert plain(hub) == {"a": b"1"}


def test_what_is_wrong_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    a, b = {"a": b"1"}, dict[str, bytes]()
    wrongs: list[list[Any]] = [[a], [a, b, b], [a, b, str(tmp_path), str(tmp_path)]]
    for wrong in wrongs:
        with pytest.raises(kvsync.UsageError):
            kvsync.sync_all(wrong, scan=True)
    with pytest.raises(kvsync.UsageError, match="conflict"):
        kvsync.sync_all([a, b, {}], conflict="newest")
    with pytest.raises(TypeError):
        kvsync.sync_all([a, b, {}], conflct="latest")
    assert (a, b) == ({"a": b"1"}, {})


def test_a_dry_run_and_a_cancelled_one_write_nothing() -> None:
    storages: list[dict[str, bytes]] = [{"a": b"1"}, {}, {}]
    result = kvsync.sync_all(storages, [Put("b", b"2")], scan=True, dry_run=True)
    assert ([run.pushed for run in result.runs], result.equal) == ([2, 2], False)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(kvsync.CancelledError):
        kvsync.sync_all(storages, scan=True, cancel=cancel)
    assert storages == [{"a": b"1"}, {}, {}]


def test_the_result_as_plain_values() -> None:
    fields = kvsync.sync_all([{"a": b"1"}, {}, {}], scan=True).to_dict()
    assert fields.keys() == {"hub", "equal", "bytes", "runs", "failures", "seconds"}
    assert (fields["equal"], fields["bytes"], fields["failures"]) == (True, 2, [])
