"""A conformance class collects the tests of what it expects, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sound import Sound

from kvsync.storages import Capabilities, OpaqueTokens, Support, Tier
from kvsync.testing.conformance import CHOICES, StorageConformance
from kvsync.testing.conformance.hooks import HOOKS

PLAIN = Capabilities(Tier.CONDITIONAL)


def collected(expects: Capabilities, **attributes: Any) -> set[str]:
    suite = type("TestIt", (StorageConformance,), {"expects": expects, **attributes})
    return {name for name in dir(suite) if name.startswith("test") and callable(getattr(suite, name))}


def part(name: str) -> set[str]:
    (tests,) = (tests for tests in CHOICES if tests.__name__ == name)
    return {test for test in vars(tests) if test.startswith("test")}


@pytest.mark.parametrize(
    ("expects", "names"),
    [
        (replace(PLAIN, supports=frozenset({Support.TRANSACTION})), {"TransactionTests"}),
        (replace(PLAIN, supports=frozenset({Support.EXPIRY})), {"ExpiryTests", "ExpiryRaceTests"}),
        (
            replace(PLAIN, supports=frozenset({Support.EXPIRY, Support.TRANSACTION})),
            {"TransactionTests", "ExpiryTests", "ExpiryRaceTests", "ExpiringTransactionTests"},
        ),
        (replace(PLAIN, supports=frozenset({Support.SIZES, Support.STREAMING})), {"SizeTests", "StreamTests"}),
        (replace(PLAIN, supports=frozenset({Support.COPY})), {"CopyTests"}),
        (replace(PLAIN, supports=frozenset({Support.TOKENS})), {"KeyTokenTests"}),
        (replace(PLAIN, supports=frozenset({Support.METADATA})), {"MetadataTests"}),
        (replace(PLAIN, supports=frozenset({Support.IDENTITY, Support.HOST})), {"IdentityTests", "HostTests"}),
        (replace(PLAIN, supports=frozenset({Support.NESTING, Support.FILES})), {"NestingTests", "FilesTests"}),
        (replace(PLAIN, supports=frozenset({Support.SKIPPED, Support.DRY_PROBE})), {"SkippedTests", "DryProbeTests"}),
        (replace(PLAIN, supports=frozenset({Support.LIMITS, Support.RANGES})), {"LimitsTests", "RangeTests"}),
        (replace(PLAIN, supports=frozenset({Support.SPLITS})), {"SplitsTests"}),
        (replace(PLAIN, supports=frozenset({Support.HINTS})), {"HintsTests"}),
        (replace(PLAIN, supports=frozenset({Support.JOURNAL})), {"JournalTests"}),
    ],
)
def test_what_is_expected_beyond_a_plain_storage_is_tested(expects: Capabilities, names: set[str]) -> None:
    plain, more = collected(PLAIN), collected(expects)
    assert plain < more
    assert more - plain == set().union(*map(part, names))


@pytest.mark.parametrize(
    ("expects", "names"),
    [
        (replace(PLAIN, tokens=OpaqueTokens()), {"DigestTokenTests"}),
        (replace(PLAIN, lease_stays=True), {"DeleteRaceTests"}),
        (replace(PLAIN, tier=Tier.FOLDER), {"ValueRaceTests", "ProcessValueRaceTests"}),
        (replace(PLAIN, distance="memory"), {"ProcessRaceTests", "ProcessValueRaceTests", "RunRaceTests"}),
        (
            replace(PLAIN, tier=Tier.ADVISORY, conditions="advisory"),
            {name for name in (tests.__name__ for tests in CHOICES) if "Race" in name and "Expiry" not in name}
            | {"ConditionTests", "RunTests"},
        ),
    ],
)
def test_what_is_not_expected_is_left_out(expects: Capabilities, names: set[str]) -> None:
    plain, less = collected(PLAIN), collected(expects)
    assert plain > less
    assert plain - less == set().union(*map(part, names))


def test_attributes_choose_too() -> None:
    assert collected(PLAIN) - collected(PLAIN, processes=False) == set().union(
        *map(part, ("ProcessRaceTests", "ProcessValueRaceTests", "RunRaceTests"))
    )
    assert collected(PLAIN, unique_versions=True) - collected(PLAIN) == part("UniqueVersionTests")
    for hook, tests in HOOKS.items():
        planting = collected(PLAIN, **{hook: pytest.fixture(lambda _self: print)})
        assert planting - collected(PLAIN) == part(tests.__name__)
        assert part(tests.__name__)


def test_a_subclass_may_expect_more_and_replace_tests() -> None:
    class Plain(StorageConformance):
        expects = PLAIN
        test_compare_and_swap = None  # type: ignore[assignment]

    class More(Plain):
        expects = Sound.capabilities

    for suite, has_transactions in ((Plain, False), (More, True)):
        assert callable(suite.test_a_transaction_commits_as_one) == has_transactions
        assert callable(suite.test_modified_is_about_now)
        assert suite.test_compare_and_swap is None


def test_every_part_of_the_suite_is_chosen_or_always_there() -> None:
    always = {"DeclarationTests", "ValueTests", "TokenTests", "ObjectTests"}
    parts = {base.__name__ for base in StorageConformance.__mro__ if base.__name__.endswith("Tests")}
    assert parts == always | {tests.__name__ for tests in CHOICES}
