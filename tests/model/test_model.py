"""The rules of lives, tombstones and cut runs: none loses anything, and without any of them something is lost."""

from __future__ import annotations

import pytest

from model.changes import Point
from model.histories import play
from model.long_run import play_all
from model.parts import PARTS
from model.points import thinned
from model.policies import POLICIES
from model.world import Options

DENSE = Options(dense=True)
CUT = Options(dense=True, crash=0.5)
EAGER = Options(dense=True, crash=0.4, collect="eager")
USUAL = Options(crash=0.3)
ROUGH = Options(dense=True, crash=0.4, refuse=0.2, race=0.05)
LATE = Options(dense=True, crash=0.7, late=0.9)
ANY_POLICY = Options(crash=0.3, policies=POLICIES, inexact=0.6, contents=3, given=0.3)


@pytest.mark.parametrize(
    "options",
    [DENSE, CUT, EAGER, USUAL, ROUGH, LATE, ANY_POLICY],
    ids=["dense", "cut", "eager", "usual", "rough", "late", "any"],
)
def test_nothing_is_lost(options: Options) -> None:
    report = play_all(range(400), options)
    assert not report.bad, report


# For each rule a history that goes wrong without it. `python tests/model/long_run.py COUNT --off PART` finds others.
FOUND = [
    ("proof", DENSE, 32),
    ("rename", DENSE, 32),
    ("marks", DENSE, 151),
    ("cap", DENSE, 113),
]


@pytest.mark.parametrize(("part", "options", "seed"), FOUND, ids=[part for part, _, _ in FOUND])
def test_each_rule_is_needed(part: str, options: Options, seed: int) -> None:
    assert play(seed, options, PARTS - {part})[1] is not None
    assert play(seed, options)[1] is None


def test_a_history_without_restores_makes_no_branch_and_no_false_conflict() -> None:
    report = play_all(range(300), Options(restores=False, newcomers=False, collect="none"))
    assert not report.bad
    assert not report.counts["branches"]
    assert not report.counts["false conflicts"]
    assert not report.counts["told in doubt"]
    assert report.counts["conflicts"] > 100


def test_two_replicas_that_thin_apart_keep_points_in_common() -> None:
    points = [Point(number, number, number) for number in range(1, 1001)]
    one, other = thinned(points[:900], 4, ()), thinned(points, 4, ())
    assert len(other) < 40
    assert len({*one} & {*other}) > 5
