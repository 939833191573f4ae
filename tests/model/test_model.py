"""The rules of lives, tombstones and cut runs: nothing is lost, and without any of them something is."""

from __future__ import annotations

import pytest

from model.changes import Point
from model.histories import play
from model.long_run import play_all
from model.parts import EXTRA, PARTS
from model.points import thinned
from model.world import Options

DENSE = Options(dense=True)
CUT = Options(dense=True, crash=0.5)
EAGER = Options(dense=True, crash=0.4, collect="eager")
ROUGH = Options(dense=True, crash=0.4, refuse=0.2, race=0.05)
WORN = Options(dense=True, crash=0.4, refuse=0.2, race=0.05, collect="eager")
LATE = Options(dense=True, crash=0.7, late=0.9)


@pytest.mark.parametrize("parts", [PARTS, PARTS | EXTRA], ids=["rules", "rules and extras"])
def test_nothing_is_lost(parts: frozenset[str]) -> None:
    report = play_all(range(500), None, parts)
    assert not report.bad, report
    for happened in ("branches", "adopted", "deleted again", "left missing", "landed late", "refused by policy"):
        assert report.counts[happened], report


# For each rule a history that goes wrong without it. `python tests/model/long_run.py COUNT --off PART` finds others.
FOUND = [
    ("proof", DENSE, 130),
    ("marks", DENSE, 29),
    ("rename", DENSE, 15),
    ("cap", DENSE, 10),
    ("fresh-id", DENSE, 12),
    ("same-id", DENSE, 989),
    ("floor", DENSE, 1),
    ("covered", EAGER, 57),
    ("tell", EAGER, 41),
    ("branch-floor", EAGER, 1993),
    ("exception-proof", CUT, 939),
    ("clock", CUT, 329),
    ("unreconciled", ROUGH, 6),
    ("keep-held", ROUGH, 271),
    ("missing-tombstone", ROUGH, 422),
    ("missing-names", ROUGH, 998),
    ("missing-restamp", WORN, 297),
    ("collected-conflict", WORN, 2459),
]


@pytest.mark.parametrize(("part", "options", "seed"), FOUND, ids=[part for part, _, _ in FOUND])
def test_each_rule_is_needed(part: str, options: Options, seed: int) -> None:
    assert play(seed, options, PARTS - {part})[1] is not None
    assert play(seed, options)[1] is None


def test_without_restores_there_is_no_branch_and_no_false_conflict() -> None:
    report = play_all(range(300), Options(restores=False, newcomers=False, collect="none"))
    assert not report.bad
    assert report.counts["conflicts"] > 100
    assert not report.counts["branches"]
    assert not report.counts["false conflicts"]
    assert not report.counts["told in doubt"]


def test_two_replicas_that_thin_apart_keep_points_in_common() -> None:
    points = [Point(number, number, number) for number in range(1, 1001)]
    one, other = thinned(points[:900], 4, ()), thinned(points, 4, ())
    assert len(other) < 40
    assert len({*one} & {*other}) > 5


def test_a_story_names_what_happened() -> None:
    world, _ = play(130, DENSE, story=True)
    assert world.story is not None
    assert {"write", "run", "backup", "restore"} <= {str(what[0]) for what in world.story}
