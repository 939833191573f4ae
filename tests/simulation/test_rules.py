"""Each rule of lives has its reason: without it the simulator finds a history that breaks a promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from variants import amount

from kvsync.testing import simulate
from rules import RULES

if TYPE_CHECKING:
    from kvsync.testing.simulation.simulating import Report
    from rules import Rule

MEMORY = ("dict", "bucket", "database")


def played(rule: Rule, *, seed: int, histories: int) -> Report:
    return simulate(histories, seed=seed, storages=MEMORY, hazards=rule.hazards, raises=False)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_is_left_out_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES[name]
    assert not played(rule, seed=rule.seed, histories=1).failures
    monkeypatch.setattr(rule.place, rule.attribute, rule.fault)
    report = played(rule, seed=rule.seed, histories=amount(1, 500))
    assert report.failures, report
