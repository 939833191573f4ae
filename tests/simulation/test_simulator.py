"""The simulator that users get, `kvsync.testing.simulate`: what it plays, what it finds, and how it tells of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from kvsync.run import conflicts, delta, steps
from kvsync.testing import SimulationError, simulate
from kvsync.testing.simulation import DISKS, HAZARDS, __main__
from kvsync.testing.simulation.disks import DictDisk
from kvsync.types import ANY

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.testing.simulation import Hazard

MEMORY = ("dict", "bucket", "database")
SOUND = tuple(hazard for hazard in HAZARDS if hazard not in {"restores", "clones"})


def test_nothing_is_lost_without_restores() -> None:
    report = simulate(90, storages=MEMORY, hazards=SOUND)
    assert report.histories == 90
    happened = ["conflicts", "crashes", "newcomers", "damaged", "damage found", "late writes", "told missing"]
    happened += ["forgotten", "told forgotten", "filtered runs", "mirror runs"]
    assert all(report.counts[what] for what in happened), report


def test_nothing_is_lost_in_folders_and_databases() -> None:
    report = simulate(5, seed=100, storages=("folder", "sqlite", "dict"), hazards=SOUND)
    assert report.counts["conflicts"]


def test_nothing_is_lost_with_restores_and_clones() -> None:
    report = simulate(90, storages=MEMORY, seed=7)
    assert all(report.counts[what] for what in ("restores", "clones", "told restored", "told maybe deleted")), report


def test_nothing_is_lost_when_files_are_restored_and_copied() -> None:
    report = simulate(4, seed=3, storages=("folder", "sqlite"), hazards=("restores", "clones"))
    assert report.counts["restores"]
    assert report.counts["clones"]


def test_nothing_is_revived_by_storages_that_were_forgotten() -> None:
    report = simulate(40, seed=300, hazards=("collection", "forgotten"))
    assert all(report.counts[what] for what in ("forgotten", "told forgotten", "told maybe deleted")), report


def test_nothing_is_lost_or_claimed_by_runs_that_go_one_way() -> None:
    hazards: list[Hazard] = ["directions", "read-only", "unlogged", "crashes", "collection"]
    report = simulate(120, seed=700, storages=MEMORY, hazards=hazards)
    kinds = ("push", "pull", "mirror", "read-only push", "read-only mirror")
    assert all(report.counts[f"{kind} runs"] > 10 for kind in kinds), report


def test_a_run_that_claims_what_it_withholds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = delta._inbound

    def claiming(side: Any, copy: Any, log: Any, backfill: Any, history: Any, *rest: Any) -> Any:
        return sound(side, copy, log, backfill, history, *rest)._replace(history=history)

    monkeypatch.setattr(delta, "_inbound", claiming)
    with pytest.raises(SimulationError, match=r"not equal|lost|differ|there"):
        simulate(100, hazards=["directions"])


def test_nothing_is_in_doubt_among_peers_where_nothing_is_undone() -> None:
    report = simulate(40, seed=500, hazards=("collection", "clocks"))
    assert report.counts["told maybe deleted"], report
    assert not report.counts["told maybe deleted among peers"], report


def nothing_is_kept(self: object, _pair: object, _environment: object) -> None:
    """Keep no value that loses a conflict."""


FAULTS: dict[str, tuple[object, str, Callable[..., Any], str]] = {
    "losing values are not kept": (conflicts.Verdicts, "keep_lost", nothing_is_kept, "losing value not kept"),
    "what a scan found is not logged": (
        steps,
        "commit_found",
        lambda side, _other=None: side,
        "lost write|revived|not equal",
    ),
    "conflicts are not told": (delta, "conflicts_of", lambda _found, _now_ms: [], "lost"),
}


def found(
    place: object,
    attribute: str,
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> SimulationError:
    monkeypatch.setattr(place, attribute, fault)
    with pytest.raises(SimulationError) as raised:
        simulate(400, hazards=("crashes", "unlogged"))
    return raised.value


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, attribute, fault, kind = FAULTS[name]
    error = found(place, attribute, fault, monkeypatch)
    assert re.search(kind, error.failure.kind), error


def test_a_failure_is_told_as_a_short_story(monkeypatch: pytest.MonkeyPatch) -> None:
    error = found(conflicts.Verdicts, "keep_lost", nothing_is_kept, monkeypatch)
    heading, *lines, ending = str(error).splitlines()
    assert re.fullmatch(r"seed \d+, losing value not kept:", heading)
    assert [int(line[:3]) for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) <= 5
    assert "everybody meets until nothing moves" in error.failure.story
    writes = [line for line in lines if re.search(r" (alpha|beta|gamma|delta|epsilon|zeta): k\d = v\d+", line)]
    assert len(writes) >= 1
    assert re.search(r"v\d+ lost a conflict at k\d, and was not kept", ending)


def test_the_same_seed_gives_the_same_report_and_story(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (simulate(10, storages=MEMORY, hazards=SOUND) for _ in range(2))
    assert one.counts == other.counts
    stories = {str(found(conflicts.Verdicts, "keep_lost", nothing_is_kept, monkeypatch)) for _ in range(2)}
    assert len(stories) == 1


def test_a_disk_of_ones_own_can_be_simulated() -> None:
    made = []

    class OwnDisk(DictDisk):
        def __init__(self, directory: str) -> None:
            super().__init__(directory)
            made.append(directory)

    simulate(2, storages=(OwnDisk,), hazards=())
    assert len(made) >= 4


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_is_copied_put_back_and_emptied(kind: str, tmp_path: Any) -> None:
    disk = DISKS[kind](str(tmp_path / "disk"))
    storage = disk.open()
    storage.write(["a", "b"], [b"1", b"2"])
    storage.store("manifest", b"index", ANY)
    storage.close()
    copy = disk.copy()
    storage = disk.open()
    storage.write(["a"], [b"later"])
    storage.close()
    assert disk.values() == {"a": b"later", "b": b"2"}
    disk.put_back(copy)
    assert disk.values() == {"a": b"1", "b": b"2"}
    storage = disk.open()
    assert storage.objects() == ["manifest"]
    storage.close()
    disk.empty()
    assert disk.values() == {}
    storage = disk.open()
    assert storage.objects() == []
    storage.close()


def test_the_command_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--histories", "3", "--hazards", "crashes"]) == 0
    assert capsys.readouterr().out.startswith("3 histories, 0 broken (0 %)\n")


def test_the_command_tells_stories_and_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflicts.Verdicts, "keep_lost", nothing_is_kept)
    assert __main__.main(["--histories", "30", "--hazards", "unlogged", "--stories", "1"]) == 1
    told = capsys.readouterr().out
    assert re.search(r"\d+ losing value not kept \(seeds: [\d, .]+\)\n", told)
    assert "was not kept" in told


@pytest.mark.parametrize("arguments", [["--storages", "tape"], ["--hazards", "fire"]])
def test_the_command_refuses_names_that_it_does_not_know(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        __main__.main(arguments)
    assert f"'{arguments[1]}' is none of" in capsys.readouterr().err
