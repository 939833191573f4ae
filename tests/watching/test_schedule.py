"""When runs are due."""

from __future__ import annotations

import random

import pytest

from kvsync.watching.schedule import DEBOUNCE_SECONDS, DEBOUNCE_SECONDS_MAX, Intervals, Schedule


@pytest.fixture
def schedule() -> Schedule:
    schedule = Schedule(Intervals(60, 3600), random.Random(0), hints_complete=True)
    schedule.begin()
    schedule.end(0, 0, full=True, moved=True, left_behind=False)
    return schedule


def test_the_first_run_is_due_at_once() -> None:
    schedule = Schedule(Intervals(60, 3600), random.Random(0))
    assert schedule.due().reason == "start"
    assert schedule.due().at < 0


def test_without_hints_the_next_run_is_the_full_one_or_that_of_the_interval(schedule: Schedule) -> None:
    assert schedule.due() == (3600, "full")
    schedule.hints_complete = False
    assert schedule.due() == (60, "interval")


def test_a_burst_of_hints_is_one_run_and_waits_for_no_end_of_it(schedule: Schedule) -> None:
    schedule.hint(10)
    assert schedule.due() == (10 + DEBOUNCE_SECONDS, "hint")
    schedule.hint(10.005)
    assert schedule.due() == (10.005 + DEBOUNCE_SECONDS, "hint")
    for step in range(100):
        schedule.hint(10.005 + step * 0.005)
    assert schedule.due() == (10 + DEBOUNCE_SECONDS_MAX, "hint")


def test_what_was_hinted_at_before_a_run_is_done_by_it(schedule: Schedule) -> None:
    schedule.hint(10)
    schedule.begin()
    schedule.hint(10.5)
    schedule.end(11, 1, full=False, moved=True, left_behind=False)
    assert schedule.due() == (12, "hint")  # a run that took a second is followed by a pause of one


def test_a_storage_that_is_away_is_left_alone_longer_and_longer(schedule: Schedule) -> None:
    now, pauses = 100.0, []
    for _ in range(12):
        pauses.append(schedule.fail(now, lasting=False))
        schedule.hint(now)
        assert schedule.due().reason == "retry"
        assert schedule.due().at == pytest.approx(now + pauses[-1])
        now = schedule.due().at
    assert 0.75 <= pauses[0] <= 1
    assert all(pause <= 60 for pause in pauses)
    assert min(pauses[-3:]) >= 45


def test_a_run_that_fails_after_a_meeting_is_made_again(schedule: Schedule) -> None:
    schedule.meet(100)
    schedule.begin()
    pause = schedule.fail(110, lasting=False)
    assert schedule.due() == (110 + pause, "retry")


def test_a_lasting_error_is_tried_again_rarely_and_sooner_after_a_hint(schedule: Schedule) -> None:
    now = 100.0
    for _ in range(10):
        pause = schedule.fail(now, lasting=True)
        assert pause <= 3600
        last, now = now, now + pause
    assert pause > 2600
    schedule.hint(last + 1)
    assert schedule.due() == (last + 60, "hint")


def test_keys_left_behind_are_tried_again_at_the_interval_and_then_rarely(schedule: Schedule) -> None:
    now, pauses = 0.0, []
    for _ in range(8):
        schedule.begin()
        schedule.end(now, 0, full=True, moved=False, left_behind=True)
        pauses.append(schedule.due().at - now)
        assert schedule.due().reason in {"retry", "full"}
        now = schedule.due().at
    assert pauses[:3] == [60, 120, 240]
    assert pauses[-1] == 3600
    schedule.end(now, 0, full=True, moved=True, left_behind=False)
    assert schedule.due() == (now + 3600, "full")


def test_who_meets_another_watch_stands_by_until_it_has_something_to_do(schedule: Schedule) -> None:
    schedule.hint(10)
    schedule.meet(10.1)
    assert schedule.stands_by
    assert 11 <= schedule.due().at - 0.1 <= 12
    schedule.begin()
    schedule.end(12, 0, full=False, moved=False, left_behind=False)
    assert schedule.stands_by
    schedule.hint(20)
    assert schedule.due().at >= 21
    schedule.begin()
    schedule.end(22, 0, full=False, moved=True, left_behind=False)
    assert not schedule.stands_by
    schedule.hint(30)
    assert schedule.due().at == 30 + DEBOUNCE_SECONDS


def test_meetings_one_after_the_other_make_the_pauses_longer(schedule: Schedule) -> None:
    pauses = []
    for number in range(8):
        schedule.meet(100.0 * number)
        pauses.append(schedule.due().at - 100.0 * number)
    assert pauses[0] <= 2
    assert 15 <= pauses[-1] <= 30
